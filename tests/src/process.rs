//! Real child processes: started with a cleared environment in a process group of their own, their output recorded line by line, killed
//! by their id when dropped. [`sidecar`] and [`mcp_server`] know how to start ours.

pub mod mcp_server;
pub mod metrics;
pub mod sidecar;

pub use mcp_server::McpServer;
pub use metrics::Metrics;
pub use sidecar::{Sidecar, SidecarSetup};

use crate::{
    Result,
    record::Record,
    wait::{LONG, TimedOut, within},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// The first argument by which a multi-call binary becomes the sidecar.
pub const AS_SIDECAR: &str = "__token-sidecar";
/// The first argument by which a multi-call binary becomes the MCP server.
pub const AS_MCP_SERVER: &str = "__mcp-server";

/// The variable that names a host in place of every upstream's, behind the back of the configuration's own check of hosts. It stands for a name that
/// comes to resolve to something else after the check.
pub const UPSTREAM_HOST: &str = "HARNESS_UPSTREAM_HOST";

/// A running process.
pub struct Process {
    child: Child,
    pid: Pid,
    stdout: Record<String>,
    stderr: Record<String>,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts `program` with exactly this environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        program: &Path,
        args: &[OsString],
        env: &BTreeMap<String, OsString>,
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A terminal's Ctrl-C goes to its foreground group: whoever started us decides when we stop.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
            .ok_or("the process has ended already")?;
        let (stdout, stderr) = (Record::new(), Record::new());
        let mut readers = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(read_lines(pipe, stdout.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(read_lines(pipe, stderr.clone()));
        }
        Ok(Self {
            child,
            pid,
            stdout,
            stderr,
            readers,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Lines of its standard output.
    pub fn stdout(&self) -> &Record<String> {
        &self.stdout
    }

    /// Lines of its standard error: the logs.
    pub fn stderr(&self) -> &Record<String> {
        &self.stderr
    }

    /// All of its output as one text.
    pub fn output(&self) -> String {
        let mut lines = self.stdout.all();
        lines.extend(self.stderr.all());
        lines.join("\n")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Sets how many file descriptors it may have (its soft limit), and gives what that was. Below what it has, every further one fails with EMFILE.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn limit_files(&self, limit: Option<u64>) -> Result<Option<u64>> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: limit,
            maximum,
        };
        Ok(prlimit(Some(self.pid), Resource::Nofile, limit)?.current)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, generously bounded, and until its output has been read to its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = within(LONG, "the process to end", self.child.wait()).await??;
        self.read_up().await;
        Ok(status)
    }

    /// Waits until the output of an ended process has been read to its end: for those who did not [`Process::wait`].
    pub async fn read_up(&mut self) {
        drop(
            within(LONG, "the end of the output", async {
                while self.readers.join_next().await.is_some() {}
            })
            .await,
        );
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::TERM)?;
        }
        self.wait().await
    }

    /// Waits for a log line that contains `text`.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn logged(&self, text: &str) -> Result<String, TimedOut> {
        self.stderr
            .find(&format!("a log line with `{text}`"), |line| {
                line.contains(text)
            })
            .await
    }
}

async fn read_lines(pipe: impl AsyncRead + Unpin, lines: Record<String>) {
    let mut reader = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.push(line);
    }
}
