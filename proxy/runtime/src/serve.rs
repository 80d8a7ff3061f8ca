//! A hardened HTTP/1.1 server loop for the small servers (admin port, MCP server), and its two halves for one that puts TLS in between (the webhook);
//! the request flow has its own.
//!
//! Bounded connections, bounded headers, limits on the time to send them and to leave an answer unread, and an end when the drain begins.

use std::{error::Error, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::{
    listener::{AsyncListener, PeerAddr, Stream},
    shutdown::DrainWatch,
    spawn,
};

mod patience;
pub use patience::Patience;

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// The name of the connections' tasks.
    pub name: &'static str,
    /// More connections than this wait in the accept queue.
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
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
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
    accept_until_drain(listener, bounds, watch, |stream, peer, watch| {
        let stream = Patience::new(stream, options.write_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone());
        finish_on_drain(connection, peer, watch)
    })
    .await;
}

/// Accepts connections until the drain begins; then closes the listener and returns.
///
/// `connection` serves one of them, in a task of the given name; at most so many are served at once, and more wait in the accept queue. Each holds a
/// guard of `watch` until it ends, and should end soon once the drain has begun.
pub async fn accept_until_drain<F>(
    mut listener: AsyncListener,
    (name, max_connections): (&'static str, usize),
    mut watch: DrainWatch,
    connection: impl Fn(Stream, PeerAddr, DrainWatch) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(max_connections));
    loop {
        // The permit comes first: a connection that cannot be served stays in the accept queue.
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
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

/// Drives a connection to its end. When the drain begins, it finishes the request at hand and closes.
pub async fn finish_on_drain<I, S, B>(
    connection: http1::Connection<I, S>,
    peer: PeerAddr,
    mut watch: DrainWatch,
) where
    I: Read + Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = watch.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

#[cfg(test)]
mod tests;
