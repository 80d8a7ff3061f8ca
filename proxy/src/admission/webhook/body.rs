//! A review's bytes, read as they come, and those of its answer, given away as they are taken: room is held for what is here and not for what was
//! announced, and whoever is slow is told so.

use super::crowd::{Limits, Turn};
use bytes::Bytes;
use http::{Request, StatusCode, header::CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use sidecar_runtime::serve::RequestBody;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::timeout;

/// A review's size: an object may have 3 MiB on its way into the API server.
const MAX_BODY: usize = 8 << 20;
/// A review's values. Each is some thirty bytes once it is read, however few it takes to write.
const MAX_VALUES: usize = 500_000;
/// A piece of an answer.
const PIECE: usize = 16 << 10;
/// So much is taken at once for a review whose length was announced.
const FIRST: usize = 64 << 10;

/// Why there is no review to answer: a status, and a line for the caller.
pub(super) type Refused = (StatusCode, &'static str);

const TOO_LARGE: Refused = (StatusCode::PAYLOAD_TOO_LARGE, "a review of more than 8 MiB");
const TOO_LATE: Refused = (
    StatusCode::REQUEST_TIMEOUT,
    "the review did not come in time",
);
const EARLY: Refused = (StatusCode::BAD_REQUEST, "the review ended early");
const FULL: Refused = (
    StatusCode::SERVICE_UNAVAILABLE,
    "too many reviews at once; try again",
);

/// Reads a request's body. What it takes is held by `turn`.
pub(super) async fn read(
    request: Request<RequestBody>,
    turn: &mut Turn,
    limits: &Limits,
) -> Result<Vec<u8>, Refused> {
    let told = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let mut body = request.into_body();
    let read = async {
        if told.is_some_and(|t| t > MAX_BODY) {
            return Err(TOO_LARGE);
        }
        let mut read = Vec::with_capacity(told.unwrap_or_default().min(FIRST));
        loop {
            let frame = match timeout(limits.piece, body.frame()).await {
                Err(_) => return Err(TOO_LATE),
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(EARLY),
                Ok(Some(Ok(frame))) => frame,
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if read.len() + data.len() > MAX_BODY {
                return Err(TOO_LARGE);
            }
            turn.hold(data.len()).await.map_err(|_| FULL)?;
            read.extend_from_slice(data);
        }
        if values(&read) > MAX_VALUES {
            return Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                "a review of more than 500000 values",
            ));
        }
        Ok(read)
    };
    timeout(limits.review, read).await.unwrap_or(Err(TOO_LATE))
}

/// At most so many values there are in a JSON text: each but the first comes after a comma or a bracket. Those in text count as well.
fn values(text: &[u8]) -> usize {
    text.iter()
        .filter(|b| matches!(b, b',' | b'[' | b'{'))
        .count()
}

/// An answer, in pieces: the next one when the peer has taken the one before, and the room that it takes until the last.
#[derive(Debug)]
pub(super) struct Answered {
    rest: Bytes,
    /// Held, so that an answer which nobody reads counts.
    _turn: Turn,
}

impl Answered {
    /// An answer that waits for its reader; what it takes is held by `turn`.
    pub(super) async fn new(text: Bytes, mut turn: Turn, limits: &Limits) -> Result<Self, Refused> {
        match timeout(limits.review, turn.hold(text.len())).await {
            Ok(Ok(())) => Ok(Self {
                rest: text,
                _turn: turn,
            }),
            _ => Err(FULL),
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.rest.len().min(PIECE);
        Poll::Ready((next > 0).then(|| Ok(Frame::data(self.rest.split_to(next)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_more_than_counted() {
        for (text, at_least) in [
            ("1", 0),
            ("[1,2,3]", 3),
            ("{\"a\":[],\"b\":{}}", 4),
            ("\"a,b\"", 1),
        ] {
            assert_eq!(values(text.as_bytes()), at_least, "{text}");
        }
    }
}
