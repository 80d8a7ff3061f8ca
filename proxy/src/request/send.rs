//! Sends one request over one connection and waits for the response's header section. Retries nothing: it says what happened, precisely enough
//! for `handle` to know whether a retry is safe (RFC 9110 section 9.2.2).

use super::{
    body::{Lease, RequestBody},
    timer::Deadline,
    upstream::{h1::H1Lease, h2::H2Lease},
};
use http::{Request, Response};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// Not a byte of it was sent: here it is back.
    NotSent(Box<Request<RequestBody>>),
    /// The upstream said that it did not process it (HTTP/2 REFUSED_STREAM, or GOAWAY below this stream).
    Refused,
    /// The connection ended before the first byte of a response. `reused`: it had served before, so this is most likely the race with its closing.
    Closed {
        /// Whether the connection had served before.
        reused: bool,
    },
    /// The deadline passed.
    Timeout,
    /// Anything else: not HTTP, too large a header, a body that failed.
    Protocol(hyper::Error),
}

/// The response up to the end of its header section, and the connection that its body comes by.
type Sent = Result<(Response<Incoming>, Lease), SendError>;

/// Sends over HTTP/1.1 and waits.
///
/// # Errors
/// [`SendError`]; the connection is closed then.
// No `async fn`: its arguments would be moved twice more, and a request is large.
pub fn h1(
    mut lease: H1Lease,
    request: Request<RequestBody>,
    deadline: &Deadline,
) -> impl Future<Output = Sent> {
    let reused = lease.reused;
    lease.bodiless = request.body().is_end_stream();
    let sending = match lease.sender() {
        Some(sender) => Ok(sender.try_send_request(request)),
        None => Err(SendError::NotSent(Box::new(request))),
    };
    async move {
        let mut response = pin!(sending?);
        let mut quiet = Context::from_waker(Waker::noop());
        let result = poll_fn(|cx| {
            // Only driving the connection can make the response ready, so only the connection needs our waker.
            let over = lease.drive(cx).is_ready();
            match response.as_mut().poll(&mut quiet) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                // What waits is resolved when a connection ends; should it not be, no request may hang.
                Poll::Pending if over => Poll::Ready(Err(SendError::Closed { reused })),
                Poll::Pending if deadline.poll_due(cx) => Poll::Ready(Err(SendError::Timeout)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        match result {
            Ok(response) => Ok((response, Lease::H1(lease))),
            Err(error) => Err(classify(error, reused)),
        }
    }
}

/// Sends over HTTP/2 and waits.
///
/// # Errors
/// [`SendError`]; the stream is reset then.
pub fn h2(
    mut lease: H2Lease,
    request: Request<RequestBody>,
    deadline: &Deadline,
) -> impl Future<Output = Sent> {
    let sending = lease.sender.try_send_request(request);
    async move {
        let mut response = pin!(sending);
        let result = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending if deadline.poll_due(cx) => Poll::Ready(Err(SendError::Timeout)),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        match result {
            Ok(response) => Ok((response, Lease::H2(lease))),
            Err(error) => Err(classify(error, true)),
        }
    }
}

/// What hyper's error means. `reused`: the connection had served before.
pub(super) fn classify(mut error: TrySendError<Request<RequestBody>>, reused: bool) -> SendError {
    if let Some(request) = error.take_message() {
        return SendError::NotSent(Box::new(request));
    }
    let error = error.into_error();
    if let Some(h2) = source::<h2::Error>(&error) {
        return match h2.reason() {
            Some(h2::Reason::REFUSED_STREAM) => SendError::Refused,
            _ if h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR) => {
                SendError::Refused
            }
            _ if h2.is_io() => SendError::Closed { reused },
            _ => SendError::Protocol(error),
        };
    }
    let broken = source::<std::io::Error>(&error).is_some_and(|e| {
        use std::io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        matches!(
            e.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
        )
    });
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() || broken {
        return SendError::Closed { reused };
    }
    SendError::Protocol(error)
}

fn source<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
