//! What was read of a response's body before it could be passed on. While a connection is driven for the sake of a request's body, the answer has to be
//! taken off it, too: what an upstream has sent before it closes is lost with the next byte that it is sent.
//!
//! Knows no bound of its own: for answers that are known to be short.

use super::Lease;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::task::{Context, Poll};

/// The beginning of a response's body, or all of it.
#[derive(Default)]
pub struct Ahead {
    data: BytesMut,
    /// What came behind the data and is none: trailers, or why there is no more.
    last: Option<Result<Frame<Bytes>, hyper::Error>>,
    /// Nothing comes any more.
    done: bool,
}

impl Ahead {
    /// Moves bytes in both directions and takes what there is of the answer. Ready when the connection is over, which is seen of HTTP/1 only.
    pub fn drive(
        &mut self,
        incoming: &mut Incoming,
        lease: &mut Lease,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while !self.done && !incoming.is_end_stream() {
            let Poll::Ready(frame) = lease.poll_frame(incoming, cx) else {
                break;
            };
            match frame.map(|f| f.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.data.extend_from_slice(&data),
                Some(Ok(Err(other))) => self.end(Some(Ok(other))),
                Some(Err(error)) => self.end(Some(Err(error))),
                None => self.end(None),
            }
        }
        match lease {
            Lease::H1(lease) => lease.drive(cx),
            Lease::H2(_) | Lease::Dedicated(_) => Poll::Pending,
        }
    }

    fn end(&mut self, last: Option<Result<Frame<Bytes>, hyper::Error>>) {
        self.last = last;
        self.done = true;
    }

    /// What is to be passed on next, if it was read already.
    pub fn pop(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        if self.data.is_empty() {
            return self.last.take();
        }
        Some(Ok(Frame::data(self.data.split().freeze())))
    }

    /// Bytes that were read and not passed on.
    pub fn len(&self) -> u64 {
        self.data.len() as u64
    }

    /// Whether all that was read has been passed on.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.last.is_none()
    }
}
