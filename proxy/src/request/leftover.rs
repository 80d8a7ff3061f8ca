//! What becomes of a request's body when the answer is there before its end; see [`sidecar_runtime::leftover`] for why, how much and how long. This is
//! what it means for a connection of the request flow.
//!
//! Two kinds: behind an answer of our own the body is read away ([`settle`]); behind one of the upstream's it goes where it was going ([`goes_by`]).
//! Not for answers that stream: those and the body of their request may last side by side.
//!
//! An early answer of the upstream's waits for this, where nginx would pass it on at once and take the rest afterwards. hyper cannot: when an answer is
//! out and the body is not, it ends the connection, and by then the head has said whether it will. So what is sent on and on costs [`MOST`] bytes of
//! delay, and what is neither sent nor ended [`LONGEST`]; what announces that it is large costs none, nor does an upstream that closes.

use super::{
    body::{Ahead, Lease, Replayable},
    conn::Conn,
    timer::Deadline,
};
use bytes::Bytes;
use http::{HeaderValue, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use sidecar_runtime::leftover::{LONGEST, Leftover, MOST, read_away};
use std::{future::poll_fn, pin::pin, task::Poll};
use tokio::time::Instant;

/// Gives the answer to send: at once, or when the body has gone by; with `Connection: close` when it does not. `body` is what can still be read, `None`
/// when somebody has begun to. The deadline is the request's; how it is left means nothing.
pub async fn settle<B>(
    leftover: Leftover,
    conn: &Conn,
    deadline: &Deadline,
    body: Option<impl Body<Data = Bytes> + Unpin>,
    mut response: Response<B>,
) -> Response<B> {
    // It may have been seen to its end on its way to the upstream.
    if leftover == Leftover::Nothing || !conn.awaits_body() {
        return response;
    }
    let closes = response.headers().contains_key(header::CONNECTION);
    let gone = match body {
        Some(body) if leftover == Leftover::Coming && !closes => {
            in_time(deadline, read_away(body)).await
        }
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

/// What `done` gives within [`LONGEST`], else `false`.
async fn in_time(deadline: &Deadline, done: impl Future<Output = bool>) -> bool {
    let until = Instant::now() + LONGEST;
    let mut done = pin!(done);
    poll_fn(|cx| {
        if let Poll::Ready(done) = done.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let left = until.saturating_duration_since(Instant::now());
        // Each time: a body that was on its way to an upstream arms it, too.
        deadline.arm(left);
        if left.is_zero() || deadline.poll_due(cx) {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
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

/// Whether the rest of the body goes to the upstream within [`LONGEST`] and [`MOST`], which is not tried when it says that it is more. What comes of the
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
    let until = body.seen() + MOST;
    in_time(
        deadline,
        poll_fn(|cx| {
            if ahead.drive(answer, lease, cx).is_ready() {
                // The upstream has closed: it takes nothing more.
                return Poll::Ready(body.ended());
            }
            match body.poll_ended(cx) {
                Poll::Pending if body.seen() > until => Poll::Ready(false),
                polled => polled,
            }
        }),
    )
    .await
}
