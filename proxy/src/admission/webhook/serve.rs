//! The webhook's accept loop and its connections: TLS, a limit on everything that a peer may leave us waiting for, and an end when the drain begins.

use super::{
    Webhook,
    crowd::{Crowd, Limits, Place},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use sidecar_runtime::{
    listener::{AsyncListener, PeerAddr},
    serve::{Patience, accept_until_drain, serve_connection},
    shutdown::DrainWatch,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;

/// Idle connections may stay longer than the API server keeps them (90 s), so that it is the one who closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A request's header, and what is read of a body at once.
const MAX_HEADER: usize = 16 << 10;
/// Accepts connections and serves them until the drain begins; then closes the listener and returns. Each connection holds a guard of `watch`: it
/// finishes the review at hand and closes.
pub async fn serve(
    listener: AsyncListener,
    tls: Arc<ServerConfig>,
    webhook: Arc<Webhook>,
    limits: Limits,
    watch: DrainWatch,
) {
    let acceptor = TlsAcceptor::from(tls);
    let crowd = Crowd::new(limits);
    // The crowd says how many there are, and who goes; one that has to go may still be on its way.
    let bounds = ("webhook connection", 2 * limits.connections);
    accept_until_drain(listener, bounds, watch, || {}, |stream, peer, watch| {
        let place = crowd.admit(peer);
        let (acceptor, webhook) = (acceptor.clone(), Arc::clone(&webhook));
        async move {
            let stream = Patience::new(stream, limits.answer);
            let closed = tokio::select! {
                closed = connection(stream, peer, acceptor, &webhook, &place, limits, watch) => closed,
                // Wherever it waits.
                () = place.evicted() => Some("crowded"),
            };
            if let Some(why) = closed {
                webhook.metrics.closed(why);
                tracing::debug!(%peer, why, "connection closed");
            }
        }
    })
    .await;
}

/// Serves one connection. Gives why it was closed, unless it was as things go.
async fn connection(
    stream: Patience,
    peer: PeerAddr,
    acceptor: TlsAcceptor,
    webhook: &Webhook,
    place: &Arc<Place>,
    limits: Limits,
    mut watch: DrainWatch,
) -> Option<&'static str> {
    let deadline = Instant::now() + limits.first_request;
    let stream = tokio::select! {
        stream = timeout_at(deadline, acceptor.accept(stream)) => stream,
        () = watch.draining() => return None,
    };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        // Often it means that the caBundle of the webhook's configuration is another certificate's.
        Ok(Err(error)) => {
            if let Some(before) = webhook.handshakes.now() {
                tracing::info!(%peer, %error, before, "TLS handshake failed; does the caBundle belong to the serving certificate?");
            }
            return Some("handshake");
        }
        Err(_) => return Some("silent"),
    };
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(webhook.respond(request, place, &limits).await)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .max_header_size(MAX_HEADER)
        .max_headers(64);
    tokio::select! {
        () = serve_connection(builder, stream, service, peer, watch) => None,
        () = silent(place, deadline) => Some("silent"),
    }
}

/// Resolves when nothing was asked by then; never, when something was.
async fn silent(place: &Place, deadline: Instant) {
    sleep_until(deadline).await;
    if !place.is_new() {
        std::future::pending::<()>().await;
    }
}
