//! One connection of the workload's: HTTP/1.1, or HTTP/2 by prior knowledge (RFC 9113 section 3.3), told apart by the first bytes. It owns the
//! connection's deadlines: first byte, header section, keep-alive, and a workload that stops reading. A connection that has been idle for a moment
//! is parked: hyper's buffers are given back and only the socket is kept.

mod socket;

use super::{
    body::BodyError,
    handle::handle,
    params::Limits,
    respond::Problem,
    table::{ListenerTable, Route},
    timer::Deadline,
    upstream::h2::LocalExecutor,
    worker::{Listening, Worker},
};
use crate::{metrics::request::RequestMetrics, token::caller::handle::MintedHandle};
use bytes::Bytes;
use http::HeaderValue;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sidecar_runtime::{
    leftover::{LINGER, end_of},
    listener::{PeerAddr, Stream},
};
use socket::{Flags, Io};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    time::Instant,
};

/// How a client that knows HTTP/2 begins.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The fields that hyper takes without being told a number.
const HYPER_MAX_HEADERS: usize = 100;
/// An idle connection keeps hyper's buffers for this long: a workload that is about to send its next request finds them warm.
const PARK_AFTER: Duration = Duration::from_millis(500);

/// What requests know of the connection that they came by.
pub struct Conn {
    worker: Rc<Worker>,
    listening: Rc<Listening>,
    /// The peer is on this machine.
    pub local_peer: bool,
    /// Shared with the socket; the requests under way are counted there.
    flags: Arc<Flags>,
    /// The latest request came with a body, whose end has not been seen.
    has_body: Cell<bool>,
}

impl Conn {
    /// Notes whether the latest request's body is still to come in, or has ended.
    pub fn note_body(&self, has_body: bool) {
        self.has_body.set(has_body);
    }
    /// Whether the latest request's body has an end that is still to come.
    pub fn awaits_body(&self) -> bool {
        self.has_body.get()
    }
    /// The listener's routes as of now.
    pub fn table(&self) -> Rc<ListenerTable> {
        self.listening.table()
    }
    /// Whether the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.worker.draining.get()
    }
    /// Whether this worker has its share of requests in flight.
    pub fn is_overloaded(&self, max_requests: usize) -> bool {
        self.worker.in_flight.get() >= max_requests.div_ceil(self.worker.workers)
    }
    /// The listener's port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.listening.port()
    }
    /// This process in `Via`.
    pub fn via(&self) -> &HeaderValue {
        &self.worker.via
    }
    /// The series of the request flow.
    pub fn metrics(&self) -> &RequestMetrics {
        &self.worker.metrics
    }
    /// One without a socket.
    #[cfg(test)]
    pub(super) fn alone(worker: Rc<Worker>, listening: Rc<Listening>) -> Self {
        Self {
            worker,
            listening,
            local_peer: true,
            flags: Arc::default(),
            has_body: Cell::new(true),
        }
    }
}

/// A request's accounting, from its admission to the end of its response's body.
pub struct InFlight {
    conn: Rc<Conn>,
    route: Rc<Route>,
    started: Instant,
    /// What the workload may use as long as this lasts.
    handle: Option<MintedHandle>,
}

impl InFlight {
    /// Counts the request in.
    pub fn begin(conn: &Rc<Conn>, route: &Rc<Route>, started: Instant) -> Self {
        conn.flags.add_request();
        conn.worker.in_flight.set(conn.worker.in_flight.get() + 1);
        route.shard.in_flight.add(1);
        Self {
            conn: Rc::clone(conn),
            route: Rc::clone(route),
            started,
            handle: None,
        }
    }

    /// Keeps the request's handle alive until its response has ended.
    pub fn hold(&mut self, handle: MintedHandle) {
        self.handle = Some(handle);
    }

    /// The response's body stopped before its end: the workload sees its connection break, and the log says why.
    pub fn broke_off(&self, error: BodyError) {
        if let Some(suppressed) = self.route.log.pass(Instant::now()) {
            tracing::warn!(route = &*self.route.params.name, %error, suppressed, "response broke off");
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.conn.flags.end_request();
        self.conn.worker.request_done();
        self.route.shard.in_flight.sub(1);
        self.route.shard.duration.observe(self.started.elapsed());
    }
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, listening: Rc<Listening>, stream: Stream, peer: PeerAddr) {
    let deadline = Rc::new(worker.timers.deadline());
    let mut io = Io::new(stream);
    let conn = Rc::new(Conn {
        local_peer: peer.is_local(),
        flags: Arc::clone(&io.flags),
        has_body: Cell::new(false),
        worker,
        listening,
    });
    let mut patience = conn.limits().header_read_timeout;
    loop {
        // Nothing but the socket and this small future is held while a connection waits for its first or its next request.
        match sniff(&conn, &deadline, &mut io, patience).await {
            Some(Protocol::Http2) => return Box::pin(serve_h2(conn, deadline, io)).await,
            Some(Protocol::Http1) => {
                match Box::pin(serve_h1(Rc::clone(&conn), Rc::clone(&deadline), io)).await {
                    Some(parked) => io = parked,
                    None => return,
                }
            }
            None => return,
        }
        patience = conn.limits().keep_alive_timeout;
    }
}

/// Turns a connection away with an answer, when there are too many.
pub async fn turn_away(mut stream: Stream, deadline: Duration) {
    let answer = async {
        stream.write_all(&Problem::overloaded().raw()).await?;
        end_of(&mut stream).await
    };
    // A peer that does not listen loses the answer, nothing more.
    drop(tokio::time::timeout(deadline, answer).await);
}

enum Protocol {
    Http1,
    Http2,
}

impl Conn {
    fn limits(&self) -> Limits {
        self.table().params.limits
    }

