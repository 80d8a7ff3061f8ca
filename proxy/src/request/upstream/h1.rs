//! An HTTP/1.1 connection to an upstream, driven by whoever uses it: no task of its own, no wake-up between tasks. While it is idle in the pool
//! nobody polls it; that the upstream closed it is seen when it is asked for, or by the sweep.

use super::{Open, Upstream, last_words::LastWords};
use crate::{net::dial::Stream, request::body::RequestBody};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// A connection and its two ends.
pub struct H1Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    waker: Relayed,
    _open: Open,
}

impl H1Connection {
    /// Begins HTTP/1.1 on an open stream. Nothing is sent yet.
    ///
    /// # Errors
    /// hyper's.
    pub async fn handshake(stream: Stream, open: Open) -> Result<Self, hyper::Error> {
        let io = TokioIo::new(LastWords::new(stream));
        let (sender, driver) = http1::Builder::new().handshake(io).await?;
        Ok(Self {
            sender,
            driver: Driver(Some(driver)),
            waker: Relayed::default(),
            _open: open,
        })
    }

    /// Whether a request could be sent now, as far as was seen when the last one ended. Sending looks at the socket before it writes: should the
    /// upstream have closed it meanwhile, or sent what nobody asked for, the request comes back unsent.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether a request could be sent now. Looks at the socket's readiness, without waiting and without waking anybody.
    pub fn is_usable(&mut self) -> bool {
        let driving = self.driver.poll(&mut Context::from_waker(Waker::noop()));
        driving.is_pending() && self.sender.is_ready()
    }

    fn drive(&mut self, cx: &Context<'_>) -> Poll<()> {
        let waker = self.waker.to(cx.waker());
        self.driver.poll(&mut Context::from_waker(waker))
    }
}

/// hyper's connection, until it is over.
struct Driver(Option<Connection<TokioIo<LastWords<Stream>>, RequestBody>>);

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.0 else {
            return Poll::Ready(());
        };
        // How it ended reaches whoever waits for the response, through the response.
        let polled = Pin::new(connection).poll(cx).map(|_| ());
        if polled.is_ready() {
            // A request that it never took up goes back to whoever sent it when it is dropped.
            self.0 = None;
        }
        polled
    }
}

/// A connection on loan to one request.
pub struct H1Lease {
    connection: Option<Box<H1Connection>>,
    upstream: Rc<Upstream>,
    /// It has served a request before: the upstream may be closing it this very moment.
    pub reused: bool,
    /// The request has no body.
    pub bodiless: bool,
}

impl H1Lease {
    pub(super) fn new(connection: Box<H1Connection>, upstream: Rc<Upstream>, reused: bool) -> Self {
        Self {
            connection: Some(connection),
            upstream,
            reused,
            bodiless: false,
        }
    }

    /// The end that sends. `None` after the connection was given back.
    pub fn sender(&mut self) -> Option<&mut SendRequest<RequestBody>> {
        self.connection.as_mut().map(|c| &mut c.sender)
    }

    /// Moves bytes. Ready when the connection is over (or was given back).
    pub fn drive(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.connection
            .as_mut()
            .map_or(Poll::Ready(()), |c| c.drive(cx))
    }

    /// Back to the pool. Whether it can serve again is seen when it is asked for. Without this it is closed: dropping a connection in
    /// mid-response is how a request is cancelled.
    pub fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && !connection.sender.is_closed()
            // A request whose body is still going out is not over, even if its response is.
            && (self.bodiless || connection.is_ready() || connection.is_usable())
        {
            connection.waker.mute();
            self.upstream.put_back(connection);
        }
    }
}

/// The waker that a connection is driven with, always the same one: it wakes the task that uses the connection, until the connection is given back.
/// What hyper leaves behind of a finished response wakes the driver once more when it is dropped; that must not cost the task a turn.
struct Relayed {
    relay: Arc<Relay>,
    waker: Waker,
}

/// Who is woken. A lock that is never waited for: only one thread ever looks, but wakers must be fit for several.
#[derive(Default)]
struct Relay(Mutex<Option<Waker>>);

impl Relay {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(task) = &*self.task() {
            task.wake_by_ref();
        }
    }
}

impl Default for Relayed {
    fn default() -> Self {
        let relay = Arc::<Relay>::default();
        Self {
            waker: Arc::clone(&relay).into(),
            relay,
        }
    }
}

impl Relayed {
    /// The waker, which wakes `task` from now on.
    fn to(&self, task: &Waker) -> &Waker {
        let mut current = self.relay.task();
        if !current.as_ref().is_some_and(|c| c.will_wake(task)) {
            *current = Some(task.clone());
        }
        &self.waker
    }

    /// Wakes nobody until it is told whom.
    fn mute(&self) {
        let task = self.relay.task().take();
        drop(task);
    }
}
