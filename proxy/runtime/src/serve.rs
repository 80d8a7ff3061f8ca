//! A hardened HTTP/1.1 server loop for the small servers (admin port, MCP server); the request flow has its own.
//!
//! Bounded connections, bounded headers, limits on the time to send them and to leave an answer unread, and an end when the drain begins.

use std::{error::Error, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::{listener::AsyncListener, shutdown::DrainWatch, spawn};

mod patience;
use patience::Patience;

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
    mut listener: AsyncListener,
    options: ServeOptions,
    service: S,
    mut watch: DrainWatch,
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
    let permits = Arc::new(Semaphore::new(options.max_connections));
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
        let stream = Patience::new(stream, options.write_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone());
        let (guard, mut watch) = (watch.guard(), watch.clone());
        drop(spawn(options.name, async move {
            let _held = (permit, guard);
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
        }));
    }
}

#[cfg(test)]
mod tests;
