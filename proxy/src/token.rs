//! The TOKEN flow: subject token files, exchangers, the schedule, renewers, and the slots that the request flow reads.
//!
//! [`TokenFlow`] starts one task for each subject token and one for each credential; nothing that one of them does delays another. How it goes over
//! to other parameters is `apply`'s, and what may run beside it before that is `staged`'s.

mod apply;
pub(crate) mod attempt;
pub mod caller;
pub mod dpop;
pub mod exchange;
pub mod file;
mod flow_error;
pub mod injection;
pub(crate) mod mount;
pub mod params;
pub mod renew;
mod running;
pub mod schedule;
pub mod slot;
pub mod staged;
pub mod static_secret;
pub mod subject;
pub mod verify;

use crate::metrics::token::TokenMetrics;
use caller::{cache::CallerCache, running::Breakers};
use dpop::Prover;
use exchange::TokenType;
pub use flow_error::TokenFlowError;
use injection::Injection;
use params::{CredentialParams, TokenParams};
use prometheus::IntCounter;
use running::{CallerCredential, RunningCredential, RunningSubject, Subject, Surroundings};
use sidecar_runtime::{clock::Clock, readiness::Readiness};
use slot::{Activity, Slot};
use std::{collections::HashMap, sync::Arc};

/// The running token flow.
pub struct TokenFlow {
    around: Surroundings,
    subjects: HashMap<Arc<str>, RunningSubject>,
    credentials: HashMap<Arc<str>, RunningCredential>,
    callers: HashMap<Arc<str>, CallerCredential>,
    breakers: Breakers,
    /// Made when the first credential needs it, and kept.
    prover: Option<Arc<Prover>>,
}

impl TokenFlow {
    /// Starts everything: a condition in `readiness` and children in `metrics` for each subject token and each credential. Needs a tokio
    /// runtime around it. The files need not exist yet.
    ///
    /// # Errors
    /// [`TokenFlowError`]; then nothing runs.
    pub fn start(
        params: TokenParams,
        clock: Clock,
        readiness: Readiness,
        metrics: TokenMetrics,
    ) -> Result<Self, TokenFlowError> {
        let mut flow = Self {
            around: Surroundings {
                clock,
                readiness,
                metrics,
                seed: fastrand::u64(..),
            },
            subjects: HashMap::new(),
            credentials: HashMap::new(),
            callers: HashMap::new(),
            breakers: Breakers::default(),
            prover: None,
        };
        flow.apply(params, None)?;
        Ok(flow)
    }

    /// A credential's slot, how its tokens are put on requests, and the counter (`token_unavailable_total`) that the request flow adds to when it
    /// finds no token there. For a name that is not configured, and for a credential whose token is never put on requests, a slot that never
    /// has a token.
    pub fn handle(&self, name: &str) -> (Arc<Slot>, Arc<Injection>, IntCounter) {
        match self.credentials.get(name) {
            Some(running) if running.params.grant.injectable() => (
                Arc::clone(&running.slot),
                Arc::clone(&running.params.injection),
                running.metrics.unavailable().clone(),
            ),
            _ => {
                let slot = Slot::new(name.into());
                slot.publish(Activity::Stopped);
                (slot, Arc::default(), self.around.metrics.unattached())
            }
        }
    }

    /// As [`TokenFlow::handle`], for a credential that gets a token for each caller: where requests find it. `None` for any other.
    pub fn callers(&self, name: &str) -> Option<(Arc<CallerCache>, Arc<Injection>, IntCounter)> {
        let credential = self.callers.get(name)?;
        Some((
            Arc::clone(credential.running.cache()),
            Arc::clone(&credential.params.injection),
            credential.running.metrics().unavailable().clone(),
        ))
    }

    /// Ends every task. Slots keep their tokens until they expire, for requests that are still under way.
    pub fn stop(&mut self) {
        self.callers.clear();
        self.credentials.clear();
        self.subjects.clear();
    }

    /// The parameters of a credential that runs, and the subject tokens that it uses.
    fn running(&self, name: &str) -> Option<(&CredentialParams, &Vec<Subject>)> {
        let of_pod = self.credentials.get(name).map(|r| (&r.params, &r.subjects));
        of_pod.or_else(|| self.callers.get(name).map(|c| (&c.params, &c.subjects)))
    }

    /// Makes the process's key for DPoP, when a credential needs one and there is none yet.
    fn prove_if_needed(&mut self, params: &TokenParams) -> Result<(), TokenFlowError> {
        let bound = |c: &CredentialParams| c.injection.token_type == TokenType::DPoP;
        if self.prover.is_none() && params.credentials.iter().any(bound) {
            let prover =
                Prover::new(self.around.clock.clone()).map_err(|_| TokenFlowError::NoRandomness)?;
            self.prover = Some(Arc::new(prover));
        }
        Ok(())
    }

    /// What makes proofs for tokens that are bound to the process's key (RFC 9449).
    pub fn prover(&self) -> Option<&Arc<Prover>> {
        self.prover.as_ref()
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
pub(crate) mod tests;