    fn is_closing(&self) -> bool {
        self.listening.is_closing()
    }
}

/// Waits for first bytes and tells the protocol from them. `None`: closed, by the peer or because its time is up.
async fn sniff(
    conn: &Conn,
    deadline: &Deadline,
    io: &mut Io,
    patience: Duration,
) -> Option<Protocol> {
    deadline.arm(if io.prefix.is_empty() {
        patience
    } else {
        conn.limits().header_read_timeout
    });
    let mut seen = [0u8; PREFACE.len()];
    let mut len = io.prefix.len().min(seen.len());
    seen[..len].copy_from_slice(&io.prefix[..len]);
    let mut whole = io.prefix.clone();
    loop {
        if len > 0 && seen[..len] != PREFACE[..len] {
            io.prefix = whole;
            return Some(Protocol::Http1);
        }
        if len == seen.len() {
            io.prefix = whole;
            return Some(Protocol::Http2);
        }
        let read = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut seen[len..]);
            match Pin::new(&mut io.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => Poll::Ready(buf.filled().len()),
                Poll::Ready(Err(_)) => Poll::Ready(0),
                Poll::Pending if deadline.poll_due(cx) || conn.is_closing() => Poll::Ready(0),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if read == 0 {
            return None;
        }
        if len == 0 {
            deadline.arm(conn.limits().header_read_timeout);
        }
        len += read;
        whole = Bytes::copy_from_slice(&seen[..len]);
    }
}

/// How serving an HTTP/1.1 connection came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is idle.
    Parked,
    /// Its time is up.
    CutOff,
    /// hyper is done with it. `unread`: the workload may still be sending.
    Done { unread: bool },
}

/// Where an HTTP/1.1 connection stands between two polls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Part of a header section is in.
    Header,
    /// A request is being served.
    Request,
    /// Nothing, for less than [`PARK_AFTER`].
    Idle,
}

async fn serve_h1(conn: Rc<Conn>, deadline: Rc<Deadline>, io: Io) -> Option<Io> {
    let limits = conn.limits();
    let flags = Arc::clone(&conn.flags);
    deadline.arm(limits.header_read_timeout);
    let phase = Rc::new(Cell::new(Phase::Header));
    let service = {
        let (conn, deadline, phase, flags) = (
            Rc::clone(&conn),
            Rc::clone(&deadline),
            Rc::clone(&phase),
            Arc::clone(&flags),
        );
        service_fn(move |request: http::Request<Incoming>| {
            phase.set(Phase::Request);
            flags.serving.store(true, Relaxed);
            handle(Rc::clone(&conn), Rc::clone(&deadline), request)
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.max_header_bytes.max(8 * 1024) + limits.max_uri_bytes + 16 * 1024)
        // `max_buf_size` alone does not bound a header section.
        .max_header_size(limits.max_header_bytes + limits.max_uri_bytes + 4096)
        .header_read_timeout(None);
    if limits.max_header_fields > HYPER_MAX_HEADERS {
        // Only then: with a number of its own hyper takes the fields' places from the heap, for every request.
        builder.max_headers(limits.max_header_fields);
    }
    let mut hyper = builder
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut closing = false;
    let ending = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut hyper).poll(cx) {
                let malformed = result
                    .inspect_err(|error| {
                        if !flags.refused() {
                            count_malformed(&conn, error);
                        }
                        log_end(error);
                    })
                    .is_err();
                return Poll::Ready(Ending::Done {
                    unread: malformed || conn.has_body.get(),
                });
            }
            if closing || !conn.is_closing() {
                break;
            }
            // Only now: a request that has been read already is answered, whatever happens to the listener meanwhile.
            closing = true;
            Pin::new(&mut hyper).graceful_shutdown();
        }
        match phase.get() {
            // A body that is still coming in belongs to its request: a connection in the middle of one is not idle, and never parked.
            Phase::Request
                if flags.requests() == 0
                    && !conn.has_body.get()
                    && !flags.write_blocked.load(Relaxed) =>
            {
                flags.read.store(false, Relaxed);
                flags.serving.store(false, Relaxed);
                phase.set(Phase::Idle);
                deadline.arm(PARK_AFTER);
            }
            Phase::Idle if flags.read.load(Relaxed) => {
                phase.set(Phase::Header);
                deadline.arm(limits.header_read_timeout);
            }
            _ => {}
        }
        if deadline.poll_due(cx) {
            return match phase.get() {
                Phase::Idle => Poll::Ready(Ending::Parked),
                // The header section took too long, or the workload has stopped reading what it asked for.
                Phase::Header | Phase::Request => Poll::Ready(Ending::CutOff),
            };
        }
        Poll::Pending
    })
    .await;
    match ending {
        Ending::CutOff | Ending::Done { unread: false } => return None,
        Ending::Parked if closing => return None,
        Ending::Parked | Ending::Done { unread: true } => {}
    }
    // None after an upgrade: then the connection is somebody else's.
    let parts = hyper.into_parts()?;
    let mut io = parts.io.into_inner();
    if ending != Ending::Parked {
        let refusal = io.refusal(&parts.read_buf, limits.max_uri_bytes);
        let farewell = async {
            if let Some(problem) = refusal {
                conn.metrics().rejected(problem.reason());
                io.stream.write_all(&problem.raw()).await?;
            }
            end_of(&mut io.stream).await
        };
        // A workload that does not listen loses the answer, nothing more.
        drop(tokio::time::timeout(LINGER, farewell).await);
        return None;
    }
    if !parts.read_buf.is_empty() {
        io.prefix = parts.read_buf;
    }
    Some(io)
}

