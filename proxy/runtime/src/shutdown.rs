//! Signals as values, and draining: how work in flight is told to end and waited for.
//!
//! Nothing here ends the process; the caller decides on exit codes and deadlines.

use std::{fmt, future::Future, io};

use tokio::signal::unix::{Signal as Source, SignalKind, signal};

mod drain;
pub use drain::{DrainGuard, DrainTrigger, DrainWatch, Drained, drain};

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: what the kubelet sends.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl Signal {
    /// The signal's number; a process that ends because of it exits with 128 plus this.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Terminate => 15,
            Self::Interrupt => 2,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// A second stop signal arrived while work in flight was being finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a second stop signal ({0}) arrived before work in flight had finished")]
pub struct Aborted(
    /// The signal that cut the drain short.
    pub Signal,
);

/// The signals this process listens to. The two fields can be awaited side by side in one `select!`.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM and SIGINT.
    pub stop: StopSignals,
    /// SIGHUP.
    pub reload: ReloadSignals,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP from their default actions. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The system refused to install a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            stop: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            reload: ReloadSignals {
                hangup: signal(SignalKind::hangup())?,
            },
        })
    }

    /// Resolves at the next SIGTERM or SIGINT.
    pub async fn stop(&mut self) -> Signal {
        self.stop.recv().await
    }

    /// Resolves at the next SIGHUP.
    pub async fn reload(&mut self) {
        self.reload.recv().await;
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Source,
    interrupt: Source,
}

impl StopSignals {
    /// Resolves at the next SIGTERM or SIGINT; safe to cancel.
    pub async fn recv(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Terminate,
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            else => std::future::pending().await,
        }
    }

    /// Runs `work` (the drain that a first signal began) to its end, unless a further stop signal comes first.
    ///
    /// # Errors
    /// The signal that came first; `work` is dropped then.
    pub async fn unless_aborted<F: Future>(&mut self, work: F) -> Result<F::Output, Aborted> {
        tokio::select! {
            biased;
            signal = self.recv() => Err(Aborted(signal)),
            done = work => Ok(done),
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub struct ReloadSignals {
    hangup: Source,
}

impl ReloadSignals {
    /// Resolves at the next SIGHUP; several that come close together count as one. Safe to cancel.
    pub async fn recv(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    /// Sends a signal to this very process.
    fn raise(name: &str) {
        let kill = format!("kill -{name} {}", std::process::id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// One test for all: signals belong to the process, so tests side by side would hear each other's.
    #[tokio::test]
    async fn the_first_signal_stops_and_the_second_aborts() {
        let mut signals = Signals::install().unwrap();
        raise("HUP");
        tokio::select! {
            signal = signals.stop.recv() => panic!("{signal}"),
            () = signals.reload.recv() => {}
            () = tokio::time::sleep(BOUND) => panic!("SIGHUP was not heard"),
        }
        raise("TERM");
        let first = timeout(BOUND, signals.stop()).await.unwrap();
        assert_eq!((first, first.number()), (Signal::Terminate, 15));
        assert_eq!(
            signals.stop.unless_aborted(async { "drained" }).await,
            Ok("drained")
        );
        raise("INT");
        let drain = signals.stop.unless_aborted(std::future::pending::<()>());
        let aborted = timeout(BOUND, drain).await.unwrap();
        assert_eq!(aborted, Err(Aborted(Signal::Interrupt)));
    }
}
