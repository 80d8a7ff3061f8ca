//! The demo's parts.
