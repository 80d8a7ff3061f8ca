//! The inbound side's parts that outlive a configuration: the tables of handles and sessions, and what keeps issuers' keys.

use crate::{
    config::Config,
    metrics::inbound::InboundMetrics,
    net::client::SetupError,
    request::inbound::{Inbound, sessions::Sessions},
    token::{
        caller::handle::Handles,
        verify::{Verification, fetch::HttpSource},
    },
};
use sidecar_runtime::{clock::Clock, readiness::Readiness, spawn};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// How often handles whose time is up are forgotten, at the latest.
const SWEEP: Duration = Duration::from_secs(1);

/// An issuer of callers' tokens cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("inbound issuer `{issuer}`")]
pub struct InboundError {
    issuer: Arc<str>,
    #[source]
    source: SetupError,
}

/// The parts.
pub(super) struct InboundSide {
    handles: Arc<Handles>,
    sessions: Arc<Sessions>,
    verification: Verification,
    sweeper: JoinHandle<()>,
}

impl InboundSide {
    /// Nothing is verified yet. Needs a tokio runtime around it.
    pub(super) fn new(clock: &Clock, readiness: &Readiness, metrics: &InboundMetrics) -> Self {
        let handles = Handles::new(0, Duration::ZERO, metrics.handles().clone());
        let swept = Arc::clone(&handles);
        let sweeper = spawn("handles", async move {
            let mut ticks = interval(SWEEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                swept.sweep(Instant::now());
            }
        });
        Self {
            handles,
            sessions: Arc::default(),
            verification: Verification::new(clock.clone(), readiness.clone(), metrics.clone()),
            sweeper,
        }
    }

    /// Whether [`InboundSide::apply`] would succeed.
    ///
    /// # Errors
    /// [`InboundError`].
    pub(super) fn check(config: &Config) -> Result<(), InboundError> {
        let issuers = config.verify.iter().flat_map(|v| &v.issuers);
        for params in issuers {
            HttpSource::new(params).map_err(|source| InboundError {
                issuer: Arc::clone(&params.issuer),
                source,
            })?;
        }
        Ok(())
    }

    /// Goes over to a configuration. Handles that are given out stay good.
    ///
    /// # Errors
    /// [`InboundError`]; then everything is as before.
    pub(super) fn apply(&mut self, config: &Config) -> Result<Option<Arc<Inbound>>, InboundError> {
        let verifier = self
            .verification
            .apply(config.verify.clone())
            .map_err(|(issuer, source)| InboundError { issuer, source })?;
        let (Some(verifier), Some(params)) = (verifier, &config.request.inbound) else {
            return Ok(None);
        };
        self.handles
            .configure(params.max_handles, params.handle_grace);
        Ok(Some(Arc::new(Inbound::new(
            params.clone(),
            verifier,
            Arc::clone(&self.handles),
            Arc::clone(&self.sessions),
        ))))
    }

    /// What handles stand for.
    pub(super) const fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    /// Ends the tasks.
    pub(super) fn stop(&mut self) {
        self.sweeper.abort();
    }
}
