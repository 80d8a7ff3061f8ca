//! What runs in a token flow: a task for each subject token and one for each credential, with what must be known of it to tell whether it may stay.
//! What runs when is `apply`'s.

use super::{
    caller::running::RunningCaller,
    exchange::Exchanger,
    file::{SubjectFile, SubjectSource},
    injection::Injection,
    params::{ChainedTokenParams, CredentialParams, GrantParams, SubjectTokenParams},
    renew::{Change, Renewer},
    slot::Slot,
    static_secret,
    subject::SubjectToken,
};
use crate::metrics::token::{CredentialMetrics, TokenMetrics};
use sidecar_runtime::{clock::Clock, readiness::Readiness, spawn};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinHandle,
};

/// What everything that runs is given.
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    /// Where each has its condition.
    pub(super) readiness: Readiness,
    /// Where each has its series.
    pub(super) metrics: TokenMetrics,
    /// Differs from pod to pod: spreads renewals.
    pub(super) seed: u64,
}

/// A subject token whose file is watched.
pub(super) struct RunningSubject {
    pub(super) params: SubjectTokenParams,
    pub(super) file: Arc<SubjectFile>,
    _task: Task,
}

/// A credential that has a token of its own.
pub(super) struct RunningCredential {
    pub(super) params: CredentialParams,
    /// Its subject tokens: when one of them moves to another file, the renewer must look there.
    pub(super) subjects: Vec<Subject>,
    pub(super) slot: Arc<Slot>,
    /// The bare tokens issued to it, for credentials that use them.
    pub(super) issued: watch::Sender<Option<Arc<SubjectToken>>>,
    pub(super) metrics: Arc<CredentialMetrics>,
    pub(super) changes: UnboundedSender<Change>,
    _task: Task,
}

/// A credential that gets a token for each caller.
pub(super) struct CallerCredential {
    pub(super) params: CredentialParams,
    pub(super) subjects: Vec<Subject>,
    pub(super) running: RunningCaller,
}

/// Where one of a credential's subject tokens comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    File(SubjectTokenParams),
    Credential(ChainedTokenParams),
}

/// How a credential gets its tokens: all that a renewer is made of but what shows it.
pub(super) struct Way {
    pub(super) subjects: Vec<Subject>,
    pub(super) sources: Vec<SubjectSource>,
    pub(super) exchanger: Arc<dyn Exchanger>,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Surroundings {
    /// Watches a subject token's file.
    pub(super) fn start_subject(&self, params: SubjectTokenParams) -> RunningSubject {
        let file = SubjectFile::new(
            Arc::clone(&params.name),
            params.file.clone(),
            self.clock.clone(),
            self.readiness
                .register(format!("subject token {}", params.name)),
            self.metrics.subject_token(&params.name),
        );
        let task = Task(spawn("subject_token", Arc::clone(&file).run()));
        RunningSubject {
            params,
            file,
            _task: task,
        }
    }

    /// Starts a credential that has a token of its own, with an empty slot. `issued` is where its bare tokens go.
    pub(super) fn start_credential(
        &self,
        params: CredentialParams,
        way: Way,
        issued: watch::Sender<Option<Arc<SubjectToken>>>,
    ) -> RunningCredential {
        let name = Arc::clone(&params.name);
        let slot = Slot::new(Arc::clone(&name));
        let metrics = Arc::new(self.metrics.credential(&name));
        let condition = self.readiness.register(format!("credential {name}"));
        let (changes, receiver) = unbounded_channel();
        let task = if let GrantParams::StaticSecret(secret) = &params.grant {
            let watcher = static_secret::Watcher {
                slot: Arc::clone(&slot),
                params: secret.clone(),
                exchanger: way.exchanger,
                injection: Arc::clone(&params.injection),
                condition,
            };
            spawn("static_secret", watcher.run(receiver))
        } else {
            let renewer = Renewer {
                slot: Arc::clone(&slot),
                exchanger: way.exchanger,
                injection: injected(&params),
                issued: issued.clone(),
                subjects: way.sources,
                exchange_timeout: params.exchange_timeout,
                clock: self.clock.clone(),
                condition,
                metrics: Arc::clone(&metrics),
                seed: self.seed_of(&name),
            };
            spawn("renewer", renewer.run(receiver))
        };
        RunningCredential {
            params,
            subjects: way.subjects,
            slot,
            issued,
            metrics,
            changes,
            _task: Task(task),
        }
    }

    /// Differs from pod to pod and from credential to credential.
    pub(super) fn seed_of(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        hasher.finish()
    }
}

/// How its tokens are put on requests, if they ever are.
fn injected(params: &CredentialParams) -> Option<Arc<Injection>> {
    params
        .grant
        .injectable()
        .then(|| Arc::clone(&params.injection))
}
