//! What the sidecar and the MCP server share: listeners, shutdown, readiness, the admin port, telemetry, a clock.
//!
//! It knows neither tokens nor upstreams, and links no TLS.

pub mod admin;
pub mod clock;
pub mod leftover;
pub mod listener;
pub mod liveness;
pub mod readiness;
pub mod serve;
pub mod shutdown;
mod spawn;
pub mod suggest;
pub mod telemetry;

pub use spawn::{spawn, spawn_local};
