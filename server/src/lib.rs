//! A minimal MCP server without credentials: declared tools, forwarded to `BACKEND_API_URL` over plain HTTP on loopback.
//!
//! It links no TLS and no identity library: whatever authority it needs is put on its calls by the sidecar beside it.

#![forbid(unsafe_code)]

mod backend;
mod metrics;
mod tools;
mod trace;

pub use backend::{BackendUrl, ParseBackendUrlError};
pub use tools::{Catalog, ToolsError};
