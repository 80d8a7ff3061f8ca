//! The only file that knows both flows: build, bind, run, reload, stop. The token flow, the admin port and this loop share one thread;
//! requests have threads of their own.

mod admin;
mod harden;
mod inbound;
mod metrics;
mod reload;
pub mod webhook;

use crate::{
    config::{Config, ConfigErrors},
    net::tls::TlsError,
    request::{
        access::{Access, CredentialHandle},
        caller::CallerAccess,
        inbound::Inbound,
        params::{RequestParams, RouteParams},
        table::{Plan, PlanError, Prepared},
        worker::{Workers, WorkersError},
    },
    token::{
        TokenFlow, TokenFlowError, caller::handle::Handles, exchange::TokenType,
        injection::Injection,
    },
};
use http::{HeaderValue, header};
use inbound::{InboundError, InboundSide};
use metrics::{AppMetrics, Series};
use reload::Waiting;
use sidecar_runtime::{
    admin::Admin,
    clock::Clock,
    listener::{BindError, BindOptions, ListenAddr, Listener},
    liveness::Liveness,
    readiness::Readiness,
    shutdown::{Aborted, Signal, Signals},
    telemetry::{self, TelemetryError, chain},
};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Reads the configuration anew, for a reload.
pub type Reload = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send>;

