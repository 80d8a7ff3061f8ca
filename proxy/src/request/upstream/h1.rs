//! An HTTP/1.1 connection to an upstream, driven by whoever uses it: no task of its own, no wake-up between tasks. While it is idle in the pool
//! nobody polls it; that the upstream closed it is seen when it is asked for, or by the sweep.

use super::{Open, Upstream};
use crate::{net::dial::Stream, request::body::RequestBody};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A connection and its two ends.
pub struct H1Connection {
    sender: SendRequest<RequestBody>,
    driver: Connection<TokioIo<Stream>, RequestBody>,
    over: bool,
    _open: Open,
}

impl H1Connection {
    /// Begins HTTP/1.1 on an open stream. Nothing is sent yet.
    ///
    /// # Errors
    /// hyper's.
    pub async fn handshake(io: TokioIo<Stream>, open: Open) -> Result<Self, hyper::Error> {
        let (sender, driver) = http1::Builder::new().handshake(io).await?;
        Ok(Self {
            sender,
            driver,
            over: false,
            _open: open,
        })
    }

    /// Whether a request could be sent now. Looks at the socket's readiness, without waiting and without waking anybody.
    pub fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()))
            .is_pending()
            && !self.sender.is_closed()
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over {
            return Poll::Ready(());
        }
        let polled = Pin::new(&mut self.driver).poll(cx);
        self.over = polled.is_ready();
        // How it ended reaches whoever waits for the response, through the response.
        polled.map(|_| ())
    }
}

/// A connection on loan to one request.
pub struct H1Lease {
    connection: Option<Box<H1Connection>>,
    upstream: Rc<Upstream>,
    /// It has served a request before: the upstream may be closing it this very moment.
    pub reused: bool,
}

impl H1Lease {
    pub(super) fn new(connection: Box<H1Connection>, upstream: Rc<Upstream>, reused: bool) -> Self {
        Self {
            connection: Some(connection),
            upstream,
            reused,
        }
    }

    /// The end that sends. `None` after the connection was given back.
    pub fn sender(&mut self) -> Option<&mut SendRequest<RequestBody>> {
        self.connection.as_mut().map(|c| &mut c.sender)
    }

    /// Moves bytes. Ready when the connection is over (or was given back).
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection
            .as_mut()
            .map_or(Poll::Ready(()), |c| c.drive(cx))
    }

    /// Back to the pool, if it can serve again. Without this it is closed: dropping a connection in mid-response is how a request is cancelled.
    pub fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_usable()
            && connection.sender.is_ready()
        {
            self.upstream.put_back(connection);
        }
    }
}
