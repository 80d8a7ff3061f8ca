//! Credentials of a configuration that is not in force yet. They run beside those that are, unseen by requests, until each has its first token: what
//! cannot get one is no reason to give up what works. When and whether they take over is the application's to decide.

use super::{
    TokenFlow, TokenFlowError,
    apply::Changes,
    exchange::Exchanger,
    file::SubjectSource,
    params::{CredentialParams, TokenParams},
    running::{RunningCredential, RunningSubject, Subject, Surroundings, Way},
};
use crate::metrics::token::TokenMetrics;
use prometheus::Registry;
use sidecar_runtime::readiness::Readiness;
use std::{collections::HashMap, sync::Arc};
use tokio::{sync::watch, time::Instant};

/// What runs beside a token flow. Dropping it ends it.
pub struct Staged {
    around: Surroundings,
    subjects: HashMap<Arc<str>, RunningSubject>,
    credentials: HashMap<Arc<str>, RunningCredential>,
}

impl TokenFlow {
    /// Starts, beside what runs, the credentials that `params` would start anew. `None` when there are none. Credentials that get a token for each
    /// caller are not among them: without a caller nothing can be tried.
    ///
    /// # Errors
    /// [`TokenFlowError`]; `params` cannot be applied either then.
    pub fn stage(&mut self, params: &TokenParams) -> Result<Option<Staged>, TokenFlowError> {
        let changes = self.changes(params)?;
        // No scrape sees these: the series of a name belong to the credential that is in force.
        let metrics = TokenMetrics::register(&Registry::new()).map_err(TokenFlowError::Metrics)?;
        let mut staged = Staged {
            around: Surroundings {
                clock: self.around.clock.clone(),
                readiness: Readiness::with_clock(self.around.clock.clone()),
                metrics,
                seed: self.around.seed,
            },
            subjects: HashMap::new(),
            credentials: HashMap::new(),
        };
        staged.start(self, changes);
        Ok(Some(staged).filter(|s| !s.credentials.is_empty()))
    }

    /// Whether any credential has a token now: then there is something to lose.
    pub fn has_tokens(&self) -> bool {
        let now = Instant::now();
        self.credentials
            .values()
            .any(|running| running.slot.load(now).is_some())
    }
}

impl Staged {
    fn start(&mut self, flow: &TokenFlow, changes: Changes) {
        let anew: Vec<bool> = changes
            .to_start
            .iter()
            .map(|c| changes.starts_anew(&c.params.name) && !c.params.grant.is_for_callers())
            .collect();
        for (change, anew) in changes.to_start.into_iter().zip(anew) {
            if anew {
                self.start_one(flow, change.params, change.subjects, change.exchanger);
            }
        }
    }

    fn start_one(
        &mut self,
        flow: &TokenFlow,
        params: CredentialParams,
        subjects: Vec<Subject>,
        exchanger: Arc<dyn Exchanger>,
    ) {
        let sources = subjects
            .iter()
            .filter_map(|subject| self.source(flow, subject))
            .collect();
        let way = Way {
            subjects,
            sources,
            exchanger,
        };
        let name = Arc::clone(&params.name);
        let running = self
            .around
            .start_credential(params, way, watch::Sender::new(None));
        self.credentials.insert(name, running);
    }

    /// Of what is staged too, else of what runs.
    fn source(&mut self, flow: &TokenFlow, subject: &Subject) -> Option<SubjectSource> {
        match subject {
            Subject::File(params) => {
                let in_force = flow.subjects.get(&params.name);
                if in_force.is_some_and(|running| running.params == *params) {
                    return flow.source(subject);
                }
                let running = self
                    .subjects
                    .entry(Arc::clone(&params.name))
                    .or_insert_with(|| self.around.start_subject(params.clone()));
                Some(running.file.source())
            }
            Subject::Credential(params) => match self.credentials.get(&params.credential) {
                None => flow.source(subject),
                Some(running) => Some(SubjectSource::of_credential(
                    Arc::clone(&params.name),
                    Arc::clone(&params.credential),
                    running.issued.subscribe(),
                )),
            },
        }
    }

    /// Whether each of them has a token.
    pub fn ready(&self) -> bool {
        let now = Instant::now();
        self.credentials
            .values()
            .all(|running| running.slot.load(now).is_some())
    }

    /// Which of them have none, and why: for a person, without secrets and without foreign text.
    pub fn waits_for(&self) -> String {
        let report = self.around.readiness.report();
        let waiting = report.conditions.iter().filter_map(|condition| {
            let reason = condition.reason.as_ref()?;
            Some(format!("{}: {reason}", condition.name))
        });
        waiting.collect::<Vec<_>>().join("; ")
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.credentials.len()
    }

    pub(super) fn into_credentials(self) -> HashMap<Arc<str>, RunningCredential> {
        self.credentials
    }
}

#[cfg(test)]
#[path = "staged_tests.rs"]
mod tests;
