//! The admission webhook as a process: build, bind, run, reload, stop. Profiles and the serving certificate are read anew when their files change.
//! Reviews and this loop share one thread; probes have one of their own, and say when this loop does not come round.

use super::{
    AppError, MAX_SILENCE, admin::AdminThread, digest, harden, in_force, metrics::WebhookSeries,
};
use crate::{
    admission::webhook::{Limits, Webhook, serve},
    config::{
        ConfigErrors,
        profiles::{Loaded, WebhookSettings, check},
    },
    net::{tls::TlsError, tls_server::ServingCertificate},
};
use sidecar_runtime::{
    admin::Admin,
    clock::{Clock, rfc3339},
    listener::{BindOptions, Listener},
    liveness::Liveness,
    readiness::Readiness,
    shutdown::{Signals, drain},
    telemetry::{self, chain},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Reads the profiles anew.
pub type ReloadProfiles = Box<dyn Fn() -> Result<Loaded, ConfigErrors> + Send>;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(1);
/// How long reviews at hand may take once the listener is closed: longer than the API server waits for one.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What the webhook needs to know.
#[derive(Debug)]
pub struct WebhookParams {
    /// Addresses, log, shutdown.
    pub settings: WebhookSettings,
    /// The profiles file, to be watched.
    pub profiles: PathBuf,
    /// The serving certificate's chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The injector's own namespace.
    pub namespace: Option<String>,
}

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// See [`AppError`].
pub fn run(params: WebhookParams, loaded: Loaded, reload: ReloadProfiles) -> Result<(), AppError> {
    let log = &params.settings.log;
    telemetry::init(log.format, &log.level)?;
    harden::process();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AppError::System)?;
    let result = runtime.block_on(until_stopped(params, loaded, reload));
    runtime.shutdown_background();
    result
}

/// Until when a serving certificate is good (RFC 3339), for a look at it before it is served.
///
/// # Errors
/// As when the webhook starts; and when it has expired, with which the webhook would start, but no API server would talk to it.
pub fn certificate_until(certificate: &Path, key: &Path) -> Result<String, AppError> {
    let validity = ServingCertificate::load(certificate, key)?.validity();
    let until = Duration::from_secs(u64::try_from(validity.not_after).unwrap_or_default());
    if validity.not_after < seconds(Clock::system().unix_now()) {
        return Err(AppError::Tls(TlsError::Serving {
            path: certificate.to_owned(),
            cause: format!("it has expired ({}); renew it", rfc3339(until)),
        }));
    }
    Ok(rfc3339(until))
}

/// What is probably a slip in profiles that are taken over.
fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!(warning, "profiles");
    }
}

