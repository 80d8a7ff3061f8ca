//! One credential's renewer: a task that owns all writes to its slot. It waits for the subject tokens, exchanges them, stores what was issued, and
//! sleeps as `schedule` says, unless a rotation, a demand or a rejection wakes it. It knows no protocol.

mod changes;
mod state;

use super::{
    attempt::Fresh,
    exchange::{Exchanger, SubjectTokens, error::ExchangeError},
    file::SubjectSource,
    injection::Injection,
    schedule::{self, Failure, RETRY_AFTER_CAP},
    slot::{Activity, Slot},
    subject::{Fingerprint, SubjectToken},
};
use crate::metrics::token::CredentialMetrics;
pub use changes::{Change, NewWay, Shown};
use sidecar_runtime::{clock::Clock, readiness::Condition};
use state::{Blocked, Claims, Issued, Phase, State, WAKE_FLOOR};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// How long to wait without a usable subject token before looking again unasked.
const BLOCKED: Duration = Duration::from_secs(10);

/// What a renewer is built from.
pub struct Renewer {
    /// Where tokens go.
    pub slot: Arc<Slot>,
    /// How they are got.
    pub exchanger: Arc<dyn Exchanger>,
    /// How they are put on requests; `None`: never, then the slot says no more than that there is a token.
    pub injection: Option<Arc<Injection>>,
    /// Where the bare tokens go, for credentials that use them as a subject token.
    pub issued: watch::Sender<Option<Arc<SubjectToken>>>,
    /// The subject tokens that an exchange needs, all of them.
    pub subjects: Vec<SubjectSource>,
    /// The longest that one exchange may take.
    pub exchange_timeout: Duration,
    /// Wall-clock time.
    pub clock: Clock,
    /// Shown in /readyz.
    pub condition: Condition,
    /// Shown in /metrics.
    pub metrics: Arc<CredentialMetrics>,
    /// Differs from pod to pod and from credential to credential, so that they do not act at one instant.
    pub seed: u64,
}

impl Renewer {
    /// Runs for as long as it is polled, taking over what comes from `changes`. When it is dropped, those who wait for its slot are told that the
    /// credential is gone.
    pub async fn run(mut self, mut changes: UnboundedReceiver<Change>) {
        // Tells the slot on every way out, cancellation included.
        let _gone = Gone(Arc::clone(&self.slot));
        let mut state = State::new(Instant::now());
        loop {
            // A change cuts an exchange short: the old way may be hanging, and the new one be the mend.
            tokio::select! {
                biased;
                Some(change) = changes.recv() => self.take(&mut state, change),
                () = self.step(&mut state) => {}
            }
        }
    }

    /// One exchange when it is time for one, else one sleep.
    async fn step(&mut self, state: &mut State) {
        if self.should_act(state) {
            return self.attempt(state).await;
        }
        let wake_at = match state.expires_at {
            Some(at) if !state.expiry_told => at.min(state.due),
            _ => state.due,
        };
        tokio::select! {
            () = sleep_until(wake_at) => {}
            () = self.slot.demanded() => {
                // Without a subject token the best answer to a demand is a look at the file.
                if matches!(state.phase, Phase::Blocked { .. }) {
                    let soonest = state.last_attempt.map_or_else(Instant::now, |at| at + WAKE_FLOOR);
                    state.due = state.due.min(soonest);
                }
            }
            () = any_changed(&mut self.subjects) => {}
        }
        self.tell_expiry(state);
    }

    /// Whether to exchange now. It may move `due` forward, never back.
    fn should_act(&self, state: &mut State) -> bool {
        let now = Instant::now();
        if now >= state.due {
            return true;
        }
        match &state.phase {
            Phase::Healthy => {
                if self.take_rejected(state) {
                    return true;
                }
                self.slot.load(now).is_none() && state.move_up(now, now)
            }
            Phase::Failing {
                obey_until, tried, ..
            } => {
                // A rotation may be the mend.
                let rotated = self
                    .current()
                    .is_ok_and(|tokens| fingerprints(&tokens) != *tried);
                let not_before = *obey_until;
                rotated && state.move_up(not_before, now)
            }
            Phase::Blocked { .. } => self.current().is_ok() && state.move_up(now, now),
        }
    }

    /// Whether the token stored last was rejected; its claims are taken over. A rejection that names an older token has been answered by the
    /// token stored since.
    fn take_rejected(&self, state: &mut State) -> bool {
        let Some(rejected) = self
            .slot
            .take_rejected()
            .filter(|r| Some(r.serial) == state.serial)
        else {
            return false;
        };
        let claims = rejected.claims.filter(|_| self.exchanger.takes_claims());
        warn!(credential = %self.slot.name(), with_claims = claims.is_some(), "an upstream rejected the token; renewing");
        if self.slot.load(Instant::now()).is_none() {
            // However long the authority takes: there is no token now.
            self.condition
                .pending("an upstream rejected the token; renewing");
        }
        if let Some(json) = claims {
            state.claims = Some(Claims { json, sent: 0 });
        }
        true
    }

