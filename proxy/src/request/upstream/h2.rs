//! An HTTP/2 connection to an upstream: shared by many requests, driven by a task of its own, told apart by streams.

use super::{Open, Upstream};
use crate::{net::dial::Stream, request::body::RequestBody};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::time::Instant;

/// A ping after this long without a frame, so that a connection that died silently is found before a request needs it.
const PING_AFTER: Duration = Duration::from_secs(20);
/// Streams on one connection before another one is opened, whatever the upstream would take.
const STREAMS_PER_CONNECTION: usize = 100;
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Spawns hyper's HTTP/2 tasks on the worker's own thread.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}

/// A connection that many requests share.
pub struct H2Connection {
    sender: SendRequest<RequestBody>,
    streams: Cell<usize>,
    /// What the upstream takes at once.
    max_streams: Rc<Cell<usize>>,
    idle_since: Cell<Instant>,
}

impl H2Connection {
    /// Begins HTTP/2 on an open stream.
    ///
    /// # Errors
    /// hyper's.
    pub(super) async fn handshake(
        io: TokioIo<Stream>,
        open: Open,
        upstream: Weak<Upstream>,
    ) -> Result<Rc<Self>, hyper::Error> {
        let (sender, mut driver) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(64 * 1024)
            .handshake(io)
            .await?;
        let max_streams = Rc::new(Cell::new(driver.current_max_send_streams()));
        let connection = Rc::new(Self {
            sender,
            streams: Cell::new(0),
            max_streams: Rc::clone(&max_streams),
            idle_since: Cell::new(Instant::now()),
        });
        let itself = Rc::downgrade(&connection);
        drop(tokio::task::spawn_local(async move {
            let driven = poll_fn(|cx| {
                let polled = Pin::new(&mut driver).poll(cx);
                max_streams.set(driver.current_max_send_streams());
                polled
            });
            if let Err(error) = driven.await {
                tracing::debug!(error = %sidecar_runtime::telemetry::chain(&error), "HTTP/2 connection to the upstream ended");
            }
            drop(open);
            if let (Some(upstream), Some(itself)) = (upstream.upgrade(), itself.upgrade()) {
                upstream.forget(&itself);
            }
        }));
        Ok(connection)
    }

    /// Whether another request may be sent.
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether another request would be sent at once: one that has to queue for a stream might go out after its token has expired.
    pub fn has_room(&self) -> bool {
        self.is_usable() && self.streams.get() < self.max_streams.get().min(STREAMS_PER_CONNECTION)
    }

    /// Requests whose response has not ended.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it has been without a stream for `limit`: then it is dropped by the caller, which closes it.
    pub(super) fn close_if_idle(&self, now: Instant, limit: Duration) -> bool {
        self.streams.get() == 0 && now.duration_since(self.idle_since.get()) >= limit
    }

    pub(super) fn lease(self: &Rc<Self>, upstream: Rc<Upstream>) -> H2Lease {
        self.streams.set(self.streams.get() + 1);
        H2Lease {
            sender: self.sender.clone(),
            connection: Rc::clone(self),
            upstream,
        }
    }
}

/// One stream's place on a connection.
pub struct H2Lease {
    /// The end that sends.
    pub sender: SendRequest<RequestBody>,
    connection: Rc<H2Connection>,
    upstream: Rc<Upstream>,
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.connection
            .streams
            .set(self.connection.streams.get() - 1);
        self.connection.idle_since.set(Instant::now());
        self.upstream.free();
    }
}
