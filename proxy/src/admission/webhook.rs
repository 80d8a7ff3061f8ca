//! Serves reviews by https at `/mutate`: bounded connections, bodies, memory and times. Whoever can reach it gets an answer: there is no secret in one.

use super::{
    inject::Check,
    profile::Profiles,
    review::{Answer, answer},
};
use crate::metrics::admission::AdmissionMetrics;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use sidecar_runtime::{
    listener::{AsyncListener, PeerAddr, Stream},
    serve::{accept_until_drain, finish_on_drain},
    shutdown::DrainWatch,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Connections at once. API servers keep idle ones: some dozens each.
const MAX_CONNECTIONS: usize = 1024;
/// A review's size: an object may have 3 MiB on its way into the API server.
const MAX_BODY: usize = 8 << 20;
/// Of all reviews that are being read together.
const MAX_BODIES: usize = 64 << 20;
/// A handshake, and a body, must be through by then: the API server waits for 10 s by default, 30 s at most.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's header. Idle connections may stay longer than the API server keeps them (90 s), so that it is the one who closes.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);

/// Answers reviews with the profiles of the moment.
pub struct Webhook {
    profiles: ArcSwap<Profiles>,
    check: Box<Check>,
    own_namespace: Option<String>,
    metrics: AdmissionMetrics,
    memory: Arc<Semaphore>,
}

impl Webhook {
    /// `own_namespace`: whose pods are left alone.
    pub fn new(
        profiles: Profiles,
        check: Box<Check>,
        own_namespace: Option<String>,
        metrics: AdmissionMetrics,
    ) -> Self {
        Self {
            profiles: ArcSwap::from_pointee(profiles),
            check,
            own_namespace,
            metrics,
            memory: Arc::new(Semaphore::new(MAX_BODIES)),
        }
    }

    /// Takes over other profiles; reviews at hand go on with those that they began with.
    pub fn replace(&self, profiles: Profiles) {
        self.profiles.store(Arc::new(profiles));
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/mutate" {
            return text(StatusCode::NOT_FOUND, "reviews are answered at /mutate");
        }
        if request.method() != Method::POST {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use POST");
            refused
                .headers_mut()
                .insert(http::header::ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        let json = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        if !json.is_some_and(|t| {
            t.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case("application/json")
        }) {
            return text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a review is application/json",
            );
        }
        let (body, _held) = match timeout(READ_TIMEOUT, self.read(request)).await {
            Ok(Ok(read)) => read,
            Ok(Err(refused)) => return refused,
            Err(_) => {
                return text(
                    StatusCode::REQUEST_TIMEOUT,
                    "the review did not come in time",
                );
            }
        };
        let began = Instant::now();
        let answered = answer(
            &body,
            &self.profiles.load(),
            &*self.check,
            self.own_namespace.as_deref(),
        );
        self.metrics.took(began.elapsed());
        match answered {
            Ok(answer) => {
                self.note(&answer);
                let mut response = Response::new(Full::new(Bytes::from(answer.review.to_string())));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(problem) => {
                tracing::warn!(problem, "a review that cannot be answered");
                self.metrics.reviewed("", "error");
                text(StatusCode::BAD_REQUEST, &problem)
            }
        }
    }

    /// The body, and its share of the memory that all bodies may take.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Response<Full<Bytes>>> {
        let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, "a review of more than 8 MiB");
        let told = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let mut body = request.into_body();
        let share = told.unwrap_or(MAX_BODY);
        if share > MAX_BODY {
            read_away(&mut body).await;
            return Err(too_large());
        }
        let permits = u32::try_from(share).unwrap_or(u32::MAX);
        let Ok(held) = Arc::clone(&self.memory).acquire_many_owned(permits).await else {
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, "stopping"));
        };
        match Limited::new(&mut body, MAX_BODY).collect().await {
            Ok(body) => Ok((body.to_bytes(), held)),
            Err(e) if e.is::<LengthLimitError>() => {
                drop(held);
                read_away(&mut body).await;
                Err(too_large())
            }
            Err(_) => Err(text(StatusCode::BAD_REQUEST, "the review ended early")),
        }
    }

    fn note(&self, answer: &Answer) {
        let Answer {
            namespace,
            result,
            dry_run,
            subject,
            refusal,
            ..
        } = answer;
        match refusal {
            Some(why) => tracing::warn!(namespace, pod = subject, dry_run, why, "refused"),
            None => tracing::debug!(namespace, pod = subject, dry_run, result, "reviewed"),
        }
        if !dry_run {
            self.metrics.reviewed(namespace, result);
        }
    }
}

/// Accepts connections and serves them until the drain begins; then closes the listener and returns. Each connection holds a guard of `watch`: it
/// finishes the review at hand and closes.
pub async fn serve(
    listener: AsyncListener,
    tls: Arc<ServerConfig>,
    webhook: Arc<Webhook>,
    watch: DrainWatch,
) {
    let acceptor = TlsAcceptor::from(tls);
    let bounds = ("webhook connection", MAX_CONNECTIONS);
    accept_until_drain(listener, bounds, watch, |stream, peer, watch| {
        connection(stream, peer, acceptor.clone(), Arc::clone(&webhook), watch)
    })
    .await;
}

async fn connection(
    stream: Stream,
    peer: PeerAddr,
    acceptor: TlsAcceptor,
    webhook: Arc<Webhook>,
    mut watch: DrainWatch,
) {
    let stream = tokio::select! {
        stream = timeout(READ_TIMEOUT, acceptor.accept(stream)) => stream,
        () = watch.draining() => return,
    };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        // Often it means that the caBundle of the webhook's configuration is another certificate's.
        Ok(Err(error)) => {
            return tracing::info!(%peer, %error, "TLS handshake failed; does the caBundle belong to the serving certificate?");
        }
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let service = service_fn(move |request| {
        let webhook = Arc::clone(&webhook);
        async move { Ok::<_, Infallible>(webhook.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 << 10)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    finish_on_drain(connection, peer, watch).await;
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Reads what is still coming, and keeps none of it: a client that is told no while it sends loses the answer to the closing of the connection. The
/// caller's timeout holds.
async fn read_away(body: &mut Incoming) {
    let mut left = 2 * MAX_BODY;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}
