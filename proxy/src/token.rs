//! The TOKEN flow: subject token files, exchangers, the schedule, renewers, and the slots that the request flow reads.
//!
//! [`TokenFlow`] starts one task for each subject token and one for each credential; nothing that one of them does delays another.

pub mod caller;
pub mod dpop;
pub mod exchange;
pub mod file;
mod flow_error;
pub mod injection;
mod mount;
pub mod params;
pub mod renew;
pub mod schedule;
pub mod slot;
pub mod static_secret;
pub mod subject;
pub mod verify;

use crate::metrics::token::{CredentialMetrics, TokenMetrics};
use caller::{
    cache::CallerCache,
    running::{Breakers, RunningCaller},
};
use dpop::Prover;
use exchange::{Exchanger, TokenType, bound::Binding};
use file::{SubjectFile, SubjectSource};
pub use flow_error::TokenFlowError;
use injection::Injection;
use params::{ChainedTokenParams, CredentialParams, GrantParams, SubjectTokenParams, TokenParams};
use prometheus::IntCounter;
use renew::{Change, Renewer};
use sidecar_runtime::{clock::Clock, readiness::Readiness, spawn};
use slot::{Activity, Slot};
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};
use subject::SubjectToken;
use tokio::{
    sync::{
        mpsc::{UnboundedSender, error::SendError, unbounded_channel},
        watch,
    },
    task::JoinHandle,
};
use tracing::{info, warn};

/// The running token flow.
pub struct TokenFlow {
    clock: Clock,
    readiness: Readiness,
    metrics: TokenMetrics,
    /// Differs from pod to pod: spreads renewals.
    seed: u64,
    subjects: HashMap<Arc<str>, RunningSubject>,
    credentials: HashMap<Arc<str>, RunningCredential>,
    callers: HashMap<Arc<str>, CallerCredential>,
    breakers: Breakers,
    /// Made when the first credential needs it, and kept.
    prover: Option<Arc<Prover>>,
}

/// A credential that gets a token for each caller.
struct CallerCredential {
    params: CredentialParams,
    subjects: Vec<Subject>,
    running: RunningCaller,
}

struct RunningSubject {
    params: SubjectTokenParams,
    file: Arc<SubjectFile>,
    _task: Task,
}

struct RunningCredential {
    params: CredentialParams,
    /// Its subject tokens: when one of them moves to another file, the renewer must look there.
    subjects: Vec<Subject>,
    slot: Arc<Slot>,
    /// The bare tokens issued to it, for credentials that use them.
    issued: watch::Sender<Option<Arc<SubjectToken>>>,
    metrics: Arc<CredentialMetrics>,
    changes: UnboundedSender<Change>,
    _task: Task,
}

