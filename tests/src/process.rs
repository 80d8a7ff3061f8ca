//! Real child processes: started with a cleared environment, their output recorded line by line, killed by their id when dropped.

use crate::{
    Result,
    client::{Answer, Client},
    ports,
    record::Record,
    wait::{LONG, TimedOut, eventually, within},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
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

/// Exit code of the sidecar when it cannot bind: the one failure that is worth another try with other ports.
const CANNOT_BIND: i32 = 71;

/// A running process.
pub struct Process {
    child: Child,
    pid: Pid,
    stdout: Record<String>,
    stderr: Record<String>,
    _readers: JoinSet<()>,
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
            _readers: readers,
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

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, generously bounded.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(within(LONG, "the process to end", self.child.wait()).await??)
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

/// How to start a sidecar.
#[derive(Debug, Clone, Default)]
pub struct SidecarSetup {
    /// Further environment variables.
    pub env: BTreeMap<String, OsString>,
    /// Further arguments.
    pub args: Vec<OsString>,
    /// The text of a configuration file; `{listen}` and `{admin}` in it are replaced by the free addresses. Without one, `--listen` and
    /// `--admin` say them.
    pub config: Option<String>,
}

impl SidecarSetup {
    /// With a configuration file.
    pub fn config(text: impl Into<String>) -> Self {
        Self {
            config: Some(text.into()),
            ..Self::default()
        }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A running sidecar on free ports.
pub struct Sidecar {
    /// The process.
    pub process: Process,
    listen: SocketAddr,
    admin: SocketAddr,
    config: Option<PathBuf>,
    _dir: crate::temp::TempDir,
}

impl Sidecar {
    /// Starts `program` (a multi-call binary) as the sidecar and waits until its admin port answers: not until it is ready.
    ///
    /// # Errors
    /// When it ends first; the text has its output.
    pub async fn start(program: &Path, setup: &SidecarSetup) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut sidecar = Self::spawn(program, setup)?;
            match Box::pin(sidecar.answering()).await {
                Ok(()) => return Ok(sidecar),
                Err(Some(status)) if status.code() == Some(CANNOT_BIND) && tries < 5 => {}
                Err(Some(status)) => {
                    return Err(format!(
                        "the sidecar ended ({status}) with:\n{}",
                        sidecar.process.output()
                    )
                    .into());
                }
                Err(None) => {
                    return Err(format!(
                        "the sidecar's admin port never answered; it said:\n{}",
                        sidecar.process.output()
                    )
                    .into());
                }
            }
        }
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(program: &Path, setup: &SidecarSetup) -> Result<Self> {
        let (listen, admin) = (ports::free()?, ports::free()?);
        let dir = crate::temp::TempDir::new("token-sidecar-run")?;
        let mut args: Vec<OsString> = vec![AS_SIDECAR.into()];
        let mut config = None;
        match &setup.config {
            Some(text) => {
                let file = dir.join("config.yaml");
                std::fs::write(&file, addressed(text, listen, admin))?;
                args.extend(["--config".into(), file.clone().into()]);
                config = Some(file);
            }
            None => args.extend([
                "--listen".into(),
                listen.to_string().into(),
                "--admin".into(),
                admin.to_string().into(),
            ]),
        }
        args.extend(setup.args.iter().cloned());
        let process = Process::spawn(program, &args, &setup.env)?;
        Ok(Self {
            process,
            listen,
            admin,
            config,
            _dir: dir,
        })
    }

    /// Where the workload reaches it.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A client of its data port.
    pub fn client(&self) -> Client {
        Client::new(self.listen)
    }

    /// GET from its admin port.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn admin_get(&self, path: &str) -> Result<Answer> {
        Client::new(self.admin).get(path).await
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it does not in time; the text has what `/readyz` said last.
    pub async fn ready(&self) -> Result<()> {
        let last = Record::new();
        let ready = eventually("/readyz to answer 200", || async {
            let answer = self.admin_get("/readyz").await.ok()?;
            last.push(answer.text());
            (answer.status == 200).then_some(())
        });
        ready.await.map_err(|error| {
            format!(
                "{error}; it said: {}\nlogs:\n{}",
                last.last().unwrap_or_default(),
                self.process.output()
            )
            .into()
        })
    }

    /// Waits until `/readyz` answers anything but 200 with `text` in it, and gives the answer.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn pending(&self, text: &str) -> Result<Answer> {
        let what = format!("/readyz to be pending with `{text}`");
        let answer = eventually(&what, || async {
            let answer = self.admin_get("/readyz").await.ok()?;
            (answer.status != 200 && answer.text().contains(text)).then_some(answer)
        });
        answer
            .await
            .map_err(|error| format!("{error}; logs:\n{}", self.process.output()).into())
    }

    /// The scraped metrics.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(self.admin_get("/metrics").await?.text()))
    }

    /// Waits until the metrics satisfy `wanted`.
    ///
    /// # Errors
    /// When they do not in time; the text has the last scrape.
    pub async fn metric(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
        let last = Record::new();
        let metrics = eventually(what, || async {
            let metrics = self.metrics().await.ok()?;
            last.push(metrics.0.clone());
            wanted(&metrics).then_some(metrics)
        });
        metrics.await.map_err(|error| {
            format!("{error}; last scrape:\n{}", last.last().unwrap_or_default()).into()
        })
    }

    /// Replaces the configuration file's text in place.
    ///
    /// # Errors
    /// When it was started without one.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let file = self
            .config
            .as_ref()
            .ok_or("this sidecar has no configuration file")?;
        let new = file.with_extension("new");
        std::fs::write(&new, addressed(text, self.listen, self.admin))?;
        Ok(std::fs::rename(&new, file)?)
    }

    /// `Err(Some(status))` when it ended, `Err(None)` when it never answered.
    async fn answering(&mut self) -> Result<(), Option<ExitStatus>> {
        let admin = Client::new(self.admin);
        let outcome = eventually("the admin port to answer", || {
            let ended = self.process.child.try_wait().ok().flatten();
            let admin = admin.clone();
            async move {
                match ended {
                    Some(status) => Some(Err(status)),
                    None => admin.get("/livez").await.ok().map(|_| Ok(())),
                }
            }
        });
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => {
                // Its last words may still be on their way.
                drop(self.process.child.wait().await);
                tokio::task::yield_now().await;
                Err(Some(status))
            }
            Err(_) => Err(None),
        }
    }
}

fn addressed(text: &str, listen: SocketAddr, admin: SocketAddr) -> String {
    text.replace("{listen}", &listen.to_string())
        .replace("{admin}", &admin.to_string())
}

/// A scrape in Prometheus' text format.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a series, its labels given as they are written: `exchanges_total{credential="a",result="ok"}`. Labels may be left
    /// out; the values of all series that match are summed. `None` when none does.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut sum = None;
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (found, inside) = series.split_once('{').unwrap_or((series, ""));
            let has = |(key, value): &(&str, &str)| inside.contains(&format!("{key}=\"{value}\""));
            if found == name && labels.iter().all(has) {
                sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>().unwrap_or(f64::NAN));
            }
        }
        sum
    }
}
