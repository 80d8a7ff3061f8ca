//! Readiness: a list of named conditions, each ready or pending with a reason; never a constant "ok".
//!
//! Conditions that are ready for a limited time (a token that expires) turn pending by themselves when read. A condition that is ready but will not
//! stay so by itself (a token whose renewal fails) says that too: ready stays ready, with a warning.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Clock;

/// The list of conditions. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    entries: Vec<Entry>,
    draining: bool,
    started: bool,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    name: String,
    status: Status,
    since: Instant,
    was_ready: bool,
    /// While ready: what threatens it, and since when something does.
    warning: Option<(String, Instant)>,
}

#[derive(Debug)]
enum Status {
    Ready { until: Option<Instant> },
    Pending { reason: String },
}

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// All conditions are ready, there is at least one, and the process is not draining.
    pub ready: bool,
    /// The process is about to stop.
    pub draining: bool,
    /// Every condition, sorted by name.
    pub conditions: Vec<ConditionReport>,
}

/// One condition in a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionReport {
    /// The name it was registered with.
    pub name: String,
    /// Whether it is ready now.
    pub ready: bool,
    /// Why not; `None` when ready.
    pub reason: Option<String>,
    /// Since when it has been so, as time since the epoch.
    pub since: Duration,
    /// Until when it is ready, as time since the epoch; `None` when that is open, or it is not ready.
    pub until: Option<Duration>,
    /// While ready: what threatens that.
    pub warning: Option<Warning>,
}