/// Where one of a credential's subject tokens comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    File(SubjectTokenParams),
    Credential(ChainedTokenParams),
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            clock,
            readiness,
            metrics,
            seed: fastrand::u64(..),
            subjects: HashMap::new(),
            credentials: HashMap::new(),
            callers: HashMap::new(),
            breakers: Breakers::default(),
            prover: None,
        };
        flow.apply(params)?;
        Ok(flow)
    }

    /// Goes over to other parameters. What is unchanged keeps its slot, its token and its task. So does a credential that gets the same token
    /// in another way; one that gets another token starts anew with an empty slot.
    ///
    /// # Errors
    /// [`TokenFlowError`]; then everything runs on as before.
    pub fn apply(&mut self, params: TokenParams) -> Result<(), TokenFlowError> {
        let mut to_start = Vec::new();
        let mut keep: HashSet<Arc<str>> = HashSet::new();
        // All that can fail comes before anything is touched.
        self.prove_if_needed(&params)?;
        for credential in params.parents_first().map_err(TokenFlowError::Circle)? {
            let subjects = resolve(credential, &params)?;
            // What is got with another token than before is another token too.
            let parents_stay = subjects.iter().all(|subject| match subject {
                Subject::File(_) => true,
                Subject::Credential(chained) => keep.contains(&chained.credential),
            });
            let running = self.running(&credential.name).filter(|_| parents_stay);
            let unchanged =
                running.is_some_and(|(params, used)| params == credential && *used == subjects);
            if unchanged
                || running.is_some_and(|(params, used)| {
                    params.injection == credential.injection
                        && params.grant.issues_the_same(&credential.grant)
                        && same_credentials(used, &subjects)
                })
            {
                keep.insert(Arc::clone(&credential.name));
            }
            if !unchanged {
                let exchanger = self.build(credential)?;
                to_start.push((credential.clone(), subjects, exchanger));
            }
        }
        let gone: Vec<_> = self
            .credentials
            .keys()
            .chain(self.callers.keys())
            .filter(|name| !keep.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.credentials.remove(&name);
            self.callers.remove(&name);
            if to_start.iter().any(|(params, ..)| params.name == name) {
                warn!(credential = %name, "credential changed and gets another token now; requests wait for its first exchange");
            } else {
                info!(credential = %name, "credential stopped");
            }
        }
        self.apply_subjects(params.subject_tokens);
        for (credential, subjects, exchanger) in to_start {
            self.change_or_start(credential, subjects, exchanger);
        }
        Ok(())
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
                (slot, Arc::default(), self.metrics.unattached())
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
                Prover::new(self.clock.clone()).map_err(|_| TokenFlowError::NoRandomness)?;
            self.prover = Some(Arc::new(prover));
        }
        Ok(())
    }

    /// What makes proofs for tokens that are bound to the process's key (RFC 9449).
    pub fn prover(&self) -> Option<&Arc<Prover>> {
        self.prover.as_ref()
    }

    fn build(&self, credential: &CredentialParams) -> Result<Arc<dyn Exchanger>, TokenFlowError> {
        let binding = Binding::of(&credential.injection, self.prover.as_ref());
        exchange::build(&credential.grant, binding, self.clock.clone()).map_err(|source| {
            TokenFlowError::Authority {
                credential: Arc::clone(&credential.name),
                source,
            }
        })
    }

    fn apply_subjects(&mut self, wanted: Vec<SubjectTokenParams>) {
        let gone: Vec<_> = self
            .subjects
            .iter()
            .filter(|(_, running)| !wanted.contains(&running.params))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            self.subjects.remove(&name);
        }
        for params in wanted {
            if self.subjects.contains_key(&params.name) {
                continue;
            }
            let file = SubjectFile::new(
                Arc::clone(&params.name),
                params.file.clone(),
                self.clock.clone(),
                self.readiness
                    .register(format!("subject token {}", params.name)),
                self.metrics.subject_token(&params.name),
            );
            let task = Task(spawn("subject_token", Arc::clone(&file).run()));
            self.subjects.insert(
                Arc::clone(&params.name),
                RunningSubject {
                    params,
                    file,
                    _task: task,
                },
            );
        }
    }

    fn change_or_start(
        &mut self,
        params: CredentialParams,
        subjects: Vec<Subject>,
        exchanger: Arc<dyn Exchanger>,
    ) {
        let sources: Vec<_> = subjects.iter().filter_map(|s| self.source(s)).collect();
        if params.grant.is_for_callers() {
            return self.change_or_start_callers(params, subjects, sources, exchanger);
        }
        let exchanger = match self.credentials.get_mut(&params.name) {
            None => exchanger,
            Some(running) => {
                let sent = running.changes.send(Change {
                    exchanger,
                    subjects: sources.clone(),
                    exchange_timeout: params.exchange_timeout,
                });
                match sent {
                    Ok(()) => {
                        running.params = params;
                        running.subjects = subjects;
                        return;
                    }
                    Err(SendError(change)) => change.exchanger,
                }
            }
        };
        self.start_credential(params, subjects, sources, exchanger);
    }

    /// What feeds a renewer; a credential must run already.
    fn source(&self, subject: &Subject) -> Option<SubjectSource> {
        match subject {
            Subject::File(params) => Some(self.subjects.get(&params.name)?.file.source()),
            Subject::Credential(params) => {
                let running = self.credentials.get(&params.credential)?;
                Some(SubjectSource::of_credential(
                    Arc::clone(&params.name),
                    Arc::clone(&params.credential),
                    running.issued.subscribe(),
                ))
            }
        }
    }

    fn change_or_start_callers(
        &mut self,
        params: CredentialParams,
        subjects: Vec<Subject>,
        sources: Vec<SubjectSource>,
        exchanger: Arc<dyn Exchanger>,
    ) {
        let breaker = self.breakers.of(&params);
        if let Some(credential) = self.callers.get_mut(&params.name) {
            credential
                .running
                .change(&params, exchanger, sources, breaker);
            credential.params = params;
            credential.subjects = subjects;
            return;
        }
        let running = RunningCaller::start(
            &params,
            exchanger,
            sources,
            breaker,
            self.clock.clone(),
            self.readiness
                .register(format!("credential {}", params.name)),
            &self.metrics,
            self.seed_of(&params.name),
        );
        let name = Arc::clone(&params.name);
        let credential = CallerCredential {
            params,
            subjects,
            running,
        };
        self.callers.insert(name, credential);
    }

    /// Differs from pod to pod and from credential to credential.
    fn seed_of(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        hasher.finish()
    }

    fn start_credential(
        &mut self,
        params: CredentialParams,
        subjects: Vec<Subject>,
        sources: Vec<SubjectSource>,
        exchanger: Arc<dyn Exchanger>,
    ) {
        let name = Arc::clone(&params.name);
        let slot = Slot::new(Arc::clone(&name));
        // One whose task is gone may have others that listen to it.
        let issued = self
            .credentials
            .get(&name)
            .map_or_else(|| watch::Sender::new(None), |r| r.issued.clone());
        let metrics = Arc::new(self.metrics.credential(&name));
        let condition = self.readiness.register(format!("credential {name}"));
        let (changes, receiver) = unbounded_channel();
        let task = if let GrantParams::StaticSecret(secret) = &params.grant {
            let watcher = static_secret::Watcher {
                slot: Arc::clone(&slot),
                params: secret.clone(),
                exchanger,
                injection: Arc::clone(&params.injection),
                condition,
            };
            spawn("static_secret", watcher.run())
        } else {
            let renewer = Renewer {
                slot: Arc::clone(&slot),
                exchanger,
                injection: params
                    .grant
                    .injectable()
                    .then(|| Arc::clone(&params.injection)),
                issued: issued.clone(),
                subjects: sources,
                exchange_timeout: params.exchange_timeout,
                clock: self.clock.clone(),
                condition,
                metrics: Arc::clone(&metrics),
                seed: self.seed_of(&name),
            };
            spawn("renewer", renewer.run(receiver))
        };
        self.credentials.insert(
            name,
            RunningCredential {
                params,
                subjects,
                slot,
                issued,
                metrics,
                changes,
                _task: Task(task),
            },
        );
    }
}

