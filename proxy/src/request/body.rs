//! Bodies on their way through. A request's body can be kept while it streams, up to the replay buffer, so that it can be sent a second time. It streams
//! with back-pressure: nothing else is collected. Responses' bodies are in `response`.

mod ahead;
mod response;

pub use ahead::Ahead;
pub use response::{Lease, ResponseBody};

use super::{conn::Conn, strip, timer::Deadline};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Why a body stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The workload broke off or broke its framing.
    #[error("the request body broke off or is malformed")]
    Workload,
    /// The request body is larger than the route allows.
    #[error("the request body is too large")]
    TooLarge,
    /// The upstream broke off or broke its framing.
    #[error("the response body broke off or is malformed")]
    Upstream,
    /// The request is being sent anew, elsewhere.
    #[error("the request body is being sent anew")]
    Superseded,
    /// No byte for too long.
    #[error("no byte of the body for too long")]
    Idle,
}

/// A request's body on its way to the upstream.
pub enum RequestBody {
    /// None.
    Empty,
    /// A body that streams, and which use of it this is: an HTTP/2 connection may still hold the one before.
    Live(Rc<RefCell<LiveBody>>, u32),
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never its content.
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Live(..) => "Live",
        })
    }
}

/// How a request's body is treated.
pub struct BodyRules {
    /// Bytes kept for a replay.
    pub keep: usize,
    /// Largest body.
    pub limit: Option<u64>,
    /// Names taken out of trailers.
    pub strip: Arc<[HeaderName]>,
    /// Re-armed with every frame.
    pub deadline: Rc<Deadline>,
    /// Told when it has ended.
    pub conn: Rc<Conn>,
    /// Without a byte of the body.
    pub idle: Duration,
    /// From its end to the response's header.
    pub response_header: Duration,
}

/// A body that streams, and what is kept of it.
pub struct LiveBody {
    incoming: Incoming,
    rules: BodyRules,
    /// What went out so far; `None` once it did not fit.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    trailers_sent: bool,
    /// How much of `kept` is to be sent again.
    replayed: usize,
    seen: u64,
    ended: bool,
    failure: Option<BodyError>,
    /// The use that counts was dropped: nobody asks for the rest.
    given_up: bool,
    /// Which use of it is the one that counts.
    uses: u32,
    /// Wakes whoever waits for more of it.
    waiting: Option<Waker>,
    /// Wakes whoever waits for its end, without taking any of it.
    watching: Option<Waker>,
}

impl RequestBody {
    /// The body of a request that came in, and the handle to replay it by (none for an empty body).
    pub fn new(
        incoming: Incoming,
        rules: impl FnOnce() -> BodyRules,
    ) -> (Self, Option<Replayable>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let live = Rc::new(RefCell::new(LiveBody {
            incoming,
            rules: rules(),
            kept: Some(vec![]),
            kept_bytes: 0,
            trailers: None,
            trailers_sent: false,
            replayed: 0,
            seen: 0,
            ended: false,
            failure: None,
            given_up: false,
            uses: 0,
            waiting: None,
            watching: None,
        }));
        (Self::Live(Rc::clone(&live), 0), Some(Replayable(live)))
    }
}

/// The handle to a body that was handed to an upstream connection.
pub struct Replayable(Rc<RefCell<LiveBody>>);

impl Replayable {
    /// The body from its beginning, if all that has gone out was kept. The use of it before gets nothing more, and is told so.
    pub fn again(&self) -> Option<RequestBody> {
        if !self.is_whole() {
            return None;
        }
        let mut live = self.0.borrow_mut();
        live.replayed = 0;
        live.trailers_sent = false;
        live.uses += 1;
        live.given_up = false;
        if let Some(waker) = live.waiting.take() {
            waker.wake();
        }
        Some(RequestBody::Live(Rc::clone(&self.0), live.uses))
    }

    /// The body, if nobody has asked for a byte of it: then no connection has it, or the one that does gets nothing.
    pub fn unread(&self) -> Option<RequestBody> {
        let live = self.0.borrow();
        let asked_for = live.seen > 0 || live.ended || live.waiting.is_some();
        drop(live);
        if asked_for { None } else { self.again() }
    }

    /// Why the body stopped, if it did.
    pub fn failure(&self) -> Option<BodyError> {
        self.0.borrow().failure
    }

