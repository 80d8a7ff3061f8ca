//! A minimal MCP server without credentials: declared tools, forwarded to `BACKEND_API_URL` over plain HTTP on loopback.
//!
//! It links no TLS and no identity library: whatever authority its calls need is put on them by the sidecar beside it.

#![forbid(unsafe_code)]

mod app;
mod backend;
mod caller;
pub mod cli;
pub mod env;
mod guard;
mod health;
mod http_service;
mod intake;
mod jsonrpc;
mod mcp;
mod messages;
mod metrics;
mod respond;
mod tools;
mod trace;

pub use app::{App, BuildError, Ended, run};
pub use backend::{BackendUrl, ParseBackendUrlError};
pub use guard::{AllowedHosts, AllowedOrigins, ParseAllowedError};
pub use tools::{Catalog, ToolsError};
