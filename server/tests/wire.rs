//! The server on the wire, over real loopback sockets: both eras of MCP, the endpoints beside them, the calls it makes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "wire/backend.rs"]
mod backend;
#[path = "wire/caller.rs"]
mod caller;
#[path = "wire/calls.rs"]
mod calls;
#[path = "wire/client.rs"]
mod client;
#[path = "wire/early.rs"]
mod early;
#[path = "wire/endpoints.rs"]
mod endpoints;
#[path = "wire/legacy.rs"]
mod legacy;
#[path = "wire/messages.rs"]
mod messages;
#[path = "wire/modern.rs"]
mod modern;
#[path = "wire/process.rs"]
mod process;
#[path = "wire/server.rs"]
mod server;