    /// Ready when the body has ended, or will not any more, since it failed or the connection gave it up: whether it went out whole. One task at a time.
    pub fn poll_ended(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut live = self.0.borrow_mut();
        if live.ended || live.failure.is_some() || live.given_up {
            return Poll::Ready(live.ended);
        }
        live.watching = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How much of it is still to come in, in bytes, at the least.
    pub fn outstanding(&self) -> u64 {
        self.0.borrow().incoming.size_hint().lower()
    }

    /// How much of it has come in, in bytes.
    pub fn seen(&self) -> u64 {
        self.0.borrow().seen
    }

    /// Whether the body went out whole.
    pub fn ended(&self) -> bool {
        self.0.borrow().ended
    }

    /// Whether all that has gone out was kept, so that [`Replayable::again`] gives a body.
    pub fn is_whole(&self) -> bool {
        let live = self.0.borrow();
        live.kept.is_some() && live.failure.is_none()
    }

    /// The response's header has come: the body's end begins no wait for it any more, and there will be no replay to keep the body for.
    pub fn answered(&self) {
        let mut live = self.0.borrow_mut();
        live.rules.response_header = live.rules.idle;
        if live.nothing_to_replay() {
            live.kept = None;
        }
    }
}

impl LiveBody {
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.failure = Some(error);
        self.kept = None;
        self.wake_watcher();
        Poll::Ready(Some(Err(error)))
    }

    fn end(&mut self) {
        self.ended = true;
        self.wake_watcher();
        self.rules.conn.note_body(false);
        self.rules.deadline.arm(self.rules.response_header);
    }

    fn wake_watcher(&mut self) {
        if let Some(waker) = self.watching.take() {
            waker.wake();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(chunk) = self.kept.as_ref().and_then(|k| k.get(self.replayed)) {
            self.replayed += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if self.ended {
            let again = !std::mem::replace(&mut self.trailers_sent, true);
            return Poll::Ready(
                self.trailers
                    .clone()
                    .filter(|_| again)
                    .map(|t| Ok(Frame::trailers(t))),
            );
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => self.fail(BodyError::Workload),
            Poll::Ready(Some(Ok(frame))) => self.pass(frame),
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match frame.into_data() {
            Ok(data) => {
                self.seen += data.len() as u64;
                if self.rules.limit.is_some_and(|l| self.seen > l) {
                    return self.fail(BodyError::TooLarge);
                }
                self.keep(&data);
                if self.incoming.is_end_stream() {
                    self.end();
                } else {
                    self.rules.deadline.arm(self.rules.idle);
                }
                Frame::data(data)
            }
            Err(other) => match other.into_trailers() {
                Ok(mut trailers) => {
                    strip::trailers(&mut trailers, &self.rules.strip);
                    self.end();
                    self.trailers_sent = true;
                    self.trailers = Some(trailers.clone());
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn keep(&mut self, data: &Bytes) {
        self.kept_bytes += data.len();
        if self.kept_bytes > self.rules.keep {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(data.clone());
            self.replayed += 1;
        }
    }

    fn nothing_to_replay(&self) -> bool {
        self.kept.as_ref().is_none_or(|k| self.replayed >= k.len())
    }
}

/// A connection that drops a body wants no more of it, as HTTP/2 says with RST_STREAM (RFC 9113 section 8.1): who waits for its end would wait in vain.
impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Self::Live(live, which) = self
            && let Ok(mut live) = live.try_borrow_mut()
            && live.uses == *which
        {
            live.given_up = true;
            live.wake_watcher();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Live(live, which) => {
                let mut live = live.borrow_mut();
                if live.uses == *which {
                    live.poll(cx)
                } else {
                    Poll::Ready(Some(Err(BodyError::Superseded)))
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Live(live, which) => {
                let live = live.borrow();
                live.uses == *which
                    && live.ended
                    && live.nothing_to_replay()
                    && (live.trailers.is_none() || live.trailers_sent)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Live(live, _) => {
                let live = live.borrow();
                match &live.kept {
                    // A replay starts over: what remains of the incoming body is not all that will be sent.
                    Some(kept) if live.replayed < kept.len() => {
                        let again: u64 = kept[live.replayed..].iter().map(|c| c.len() as u64).sum();
                        match live.incoming.size_hint().exact() {
                            Some(rest) => SizeHint::with_exact(again + rest),
                            None => SizeHint::default(),
                        }
                    }
                    _ => live.incoming.size_hint(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
