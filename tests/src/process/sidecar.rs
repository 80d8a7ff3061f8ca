//! The sidecar as a real process on free ports.

use super::{AS_SIDECAR, Metrics, Process};
use crate::{
    Result,
    client::{Answer, Client},
    ports,
    record::Record,
    temp::TempDir,
    wait::eventually,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
};

/// Exit code when it cannot bind: the one failure that is worth another try with other ports.
const CANNOT_BIND: i32 = 71;

/// How to start a sidecar.
#[derive(Debug, Clone, Default)]
pub struct SidecarSetup {
    /// Further environment variables.
    pub env: BTreeMap<String, OsString>,
    /// Further arguments.
    pub args: Vec<OsString>,
    /// The text of a configuration file; `{listen}`, `{admin}` and `{inbound}` in it are replaced by free addresses, `{admin-port}`
    /// and `{inbound-port}` by their ports. Without one, `--listen` and `--admin` say them.
    pub config: Option<String>,
}

impl SidecarSetup {
    /// Gives it a configuration file with this text.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
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
    inbound: SocketAddr,
    config: Option<PathBuf>,
    _dir: TempDir,
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
        let (listen, admin, inbound) = (ports::free()?, ports::free()?, ports::free()?);
        let dir = TempDir::new("token-sidecar-run")?;
        let mut args: Vec<OsString> = vec![AS_SIDECAR.into()];
        let mut config = None;
        match &setup.config {
            Some(text) => {
                let file = dir.join("config.yaml");
                std::fs::write(&file, addressed(text, listen, admin, inbound))?;
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
            inbound,
            config,
            _dir: dir,
        })
    }

    /// Where the workload reaches it.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where callers of the workload reach it, if its configuration says `{inbound}`.
    pub fn inbound(&self) -> SocketAddr {
        self.inbound
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
        std::fs::write(&new, addressed(text, self.listen, self.admin, self.inbound))?;
        Ok(std::fs::rename(&new, file)?)
    }

    /// `Err(Some(status))` when it ended, `Err(None)` when it never answered.
    async fn answering(&mut self) -> Result<(), Option<ExitStatus>> {
        answers(&mut self.process, self.admin).await
    }
}

/// Waits until `GET /livez` at `address` is answered, or the process ends.
///
/// # Errors
/// `Some(status)` when it ended, `None` when it never answered.
pub(super) async fn answers(
    process: &mut Process,
    address: SocketAddr,
) -> Result<(), Option<ExitStatus>> {
    let client = Client::new(address);
    let outcome = eventually("the port to answer", || {
        let (ended, client) = (process.ended(), client.clone());
        async move {
            match ended {
                Some(status) => Some(Err(status)),
                None => client.get("/livez").await.ok().map(|_| Ok(())),
            }
        }
    });
    let outcome = outcome.await;
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(status)) => {
            process.read_up().await;
            Err(Some(status))
        }
        Err(_) => Err(None),
    }
}

fn addressed(text: &str, listen: SocketAddr, admin: SocketAddr, inbound: SocketAddr) -> String {
    text.replace("{admin-port}", &admin.port().to_string())
        .replace("{inbound-port}", &inbound.port().to_string())
        .replace("{listen}", &listen.to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{inbound}", &inbound.to_string())
}