/// What threatens a condition that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is wrong.
    pub reason: String,
    /// Since when something has been wrong, as time since the epoch.
    pub since: Duration,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// An empty list, which is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// As [`Readiness::new`], with the clock that dates the reports.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                state: Mutex::default(),
            }),
        }
    }

    /// Adds a condition: pending, with the reason "starting". `name` appears in `/readyz`: no secrets in it.
    #[must_use = "dropping a condition takes it off the list"]
    pub fn register(&self, name: impl Into<String>) -> Condition {
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.entries.push(Entry {
            id,
            name: name.into(),
            status: Status::Pending {
                reason: "starting".into(),
            },
            since: Instant::now(),
            was_ready: false,
            warning: None,
        });
        Condition {
            shared: Arc::clone(&self.shared),
            id,
        }
    }

    /// Not ready from now on: the process is about to stop.
    pub fn set_draining(&self) {
        self.shared.lock().draining = true;
    }

    /// The state of every condition at this moment.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.shared.lock();
        let now = Instant::now();
        let mut conditions: Vec<_> = state
            .entries
            .iter()
            .map(|entry| entry.report(now, &self.shared.clock))
            .collect();
        conditions.sort_by(|a, b| a.name.cmp(&b.name));
        Report {
            ready: !state.draining && !conditions.is_empty() && conditions.iter().all(|c| c.ready),
            draining: state.draining,
            conditions,
        }
    }

    /// Whether each registered condition has been ready once; stays true from then on, whatever is registered later.
    #[must_use]
    pub fn started(&self) -> bool {
        let mut state = self.shared.lock();
        if !state.entries.is_empty() && state.entries.iter().all(|entry| entry.was_ready) {
            state.started = true;
        }
        state.started
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn report(&self, now: Instant, clock: &Clock) -> ConditionReport {
        let (reason, since) = match &self.status {
            Status::Ready { until: Some(until) } if *until <= now => {
                (Some("expired".to_owned()), *until)
            }
            Status::Ready { .. } => (None, self.since),
            Status::Pending { reason } => (Some(reason.clone()), self.since),
        };
        let ready = reason.is_none();
        let until = match &self.status {
            Status::Ready { until } if ready => until.map(|at| clock.unix_at(at)),
            _ => None,
        };
        let warning = self.warning.as_ref().filter(|_| ready);
        ConditionReport {
            name: self.name.clone(),
            ready,
            reason,
            since: clock.unix_at(since),
            until,
            warning: warning.map(|(reason, since)| Warning {
                reason: reason.clone(),
                since: clock.unix_at(*since),
            }),
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        match &self.status {
            Status::Ready { until } => until.is_none_or(|until| now < until),
            Status::Pending { .. } => false,
        }
    }
}

/// One entry of the list. Dropping it takes the entry off the list.
#[derive(Debug)]
pub struct Condition {
    shared: Arc<Shared>,
    id: u64,
}

impl Condition {
    /// Ready until told otherwise.
    pub fn ready(&self) {
        self.set(Status::Ready { until: None });
    }

    /// Ready until `until`; from then on pending with the reason "expired", unless told otherwise before.
    pub fn ready_until(&self, until: Instant) {
        self.set(Status::Ready { until: Some(until) });
    }

    /// Not ready, and why: a short phrase for a person, without secrets and without foreign text.
    pub fn pending(&self, reason: impl Into<String>) {
        self.set(Status::Pending {
            reason: reason.into(),
        });
    }

    /// Ready as before, but this threatens it: a phrase as for [`Condition::pending`]. Stays until the condition is set anew; a further warning changes
    /// the reason, not since when. Without effect while not ready.
    pub fn warn(&self, reason: impl Into<String>) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == self.id)
            && entry.is_ready(now)
        {
            let since = entry.warning.take().map_or(now, |(_, since)| since);
            entry.warning = Some((reason.into(), since));
        }
    }

    fn set(&self, status: Status) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == self.id) else {
            return;
        };
        let was_ready = entry.is_ready(now);
        entry.status = status;
        entry.warning = None;
        let ready = entry.is_ready(now);
        entry.was_ready |= ready;
        if ready != was_ready {
            entry.since = now;
        }
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.shared
            .lock()
            .entries
            .retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(readiness: &Readiness) -> Vec<(String, Option<String>)> {
        let conditions = readiness.report().conditions.into_iter();
        conditions.map(|c| (c.name, c.reason)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_registered_is_not_ready() {
        let readiness = Readiness::new();
        assert!(!readiness.report().ready);
        assert!(!readiness.started());
    }

    #[tokio::test(start_paused = true)]
    async fn all_conditions_are_needed_and_sorted_by_name() {
        let readiness = Readiness::new();
        let b = readiness.register("b");
        let a = readiness.register("a");
        b.ready();
        assert!(!readiness.report().ready);
        let expected = [("a".into(), Some("starting".into())), ("b".into(), None)];
        assert_eq!(reasons(&readiness), expected);
        a.ready();
        assert!(readiness.report().ready);
        a.pending("the authority refused the assertion");
        assert!(!readiness.report().ready);
        drop(a);
        assert!(readiness.report().ready);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_condition_expires_when_read() {
        let readiness = Readiness::with_clock(Clock::anchored(Duration::from_secs(1000)));
        let token = readiness.register("credential arm");
        token.ready_until(Instant::now() + Duration::from_secs(60));
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(readiness.report().ready);
        tokio::time::advance(Duration::from_millis(1)).await;
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.conditions[0].reason.as_deref(), Some("expired"));
        assert_eq!(report.conditions[0].since, Duration::from_secs(1060));
        token.ready_until(Instant::now() + Duration::from_secs(60));
        assert!(readiness.report().ready);
    }

    #[tokio::test(start_paused = true)]
    async fn since_moves_only_when_the_state_changes() {
        let readiness = Readiness::with_clock(Clock::anchored(Duration::from_secs(1000)));
        let token = readiness.register("t");
        tokio::time::advance(Duration::from_secs(5)).await;
        token.ready();
        tokio::time::advance(Duration::from_secs(5)).await;
        token.ready();
        assert_eq!(
            readiness.report().conditions[0].since,
            Duration::from_secs(1005)
        );
        token.pending("x");
        assert_eq!(
            readiness.report().conditions[0].since,
            Duration::from_secs(1010)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_warning_leaves_ready_what_is_ready_and_goes_with_it() {
        let readiness = Readiness::with_clock(Clock::anchored(Duration::from_secs(1000)));
        let token = readiness.register("t");
        token.warn("nothing is ready yet");
        assert_eq!(readiness.report().conditions[0].warning, None);
        token.ready_until(Instant::now() + Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(5)).await;
        token.warn("renewal fails: a");
        tokio::time::advance(Duration::from_secs(5)).await;
        token.warn("renewal fails: b");
        let report = readiness.report();
        assert!(report.ready);
        let condition = &report.conditions[0];
        assert_eq!(condition.until, Some(Duration::from_secs(1060)));
        let warning = Warning {
            reason: "renewal fails: b".into(),
            since: Duration::from_secs(1005),
        };
        assert_eq!(condition.warning, Some(warning));
        // It ends with what it is about: the expiry, or the next token.
        tokio::time::advance(Duration::from_secs(50)).await;
        let condition = readiness.report().conditions.remove(0);
        assert_eq!((condition.until, condition.warning), (None, None));
        token.ready();
        assert_eq!(readiness.report().conditions[0].warning, None);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_final() {
        let readiness = Readiness::new();
        let condition = readiness.register("c");
        condition.ready();
        readiness.set_draining();
        condition.ready();
        let report = readiness.report();
        assert!(!report.ready && report.draining);
    }

    #[tokio::test(start_paused = true)]
    async fn started_latches() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.register("a"), readiness.register("b"));
        a.ready();
        a.pending("lost it");
        assert!(!readiness.started());
        b.ready();
        assert!(readiness.started());
        let _late = readiness.register("late");
        assert!(readiness.started());
    }
}
