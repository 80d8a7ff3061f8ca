//! Exchanges on behalf of callers, on the token flow's thread: so many at once, each with a timeout of its own, none waiting for what comes of another;
//! asked of an authority that is in good health (`breaker`), with the pod's own subject tokens where the grant needs them.
//!
//! What to do about a failure depends on whose it is. A caller's is told to that caller, and no other is affected; the authority's counts for all.

use super::{
    NAME,
    breaker::{Breaker, Pass, Told},
    cache::{CacheLimits, CallerCache, Flight},
    doubt::Doubt,
};
use crate::{
    metrics::token::CredentialMetrics,
    token::{
        attempt::Fresh,
        exchange::{
            Exchanger, SubjectTokens,
            error::{CallerFault, Class, ExchangeError, Fault},
        },
        file::SubjectSource,
        injection::Injection,
        schedule::{self, Failure},
        slot::{Activity, Refusal},
        subject::SubjectToken,
    },
};
use arc_swap::ArcSwap;
use sidecar_runtime::{clock::Clock, readiness::Condition};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedReceiver},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{Instrument as _, info_span, warn};

/// How often what has expired is forgotten, and the condition looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a refusal is remembered that the same token meets each time: it is malformed, revoked, of another audience.
const REFUSED: Duration = Duration::from_secs(30);
/// How long a failure is remembered that the operator must mend.
const MISCONFIGURED: Duration = Duration::from_secs(10);
/// How long to do without a subject token of the pod's before looking again.
const BLOCKED: Duration = Duration::from_secs(1);

/// A caller's token with no more life than that is not exchanged: authorities count in seconds, and issue nothing that lives longer.
const ENDING: Duration = Duration::from_secs(2);

/// An authority's health, shared by the credentials that ask it on behalf of callers.
pub type SharedBreaker = Arc<Mutex<Breaker>>;

/// How exchanges are made: what a reload may change while tokens stay.
pub struct Means {
    /// The grant.
    pub exchanger: Arc<dyn Exchanger>,
    /// The pod's own subject tokens that it needs beside the caller's.
    pub subjects: Vec<SubjectSource>,
    /// The longest that one exchange may take.
    pub exchange_timeout: Duration,
    /// So many at once.
    pub permits: Arc<Semaphore>,
    /// The authority's health.
    pub breaker: SharedBreaker,
}

/// What runs one credential's exchanges for callers.
pub struct Flights {
    /// Where they land.
    pub cache: Arc<CallerCache>,
    /// How they are made.
    pub means: ArcSwap<Means>,
    /// How tokens are put on requests.
    pub injection: Arc<Injection>,
    /// Wall-clock time.
    pub clock: Clock,
    /// Shown in /readyz.
    pub condition: Condition,
    /// Shown in /metrics.
    pub metrics: Arc<CredentialMetrics>,
    /// Differs from pod to pod.
    pub seed: u64,
    /// Failures are logged at most once a second.
    pub log: LogGate,
    /// Numbers exchanges.
    pub count: AtomicU64,
    /// What the condition was told last.
    pub health: Mutex<Health>,
    /// Whether refusals may have their cause in the credential.
    pub doubt: Mutex<Doubt>,
}

