//! The backend: the one place that this server calls, over plain HTTP/1.1 on loopback or a Unix socket.
//!
//! It sends no credential, follows no redirect, and forwards nothing of a caller's headers but the trace context and, when that is asked for, the
//! handle that stands for the caller.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use crate::{caller::Caller, tools::request::Rendered, trace::TraceContext};

mod connect;
mod url;

use connect::Connector;
pub use url::{BackendUrl, ParseBackendUrlError};

const IDLE: Duration = Duration::from_secs(30);
const MOST_IDLE: usize = 32;

/// A client for one backend, with a pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    url: BackendUrl,
    client: Client<Connector, Full<Bytes>>,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("the backend cannot be reached")]
    Unreachable,
    #[error("the connection to the backend broke before its answer was complete")]
    Broken,
    #[error("the backend did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the backend's answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Backend {
    /// A client for `url`; connects when first used.
    pub(crate) fn new(url: BackendUrl) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .build(Connector::new(url.address().clone()));
        Self { url, client }
    }

    /// Sends a tool's request and reads the whole answer, in `limit` from connecting to the last byte.
    ///
    /// # Errors
    /// See [`BackendError`]; also for answers of more than `max_bytes`.
    pub(crate) async fn send(
        &self,
        rendered: Rendered,
        trace: &TraceContext,
        caller: &Caller,
        limit: Duration,
        max_bytes: usize,
    ) -> Result<Answer, BackendError> {
        let request = self
            .request(rendered, trace, caller)
            .ok_or(BackendError::Unreachable)?;
        let exchange = async {
            let response = self.begin(request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, max_bytes)
                .collect()
                .await
                .map_err(|error| {
                    if error.is::<LengthLimitError>() {
                        BackendError::TooLarge(max_bytes)
                    } else {
                        BackendError::Broken
                    }
                })?;
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        timeout(limit, exchange)
            .await
            .unwrap_or(Err(BackendError::Timeout(limit)))
    }

    /// Asks for the backend's root and gives the status, whatever it is; the body is not read.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub(crate) async fn probe(&self, limit: Duration) -> Result<StatusCode, BackendError> {
        let probe = Rendered {
            method: http::Method::HEAD,
            target: "/".into(),
            headers: Vec::new(),
            body: None,
        };
        let request = self
            .request(probe, &TraceContext::default(), &Caller::default())
            .ok_or(BackendError::Unreachable)?;
        let response = timeout(limit, self.begin(request))
            .await
            .unwrap_or(Err(BackendError::Timeout(limit)))?;
        Ok(response.status())
    }

    async fn begin(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, BackendError> {
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                BackendError::Unreachable
            } else {
                BackendError::Broken
            }
        })
    }

    /// `None` only if the target is no URI, which rendering rules out.
    fn request(
        &self,
        rendered: Rendered,
        trace: &TraceContext,
        caller: &Caller,
    ) -> Option<Request<Full<Bytes>>> {
        let uri = self.url.join(&rendered.target)?;
        let mut request = Request::new(Full::default());
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.url.host().clone());
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/*;q=0.9, */*;q=0.1"),
        );
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("mcp-server/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(rendered.headers);
        trace.add_to(headers);
        caller.add_to(headers);
        if let Some(body) = rendered.body {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            *request.body_mut() = Full::new(Bytes::from(body.to_string()));
        }
        *request.method_mut() = rendered.method;
        *request.uri_mut() = uri;
        Some(request)
    }
}