/// How often the configuration file is looked at.
const CONFIG_POLL: Duration = Duration::from_secs(1);
/// The control thread must come round at least this often, or /livez says so.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Why the sidecar ended other than as asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The log could not be set up.
    #[error("the log cannot be set up")]
    Telemetry(#[from] TelemetryError),
    /// Signals or the runtime.
    #[error("the system refused what the sidecar needs to run")]
    System(#[source] io::Error),
    /// A series could not be registered.
    #[error("a metric is registered twice; this is a defect, please report it")]
    Metrics(#[from] prometheus::Error),
    /// An address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A route could not be set up.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A credential could not be set up.
    #[error(transparent)]
    Token(#[from] TokenFlowError),
    /// The serving certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An issuer of callers' tokens could not be set up.
    #[error(transparent)]
    Inbound(#[from] InboundError),
    /// A worker failed.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// A second signal.
    #[error(transparent)]
    Aborted(#[from] Aborted),
}

impl AppError {
    /// The process's exit code: 64 bad configuration (a file that it names is unusable), 70 a fault in the sidecar, 71 the system refused
    /// something (an address, a thread), 128 plus the signal's number when a second signal cut requests short.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(_)
            | Self::Token(_)
            | Self::Inbound(_)
            | Self::Telemetry(_)
            | Self::Tls(_) => 64,
            Self::Metrics(_) | Self::Workers(WorkersError::Gone) => 70,
            Self::System(_) | Self::Bind(_) | Self::Workers(_) => 71,
            Self::Aborted(Aborted(Signal::Interrupt)) => 130,
            Self::Aborted(_) => 143,
        }
    }
}

/// Runs the sidecar until it is told to stop.
///
/// # Errors
/// See [`AppError`].
pub fn run(config: Config, reload: Reload) -> Result<(), AppError> {
    telemetry::init(config.log.format, &config.log.level)?;
    harden::process();
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AppError::System)?;
    let result = runtime.block_on(async {
        let mut signals = Signals::install().map_err(AppError::System)?;
        let mut app = App::start(config, reload).await?;
        let signal = app.until_stopped(&mut signals).await?;
        tracing::info!(%signal, delay = ?app.config.shutdown.delay, deadline = ?app.config.shutdown.deadline, "stopping");
        let stopped = signals.stop.unless_aborted(app.stop()).await;
        if let Err(aborted) = stopped {
            tracing::error!(%aborted, "aborted: requests in flight are cut off");
        }
        Ok(stopped?)
    });
    // A resolver that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

struct App {
    config: Config,
    reload: Reload,
    config_digest: Option<u64>,
    readiness: Readiness,
    metrics: AppMetrics,
    tokens: TokenFlow,
    inbound: InboundSide,
    workers: Workers,
    /// A configuration that is not in force yet.
    waiting: Option<Waiting>,
    heartbeat: Option<sidecar_runtime::liveness::Heartbeat>,
    /// Held, so that the list of what must be ready names the listeners.
    _listening: sidecar_runtime::readiness::Condition,
    stop_admin: Arc<Notify>,
    clock: Clock,
}

impl App {
    async fn start(config: Config, reload: Reload) -> Result<Self, AppError> {
        let config_digest = in_force(config.file.as_deref(), &config, &reload);
        let clock = Clock::system();
        let readiness = Readiness::with_clock(clock.clone());
        let liveness = Liveness::new();
        let heartbeat = liveness.register("control", MAX_SILENCE);
        let registry = prometheus::Registry::new();
        let Series {
            app: metrics,
            token,
            request,
            inbound: inbound_metrics,
        } = Series::register(&registry, &clock)?;
        let listening = readiness.register("listeners");

        // All that can fail comes before anything is started.
        let admin = Listener::bind(&config.admin, BindOptions::default())?;
        let prepared = Prepared::new(config.request.clone())?;
        let workers = config.workers.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        );
        let listeners = bind(&config.request, &HashSet::new(), workers)?;

        let via = format!("1.1 token-sidecar-{:08x}", fastrand::u32(..));
        let via =
            HeaderValue::from_str(&via).unwrap_or(HeaderValue::from_static("1.1 token-sidecar"));
        let workers = Workers::start(workers, &request, &liveness, &via)?;
        let tokens = TokenFlow::start(
            config.token.clone(),
            clock.clone(),
            readiness.clone(),
            token,
        )?;
        let mut inbound = InboundSide::new(&clock, &readiness, &inbound_metrics);
        let side = inbound.apply(&config)?;
        let plan = plan(prepared, &tokens, inbound.handles(), side);
        let stop_admin = Arc::new(Notify::new());
        let stop = Arc::clone(&stop_admin);
        let port = Admin {
            title: "token-sidecar",
            registry,
            readiness: readiness.clone(),
            liveness,
        };
        tracing::info!(address = %admin.local_addr(), "admin port");
        drop(sidecar_runtime::spawn("admin", async move {
            if let Err(error) = port
                .serve(admin, async move { stop.notified().await })
                .await
            {
                tracing::error!(error = %chain(&error), "the admin port failed");
            }
        }));
        for (configured, listener) in listeners.first().into_iter().flatten() {
            tracing::info!(configured = %configured, address = %listener.local_addr(), "listening");
        }
        workers.apply(&plan, listeners).await?;
        listening.ready();
        metrics.reloaded(&clock, true);
        Ok(Self {
            config,
            reload,
            config_digest,
            readiness,
            metrics,
            tokens,
            inbound,
            workers,
            waiting: None,
            heartbeat: Some(heartbeat),
            _listening: listening,
            stop_admin,
            clock,
        })
    }

    async fn until_stopped(&mut self, signals: &mut Signals) -> Result<Signal, AppError> {
        let mut poll = interval(CONFIG_POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.stop.recv() => return Ok(signal),
                () = signals.reload.recv() => self.reconfigure("SIGHUP").await,
                () = self.workers.failed() => return Err(WorkersError::Gone.into()),
                () = sleep(reload::LOOK), if self.waiting.is_some() => self.look_at_waiting().await,
                _ = poll.tick() => {
                    if let Some(heartbeat) = &self.heartbeat {
                        heartbeat.beat();
                    }
                    let now = self.config.file.as_deref().and_then(digest);
                    // A file that is gone or unreadable for a moment is being replaced.
                    if now.is_some() && now != self.config_digest {
                        self.config_digest = now;
                        self.reconfigure("file changed").await;
                    }
                }
            }
        }
    }

    /// Readiness falls at once; the listeners close after the delay; requests in flight have until the deadline.
    async fn stop(&mut self) {
        self.readiness.set_draining();
        self.waiting = None;
        // Nobody comes round any more; a long drain is no reason to be killed.
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.retire();
        }
        sleep(self.config.shutdown.delay).await;
        match timeout(self.config.shutdown.deadline, self.workers.drain()).await {
            Ok(()) => tracing::info!("stopped: every request in flight has finished"),
            Err(_) => tracing::warn!(
                "stopped: requests in flight did not finish before the deadline and are cut off"
            ),
        }
        self.tokens.stop();
        self.inbound.stop();
        self.stop_admin.notify_one();
    }
}

