//! token-sidecar: watches a projected service-account token, exchanges it for access tokens, and injects them into the
//! workload's outbound requests. The binary is a thin shell around this library; [`app`] is the only module that knows both flows.
//!
//! Imports point one way: `cli > app > config > {request, admission} > token > net > {metrics, sidecar_runtime}`. A test holds that.

pub mod admission;
pub mod app;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod metrics;
pub mod net;
pub mod request;
pub mod token;
