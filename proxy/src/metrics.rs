//! Every series the sidecar exports, built from a `Registry` that is passed in. No global state, no label a caller can make grow.

pub mod admission;
pub mod inbound;
pub mod reference;
pub mod request;
pub mod token;
