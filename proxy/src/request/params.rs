//! What the request flow needs to know, already checked. Built by `config`; no parsing in here.

use super::inbound::params::InboundParams;
use http::{HeaderName, Method};
pub use sidecar_runtime::listener::ListenAddr;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// All of the request flow's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestParams {
    /// Every listener that some route is served on; the first is the default (`listen`).
    pub listeners: Vec<ListenAddr>,
    /// The routes, in the file's order. Two never match the same requests.
    pub routes: Vec<RouteParams>,
    /// Limits and timeouts towards the workload.
    pub limits: Limits,
    /// Further `Host` names (without port) that a listener of its own accepts, beside localhost, 127.0.0.1, `[::1]`.
    pub allowed_hosts: Vec<String>,
    /// Peers that are not on loopback are served too (a listener on the pod's address).
    pub allow_remote_peers: bool,
    /// `Origin` values that are let through; every other request that carries one is refused.
    pub allowed_origins: Vec<String>,
    /// Where callers of the workload are served. Its listener is one of `listeners` and no route's.
    pub inbound: Option<InboundParams>,
}

impl RequestParams {
    /// The routes, the inbound side's included.
    pub fn all_routes(&self) -> impl Iterator<Item = &RouteParams> {
        let inbound = self.inbound.as_ref().map(|i| &i.route);
        self.routes.iter().chain(inbound)
    }
}

/// A route: which requests, where to, with which credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteParams {
    /// The name that metrics, logs and problems use.
    pub name: Arc<str>,
    /// The listener it is served on; one of [`RequestParams::listeners`].
    pub listen: ListenAddr,
    /// Lower-case host (no port) that `Host` or the absolute-form authority must name; `None`: any allowed host.
    pub host: Option<String>,
    /// Starts with `/`; matched on segment borders; not part of what is sent upstream to be removed: the path is forwarded whole.
    pub path_prefix: String,
    /// Methods let through; `None`: all but CONNECT and TRACE.
    pub methods: Option<Vec<Method>>,
    /// Where the requests go.
    pub upstream: UpstreamParams,
    /// The environment variable that named it, for people.
    pub upstream_variable: Option<Arc<str>>,
    /// Name of the credential whose token is injected.
    pub credential: Arc<str>,
    /// The credential of requests that name no caller, when `credential` needs one.
    pub without_caller: Option<Arc<str>>,
    /// Header names removed from requests beside those always removed.
    pub strip_request_headers: Vec<HeaderName>,
    /// Header names removed from responses beside those always removed.
    pub strip_response_headers: Vec<HeaderName>,
    /// Bytes of a request body that may be kept for the one replay after a 401; 0: only empty bodies are replayed.
    pub replay_buffer: usize,
    /// Largest request body; `None`: unlimited.
    pub max_request_body: Option<u64>,
    /// How long a request may wait for an exchange that is under way.
    pub token_wait: Duration,
    /// Upgrades (WebSocket) are forwarded.
    pub upgrades: bool,
    /// Response-header, idle and connect timeouts.
    pub timeouts: UpstreamTimeouts,
}

/// An upstream: one origin, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamParams {
    /// https (else http: loopback, or [`UpstreamParams::allow_insecure_http`]).
    pub tls: bool,
    /// Host name or address, lower case, no brackets around IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The Unix socket to connect to in the place of host and port.
    pub unix: Option<PathBuf>,
    /// Path put before the request's own; no trailing slash; empty for none.
    pub base_path: String,
    /// Which HTTP versions are spoken.
    pub http: HttpVersions,
    /// PEM file with roots to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// TLS server name, when it is not `host`.
    pub server_name: Option<String>,
    /// Injection over plain http off loopback, explicitly allowed by the route.
    pub allow_insecure_http: bool,
    /// Connections open at once, per worker.
    pub max_connections: usize,
    /// Idle connections kept, per worker.
    pub max_idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

/// HTTP versions towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersions {
    /// https: by ALPN, h2 first; http: HTTP/1.1.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only (by prior knowledge over plain http).
    Http2,
}

/// Timeouts towards an upstream. There is no total timeout: streams may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Resolve, connect and TLS together.
    pub connect: Duration,
    /// From the request's last byte to the response's header.
    pub response_header: Duration,
    /// Without a byte of a body, either way.
    pub idle: Duration,
}

/// Limits and timeouts towards the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, all workers together.
    pub max_connections: usize,
    /// Requests in flight at once, all workers together.
    pub max_requests: usize,
    /// Bytes of a request's header section.
    pub max_header_bytes: usize,
    /// Fields of a request's header section.
    pub max_header_fields: usize,
    /// Bytes of a request target.
    pub max_uri_bytes: usize,
    /// From accept to the end of the header section, and between requests' first and last header byte.
    pub header_read_timeout: Duration,
    /// A connection without a request is closed after this.
    pub keep_alive_timeout: Duration,
}