fn plan(
    prepared: Prepared,
    tokens: &TokenFlow,
    handles: &Arc<Handles>,
    side: Option<Arc<Inbound>>,
) -> Plan {
    let prover = |injection: &Injection| {
        let bound = injection.token_type == TokenType::DPoP;
        tokens.prover().filter(|_| bound).cloned()
    };
    let of_pod = |credential: &str| {
        let (slot, injection, unavailable) = tokens.handle(credential);
        CredentialHandle {
            slot,
            prover: prover(&injection),
            injection,
            unavailable,
        }
    };
    // The workload passes handles on in the field that it gets them in.
    let header = side
        .as_ref()
        .map_or(header::AUTHORIZATION, |s| s.params().handle_header.clone());
    let access = |route: &RouteParams| match tokens.callers(&route.credential) {
        Some((cache, injection, unavailable)) => Access::Caller(Box::new(CallerAccess {
            cache,
            prover: prover(&injection),
            injection,
            unavailable,
            handles: Arc::clone(handles),
            header: header.clone(),
            without: route.without_caller.as_deref().map(of_pod),
        })),
        None => Access::Credential(of_pod(&route.credential)),
    };
    prepared.plan(access, side)
}

/// Binds what is not bound yet, once for each worker.
fn bind(
    params: &RequestParams,
    bound: &HashSet<ListenAddr>,
    workers: usize,
) -> Result<Vec<Vec<(ListenAddr, Listener)>>, BindError> {
    let mut all: Vec<Vec<(ListenAddr, Listener)>> = (0..workers).map(|_| vec![]).collect();
    for addr in params.listeners.iter().filter(|a| !bound.contains(a)) {
        let first = Listener::bind(
            addr,
            BindOptions {
                reuse_port: true,
                ..BindOptions::default()
            },
        )?;
        for others in all.iter_mut().skip(1) {
            others.push((addr.clone(), first.sibling()?));
        }
        if let Some(own) = all.first_mut() {
            own.push((addr.clone(), first));
        }
    }
    Ok(all)
}

/// The digest of the file that `loaded` was read from. `None` when it holds something else by now, so that the first look at it makes for a reload.
fn in_force<T: PartialEq, E>(
    file: Option<&Path>,
    loaded: &T,
    reload: impl Fn() -> Result<T, E>,
) -> Option<u64> {
    // Before it is read again: what comes later shows at the next look.
    let digest = file.and_then(digest)?;
    reload().is_ok_and(|now| now == *loaded).then_some(digest)
}

fn digest(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::raw_server::TestDir;

    #[test]
    fn a_file_that_changed_since_it_was_read_is_not_the_one_in_force() {
        let dir = TestDir::new();
        let file = dir.path().join("config");
        let read = || {
            std::fs::read_to_string(&file).and_then(|text| match text.as_str() {
                "bad" => Err(io::ErrorKind::InvalidData.into()),
                _ => Ok(text),
            })
        };
        std::fs::write(&file, "one").unwrap();
        let loaded = read().unwrap();
        assert_eq!(in_force(Some(&file), &loaded, read), digest(&file));
        for changed in ["two", "bad"] {
            std::fs::write(&file, changed).unwrap();
            assert_eq!(in_force(Some(&file), &loaded, read), None, "{changed}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(in_force(Some(&file), &loaded, read), None);
        assert_eq!(in_force(None, &loaded, read), None);
    }
}
