//! The admin port: `/livez`, `/startupz`, `/readyz`, `/metrics`. No secrets and no controls.
//!
//! [`Admin::respond`] answers one request without a server, so that a process with one port can serve these beside others.

use std::{future::Future, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::service::service_fn;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::time::timeout;

use crate::{
    listener::Listener,
    liveness::Liveness,
    readiness::Readiness,
    serve::{RequestBody, ServeOptions, serve_http1},
    shutdown::drain,
};

mod render;

const OPTIONS: ServeOptions = ServeOptions {
    name: "admin connection",
    max_connections: 64,
    header_timeout: Duration::from_secs(2),
    write_timeout: Duration::from_secs(5),
    max_buffer: 8192,
    max_headers: 64,
};

/// How long connections may take to end once the port is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the admin port tells about.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Named in the answer to unknown paths, such as `token-sidecar`.
    pub title: &'static str,
    /// The metrics.
    pub registry: Registry,
    /// What `/readyz` and `/startupz` report.
    pub readiness: Readiness,
    /// What `/livez` reports.
    pub liveness: Liveness,
}

impl Admin {
    /// The answer to a request for one of the four paths, `None` for any other path.
    ///
    /// `accept` is the request's `Accept` header: with `application/json` the reports come as JSON. Methods other than
    /// GET and HEAD are answered with 405.
    #[must_use]
    pub fn respond(
        &self,
        method: &Method,
        path: &str,
        accept: Option<&HeaderValue>,
    ) -> Option<Response<Full<Bytes>>> {
        let answer: fn(&Self, bool) -> Response<Full<Bytes>> = match path {
            "/livez" => Self::livez,
            "/startupz" => Self::startupz,
            "/readyz" => Self::readyz,
            "/metrics" => Self::metrics,
            _ => return None,
        };
        if method != Method::GET && method != Method::HEAD {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        Some(answer(self, accept.is_some_and(render::asks_for_json)))
    }

    /// Serves the four paths until `stop` resolves; a request at hand gets two more seconds then.
    ///
    /// # Errors
    /// The runtime could not take over the listener.
    pub async fn serve(
        self,
        listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), io::Error> {
        let listener = listener.into_tokio()?;
        let (trigger, watch) = drain();
        let service = service_fn(move |request| {
            let response = self.respond_or_404(&request);
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        tokio::select! {
            () = stop => {}
            () = serve_http1(listener, OPTIONS, std::sync::Arc::new(service), watch) => {}
        }
        if timeout(LAST_WORDS, trigger.drain().drained())
            .await
            .is_err()
        {
            tracing::debug!("admin connections were cut");
        }
        Ok(())
    }

    fn respond_or_404(&self, request: &Request<RequestBody>) -> Response<Full<Bytes>> {
        let accept = request.headers().get(ACCEPT);
        self.respond(request.method(), request.uri().path(), accept)
            .unwrap_or_else(|| {
                let body = format!("{}: /livez /startupz /readyz /metrics\n", self.title);
                text(StatusCode::NOT_FOUND, body)
            })
    }

    fn livez(&self, as_json: bool) -> Response<Full<Bytes>> {
        let silent = self.liveness.silent();
        let status = status(silent.is_empty());
        if as_json {
            json(status, render::liveness_json(&silent))
        } else {
            text(status, render::liveness_text(&silent))
        }
    }

    fn startupz(&self, as_json: bool) -> Response<Full<Bytes>> {
        let started = self.readiness.started();
        self.conditions(started, "started", as_json)
    }

    fn readyz(&self, as_json: bool) -> Response<Full<Bytes>> {
        let ready = self.readiness.report().ready;
        self.conditions(ready, "ready", as_json)
    }

    fn conditions(&self, ok: bool, verdict: &str, as_json: bool) -> Response<Full<Bytes>> {
        let report = self.readiness.report();
        if as_json {
            json(status(ok), render::conditions_json(verdict, ok, &report))
        } else {
            text(status(ok), render::conditions_text(verdict, ok, &report))
        }
    }

    fn metrics(&self, _as_json: bool) -> Response<Full<Bytes>> {
        let (encoder, mut body) = (TextEncoder::new(), Vec::new());
        match encoder.encode(&self.registry.gather(), &mut body) {
            Ok(()) => respond(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                body,
            ),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be encoded");
                let body = "metrics cannot be encoded, see the log\n";
                text(StatusCode::INTERNAL_SERVER_ERROR, body.into())
            }
        }
    }
}

const fn status(ok: bool) -> StatusCode {
    if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.into_bytes())
}

fn json(status: StatusCode, body: serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", body.to_string().into_bytes())
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
