//! An HTTP/1.1 connection for one request that asks for an upgrade: outside of the pool, driven by a task, since it outlives the request when the
//! upstream agrees.

use super::{CheckoutError, Open, Upstream};
use crate::metrics::request::RouteShard;
use crate::request::{
    body::{Lease, RequestBody},
    send::{SendError, classify},
    timer::Deadline,
};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

/// The end that sends, and the connection's place under the limit: hyper's task ends when the upstream agrees, the connection does not.
pub struct Dedicated(http1::SendRequest<RequestBody>, Rc<Open>);

impl Dedicated {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn open(
        upstream: &Rc<Upstream>,
        within: Duration,
        shard: &Arc<RouteShard>,
    ) -> Result<Self, CheckoutError> {
        let (stream, open) = upstream.dedicated(within, shard).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(CheckoutError::Handshake)?;
        let open = Rc::new(open);
        let held = Rc::clone(&open);
        drop(tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "connection of an upgrade ended");
            }
            drop(held);
        }));
        Ok(Self(sender, open))
    }

    /// Sends the request and waits for the response's header section.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(
        mut self,
        request: Request<RequestBody>,
        deadline: &Deadline,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let mut response = pin!(self.0.try_send_request(request));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(
                result
                    .map(|r| (r, Lease::Dedicated(Rc::clone(&self.1))))
                    .map_err(|error| classify(error, false)),
            ),
            Poll::Pending if deadline.poll_due(cx) => Poll::Ready(Err(SendError::Timeout)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}
