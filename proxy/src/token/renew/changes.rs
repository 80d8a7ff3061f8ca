//! What a renewer can be told while it runs. The token that it has stays where it is.

use super::{
    Renewer,
    state::{Phase, State, WAKE_FLOOR},
};
use crate::{
    metrics::token::CredentialMetrics,
    token::{exchange::Exchanger, file::SubjectSource},
};
use sidecar_runtime::readiness::Condition;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::info;

/// What is new for a renewer that runs. The token stays where it is.
pub enum Change {
    /// Another way to get the same token. What the token is for must be unchanged.
    NewWay(NewWay),
    /// It is shown elsewhere from now on: it has run beside those in force, and is one of them now.
    Shown(Shown),
}

/// Another way to get the same token.
pub struct NewWay {
    /// As in [`Renewer`].
    pub exchanger: Arc<dyn Exchanger>,
    /// As in [`Renewer`].
    pub subjects: Vec<SubjectSource>,
    /// As in [`Renewer`].
    pub exchange_timeout: Duration,
}

/// Where a credential is shown, and the same subject tokens out of the flow that it belongs to now.
pub struct Shown {
    /// As in [`Renewer`].
    pub condition: Condition,
    /// As in [`Renewer`].
    pub metrics: Arc<CredentialMetrics>,
    /// As in [`Renewer`].
    pub subjects: Vec<SubjectSource>,
}

impl Renewer {
    /// Takes over what is new.
    pub(super) fn take(&mut self, state: &mut State, change: Change) {
        match change {
            Change::NewWay(way) => self.change(state, way),
            Change::Shown(shown) => self.show(state, shown),
        }
    }

    /// Goes over to another way to get the same token. It is tried soon, so that its faults show while the token still lives.
    fn change(&mut self, state: &mut State, change: NewWay) {
        self.exchanger = change.exchanger;
        self.subjects = change.subjects;
        self.exchange_timeout = change.exchange_timeout;
        let now = Instant::now();
        let not_before = match &state.phase {
            Phase::Failing { obey_until, .. } => *obey_until,
            Phase::Healthy | Phase::Blocked { .. } => now,
        };
        // An exchange that was cut short leaves `due` in the past.
        let floor = state.last_attempt.map_or(now, |at| at + WAKE_FLOOR);
        state.due = floor.max(not_before);
        info!(credential = %self.slot.name(), "credential changed; its token stays and is renewed soon");
    }

    /// From now on it is shown there: what has happened so far as well, but for failures that are over.
    fn show(&mut self, state: &mut State, shown: Shown) {
        self.condition = shown.condition;
        self.metrics = shown.metrics;
        self.subjects = shown.subjects;
        let now = Instant::now();
        // An exchange that was cut short leaves `due` in the past.
        let floor = state.last_attempt.map_or(now, |at| at + WAKE_FLOOR);
        if state.due < now {
            state.due = floor;
        }
        if let (Some(issued), Some(expires_at)) = (&state.issued, state.expires_at) {
            self.metrics
                .issued(issued.took, issued.at, self.clock.unix_at(expires_at));
            self.condition.ready_until(expires_at);
        }
        if let Some(code) = state.phase.code() {
            self.metrics
                .failing(code, self.clock.unix_at(state.failing(now)));
        }
        if state.attempts > 0 || state.phase.code().is_some() {
            self.tell(state, now);
        }
    }
}