/// What stands in the way of exchanges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// Nothing.
    Well,
    /// The authority is left alone.
    Shut,
    /// It refuses with this code, and it may be the credential's fault.
    Refused(&'static str),
    /// A subject token of the pod's, by name, and why it is of no use.
    Blocked(String, &'static str),
}

/// Lets one line a second through and counts the others.
#[derive(Default)]
pub struct LogGate(Mutex<(Option<Instant>, u64)>);

impl LogGate {
    fn pass(&self, now: Instant) -> Option<u64> {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.0.is_some_and(|last| now.duration_since(last) < TICK) {
            gate.1 += 1;
            return None;
        }
        gate.0 = Some(now);
        Some(std::mem::take(&mut gate.1))
    }
}

/// A subject token of the pod's with its name.
type Named = (Arc<str>, Arc<SubjectToken>);

/// Why there was no exchange.
enum Grounded {
    /// A subject token of the pod's is not there, or has expired.
    Blocked(String, &'static str),
    /// The caller's own has expired.
    Expired,
    /// The authority is left alone for so long.
    Shut(Duration),
}

impl Flights {
    /// Runs exchanges as they are asked for, as long as it is polled. When it is dropped, those under way end, and whoever waits for them is told.
    pub(super) async fn run(self: Arc<Self>, mut wanted: UnboundedReceiver<Flight>) {
        let mut under_way = JoinSet::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(flight) = wanted.recv() => {
                    let task = Arc::clone(&self).fly(flight);
                    under_way.spawn(task.instrument(info_span!("task", task = "caller_exchange")));
                }
                Some(ended) = under_way.join_next() => if let Err(error) = ended {
                    // It has landed all the same.
                    warn!(credential = %self.cache.name(), panicked = error.is_panic(), "an exchange on behalf of a caller was cut off");
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.cache.table.sweep(now);
                    self.cache.metrics.holds(self.cache.table.len(), self.cache.table.bytes());
                    self.tell(now);
                }
            }
        }
    }

    /// The condition: whether an exchange could be made now. An authority that is left alone for a while is named and no more: callers whose tokens
    /// are there are served, and taking the pod out of service would not mend it.
    fn tell(&self, now: Instant) {
        let means = self.means.load();
        let health = match self.collect(&means, SubjectSource::current) {
            Err(Grounded::Blocked(subject, code)) => Health::Blocked(subject, code),
            _ if breaker(&means).shut(now).is_some() => Health::Shut,
            _ => match self.doubt().cause() {
                Some(code) => Health::Refused(code),
                None => Health::Well,
            },
        };
        let mut last = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == health {
            return;
        }
        match &health {
            Health::Blocked(subject, code) => self.condition.pending(format!(
                "waiting for a usable subject token `{subject}` ({code})"
            )),
            Health::Shut => {
                self.condition.ready();
                self.condition.warn(
                    "the authority failed for several callers in a row, or asked for fewer calls; it is left alone for a while, and callers without a token are refused",
                );
            }
            Health::Refused(code) => {
                self.condition.ready();
                self.condition.warn(format!(
                    "the authority answers {code} and has issued nothing since: check this credential (client, audience, resource, scope) and the client's registration before the callers' tokens"
                ));
            }
            Health::Well | Health::Unknown => self.condition.ready(),
        }
        *last = health;
    }

    fn doubt(&self) -> MutexGuard<'_, Doubt> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(
        &self,
        means: &Means,
        look: impl Fn(&SubjectSource) -> Option<Arc<SubjectToken>>,
    ) -> Result<Vec<Named>, Grounded> {
        let now = self.clock.unix_now();
        let usable = |source: &SubjectSource| {
            let blocked = |code| Grounded::Blocked(source.name().to_string(), code);
            match look(source) {
                None => Err(blocked("subject_token_missing")),
                Some(token) if token.claims().exp <= now => Err(blocked("subject_token_expired")),
                Some(token) => Ok((Arc::clone(source.name()), token)),
            }
        };
        means.subjects.iter().map(usable).collect()
    }

    /// The caller's token and the pod's, read anew.
    fn tokens(&self, means: &Means, flight: &Flight) -> Result<SubjectTokens, Grounded> {
        if !flight.caller.is_valid(Instant::now() + ENDING) {
            return Err(Grounded::Expired);
        }
        let mut tokens = self.collect(means, SubjectSource::read_now)?;
        tokens.push((NAME.into(), Arc::clone(flight.caller.subject())));
        Ok(SubjectTokens::new(tokens))
    }

    async fn fly(self: Arc<Self>, flight: Flight) {
        if let Some(not_before) = flight.not_before {
            sleep_until(not_before).await;
        }
        let means = self.means.load_full();
        // Never closed; and without one there is no exchange.
        let Ok(_permit) = means.permits.acquire().await else {
            return;
        };
        let admitted = self.tokens(&means, &flight).and_then(|tokens| {
            let pass = breaker(&means)
                .admit(flight.who(), Instant::now())
                .map_err(Grounded::Shut)?;
            Ok((tokens, pass))
        });
        let (tokens, pass) = match admitted {
            Ok(admitted) => admitted,
            Err(grounded) => return self.stay(flight, grounded),
        };
        let mut pass = Ticket {
            means: &means,
            pass: Some(pass),
            who: flight.who(),
            seed: self.next_seed(),
        };
        let result = self.exchange(&means, &flight, tokens).await;
        pass.tell(told(&result));
        self.doubt().hear(flight.who(), &result);
        match result {
            Ok(fresh) => self.store(flight, &fresh),
            Err(error) => self.failed(flight, &error),
        }
        self.tell(Instant::now());
    }

    /// An exchange, and another when what stood in its way may have been passing: a pod's assertion that was rotated meanwhile, an upstream's claims
    /// that the authority cannot make sense of.
    async fn exchange(
        &self,
        means: &Means,
        flight: &Flight,
        mut tokens: SubjectTokens,
    ) -> Result<Fresh, ExchangeError> {
        let claims = flight
            .slot
            .take_rejected()
            .filter(|r| r.serial == flight.slot.last_serial() && means.exchanger.takes_claims())
            .and_then(|r| r.claims);
        let mut result = self.ask(means, &tokens, claims.as_deref()).await;
        if result.as_ref().is_err_and(ExchangeError::stale_assertion)
            && let Ok(again) = self.tokens(means, flight)
        {
            tokens = again;
            result = self.ask(means, &tokens, claims.as_deref()).await;
        }
        if claims.is_some() && result.as_ref().is_err_and(|e| e.fault() == Fault::Pod) {
            result = self.ask(means, &tokens, None).await;
        }
        result
    }

    /// One exchange, measured and counted.
    async fn ask(
        &self,
        means: &Means,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<Fresh, ExchangeError> {
        let sent_at = Instant::now();
        let result = Fresh::get(
            &*means.exchanger,
            means.exchange_timeout,
            tokens,
            claims,
            Some(&self.injection),
        )
        .await;
        match &result {
            Ok(_) => self.metrics.issued_to_caller(sent_at.elapsed()),
            Err(error) => {
                self.metrics
                    .failed(sent_at.elapsed(), error.code(), error.retry_after());
            }
        }
        result
    }

    /// What was issued lives no longer than what it was issued for.
    fn store(&self, flight: Flight, fresh: &Fresh) {
        let expires_at = fresh.usable_until().min(flight.caller.expires_at());
        let (_, next) = fresh.renewal(self.next_seed());
        flight.slot.store(fresh.header.clone(), expires_at);
        flight.land(next, fresh.header.len());
    }

    fn failed(&self, flight: Flight, error: &ExchangeError) {
        let now = Instant::now();
        let remember = match error.fault() {
            // Never remembered: what the caller does about it may not show in the token.
            Fault::Caller(CallerFault::Interaction | CallerFault::Consent) => Duration::ZERO,
            Fault::Caller(CallerFault::Token | CallerFault::Denied) => REFUSED,
            Fault::Pod => MISCONFIGURED,
            Fault::Authority => schedule::retry_after(
                &Failure {
                    class: error.class(),
                    retry_after: error.retry_after(),
                    count: 1,
                    remaining: None,
                    since_start: Duration::ZERO,
                },
                self.next_seed(),
            ),
        };
        let until = now + remember;
        flight.slot.publish(match error.fault() {
            Fault::Caller(fault) => Activity::Refused {
                until,
                refusal: Arc::new(Refusal {
                    fault,
                    code: error.code(),
                    claims: error.claims().map(str::to_owned),
                }),
            },
            Fault::Pod | Fault::Authority => Activity::BackingOff {
                until,
                reason: error.code().into(),
            },
        });
        if let Some(suppressed) = self.log.pass(now) {
            warn!(credential = %self.cache.name(), code = error.code(), fault = ?error.fault(), status = error.status(), suppressed,
                authority_says = error.detail(), "exchange on behalf of a caller failed: {error}");
        }
        let kept = self.held(&flight, now);
        flight.land(until, kept);
    }

    /// The length of a token that serves on after a failed renewal.
    fn held(&self, flight: &Flight, now: Instant) -> usize {
        flight.slot.load(now).map_or(0, |token| token.header.len())
    }

    /// Nothing was asked.
    fn stay(&self, flight: Flight, grounded: Grounded) {
        let now = Instant::now();
        let (activity, until) = match grounded {
            Grounded::Blocked(_, code) => (
                Activity::Blocked {
                    reason: code.into(),
                },
                now + BLOCKED,
            ),
            Grounded::Shut(wait) => (
                Activity::BackingOff {
                    until: now + wait,
                    reason: "authority_unhealthy".into(),
                },
                now + wait,
            ),
            Grounded::Expired => (
                Activity::Refused {
                    until: now + REFUSED,
                    refusal: Arc::new(Refusal {
                        fault: CallerFault::Token,
                        code: "caller_token_expired",
                        claims: None,
                    }),
                },
                now + REFUSED,
            ),
        };
        flight.slot.publish(activity);
        self.tell(now);
        let kept = self.held(&flight, now);
        flight.land(until, kept);
    }

    fn next_seed(&self) -> u64 {
        let number = self.count.fetch_add(1, Relaxed);
        self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9))
    }
}

