//! The series that belong to no flow (build, configuration, process), and the registration of all of them.

use crate::{
    metrics::{
        admission::AdmissionMetrics, inbound::InboundMetrics, request::RequestMetrics,
        token::TokenMetrics,
    },
    net::x509::Validity,
};
use prometheus::{
    Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    process_collector::ProcessCollector,
};
use sidecar_runtime::clock::Clock;

/// All series.
pub(super) struct Series {
    /// Of no flow.
    pub(super) app: AppMetrics,
    /// Of the token flow.
    pub(super) token: TokenMetrics,
    /// Of the request flow.
    pub(super) request: RequestMetrics,
    /// Of the inbound side.
    pub(super) inbound: InboundMetrics,
}

/// The series that belong to no flow.
pub(super) struct AppMetrics {
    reloads: IntCounterVec,
    reloaded: Gauge,
    waiting_since: Gauge,
    request: RequestMetrics,
}

impl Series {
    /// Registers everything that `/metrics` shows.
    ///
    /// # Errors
    /// When a series is registered already.
    pub(super) fn register(registry: &Registry, clock: &Clock) -> prometheus::Result<Self> {
        let token = TokenMetrics::register(registry)?;
        let request = RequestMetrics::register(registry)?;
        let inbound = InboundMetrics::register(registry, clock.clone())?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "token_sidecar_config_reloads_total",
                "Configurations taken over or refused, the first one included.",
            ),
            &["result"],
        )?;
        let reloaded = Gauge::new(
            "token_sidecar_config_reloaded_timestamp_seconds",
            "When the configuration in force was taken over, in seconds since the epoch.",
        )?;
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]).inc_by(0);
        }
        registry.register(Box::new(reloads.clone()))?;
        let waiting_since = Gauge::new(
            "token_sidecar_config_waiting_since_timestamp_seconds",
            "Since when a changed configuration has waited for the first tokens of its credentials, in seconds since the epoch; 0 when none waits.",
        )?;
        registry.register(Box::new(reloaded.clone()))?;
        registry.register(Box::new(waiting_since.clone()))?;
        process(registry)?;
        Ok(Self {
            app: AppMetrics {
                reloads,
                reloaded,
                waiting_since,
                request: request.clone(),
            },
            token,
            request,
            inbound,
        })
    }
}

/// What every process tells of itself.
fn process(registry: &Registry) -> prometheus::Result<()> {
    let build = IntGaugeVec::new(
        Opts::new(
            "token_sidecar_build_info",
            "1; the labels say what is running.",
        ),
        &["version", "revision"],
    )?;
    build
        .with_label_values(&[
            env!("CARGO_PKG_VERSION"),
            option_env!("BUILD_REVISION").unwrap_or("unknown"),
        ])
        .set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessCollector::for_self()))
}

/// All series of the admission webhook.
pub(super) struct WebhookSeries {
    /// Of the reviews.
    pub(super) admission: AdmissionMetrics,
    reloads: IntCounterVec,
    reloaded: Gauge,
    certificates: IntCounterVec,
    certificate_from: IntGauge,
    certificate_to: IntGauge,
}

