//! One port for everything: which endpoint a request is for, who may use it, how large and how slow its body may be.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONNECTION, RETRY_AFTER},
    request::Parts,
};
use http_body_util::BodyExt as _;
use serde_json::json;
use sidecar_runtime::{admin::Admin, serve::RequestBody};
use tokio::time::{Instant, timeout};

use crate::{
    guard::{self, AllowedHosts, AllowedOrigins, Refusal},
    health::BackendCheck,
    intake::{Intake, IntakeError, Share},
    mcp::Mcp,
    messages,
    metrics::Metrics,
    respond::{self, Body},
    tools::call::Toolbox,
};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Everything that answers requests.
#[derive(Clone)]
pub(crate) struct HttpService {
    pub(crate) admin: Admin,
    pub(crate) backend_check: Option<BackendCheck>,
    pub(crate) mcp: Mcp,
    pub(crate) toolbox: Toolbox,
    pub(crate) metrics: Metrics,
    pub(crate) hosts: AllowedHosts,
    pub(crate) origins: AllowedOrigins,
    pub(crate) intake: Intake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Mcp,
    Messages,
    Tools,
    Health,
    Admin,
    Other,
}

impl Endpoint {
    fn of(path: &str) -> Self {
        match path {
            "/mcp" => Self::Mcp,
            "/messages" => Self::Messages,
            "/tools" => Self::Tools,
            "/health" => Self::Health,
            "/livez" | "/readyz" | "/startupz" | "/metrics" => Self::Admin,
            _ => Self::Other,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Messages => "messages",
            Self::Tools => "tools",
            Self::Health => "health",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

impl HttpService {
    /// Answers one request.
    pub(crate) async fn call(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Infallible> {
        let began = Instant::now();
        let endpoint = Endpoint::of(request.uri().path());
        let method = request.method().clone();
        let response = self.answer(endpoint, request).await;
        let status = response.status().as_u16();
        self.metrics
            .request(endpoint.label(), &method, status, began.elapsed());
        tracing::debug!(endpoint = endpoint.label(), %method, status, "request answered");
        Ok(response)
    }

    async fn answer(&self, endpoint: Endpoint, request: Request<RequestBody>) -> Response<Body> {
        match endpoint {
            // Probes and scrapes name the pod's address as their host, so these are open to all: they tell no secrets.
            Endpoint::Admin => self.admin(&request).await,
            Endpoint::Health => only(&request, &[Method::GET, Method::HEAD], || self.health()),
            Endpoint::Other => respond::problem(
                StatusCode::NOT_FOUND,
                "there is nothing here; MCP is at /mcp, beside it are /messages, /tools, /health, /livez, /readyz, \
                 /startupz and /metrics",
            ),
            Endpoint::Mcp | Endpoint::Messages | Endpoint::Tools => {
                if let Err(refusal) =
                    guard::check(request.uri(), request.headers(), &self.hosts, &self.origins)
                {
                    return self.refuse(refusal);
                }
                self.guarded(endpoint, request).await
            }
        }
    }

    async fn guarded(&self, endpoint: Endpoint, request: Request<RequestBody>) -> Response<Body> {
        match endpoint {
            Endpoint::Mcp => match self.read(request).await {
                Ok((parts, body, _share)) => self.mcp.respond(parts, body).await,
                Err(refused) => *refused,
            },
            Endpoint::Messages => {
                let mut response = self.messages(request).await;
                messages::mark(&mut response);
                response
            }
            _ => only(&request, &[Method::GET, Method::HEAD], || {
                respond::json(StatusCode::OK, &self.toolbox.catalog.listed())
            }),
        }
    }

    async fn messages(&self, request: Request<RequestBody>) -> Response<Body> {
        if request.method() != Method::POST {
            return not_allowed(&[Method::POST]);
        }
        match self.read(request).await {
            Ok((parts, body, _share)) => {
                messages::respond(&self.toolbox, &parts.headers, &body).await
            }
            Err(refused) => *refused,
        }
    }

    async fn admin(&self, request: &Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path();
        // Also for the startup probe: until it succeeds, nobody asks for readiness.
        if matches!(path, "/readyz" | "/startupz")
            && let Some(check) = &self.backend_check
        {
            check.refresh().await;
        }
        match self
            .admin
            .respond(request.method(), path, request.headers().get(ACCEPT))
        {
            Some(response) => response.map(|body| body.boxed()),
            None => respond::empty(StatusCode::NOT_FOUND),
        }
    }

    /// Alive, and a word on readiness; `/livez` and `/readyz` are the ones for probes.
    fn health(&self) -> Response<Body> {
        let alive = self.admin.liveness.silent().is_empty();
        let body = json!({
            "status": if alive { "ok" } else { "failing" },
            "ready": self.admin.readiness.report().ready,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let status = if alive {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        respond::json(status, &body)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let (reason, status, detail) = match refusal {
            Refusal::MalformedHost => (
                "malformed_host",
                StatusCode::BAD_REQUEST,
                "a request needs exactly one valid Host header",
            ),
            Refusal::ForeignHost => (
                "foreign_host",
                StatusCode::FORBIDDEN,
                "the Host header names a host that this server does not answer to; its operator can add it to ALLOWED_HOSTS",
            ),
            Refusal::ForeignOrigin => (
                "foreign_origin",
                StatusCode::FORBIDDEN,
                "the Origin header names a web page that may not call this server; its operator can add it to ALLOWED_ORIGINS",
            ),
        };
        self.metrics.rejected(reason);
        respond::problem(status, detail)
    }

    /// Reads a request's body, bounded in size and time. What it takes of the budget is held until the answer is made.
    async fn read(
        &self,
        request: Request<RequestBody>,
    ) -> Result<(Parts, Bytes, Share), Box<Response<Body>>> {
        let (parts, body) = request.into_parts();
        let (reason, status, detail) = match timeout(BODY_TIMEOUT, self.intake.read(body)).await {
            Ok(Ok((body, share))) => return Ok((parts, body, share)),
            Ok(Err(IntakeError::TooLarge)) => (
                "body_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 1 MiB",
            ),
            Ok(Err(IntakeError::Full)) => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large bodies at once; try again shortly, or send a smaller one",
            ),
            Ok(Err(IntakeError::Broken)) => (
                "body_broken",
                StatusCode::BAD_REQUEST,
                "the body ended early",
            ),
            Err(_) => (
                "body_too_slow",
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
        };
        self.metrics.rejected(reason);
        let mut response = respond::problem(status, detail);
        let headers = response.headers_mut();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // Who was late once is not waited for again.
            StatusCode::REQUEST_TIMEOUT => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        Err(Box::new(response))
    }
}

fn only(
    request: &Request<RequestBody>,
    methods: &[Method],
    answer: impl FnOnce() -> Response<Body>,
) -> Response<Body> {
    if methods.contains(request.method()) {
        answer()
    } else {
        not_allowed(methods)
    }
}

fn not_allowed(methods: &[Method]) -> Response<Body> {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = methods.join(", ");
    let mut response = respond::problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}