    async fn attempt(&mut self, state: &mut State) {
        self.take_rejected(state);
        let mut result = match self.read_now() {
            Ok(tokens) => (fingerprints(&tokens), self.exchange(state, &tokens).await),
            Err(reason) => return self.blocked(state, reason),
        };
        if result.1.as_ref().is_err_and(ExchangeError::stale_assertion) {
            // The file may have been rotated while the exchange was under way.
            if let Ok(tokens) = self.read_now() {
                result = (fingerprints(&tokens), self.exchange(state, &tokens).await);
            }
        }
        match result {
            (_, Ok(fresh)) => self.store(state, fresh),
            (tried, Err(error)) if state.forget_claims(error.class()) => {
                self.retry_without_claims(state, error, tried);
            }
            (tried, Err(error)) => self.failed(state, error, tried),
        }
    }

    /// One exchange, measured and counted.
    async fn exchange(
        &self,
        state: &mut State,
        tokens: &SubjectTokens,
    ) -> Result<Fresh, ExchangeError> {
        self.slot.publish(Activity::Working);
        let sent_at = Instant::now();
        // A change may cut it short.
        state.last_attempt = Some(sent_at);
        let claims = state.claims.as_mut().map(|claims| {
            claims.sent += 1;
            &*claims.json
        });
        let result = Fresh::get(
            &*self.exchanger,
            self.exchange_timeout,
            tokens,
            claims,
            self.injection.as_deref(),
        )
        .await;
        state.attempts += 1;
        state.last_attempt = Some(Instant::now());
        if let Err(error) = &result {
            self.metrics
                .failed(sent_at.elapsed(), error.code(), error.retry_after());
        }
        result
    }

    fn store(&self, state: &mut State, fresh: Fresh) {
        let expires_at = fresh.usable_until();
        let (renew_in, due) = fresh.renewal(self.next_seed(state));
        let Fresh {
            issued,
            header,
            sent_at,
        } = fresh;
        let (took, at) = (sent_at.elapsed(), self.clock.unix_now());
        self.metrics
            .issued(took, at, self.clock.unix_at(expires_at));
        state.issued = Some(Issued { took, at });
        state.serial = Some(self.slot.store(header, expires_at));
        self.issued.send_replace(Some(Arc::new(SubjectToken::issued(
            issued.token,
            self.clock.unix_at(expires_at),
        ))));
        state.phase = Phase::Healthy;
        state.due = due;
        state.expires_at = Some(expires_at);
        state.expiry_told = false;
        state.claims = None;
        state.failing_since = None;
        self.condition.ready_until(expires_at);
        info!(credential = %self.slot.name(), expires_in_seconds = issued.lifetime.as_secs(), renew_in_seconds = renew_in.as_secs(), "token issued");
    }

    fn failed(&self, state: &mut State, error: ExchangeError, tried: Vec<Fingerprint>) {
        let now = Instant::now();
        let count = state.phase.failures().saturating_add(1);
        let delay = schedule::retry_after(
            &Failure {
                class: error.class(),
                retry_after: error.retry_after(),
                count,
                remaining: state
                    .expires_at
                    .filter(|_| self.slot.load(now).is_some())
                    .map(|at| at.saturating_duration_since(now)),
                since_start: now.saturating_duration_since(state.started),
            },
            self.next_seed(state),
        );
        state.due = now + delay;
        let obey = error.retry_after().unwrap_or_default().min(RETRY_AFTER_CAP);
        self.slot.publish(Activity::BackingOff {
            until: state.due,
            reason: error.code().into(),
        });
        warn!(credential = %self.slot.name(), code = error.code(), class = ?error.class(), status = error.status(), failures = count,
            next_try_seconds = delay.as_secs_f32(), authority_says = error.detail(), "exchange failed: {error}");
        self.metrics
            .failing(error.code(), self.clock.unix_at(state.failing(now)));
        state.phase = Phase::Failing {
            count,
            error,
            obey_until: now + obey,
            tried,
        };
        self.tell(state, now);
    }