/// The pod's own subject tokens that a credential uses, each once.
fn resolve(
    credential: &CredentialParams,
    all: &TokenParams,
) -> Result<Vec<Subject>, TokenFlowError> {
    let subject = |name: &Arc<str>| {
        if let Some(file) = all.subject_tokens.iter().find(|s| s.name == *name) {
            return Ok(Subject::File(file.clone()));
        }
        let chained = all.chained_tokens.iter().find(|s| s.name == *name);
        let chained = chained.ok_or_else(|| TokenFlowError::UnknownSubjectToken {
            credential: Arc::clone(&credential.name),
            subject_token: Arc::clone(name),
        })?;
        let parent = all
            .credentials
            .iter()
            .find(|c| c.name == chained.credential);
        match parent {
            Some(parent) if parent.grant.is_for_callers() => {
                Err(TokenFlowError::ParentForCallers {
                    subject_token: Arc::clone(name),
                    credential: Arc::clone(&chained.credential),
                })
            }
            Some(_) => Ok(Subject::Credential(chained.clone())),
            None => Err(TokenFlowError::UnknownCredential {
                subject_token: Arc::clone(name),
                credential: Arc::clone(&chained.credential),
            }),
        }
    };
    credential
        .grant
        .subject_tokens()
        .into_iter()
        // Every request brings its own.
        .filter(|name| ***name != *caller::NAME)
        .map(subject)
        .collect()
}

/// Whether what is issued by credentials comes from the same ones. A file may move; whose token is in it does not change by that.
fn same_credentials(before: &[Subject], now: &[Subject]) -> bool {
    let chained = |subjects: &[Subject]| -> Vec<Subject> {
        let chained = subjects
            .iter()
            .filter(|s| matches!(s, Subject::Credential(_)));
        chained.cloned().collect()
    };
    chained(before) == chained(now)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