/// What an exchange says about the authority's health.
fn told(result: &Result<Fresh, ExchangeError>) -> Told {
    match result {
        Ok(_) => Told::Works,
        Err(error) => match error.fault() {
            Fault::Authority if error.class() == Class::Throttled => {
                Told::Throttles(error.retry_after())
            }
            Fault::Authority => Told::Fails,
            Fault::Caller(_) => Told::Works,
            // Without a reply, our own request could not be made.
            Fault::Pod if error.status().is_none() => Told::Nothing,
            Fault::Pod => Told::Works,
        },
    }
}

/// A pass of the breaker, which is told in any case.
struct Ticket<'a> {
    means: &'a Means,
    pass: Option<Pass>,
    who: u64,
    seed: u64,
}

impl Ticket<'_> {
    fn tell(&mut self, told: Told) {
        if let Some(pass) = self.pass.take() {
            breaker(self.means).tell(pass, told, self.who, Instant::now(), self.seed);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.tell(Told::Nothing);
    }
}

fn breaker(means: &Means) -> MutexGuard<'_, Breaker> {
    means.breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Means {
    /// Permits for that many at once.
    pub fn permits(limits: CacheLimits) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(
            limits.max_exchanges.min(Semaphore::MAX_PERMITS),
        ))
    }
}

#[cfg(test)]
mod tests;
