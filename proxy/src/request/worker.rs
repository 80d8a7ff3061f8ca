//! One thread with one runtime, its own listeners, pools and counters; and the handle by which the control thread tells all of them what to serve.
//! Workers share nothing that is written on the request path.

use super::{
    conn,
    crowd::Crowd,
    table::{ListenerTable, Plan, Table},
    timer::Timers,
};
use crate::metrics::request::RequestMetrics;
use http::HeaderValue;
use sidecar_runtime::{
    listener::{AsyncListener, ListenAddr, Listener},
    liveness::{Heartbeat, Liveness},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, interval},
};

const SWEEP: Duration = Duration::from_secs(1);
const MAX_SILENCE: Duration = Duration::from_secs(30);
/// How long a connection over the limit may take to read that it is one.
const TURN_AWAY: Duration = Duration::from_secs(2);

/// One worker, as its own tasks see it.
pub struct Worker {
    /// How many workers there are.
    pub workers: usize,
    /// Its deadlines.
    pub timers: Timers,
    /// The series of the request flow.
    pub metrics: RequestMetrics,
    /// This process in `Via`.
    pub via: HeaderValue,
    /// Requests whose response has not ended.
    pub in_flight: Cell<usize>,
    /// The process is stopping: no new requests.
    pub draining: Cell<bool>,
    id: usize,
    /// Of all workers.
    connections: Arc<AtomicUsize>,
    /// Of this one.
    open: Cell<usize>,
    crowd: RefCell<Crowd>,
    idle: Notify,
    table: RefCell<Table>,
    listening: RefCell<HashMap<ListenAddr, Rc<Listening>>>,
}

/// One listener on one worker.
pub struct Listening {
    table: RefCell<Rc<ListenerTable>>,
    port: Option<u16>,
    closing: Cell<bool>,
    closed: Notify,
}

impl Listening {
    /// Its routes as of now.
    pub fn table(&self) -> Rc<ListenerTable> {
        Rc::clone(&self.table.borrow())
    }

    /// Its port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether its connections should end when they can.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    fn close(&self) {
        self.closing.set(true);
        self.closed.notify_one();
    }
}

enum Command {
    Apply {
        plan: Plan,
        listeners: Vec<(ListenAddr, Listener)>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Drain {
        done: oneshot::Sender<()>,
    },
}

/// All workers, as the control thread sees them.
pub struct Workers {
    handles: Vec<Handle>,
}

struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why the workers could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// A thread or its runtime could not be started.
    #[error("a worker thread could not be started; check the container's pid and memory limits")]
    Start(#[source] io::Error),
    /// A worker could not register a listener.
    #[error("a worker could not use its listener")]
    Listen(#[source] io::Error),
    /// A worker is gone.
    #[error(
        "a worker thread has ended unexpectedly; this is a defect, please report it with the lines above"
    )]
    Gone,
}