    /// The claims may be all that the authority refused. That failure does not count, and those who wait for a token wait on.
    fn retry_without_claims(
        &self,
        state: &mut State,
        error: ExchangeError,
        tried: Vec<Fingerprint>,
    ) {
        let now = Instant::now();
        let obey = error.retry_after().unwrap_or_default().min(RETRY_AFTER_CAP);
        let delay = obey.max(WAKE_FLOOR);
        state.due = now + delay;
        if !obey.is_zero() {
            self.slot.publish(Activity::BackingOff {
                until: state.due,
                reason: error.code().into(),
            });
        }
        warn!(credential = %self.slot.name(), code = error.code(), class = ?error.class(), status = error.status(),
            next_try_seconds = delay.as_secs_f32(), authority_says = error.detail(),
            "exchange with an upstream's claims failed; trying without them: {error}");
        self.metrics
            .failing(error.code(), self.clock.unix_at(state.failing(now)));
        state.phase = Phase::Failing {
            count: state.phase.failures(),
            error,
            obey_until: now + obey,
            tried,
        };
        self.tell(state, now);
    }

    fn blocked(&self, state: &mut State, reason: Blocked) {
        let now = Instant::now();
        state.last_attempt = Some(now);
        state.due = now + BLOCKED;
        self.slot.publish(Activity::Blocked {
            reason: reason.code.into(),
        });
        if !matches!(state.phase, Phase::Blocked { .. }) {
            warn!(credential = %self.slot.name(), "{reason}; no exchange is tried");
        }
        self.metrics
            .failing(reason.code, self.clock.unix_at(state.failing(now)));
        state.phase = Phase::Blocked {
            count: state.phase.failures(),
            reason,
        };
        self.tell(state, now);
    }

    /// While a token is valid the condition stays ready, and says what will end that; when there is none, it says why.
    fn tell(&self, state: &State, now: Instant) {
        let valid = self.slot.load(now).is_some();
        match &state.phase {
            Phase::Healthy if valid => {}
            Phase::Healthy => self.condition.pending("expired; renewing"),
            Phase::Failing { error, .. } if valid => {
                self.condition.warn(format!("renewal fails: {error}"));
            }
            Phase::Failing { error, .. } => {
                let wait = state.due.saturating_duration_since(now);
                self.condition.pending(format!(
                    "{error}; next try in {} s",
                    wait.as_secs_f64().ceil()
                ));
            }
            Phase::Blocked { reason, .. } if valid => {
                self.condition.warn(format!("renewal fails: {reason}"));
            }
            Phase::Blocked { reason, .. } => self.condition.pending(reason.to_string()),
        }
    }

    /// The moment of expiry is a fact of its own: from here on requests are answered 503.
    fn tell_expiry(&self, state: &mut State) {
        let now = Instant::now();
        if state.expiry_told || state.expires_at.is_none_or(|at| now < at) {
            return;
        }
        state.expiry_told = true;
        self.tell(state, now);
        if !matches!(state.phase, Phase::Healthy) {
            warn!(credential = %self.slot.name(), "token expired before it could be renewed");
        }
    }

    fn read_now(&self) -> Result<SubjectTokens, Blocked> {
        self.collect(SubjectSource::read_now)
    }

    fn current(&self) -> Result<SubjectTokens, Blocked> {
        self.collect(SubjectSource::current)
    }

    fn collect(
        &self,
        look: impl Fn(&SubjectSource) -> Option<Arc<SubjectToken>>,
    ) -> Result<SubjectTokens, Blocked> {
        let now = self.clock.unix_now();
        self.subjects
            .iter()
            .map(|source| {
                let subject = Arc::clone(source.name());
                let code = match (look(source), source.credential()) {
                    (Some(token), _) if now < token.claims().exp => return Ok((subject, token)),
                    (_, Some(_)) => "credential_pending",
                    (Some(_), None) => "subject_token_expired",
                    (None, None) => "subject_token_missing",
                };
                Err(Blocked {
                    subject,
                    credential: source.credential().cloned(),
                    code,
                })
            })
            .collect::<Result<_, _>>()
            .map(SubjectTokens::new)
    }

    const fn next_seed(&self, state: &State) -> u64 {
        self.seed
            .wrapping_add(state.attempts.wrapping_mul(0x9e37_79b9))
    }
}

struct Gone(Arc<Slot>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.publish(Activity::Stopped);
    }
}

fn fingerprints(tokens: &SubjectTokens) -> Vec<Fingerprint> {
    tokens
        .iter()
        .map(|(_, token)| token.fingerprint())
        .collect()
}

async fn any_changed(subjects: &mut [SubjectSource]) {
    let mut changes: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = subjects
        .iter_mut()
        .map(|source| Box::pin(source.changed()) as _)
        .collect();
    poll_fn(|cx| {
        if changes.iter_mut().any(|c| c.as_mut().poll(cx).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