impl WebhookSeries {
    /// Registers everything that the webhook's `/metrics` shows.
    ///
    /// # Errors
    /// When a series is registered already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new(
                "token_sidecar_config_reloads_total",
                "Profiles taken over or refused, the first ones included.",
            ),
            &["result"],
        )?;
        let reloaded = Gauge::new(
            "token_sidecar_config_reloaded_timestamp_seconds",
            "When the profiles in force were taken over, in seconds since the epoch.",
        )?;
        let certificates = IntCounterVec::new(
            Opts::new(
                "token_sidecar_certificate_reloads_total",
                "Serving certificates taken over or refused after the first one.",
            ),
            &["result"],
        )?;
        let certificate_from = IntGauge::new(
            "token_sidecar_certificate_not_before_timestamp_seconds",
            "Since when the serving certificate is good, in seconds since the epoch.",
        )?;
        let certificate_to = IntGauge::new(
            "token_sidecar_certificate_expiry_timestamp_seconds",
            "When the serving certificate expires, or the first of its chain, in seconds since the epoch.",
        )?;
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]).inc_by(0);
            certificates.with_label_values(&[result]).inc_by(0);
        }
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(reloaded.clone()))?;
        registry.register(Box::new(certificates.clone()))?;
        registry.register(Box::new(certificate_from.clone()))?;
        registry.register(Box::new(certificate_to.clone()))?;
        process(registry)?;
        Ok(Self {
            admission: AdmissionMetrics::register(registry)?,
            reloads,
            reloaded,
            certificates,
            certificate_from,
            certificate_to,
        })
    }

    /// Counts profiles that were taken over, or refused.
    pub(super) fn profiles_reloaded(&self, clock: &Clock, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.reloads.with_label_values(&[result]).inc();
        if success {
            self.reloaded.set(clock.unix_now().as_secs_f64());
        }
    }

    /// Counts a serving certificate that was taken over, or refused.
    pub(super) fn certificate_reloaded(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.certificates.with_label_values(&[result]).inc();
    }

    /// Says which serving certificate is in force.
    pub(super) fn certificate_in_force(&self, validity: Validity) {
        self.certificate_from.set(validity.not_before);
        self.certificate_to.set(validity.not_after);
    }
}

impl AppMetrics {
    /// Counts a configuration that was taken over, or refused.
    pub(super) fn reloaded(&self, clock: &Clock, success: bool) {
        self.reloads
            .with_label_values(&[if success { "success" } else { "failure" }])
            .inc();
        if success {
            self.reloaded.set(clock.unix_now().as_secs_f64());
        }
    }

    /// A configuration waits from now on, or none does any more.
    pub(super) fn waits(&self, now: Option<&Clock>) {
        self.waiting_since
            .set(now.map_or(0.0, |clock| clock.unix_now().as_secs_f64()));
    }

    /// Forgets the series of other routes.
    pub(super) fn keep_routes<'a>(&self, routes: impl Iterator<Item = &'a str>) {
        self.request.retain(routes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference::{PREFIX, Row, SERIES, WEBHOOK_SERIES};
    use std::{collections::BTreeSet, time::Duration};

    type Shown = BTreeSet<(String, Vec<String>, String)>;

    /// What a scrape shows: names, labels and help.
    fn shown(registry: &Registry) -> Shown {
        registry
            .gather()
            .iter()
            .filter(|f| f.name().starts_with(PREFIX))
            .map(|f| {
                let labels: BTreeSet<String> = f
                    .get_metric()
                    .iter()
                    .flat_map(|m| m.get_label())
                    .map(|l| l.name().to_owned())
                    .collect();
                (
                    f.name().to_owned(),
                    labels.into_iter().collect(),
                    f.help().to_owned(),
                )
            })
            .collect()
    }

    /// What `reference` says.
    fn told(series: &[Row]) -> Shown {
        series
            .iter()
            .map(|(name, labels, help)| {
                let labels: BTreeSet<String> = labels.iter().map(|l| (*l).to_owned()).collect();
                (
                    format!("{PREFIX}{name}"),
                    labels.into_iter().collect(),
                    (*help).to_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn the_reference_is_what_is_registered() {
        let registry = Registry::new();
        let all = Series::register(&registry, &Clock::system()).unwrap();
        let subject = all.token.subject_token("pod");
        subject.rotated(Duration::ZERO, Duration::from_secs(1));
        subject.failed("empty");
        let credential = all.token.credential("arm");
        credential.issued(
            Duration::ZERO,
            Duration::from_secs(1),
            Duration::from_secs(2),
        );
        credential.failing("timeout", Duration::from_secs(1));
        let _cache = all.token.caller_cache("orders");
        let _shard = all.request.shard(&"r".into(), 0);
        all.request.rejected("no_route");
        let issuer = all.inbound.issuer(&"https://issuer.example".into());
        issuer.fetched();
        assert_eq!(shown(&registry), told(SERIES));
    }

    #[test]
    fn the_webhooks_reference_is_what_it_registers() {
        let registry = Registry::new();
        let all = WebhookSeries::register(&registry).unwrap();
        all.admission.reviewed("shop", "injected");
        assert_eq!(shown(&registry), told(WEBHOOK_SERIES));
    }
}
