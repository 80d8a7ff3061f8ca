//! Going over to a changed configuration: whole or not at all, and not before its credentials have their first tokens. While they have none, the one
//! before stays in force, as it does for one that is refused. What a change does to running credentials is the token flow's.

use super::{App, bind, plan};
use crate::{config::Config, request::table::Prepared, token::staged::Staged};
use sidecar_runtime::{readiness::Condition, telemetry::chain};
use std::time::Duration;
use tokio::time::Instant;

/// How often a configuration that waits is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// How long a configuration may wait before that is said: most credentials have a token by then.
const SOON: Duration = Duration::from_secs(2);

/// A configuration that is right as far as can be told, and whose credentials have no token yet.
pub(super) struct Waiting {
    why: &'static str,
    config: Config,
    staged: Staged,
    since: Instant,
    /// Shown in /readyz, once it takes long: ready, with the reason as a warning.
    told: Option<(Condition, String)>,
}

impl App {
    /// Takes over a new configuration, or refuses it, or lets it wait for its credentials.
    pub(super) async fn reconfigure(&mut self, why: &'static str) {
        let result = match self.read() {
            Ok(config) if self.waiting.as_ref().is_some_and(|w| w.config == config) => {
                return tracing::info!(why, "the same configuration, which waits already");
            }
            Ok(config) => self.consider(why, config).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.refused(why, &error);
        }
    }

    /// Takes over the configuration that waits once it can be.
    pub(super) async fn look_at_waiting(&mut self) {
        let Some(mut waiting) = self.waiting.take() else {
            return;
        };
        if waiting.staged.ready() || !self.tokens.has_tokens() {
            let why = waiting.why;
            if let Err(error) = self
                .take_over(why, waiting.config, Some(waiting.staged))
                .await
            {
                self.refused(why, &error);
            }
            return;
        }
        if waiting.since.elapsed() >= SOON {
            self.tell(&mut waiting);
        }
        self.waiting = Some(waiting);
    }

    fn read(&self) -> Result<Config, String> {
        let mut config = (self.reload)().map_err(|errors| errors.to_string())?;
        for warning in config.warnings.drain(..) {
            tracing::warn!(warning, "configuration");
        }
        Ok(config)
    }

    async fn consider(&mut self, why: &'static str, config: Config) -> Result<(), String> {
        self.stop_waiting();
        let staged = self
            .tokens
            .stage(&config.token)
            .map_err(|e| chain(&e).to_string())?;
        match staged {
            Some(staged) if self.tokens.has_tokens() => {
                // What cannot be taken over is refused now, not when it would be.
                Prepared::new(config.request.clone()).map_err(|e| chain(&e).to_string())?;
                super::inbound::InboundSide::check(&config).map_err(|e| chain(&e).to_string())?;
                tracing::info!(
                    why,
                    credentials = staged.count(),
                    "configuration read: it takes over as soon as its new credentials have their first tokens"
                );
                self.metrics.waits(Some(&self.clock));
                self.waiting = Some(Waiting {
                    why,
                    config,
                    staged,
                    since: Instant::now(),
                    told: None,
                });
                Ok(())
            }
            // Nothing to wait for, or nothing to lose.
            staged => self.take_over(why, config, staged).await,
        }
    }

    fn stop_waiting(&mut self) {
        self.waiting = None;
        self.metrics.waits(None);
    }

    /// Says what a configuration waits for: in /readyz always, in the log when that is new.
    fn tell(&self, waiting: &mut Waiting) {
        let (condition, told) = waiting
            .told
            .get_or_insert_with(|| (self.readiness.register("configuration"), String::new()));
        let reason = waiting.staged.waits_for();
        if *told == reason {
            return;
        }
        if told.is_empty() {
            tracing::warn!(
                why = waiting.why,
                waits_for = reason,
                "the changed configuration waits, and the one before stays in force: credentials of it get no token; mend them, or take the change back"
            );
        }
        condition.ready();
        condition.warn(format!(
            "a changed one waits, the one before stays in force: {reason}"
        ));
        *told = reason;
    }

    fn refused(&self, why: &'static str, error: &str) {
        self.metrics.reloaded(&self.clock, false);
        tracing::error!(
            why,
            error,
            "configuration not reloaded: the one before stays in force"
        );
    }

    async fn take_over(
        &mut self,
        why: &'static str,
        config: Config,
        staged: Option<Staged>,
    ) -> Result<(), String> {
        self.stop_waiting();
        self.try_take_over(config, staged).await?;
        self.metrics.reloaded(&self.clock, true);
        tracing::info!(
            why,
            routes = self.config.request.routes.len(),
            credentials = self.config.token.credentials.len(),
            "configuration reloaded"
        );
        Ok(())
    }

    async fn try_take_over(
        &mut self,
        mut config: Config,
        staged: Option<Staged>,
    ) -> Result<(), String> {
        let prepared = Prepared::new(config.request.clone()).map_err(|e| chain(&e).to_string())?;
        let bound = self.config.request.listeners.iter().cloned().collect();
        let listeners = bind(&config.request, &bound, self.workers.count())
            .map_err(|e| chain(&e).to_string())?;
        // All that can fail comes before anything is changed.
        super::inbound::InboundSide::check(&config).map_err(|e| chain(&e).to_string())?;
        self.tokens
            .apply(config.token.clone(), staged)
            .map_err(|e| chain(&e).to_string())?;
        let side = self
            .inbound
            .apply(&config)
            .map_err(|e| chain(&e).to_string())?;
        let plan = plan(prepared, &self.tokens, self.inbound.handles(), side);
        self.workers
            .apply(&plan, listeners)
            .await
            .map_err(|e| chain(&e).to_string())?;
        self.metrics
            .keep_routes(config.request.all_routes().map(|r| &*r.name));
        for (key, same) in [
            ("admin", config.admin == self.config.admin),
            ("workers", config.workers == self.config.workers),
            ("log", config.log == self.config.log),
        ] {
            if !same {
                tracing::warn!(key, "this key takes effect at the next start");
            }
        }
        (config.admin, config.workers, config.log) = (
            self.config.admin.clone(),
            self.config.workers,
            self.config.log.clone(),
        );
        self.config = config;
        Ok(())
    }
}