fn count_malformed(conn: &Conn, error: &hyper::Error) {
    if error.is_parse_too_large() {
        conn.metrics().rejected("headers_too_large");
    } else if error.is_parse() {
        conn.metrics().rejected("malformed");
    }
}

fn log_end(error: &hyper::Error) {
    tracing::debug!(error = %sidecar_runtime::telemetry::chain(error), "connection of the workload ended");
}

async fn serve_h2(conn: Rc<Conn>, deadline: Rc<Deadline>, io: Io) {
    let limits = conn.limits();
    let streams = StreamExecutor::default();
    let service = {
        let (conn, streams) = (Rc::clone(&conn), streams.clone());
        service_fn(move |request: http::Request<Incoming>| {
            // Streams live side by side: each has a deadline of its own.
            let own = Rc::new(conn.worker.timers.deadline());
            streams.0.set(Some(Rc::clone(&own)));
            handle(Rc::clone(&conn), own, request)
        })
    };
    let hyper = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .max_header_list_size(
            u32::try_from(limits.max_header_bytes)
                .unwrap_or(u32::MAX)
                .saturating_add(4096),
        )
        .max_pending_accept_reset_streams(20)
        .adaptive_window(true)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(io), service);
    let mut hyper = pin!(hyper);
    let mut closing = false;
    let mut busy = true;
    poll_fn(|cx| {
        let close = !closing && (conn.is_closing() || deadline.poll_due(cx));
        if close {
            closing = true;
            hyper.as_mut().graceful_shutdown();
            if !busy {
                // A peer that does not do its part in time (or never got beyond its preface) is cut off.
                deadline.arm(limits.header_read_timeout);
            }
        }
        if let Poll::Ready(result) = hyper.as_mut().poll(cx) {
            if let Err(error) = result {
                count_malformed(&conn, &error);
                log_end(&error);
            }
            return Poll::Ready(());
        }
        let now_busy = conn.flags.requests() > 0;
        if now_busy != busy {
            busy = now_busy;
            if busy {
                deadline.disarm();
            } else if closing {
                deadline.arm(limits.header_read_timeout);
            } else {
                deadline.arm(limits.keep_alive_timeout);
            }
        }
        if deadline.poll_due(cx) {
            if closing {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Spawns the tasks of a connection's streams, each with the deadline of its request: hyper does not poll a response's body while the workload
/// leaves it no room to send, so nobody else would notice that the workload has stopped reading.
#[derive(Clone, Default)]
struct StreamExecutor(Rc<Cell<Option<Rc<Deadline>>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        // hyper calls the service and spawns the stream's task in one go.
        let Some(deadline) = self.0.take() else {
            return LocalExecutor.execute(future);
        };
        LocalExecutor.execute(async move {
            let mut future = pin!(future);
            poll_fn(|cx| match future.as_mut().poll(cx) {
                // Dropping the stream resets it.
                Poll::Pending if deadline.poll_due(cx) => Poll::Ready(()),
                polled => polled,
            })
            .await;
        });
    }
}