impl Workers {
    /// Starts `count` threads that serve nothing yet.
    ///
    /// # Errors
    /// [`WorkersError::Start`].
    pub fn start(
        count: usize,
        metrics: &RequestMetrics,
        liveness: &Liveness,
        via: &HeaderValue,
    ) -> Result<Self, WorkersError> {
        let connections = Arc::new(AtomicUsize::new(0));
        let mut handles = vec![];
        for id in 0..count {
            let (commands, receiver) = mpsc::unbounded_channel();
            let (metrics, via, connections) =
                (metrics.clone(), via.clone(), Arc::clone(&connections));
            let heartbeat = liveness.register(format!("worker {id}"), MAX_SILENCE);
            let (started, start) = std::sync::mpsc::channel();
            let body = move || {
                let runtime = match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .event_interval(31)
                    .build_local(Default::default())
                {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error))),
                };
                drop(started.send(Ok(())));
                let worker = Worker {
                    workers: count,
                    timers: Timers::default(),
                    metrics,
                    via,
                    in_flight: Cell::new(0),
                    draining: Cell::new(false),
                    id,
                    connections,
                    open: Cell::new(0),
                    crowd: RefCell::default(),
                    idle: Notify::new(),
                    table: RefCell::default(),
                    listening: RefCell::default(),
                };
                runtime.block_on(Rc::new(worker).run(receiver, heartbeat));
                // A resolver that hangs must not hold up the end.
                runtime.shutdown_background();
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{id}"))
                .spawn(body)
                .map_err(WorkersError::Start)?;
            start
                .recv()
                .unwrap_or(Ok(()))
                .map_err(WorkersError::Start)?;
            handles.push(Handle {
                commands,
                thread: Some(thread),
            });
        }
        Ok(Self { handles })
    }

    /// Serves `plan` from now on. `listeners` are the new ones, one for each worker; those not in the plan any more are closed, and their
    /// connections end with their requests.
    ///
    /// # Errors
    /// [`WorkersError`].
    pub async fn apply(
        &self,
        plan: &Plan,
        mut listeners: Vec<Vec<(ListenAddr, Listener)>>,
    ) -> Result<(), WorkersError> {
        let mut answers = vec![];
        for handle in self.handles.iter().rev() {
            let (done, answer) = oneshot::channel();
            let listeners = listeners.pop().unwrap_or_default();
            handle
                .commands
                .send(Command::Apply {
                    plan: plan.clone(),
                    listeners,
                    done,
                })
                .map_err(|_| WorkersError::Gone)?;
            answers.push(answer);
        }
        for answer in answers {
            answer
                .await
                .map_err(|_| WorkersError::Gone)?
                .map_err(WorkersError::Listen)?;
        }
        Ok(())
    }

    /// Closes the listeners and resolves when the last connection has ended.
    pub async fn drain(&self) {
        let mut answers = vec![];
        for handle in &self.handles {
            let (done, answer) = oneshot::channel();
            if handle.commands.send(Command::Drain { done }).is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            // A worker that is gone has no connections.
            drop(answer.await);
        }
    }

    /// Resolves when some worker has ended, which none does before it is dropped.
    pub async fn failed(&self) {
        // `closed` resolves when the receiving end is gone, and with it the worker.
        let mut closed: Vec<_> = self
            .handles
            .iter()
            .map(|h| Box::pin(h.commands.closed()))
            .collect();
        std::future::poll_fn(|cx| {
            if closed.iter_mut().any(|c| c.as_mut().poll(cx).is_ready()) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.handles.len()
    }
}

impl Drop for Workers {
    /// Ends the threads: what is still open is cut off.
    fn drop(&mut self) {
        for Handle { commands, thread } in self.handles.drain(..) {
            drop(commands);
            if let Some(thread) = thread
                && thread.join().is_err()
            {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Worker {
    async fn run(
        self: Rc<Self>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        heartbeat: Heartbeat,
    ) {
        drop(tokio::task::spawn_local(self.timers.clone().run()));
        let mut sweep = interval(SWEEP);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Apply { plan, listeners, done }) => drop(done.send(self.apply(&plan, listeners))),
                    Some(Command::Drain { done }) => self.drain(done),
                    None => break,
                },
                _ = sweep.tick() => {
                    heartbeat.beat();
                    self.table.borrow().sweep(Instant::now());
                    if self.crowd.borrow_mut().is_gone(self.open.get()) {
                        sidecar_allocator::give_back();
                    }
                }
            }
        }
        heartbeat.retire();
    }

    fn apply(
        self: &Rc<Self>,
        plan: &Plan,
        listeners: Vec<(ListenAddr, Listener)>,
    ) -> io::Result<()> {
        // All that can fail comes before anything is changed.
        let mut bound = Vec::with_capacity(listeners.len());
        for (addr, listener) in listeners {
            let port = match listener.local_addr() {
                ListenAddr::Tcp(addr) => Some(addr.port()),
                ListenAddr::Unix(_) => None,
            };
            bound.push((addr, port, listener.into_tokio()?));
        }
        let table = Table::new(plan, self.id, &self.metrics, &self.table.borrow());
        self.listening
            .borrow_mut()
            .retain(|addr, listening| match table.listeners.get(addr) {
                Some(now) => {
                    *listening.table.borrow_mut() = Rc::clone(now);
                    true
                }
                None => {
                    listening.close();
                    false
                }
            });
        for (addr, port, listener) in bound {
            let Some(now) = table.listeners.get(&addr) else {
                continue;
            };
            let listening = Rc::new(Listening {
                table: RefCell::new(Rc::clone(now)),
                port,
                closing: Cell::new(false),
                closed: Notify::new(),
            });
            self.listening
                .borrow_mut()
                .insert(addr, Rc::clone(&listening));
            drop(tokio::task::spawn_local(
                Rc::clone(self).accept(listener, listening),
            ));
        }
        *self.table.borrow_mut() = table;
        self.timers.wake_all();
        Ok(())
    }

    async fn accept(self: Rc<Self>, mut listener: AsyncListener, listening: Rc<Listening>) {
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted,
                () = listening.closed.notified() => return,
            };
            let limit = listening.table().params.limits.max_connections;
            if self.connections.fetch_add(1, Relaxed) >= limit {
                self.connections.fetch_sub(1, Relaxed);
                self.metrics.rejected("overloaded");
                drop(tokio::task::spawn_local(conn::turn_away(stream, TURN_AWAY)));
                continue;
            }
            let open = Open::new(&self);
            let serving = conn::serve(Rc::clone(&self), Rc::clone(&listening), stream, peer);
            drop(tokio::task::spawn_local(async move {
                serving.await;
                drop(open);
            }));
        }
    }

    /// A request's response has ended.
    pub fn request_done(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        if self.draining.get() {
            self.idle.notify_one();
        }
    }

    fn drain(self: &Rc<Self>, done: oneshot::Sender<()>) {
        self.draining.set(true);
        for (_, listening) in self.listening.borrow_mut().drain() {
            listening.close();
        }
        self.timers.wake_all();
        let worker = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            while worker.open.get() > 0 || worker.in_flight.get() > 0 {
                worker.idle.notified().await;
            }
            // Nobody waits any more when the deadline has passed.
            done.send(()).unwrap_or_default();
        }));
    }
}

/// One open connection.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.open.set(worker.open.get() + 1);
        worker.crowd.borrow_mut().grew(worker.open.get());
        Self(Rc::clone(worker))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle.notify_one();
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
pub(super) mod tests;
