//! What is left of a request's body when the answer is there before its end: until it has gone by, the connection is good for nothing. A little of it is
//! waited for, so that the connection serves on; more, or what may never come, ends the connection, and the answer says so (RFC 9112 sections 9.3 and
//! 9.6). hyper by itself would take what happens to be there already, and else close without a word: a caller that sends head and body apart would lose
//! its next request.
//!
//! Two kinds: behind an answer of our own the body is read away ([`Leftover`]); behind one of the upstream's it goes where it was going ([`goes_by`]).
//! Not for answers that stream: those and the body of their request may last side by side.

use super::{
    body::{Ahead, Lease, Replayable},
    conn::Conn,
    timer::Deadline,
};
use bytes::Bytes;
use http::{HeaderValue, Response, Version, header, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};
use tokio::time::Instant;

/// More than this is not waited for, in bytes: a new connection is cheaper. Also what an answer has at most that is held back meanwhile.
const MOST: u64 = 64 * 1024;
/// Nor is it waited for longer than this, and with it the answer. Far more than lies between a head and a body that are sent apart.
const LONGEST: Duration = Duration::from_secs(1);

/// What there may be left of a body, told from the request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing that matters: there is no body, or it has an HTTP/2 stream to itself.
    Nothing,
    /// A body that is sent whatever we say.
    Coming,
    /// A body that is sent once we ask for it (`Expect: 100-continue`), which an answer does not do: whether it comes is the caller's choice.
    Withheld,
}

impl Leftover {
    /// Of a request as it came in.
    pub fn of(parts: &Parts, body: &impl Body) -> Self {
        if body.is_end_stream() || parts.version >= Version::HTTP_2 {
            Self::Nothing
        } else if parts.headers.contains_key(header::EXPECT) {
            Self::Withheld
        } else {
            Self::Coming
        }
    }

    /// Gives the answer to send: at once, or when the body has gone by; with `Connection: close` when it does not. `body` is what can still be read, `None`
    /// when somebody has begun to. The deadline is the request's; how it is left means nothing.
    pub async fn settle<B>(
        self,
        conn: &Conn,
        deadline: &Deadline,
        body: Option<impl Body<Data = Bytes> + Unpin>,
        mut response: Response<B>,
    ) -> Response<B> {
        // It may have been seen to its end on its way to the upstream.
        if self == Self::Nothing || !conn.awaits_body() {
            return response;
        }
        let closes = response.headers().contains_key(header::CONNECTION);
        let gone = match body {
            Some(body) if self == Self::Coming && !closes => read_away(deadline, body).await,
            _ => false,
        };
        if gone {
            conn.note_body(false);
        } else {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether the body came to its end within [`MOST`] and [`LONGEST`].
async fn read_away(deadline: &Deadline, mut body: impl Body<Data = Bytes> + Unpin) -> bool {
    let until = Instant::now() + LONGEST;
    let mut left = MOST;
    while !body.is_end_stream() {
        if body.size_hint().lower() > left {
            return false;
        }
        // Each time: a body that was on its way to an upstream arms it, too.
        deadline.arm(until.saturating_duration_since(Instant::now()));
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending if deadline.poll_due(cx) => Poll::Ready(Err(())),
            polled => polled.map(Ok),
        });
        let read = match frame.await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            // Too late, broken off or malformed.
            Ok(Some(Err(_))) | Err(()) => return false,
        };
        let Some(rest) = left.checked_sub(read as u64) else {
            return false;
        };
        left = rest;
    }
    true
}

/// Whether an upstream's answer is there before the end of the request's body, and is one to hold back for it: short, and by HTTP/1.
pub fn is_early(body: &Replayable, response: &Response<impl Body>, version: Version) -> bool {
    let short = || {
        response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|n| n <= MOST)
    };
    !body.ended() && version < Version::HTTP_2 && short()
}

/// Whether the rest of the body goes to the upstream within `LONGEST`, which is not tried when it says that it is more than `MOST`. What comes of the
/// answer meanwhile is in `ahead`. The deadline is the request's; how it is left means nothing.
pub async fn goes_by(
    deadline: &Deadline,
    lease: &mut Lease,
    body: &Replayable,
    answer: &mut Incoming,
    ahead: &mut Ahead,
) -> bool {
    if body.outstanding() > MOST {
        return false;
    }
    let until = Instant::now() + LONGEST;
    poll_fn(|cx| {
        if ahead.drive(answer, lease, cx).is_ready() {
            // The upstream has closed: it takes nothing more.
            return Poll::Ready(body.ended());
        }
        if let Poll::Ready(ended) = body.poll_ended(cx) {
            return Poll::Ready(ended);
        }
        let left = until.saturating_duration_since(Instant::now());
        // Each time: the body arms it, too.
        deadline.arm(left);
        if left.is_zero() || deadline.poll_due(cx) {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}
