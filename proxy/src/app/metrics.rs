//! The series that belong to no flow (build, configuration, process), and the registration of all of them.

use crate::metrics::{request::RequestMetrics, token::TokenMetrics};
use prometheus::{
    Gauge, IntCounterVec, IntGaugeVec, Opts, Registry, process_collector::ProcessCollector,
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
}

/// The series that belong to no flow.
pub(super) struct AppMetrics {
    reloads: IntCounterVec,
    reloaded: Gauge,
    request: RequestMetrics,
}

impl Series {
    /// Registers everything that `/metrics` shows.
    ///
    /// # Errors
    /// When a series is registered already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let token = TokenMetrics::register(registry)?;
        let request = RequestMetrics::register(registry)?;
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
        for result in ["success", "failure"] {
            reloads.with_label_values(&[result]).inc_by(0);
        }
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(reloaded.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            app: AppMetrics {
                reloads,
                reloaded,
                request: request.clone(),
            },
            token,
            request,
        })
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

    /// Forgets the series of other routes.
    pub(super) fn keep_routes<'a>(&self, routes: impl Iterator<Item = &'a str>) {
        self.request.retain(routes);
    }
}
