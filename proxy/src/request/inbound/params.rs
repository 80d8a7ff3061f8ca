//! What the inbound side needs to know, already checked. Built by `config`; no parsing in here.

use crate::request::params::RouteParams;
use http::HeaderName;
use std::time::Duration;

/// The inbound side: where callers of the workload are served, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundParams {
    /// Listener, workload, limits and timeouts, as those of any route. Its credential's name means nothing.
    pub route: RouteParams,
    /// The workload as its callers know it (RFC 9728 section 1.2): an URL without fragment.
    pub resource: String,
    /// Where its metadata is, as callers reach it (RFC 9728 section 3.1).
    pub metadata_url: String,
    /// The paths that the metadata is served at.
    pub metadata_paths: Vec<String>,
    /// `authorization_servers` of the metadata: the configured issuers.
    pub authorization_servers: Vec<String>,
    /// `scope` of challenges.
    pub required_scopes: Vec<String>,
    /// `scopes_supported` of the metadata.
    pub scopes_supported: Vec<String>,
    /// Which field carries the handle to the workload. `Authorization` has `Bearer ` before it, others nothing.
    pub handle_header: HeaderName,
    /// Handles at once.
    pub max_handles: usize,
    /// How long a handle outlives its request.
    pub handle_grace: Duration,
    /// Paths (whole) that are forwarded without a token, for GET and HEAD: probes.
    pub public_paths: Vec<String>,
    /// `Host` names (without port) beside those of loopback.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values that are let through.
    pub allowed_origins: Vec<String>,
    /// What happens to CORS preflights of allowed origins.
    pub preflights: Preflights,
    /// `Cookie` goes on to the workload.
    pub forward_cookies: bool,
    /// A session (`Mcp-Session-Id`) is for the caller alone whom the workload gave it to.
    pub bind_sessions: bool,
    /// How long a request may wait for an issuer's keys.
    pub key_wait: Duration,
}

/// What happens to CORS preflights (Fetch standard, section 3.2.2): they carry no token, by design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preflights {
    /// The workload answers them.
    Forward,
    /// They are answered here: the origin may send what it asks to send.
    Answer,
}
