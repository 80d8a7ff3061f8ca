//! A hardened HTTP/1.1 server loop for the small servers (admin port, MCP server), and its two halves for one that puts TLS in between (the webhook);
//! the request flow has its own.
//!
//! Bounded connections, bounded headers, limits on the time to send them and to leave an answer unread, and an end when the drain begins. A service may
//! answer before it has read a request's body: the connection serves on, or its end is announced ([`crate::leftover`]).

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Body,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    leftover::{LINGER, end_of},
    listener::{AsyncListener, PeerAddr, Stream},
    shutdown::DrainWatch,
    spawn,
};

mod patience;
mod places;
mod request_body;
pub use patience::Patience;
use places::{Places, Pulse};
pub use request_body::RequestBody;

/// How often a place is looked for while there is none.
const LOOK: Duration = Duration::from_millis(25);

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// The name of the connections' tasks.
    pub name: &'static str,
    /// More connections than this wait in the accept queue, and make those end that are quiet.
    pub max_connections: usize,
    /// How long a connection may take to send a request's headers; also how long it may idle between requests.
    pub header_timeout: Duration,
    /// How long a peer may leave an answer unread before its connection is closed.
    pub write_timeout: Duration,
    /// Bytes of buffer for a connection, and with it of a request's headers; at least 8192.
    pub max_buffer: usize,
    /// Header fields of a request.
    pub max_headers: usize,
}

/// Accepts connections and serves them until the drain begins; then closes the listener and returns.
///
/// Each connection holds a guard of `watch` until it ends: it finishes the request at hand and closes.
pub async fn serve_http1<S, B>(
    listener: AsyncListener,
    options: ServeOptions,
    service: S,
    watch: DrainWatch,
) where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.max_buffer)
        // The buffer's size alone lets larger headers through when they arrive in few reads.
        .max_header_size(options.max_buffer)
        .max_headers(options.max_headers);
    let bounds = (options.name, options.max_connections);
    let places = Places::default();
    let full = || places.make_room();
    accept_until_drain(listener, bounds, watch, full, |stream, peer, watch| {
        let stream = Patience::new(stream, options.write_timeout);
        let pulse = stream.pulse();
        let place = places.take(peer, Arc::clone(&pulse));
        let service = service.clone();
        let service = service_fn(move |request| {
            let (at_hand, answer) = (pulse.begin(), service.call(request));
            async move {
                let answer = answer.await;
                drop(at_hand);
                answer
            }
        });
        let served = serve_connection(builder.clone(), stream, service, peer, watch);
        async move {
            tokio::select! {
                () = served => {}
                () = place.evicted() => tracing::debug!(%peer, "connection closed: every place was taken"),
            }
        }
    })
    .await;
}

/// Accepts connections until the drain begins; then closes the listener and returns.
///
/// `connection` serves one of them, in a task of the given name; at most so many are served at once, and more wait in the accept queue: then `full` is
/// called now and again, until there is a place. Each holds a guard of `watch` until it ends, and should end soon once the drain has begun.
pub async fn accept_until_drain<F>(
    mut listener: AsyncListener,
    (name, max_connections): (&'static str, usize),
    mut watch: DrainWatch,
    full: impl Fn(),
    connection: impl Fn(Stream, PeerAddr, DrainWatch) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(max_connections));
    loop {
        // The permit comes first: a connection that cannot be served stays in the accept queue.
        let next = async {
            let permit = loop {
                let permit = Arc::clone(&permits).acquire_owned();
                match timeout(LOOK, permit).await {
                    Ok(permit) => break permit,
                    Err(_) => full(),
                }
            };
            (permit, listener.accept().await)
        };
        let (permit, (stream, peer)) = tokio::select! {
            biased;
            () = watch.draining() => return,
            next = next => next,
        };
        let held = (permit, watch.guard());
        let connection = connection(stream, peer, watch.clone());
        drop(spawn(name, async move {
            let _held = held;
            connection.await;
        }));
    }
}

/// Serves one connection to its end. When the drain begins, it finishes the request at hand and closes.
///
/// `builder` has a timer and the limits of headers. Bodies that `service` leaves unread are seen to.
pub async fn serve_connection<I, S, B>(
    builder: http1::Builder,
    stream: I,
    service: S,
    peer: PeerAddr,
    mut watch: DrainWatch,
) where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let unread = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        request_body::answered(request, Arc::clone(&unread), |r| service.call(r))
    });
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = watch.draining() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // What is no request is answered by hyper, which then reads no further.
    let malformed = ended.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
    if malformed || unread.load(Relaxed) {
        let mut stream = connection.into_parts().io.into_inner();
        // A peer that does not listen loses the answer, nothing more.
        drop(timeout(LINGER, end_of(&mut stream)).await);
    }
}

#[cfg(test)]
mod tests;
