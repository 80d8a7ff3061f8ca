//! A server of the reader's own in the demo: any command, that is given the sidecar's address as its base URL and has everything else (environment,
//! terminal, working directory) from whoever started the demo. Nothing is known of it and nothing recorded; see [`crate::process`] for ours.

use crate::{Result, wait::within};
use rustix::process::{Pid, Signal, kill_process};
use std::{ffi::OsString, net::SocketAddr, process::ExitStatus, time::Duration};
use tokio::process::{Child, Command};

/// As long as a kubelet leaves a container.
const GRACE: Duration = Duration::from_secs(30);

/// What to run, and how it is told where its backend is.
#[derive(Debug, Clone)]
pub struct OwnServer {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The variable that holds its base URL.
    pub variable: String,
    /// Where the sidecar sends its requests: a stand-in of the backend on this machine. Without it: the built-in backend.
    pub backend: Option<String>,
}

impl OwnServer {
    /// Starts it with the sidecar at `sidecar`.
    ///
    /// # Errors
    /// When there is no such program, or it cannot be started.
    pub fn start(&self, sidecar: SocketAddr) -> Result<Running> {
        let (program, arguments) = self.command.split_first().ok_or("no command was given")?;
        let child = Command::new(program)
            .args(arguments)
            .env(&self.variable, base(sidecar))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Running { child })
    }

    /// The command as it was given, for people.
    pub fn shown(&self) -> String {
        let words: Vec<_> = self.command.iter().map(|w| w.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// The base URL of a workload beside the sidecar.
pub fn base(sidecar: SocketAddr) -> String {
    format!("http://{sidecar}")
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// SIGTERM, then waits for its end; a terminal's Ctrl-C has reached it already.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may have ended by itself meanwhile.
            kill_process(pid, Signal::TERM).ok();
        }
        within(GRACE, "your server to end", self.child.wait()).await??;
        Ok(())
    }
}

/// The end of a server, if there is one; else never.
pub async fn ended(own: &mut Option<&mut Running>) -> ExitStatus {
    if let Some(own) = own
        && let Ok(status) = own.child.wait().await
    {
        return status;
    }
    std::future::pending().await
}