async fn until_stopped(
    params: WebhookParams,
    loaded: Loaded,
    reload: ReloadProfiles,
) -> Result<(), AppError> {
    let mut signals = Signals::install().map_err(AppError::System)?;
    let profiles_digest = in_force(Some(&params.profiles), &loaded, &reload);
    let clock = Clock::system();
    let readiness = Readiness::with_clock(clock.clone());
    let liveness = Liveness::new();
    let heartbeat = liveness.register("control", MAX_SILENCE);
    let registry = prometheus::Registry::new();
    let series = WebhookSeries::register(&registry)?;
    let listening = readiness.register("listener");

    // All that can fail comes before anything is started.
    // Before it is read: what comes later shows at the next look.
    let certificate_digest = pair(&params.certificate, &params.key);
    let certificate = ServingCertificate::load(&params.certificate, &params.key)?;
    let tls = certificate.server_config()?;
    let admin = Listener::bind(&params.settings.admin, BindOptions::default())?;
    let listener = Listener::bind(&params.settings.listen, BindOptions::default())?;
    tracing::info!(address = %admin.local_addr(), "admin port");
    tracing::info!(address = %listener.local_addr(), profiles = loaded.profiles.0.len(), "listening");
    warn(&loaded);
    let listener = listener.into_tokio().map_err(AppError::System)?;
    let webhook = Arc::new(Webhook::new(
        loaded.profiles,
        Box::new(check),
        params.namespace,
        series.admission.clone(),
    ));
    series.profiles_reloaded(&clock, true);
    in_service(&certificate, &series, &clock);

    let port = Admin {
        title: "token-sidecar webhook",
        registry,
        readiness: readiness.clone(),
        liveness,
    };
    let admin = AdminThread::start(port, admin).map_err(AppError::System)?;
    let (trigger, watch) = drain();
    drop(sidecar_runtime::spawn(
        "webhook",
        serve(
            listener,
            tls,
            Arc::clone(&webhook),
            Limits::default(),
            watch,
        ),
    ));
    listening.ready();

    let mut watched = Watched {
        profiles: profiles_digest,
        certificate: certificate_digest,
    };
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let signal = loop {
        let asked = tokio::select! {
            signal = signals.stop.recv() => break signal,
            () = signals.reload.recv() => true,
            _ = poll.tick() => false,
        };
        heartbeat.beat();
        let now = digest(&params.profiles);
        // A file that is gone or unreadable for a moment is being replaced.
        if asked || (now.is_some() && now != watched.profiles) {
            watched.profiles = now;
            let result = reload();
            let good = result.is_ok();
            match result {
                Ok(loaded) => {
                    tracing::info!(profiles = loaded.profiles.0.len(), "profiles reloaded");
                    warn(&loaded);
                    webhook.replace(loaded.profiles);
                }
                Err(errors) => {
                    tracing::error!(error = %errors, "profiles not reloaded: those before stay in force")
                }
            }
            // Last: scrapes are answered by another thread, and what they say is so.
            series.profiles_reloaded(&clock, good);
        }
        let now = pair(&params.certificate, &params.key);
        if asked || (now.is_some() && now != watched.certificate) {
            watched.certificate = now;
            let result = certificate.reload(seconds(clock.unix_now()));
            match &result {
                Ok(()) => in_service(&certificate, &series, &clock),
                Err(error) => {
                    tracing::error!(error = %chain(error), "serving certificate not reloaded: the one before stays in force")
                }
            }
            series.certificate_reloaded(result.is_ok());
        }
    };
    tracing::info!(%signal, delay = ?params.settings.shutdown_delay, "stopping");
    heartbeat.retire();
    readiness.set_draining();
    let stopped = signals
        .stop
        .unless_aborted(async {
            sleep(params.settings.shutdown_delay).await;
            if timeout(LAST_WORDS, trigger.drain().drained())
                .await
                .is_err()
            {
                tracing::warn!("stopped: reviews at hand did not finish in time and are cut off");
            }
        })
        .await;
    drop(admin);
    Ok(stopped?)
}

/// Tells of the serving certificate that was taken over. One that has expired is served all the same: the API server says best what is wrong then.
fn in_service(certificate: &ServingCertificate, series: &WebhookSeries, clock: &Clock) {
    let validity = certificate.validity();
    series.certificate_in_force(validity);
    let until = u64::try_from(validity.not_after).unwrap_or_default();
    let until = rfc3339(Duration::from_secs(until));
    if validity.not_after < seconds(clock.unix_now()) {
        tracing::error!(
            until,
            "the serving certificate has expired: API servers refuse it, so that pods that ask are not created, or without a sidecar; renew it"
        );
    } else {
        tracing::info!(until, "serving certificate taken over");
    }
}

fn seconds(since_epoch: Duration) -> i64 {
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// What the files held when they were last read.
struct Watched {
    profiles: Option<u64>,
    certificate: Option<(u64, u64)>,
}

/// A certificate and its key: they change together.
fn pair(certificate: &Path, key: &Path) -> Option<(u64, u64)> {
    Some((digest(certificate)?, digest(key)?))
}
