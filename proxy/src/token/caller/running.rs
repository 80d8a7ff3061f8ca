//! A credential for callers as it runs: its cache, and the task that makes its exchanges. Started, changed and ended by the token flow.

use super::{
    breaker::Breaker,
    cache::CallerCache,
    flight::{Flights, LogGate, Means, SharedBreaker},
};
use crate::{
    metrics::token::{CredentialMetrics, TokenMetrics},
    token::{exchange::Exchanger, file::SubjectSource, params::CredentialParams},
};
use arc_swap::ArcSwap;
use sidecar_runtime::{clock::Clock, readiness::Condition, spawn};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak, atomic::AtomicU64},
};
use tokio::{sync::mpsc::unbounded_channel, task::JoinHandle};

/// The health of the authorities that are asked on behalf of callers, each once for all credentials that ask it.
#[derive(Default)]
pub struct Breakers(HashMap<String, Weak<Mutex<Breaker>>>);

impl Breakers {
    /// The breaker of the authority of `params`.
    pub fn of(&mut self, params: &CredentialParams) -> SharedBreaker {
        self.0.retain(|_, breaker| breaker.strong_count() > 0);
        let origin = params
            .grant
            .authority()
            .map_or_else(String::new, |url| url.origin().ascii_serialization());
        if let Some(known) = self.0.get(&origin).and_then(Weak::upgrade) {
            return known;
        }
        let breaker = SharedBreaker::default();
        self.0.insert(origin, Arc::downgrade(&breaker));
        breaker
    }
}

/// A running credential for callers. Dropping it ends its exchanges and tells whoever waits.
pub struct RunningCaller {
    flights: Arc<Flights>,
    task: JoinHandle<()>,
}

impl RunningCaller {
    /// Starts one, with an empty cache.
    #[expect(clippy::too_many_arguments, reason = "what the token flow has at hand")]
    pub fn start(
        params: &CredentialParams,
        exchanger: Arc<dyn Exchanger>,
        subjects: Vec<SubjectSource>,
        breaker: SharedBreaker,
        clock: Clock,
        condition: Condition,
        metrics: &TokenMetrics,
        seed: u64,
    ) -> Self {
        let (sender, wanted) = unbounded_channel();
        let cache = CallerCache::new(
            Arc::clone(&params.name),
            &params.grant,
            params.caller_cache,
            sender,
            metrics.caller_cache(&params.name),
        );
        let flights = Arc::new(Flights {
            cache,
            means: ArcSwap::from_pointee(means(params, exchanger, subjects, breaker)),
            injection: Arc::clone(&params.injection),
            clock,
            condition,
            metrics: Arc::new(metrics.credential(&params.name)),
            seed,
            log: LogGate::default(),
            count: AtomicU64::new(0),
            health: Mutex::default(),
            doubt: Mutex::default(),
        });
        let task = spawn("caller_exchanges", Arc::clone(&flights).run(wanted));
        Self { flights, task }
    }

    /// Goes over to another way to get the same tokens. What callers have stays.
    pub fn change(
        &self,
        params: &CredentialParams,
        exchanger: Arc<dyn Exchanger>,
        subjects: Vec<SubjectSource>,
        breaker: SharedBreaker,
    ) {
        let limits = params.caller_cache;
        self.flights
            .cache
            .table
            .configure(limits.max_entries, limits.max_bytes);
        let means = means(params, exchanger, subjects, breaker);
        self.flights.means.store(Arc::new(means));
    }

    /// Where requests find their callers' tokens.
    pub fn cache(&self) -> &Arc<CallerCache> {
        &self.flights.cache
    }

    /// Counts of the credential.
    pub fn metrics(&self) -> &CredentialMetrics {
        &self.flights.metrics
    }
}

impl Drop for RunningCaller {
    fn drop(&mut self) {
        self.task.abort();
        self.flights.cache.close();
    }
}

fn means(
    params: &CredentialParams,
    exchanger: Arc<dyn Exchanger>,
    subjects: Vec<SubjectSource>,
    breaker: SharedBreaker,
) -> Means {
    Means {
        exchanger,
        subjects,
        exchange_timeout: params.exchange_timeout,
        permits: Means::permits(params.caller_cache),
        breaker,
    }
}
