//! A response's body: an upstream's, which brings its connection along and gives it back at its end, or bytes of our own. Streams with back-pressure.

use super::{BodyError, ahead::Ahead};
use crate::request::{
    conn::InFlight,
    strip,
    timer::Deadline,
    upstream::{Open, h1::H1Lease, h2::H2Lease},
};
use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A response's body on its way to the workload.
pub struct ResponseBody {
    kind: Kind,
    /// Ends the request's accounting when dropped.
    in_flight: Option<InFlight>,
}

enum Kind {
    Full(Option<Bytes>),
    Upstream(Streaming),
}

/// A body that streams from an upstream.
struct Streaming {
    /// What was read of it before this was made.
    ahead: Option<Box<Ahead>>,
    incoming: Incoming,
    lease: Lease,
    strip: Arc<[HeaderName]>,
    deadline: Rc<Deadline>,
    idle: Duration,
}

/// The connection that a response comes from.
pub enum Lease {
    /// HTTP/1.1: driven by whoever reads the body, given back at its end.
    H1(H1Lease),
    /// HTTP/2: driven by a task of its own.
    H2(H2Lease),
    /// A connection of its own, driven by a task of its own; with its place under the limit.
    Dedicated(Rc<Open>),
}

impl ResponseBody {
    /// Bytes of our own.
    pub fn full(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Full(Some(bytes).filter(|b| !b.is_empty())),
            in_flight: None,
        }
    }

    /// An upstream's body, and what was read of it already.
    pub fn upstream(
        ahead: Option<Box<Ahead>>,
        incoming: Incoming,
        mut lease: Lease,
        strip: Arc<[HeaderName]>,
        deadline: Rc<Deadline>,
        idle: Duration,
    ) -> Self {
        let ahead = ahead.filter(|a| !a.is_empty());
        if ahead.is_none() && incoming.is_end_stream() {
            if let Lease::H1(lease) = &mut lease {
                lease.give_back();
            }
            deadline.arm(idle);
            return Self {
                kind: Kind::Full(None),
                in_flight: None,
            };
        }
        deadline.arm(idle);
        Self {
            kind: Kind::Upstream(Streaming {
                ahead,
                incoming,
                lease,
                strip,
                deadline,
                idle,
            }),
            in_flight: None,
        }
    }

    /// Ends the request's accounting when this body ends.
    pub fn count(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.ahead.as_mut().and_then(|a| a.pop()) {
            Some(frame) => Some(frame),
            None => match self.lease.poll_frame(&mut self.incoming, cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.pending(cx),
            },
        };
        Poll::Ready(match frame {
            None => {
                self.finish();
                None
            }
            Some(Err(_)) => Some(Err(BodyError::Upstream)),
            Some(Ok(frame)) if frame.is_data() => {
                if self.is_end_stream() {
                    self.finish();
                } else {
                    self.deadline.arm(self.idle);
                }
                Some(Ok(frame))
            }
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    strip::trailers(&mut trailers, &self.strip);
                    self.finish();
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            })),
        })
    }

    fn pending(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.deadline.poll_due(cx) {
            Poll::Ready(Some(Err(BodyError::Idle)))
        } else {
            Poll::Pending
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.as_ref().is_none_or(|a| a.is_empty()) && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        match (&self.ahead, rest.exact()) {
            (Some(ahead), Some(rest)) => SizeHint::with_exact(ahead.len() + rest),
            _ => rest,
        }
    }

    fn finish(&mut self) {
        // What is left is the workload's to read.
        self.deadline.arm(self.idle);
        if let Lease::H1(lease) = &mut self.lease {
            lease.give_back();
        }
    }
}

impl Lease {
    /// The next frame of the body that comes by this connection, which is driven for it where nobody else does.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::H1(lease) => poll_driven(incoming, lease, cx),
            Self::H2(_) | Self::Dedicated(_) => Pin::new(incoming).poll_frame(cx),
        }
    }
}

/// The next frame of a body whose connection nobody else drives. The body itself is polled with a waker that does nothing: only the connection,
/// which is polled with the real one right here, can make it ready.
fn poll_driven(
    incoming: &mut Incoming,
    lease: &mut H1Lease,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let mut quiet = Context::from_waker(Waker::noop());
    if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(&mut quiet) {
        return Poll::Ready(frame);
    }
    let driving = lease.drive(cx);
    match Pin::new(&mut *incoming).poll_frame(&mut quiet) {
        // The connection is over and has nothing more to say: a body that is not at its end now was cut short, and says so itself.
        Poll::Pending if driving.is_ready() => Pin::new(incoming).poll_frame(cx),
        frame => frame,
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Upstream(streaming) => streaming.poll(cx),
        };
        match &frame {
            Poll::Ready(None) => this.in_flight = None,
            Poll::Ready(Some(Err(error))) => {
                if let Some(in_flight) = &this.in_flight {
                    in_flight.broke_off(*error);
                }
            }
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream(s) => s.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Upstream(s) => s.size_hint(),
        }
    }
}
