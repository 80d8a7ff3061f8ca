//! An HTTP/1.1 connection to an upstream, driven by whoever uses it: no task of its own, no wake-up between tasks. While it is idle in the pool
//! nobody polls it; that the upstream closed it is seen when it is asked for, or by the sweep.

use super::{Open, Upstream};
use crate::{net::dial::Stream, request::body::RequestBody};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A connection and its two ends.
pub struct H1Connection {
    sender: SendRequest<RequestBody>,
    driver: Connection<TokioIo<Stream>, RequestBody>,
    over: bool,
    waker: Mutable,
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
            waker: Mutable::default(),
            _open: open,
        })
    }

    /// Whether a request could be sent now. Looks at the socket's readiness, without waiting and without waking anybody.
    pub fn is_usable(&mut self) -> bool {
        let driving = self.poll_driver(&mut Context::from_waker(Waker::noop()));
        driving.is_pending() && self.sender.is_ready()
    }

    fn drive(&mut self, cx: &Context<'_>) -> Poll<()> {
        let waker = self.waker.of(cx.waker());
        self.poll_driver(&mut Context::from_waker(&waker))
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
    pub fn drive(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.connection
            .as_mut()
            .map_or(Poll::Ready(()), |c| c.drive(cx))
    }

    /// Back to the pool. Whether it can serve again is seen when it is asked for. Without this it is closed: dropping a connection in
    /// mid-response is how a request is cancelled.
    pub fn give_back(&mut self) {
        if let Some(connection) = self.connection.take()
            && !connection.over
            && !connection.sender.is_closed()
        {
            connection.waker.mute();
            self.upstream.put_back(connection);
        }
    }
}

/// The waker that a connection is driven with: the one of the task that uses it, until the connection is given back. What hyper leaves behind of a
/// finished response wakes the driver once more when it is dropped; that must not cost the task a turn.
#[derive(Default)]
struct Mutable {
    /// Who is woken, and the same as a waker.
    current: Option<(Arc<Relay>, Waker)>,
}

struct Relay {
    task: Waker,
    muted: AtomicBool,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.muted.load(Relaxed) {
            self.task.wake_by_ref();
        }
    }
}

impl Mutable {
    /// A waker that wakes `task`.
    fn of(&mut self, task: &Waker) -> Waker {
        match &self.current {
            Some((relay, waker)) if relay.task.will_wake(task) => {
                relay.muted.store(false, Relaxed);
                waker.clone()
            }
            _ => {
                let relay = Arc::new(Relay {
                    task: task.clone(),
                    muted: AtomicBool::new(false),
                });
                let waker = Waker::from(Arc::clone(&relay));
                self.current = Some((relay, waker.clone()));
                waker
            }
        }
    }

    /// Wakes nobody until it is asked for again.
    fn mute(&self) {
        if let Some((relay, _)) = &self.current {
            relay.muted.store(true, Relaxed);
        }
    }
}
