//! A request's body that comes back when it was not read to its end, so that a service may answer as early as it likes: what is left of the body is
//! seen to behind its back (see [`crate::leftover`]).

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use crate::leftover::{LONGEST, Leftover, read_away};

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it has ended or broken off.
    incoming: Option<Incoming>,
    /// Where it goes when it is dropped before.
    rest: Option<Arc<Mutex<Rest>>>,
}

/// What has become of a body.
#[derive(Debug)]
enum Rest {
    /// Somebody has it, or it has broken off.
    Gone,
    /// It was read to its end.
    Read,
    /// It was dropped unread, or in part.
    Left(Incoming),
}

fn lock(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RequestBody {
    fn end(&mut self, rest: Rest) {
        self.incoming = None;
        if let Some(place) = self.rest.take() {
            *lock(&place) = rest;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match &frame {
            None => self.end(Rest::Read),
            Some(Err(_)) => self.end(Rest::Gone),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.incoming.as_ref().map_or(none, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        match self.incoming.take() {
            Some(incoming) if incoming.is_end_stream() => self.end(Rest::Read),
            Some(incoming) => self.end(Rest::Left(incoming)),
            None => {}
        }
    }
}

/// Has a request answered by `service`, and gives the answer to send: at once, or when the request's body has gone by; with `Connection: close` when it
/// does not, which `closes` then says, too.
pub(super) async fn answered<B, E, F>(
    request: Request<Incoming>,
    closes: Arc<AtomicBool>,
    service: impl FnOnce(Request<RequestBody>) -> F,
) -> Result<Response<B>, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    let (parts, incoming) = request.into_parts();
    let leftover = Leftover::of(&parts, &incoming);
    let rest = (leftover != Leftover::Nothing).then(|| Arc::new(Mutex::new(Rest::Gone)));
    let body = RequestBody {
        incoming: Some(incoming),
        rest: rest.clone(),
    };
    let mut response = service(Request::from_parts(parts, body)).await?;
    let Some(rest) = rest else {
        return Ok(response);
    };
    let rest = std::mem::replace(&mut *lock(&rest), Rest::Gone);
    let gone = match rest {
        Rest::Read => true,
        Rest::Left(body)
            if leftover == Leftover::Coming && !response.headers().contains_key(CONNECTION) =>
        {
            timeout(LONGEST, read_away(body)).await == Ok(true)
        }
        Rest::Left(_) | Rest::Gone => false,
    };
    if !gone {
        closes.store(true, Relaxed);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
