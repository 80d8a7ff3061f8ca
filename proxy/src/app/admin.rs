//! The admin port on a thread of its own: whatever holds up the rest of the process, probes are answered, and say so.

use sidecar_runtime::{admin::Admin, listener::Listener, telemetry::chain};
use std::{io, sync::Arc, thread};
use tokio::sync::Notify;

/// The thread. Dropping it tells it to stop, and waits until it has.
pub(super) struct AdminThread {
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

impl AdminThread {
    /// Serves `admin` at `listener`.
    ///
    /// # Errors
    /// The thread or its runtime could not be started.
    pub(super) fn start(admin: Admin, listener: Listener) -> Result<Self, io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            let served = runtime.block_on(admin.serve(listener, stopped.notified()));
            if let Err(error) = served {
                tracing::error!(error = %chain(&error), "the admin port failed");
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin port's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidecar_runtime::{
        listener::{BindOptions, ListenAddr},
        liveness::Liveness,
        readiness::Readiness,
    };
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };

    /// The runtime's only thread waits in here without giving way, as it would for a large review.
    #[tokio::test]
    async fn probes_are_answered_while_the_rest_is_held_up() {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&address, BindOptions::default()).unwrap();
        let ListenAddr::Tcp(address) = listener.local_addr() else {
            panic!("not TCP")
        };
        let admin = Admin {
            title: "test",
            registry: prometheus::Registry::new(),
            readiness: Readiness::new(),
            liveness: Liveness::new(),
        };
        let thread = AdminThread::start(admin, listener).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(thread);
        assert!(TcpStream::connect(address).is_err());
    }
}
