//! One issuer's keys as they are kept: fetched at start and from time to time, fetched at once (but not too often) when a token names a key that is
//! not known, and kept when the issuer cannot be reached. Verifiers read without a lock; one task fetches for all of them.

use super::{
    fetch::{FetchError, KeySource},
    jwk::KeySet,
    params::KeysParams,
};
use crate::{
    metrics::inbound::IssuerMetrics,
    token::{
        exchange::error::Class,
        schedule::{self, Failure},
    },
};
use arc_swap::ArcSwapOption;
use sidecar_runtime::readiness::Condition;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

/// When somebody is to ask again who was not served in time.
const SOON: Duration = Duration::from_secs(1);

/// One issuer's keys.
pub struct IssuerKeys {
    params: KeysParams,
    current: ArcSwapOption<Current>,
    /// Grows when a key went away: what was verified before may not be good any more.
    generation: AtomicU64,
    fetch: watch::Sender<Fetch>,
    demand: Notify,
}

struct Current {
    set: KeySet,
    usable_until: Instant,
}

/// What the task is doing.
#[derive(Debug, Clone, Copy)]
enum Fetch {
    /// It is fetching, or about to.
    UnderWay,
    /// The last fetch ended then, well or not.
    Ended { at: Instant, well: bool },
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has no such key, as of a moment ago.
    Unknown,
    /// The issuer's keys are not at hand, so nobody knows.
    Unavailable {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

impl IssuerKeys {
    /// No keys yet.
    pub fn new(params: KeysParams) -> Arc<Self> {
        Arc::new(Self {
            params,
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            fetch: watch::Sender::new(Fetch::UnderWay),
            demand: Notify::new(),
        })
    }

    /// What verifications rest on: while it stays the same, what was verified stays good.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Whether the keys that were fetched last may still be used at `now`.
    pub fn usable(&self, now: Instant) -> bool {
        let current = self.current.load();
        current.as_ref().is_some_and(|c| now < c.usable_until)
    }

    /// What `find` makes of the keys. When it makes nothing of those that are known, they are fetched anew, unless that was done just now; many
    /// who ask share one fetch. Waits at the longest until `deadline`.
    ///
    /// # Errors
    /// [`NoKey`].
    pub async fn with<T>(
        &self,
        deadline: Instant,
        find: impl Fn(&KeySet) -> Option<T>,
    ) -> Result<T, NoKey> {
        let usable = |now| self.current.load_full().filter(|c| now < c.usable_until);
        if let Some(found) = usable(Instant::now()).and_then(|c| find(&c.set)) {
            return Ok(found);
        }
        let mut fetch = self.fetch.subscribe();
        loop {
            // Seen before the keys are looked at, so that keys that come in between are not missed.
            let doing = *fetch.borrow_and_update();
            let now = Instant::now();
            let current = usable(now);
            if let Some(found) = current.as_ref().and_then(|c| find(&c.set)) {
                return Ok(found);
            }
            match doing {
                Fetch::UnderWay => {}
                Fetch::Ended { at, well } if now < at + self.params.cooldown => {
                    return Err(if well && current.is_some() {
                        NoKey::Unknown
                    } else {
                        NoKey::Unavailable {
                            retry_after: (at + self.params.cooldown - now).max(SOON),
                        }
                    });
                }
                Fetch::Ended { .. } => self.demand.notify_one(),
            }
            if !matches!(timeout_at(deadline, fetch.changed()).await, Ok(Ok(()))) {
                return Err(NoKey::Unavailable { retry_after: SOON });
            }
        }
    }

    /// Fetches for ever. `condition` is ready while there are keys that may be used; `seed` spreads the fetches of several pods.
    pub async fn run(
        self: Arc<Self>,
        source: Arc<dyn KeySource>,
        condition: Condition,
        metrics: IssuerMetrics,
        seed: u64,
    ) {
        let started = Instant::now();
        let mut failures = 0_u32;
        loop {
            self.fetch.send_replace(Fetch::UnderWay);
            let result = timeout(self.params.timeout, source.fetch())
                .await
                .unwrap_or(Err(FetchError::Timeout));
            let at = Instant::now();
            let (well, pause) = match result {
                Ok(set) => {
                    let until = self.store(set, at);
                    condition.ready_until(until);
                    metrics.fetched();
                    if failures > 0 {
                        tracing::info!(
                            issuer = metrics.issuer(),
                            "the issuer's keys are there again"
                        );
                    }
                    failures = 0;
                    // Up to a tenth earlier, a different part of it in each pod.
                    let early = self.params.refresh / 10 * (seed % 100) as u32 / 100;
                    (true, self.params.refresh - early)
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    metrics.failed(error.code());
                    let kept = self
                        .current
                        .load()
                        .as_ref()
                        .is_some_and(|c| at < c.usable_until);
                    tracing::warn!(issuer = metrics.issuer(), code = error.code(), error = %sidecar_runtime::telemetry::chain(&error), failures, kept, "the issuer's keys could not be fetched");
                    if !kept {
                        condition.pending(format!("no keys: {}: {error}", error.code()));
                    }
                    let failure = Failure {
                        class: Class::Transient,
                        retry_after: None,
                        count: failures,
                        remaining: None,
                        since_start: at.duration_since(started),
                    };
                    (
                        false,
                        schedule::retry_after(&failure, seed ^ u64::from(failures)),
                    )
                }
            };
            self.fetch.send_replace(Fetch::Ended { at, well });
            self.pause(at, at + pause).await;
        }
    }

    fn store(&self, set: KeySet, now: Instant) -> Instant {
        let usable_until = now + self.params.max_stale.max(self.params.refresh);
        let before = self.current.load_full();
        let all_kept = before.is_none_or(|before| set.keeps_all_of(&before.set));
        self.current
            .store(Some(Arc::new(Current { set, usable_until })));
        if !all_kept {
            // After the store: who reads the new number has verified with the new keys.
            self.generation.fetch_add(1, Release);
        }
        usable_until
    }

    /// Until `until`, or until somebody needs keys and the cooldown after `at` is over.
    async fn pause(&self, at: Instant, until: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.demand.notified() => {
                    // What was asked for before the fetch that has just ended is answered by it.
                    if Instant::now() >= at + self.params.cooldown {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
