//! How a token flow goes over to other parameters: what may stay, what is given another way to the same token, what starts anew. Whether now is the
//! time for it is not decided here.

use super::{
    TokenFlow, TokenFlowError, caller,
    caller::running::RunningCaller,
    exchange::{self, Exchanger, bound::Binding},
    file::SubjectSource,
    params::{CredentialParams, GrantParams, SubjectTokenParams, TokenParams},
    renew::{Change, NewWay, Shown},
    running::{CallerCredential, RunningCredential, Subject, Way},
    staged::Staged,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::{sync::mpsc::error::SendError, sync::watch, time::Instant};
use tracing::{info, warn};

/// What other parameters make of a token flow.
pub(super) struct Changes {
    /// The credentials that keep their tokens.
    keep: HashSet<Arc<str>>,
    /// Those that are not as they are now, each after the credentials whose tokens it uses.
    pub(super) to_start: Vec<ToStart>,
}

/// A credential that is new, or not as it is now.
pub(super) struct ToStart {
    pub(super) params: CredentialParams,
    pub(super) subjects: Vec<Subject>,
    pub(super) exchanger: Arc<dyn Exchanger>,
}

impl Changes {
    /// Whether it gets another token than it has now.
    pub(super) fn starts_anew(&self, name: &str) -> bool {
        !self.keep.contains(name)
    }
}

impl TokenFlow {
    /// Goes over to other parameters. What is unchanged keeps its slot, its token and its task. So does a credential that gets the same token
    /// in another way; one that gets another token starts anew with an empty slot, or with what `staged` has got for it.
    ///
    /// # Errors
    /// [`TokenFlowError`]; then everything runs on as before.
    pub fn apply(
        &mut self,
        params: TokenParams,
        staged: Option<Staged>,
    ) -> Result<(), TokenFlowError> {
        // All that can fail comes before anything is touched.
        let changes = self.changes(&params)?;
        let mut staged = staged.map(Staged::into_credentials).unwrap_or_default();
        let gone: Vec<_> = self
            .credentials
            .keys()
            .chain(self.callers.keys())
            .filter(|name| changes.starts_anew(name))
            .cloned()
            .collect();
        for name in gone {
            self.credentials.remove(&name);
            self.callers.remove(&name);
            let ready = staged
                .get(&name)
                .is_some_and(|s| s.slot.load(Instant::now()).is_some());
            if ready {
                info!(credential = %name, "credential changed and gets another token now; it has its first one already");
            } else if changes.to_start.iter().any(|c| c.params.name == name) {
                warn!(credential = %name, "credential changed and gets another token now; requests wait for its first exchange");
            } else {
                info!(credential = %name, "credential stopped");
            }
        }
        self.apply_subjects(params.subject_tokens);
        for change in changes.to_start {
            self.change_or_start(change, &mut staged);
        }
        Ok(())
    }

    /// What `params` would change.
    ///
    /// # Errors
    /// [`TokenFlowError`].
    pub(super) fn changes(&mut self, params: &TokenParams) -> Result<Changes, TokenFlowError> {
        let mut changes = Changes {
            keep: HashSet::new(),
            to_start: Vec::new(),
        };
        self.prove_if_needed(params)?;
        for credential in params.parents_first().map_err(TokenFlowError::Circle)? {
            let subjects = resolve(credential, params)?;
            // What is got with another token than before is another token too.
            let parents_stay = subjects.iter().all(|subject| match subject {
                Subject::File(_) => true,
                Subject::Credential(chained) => changes.keep.contains(&chained.credential),
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
                changes.keep.insert(Arc::clone(&credential.name));
            }
            if !unchanged {
                changes.to_start.push(ToStart {
                    params: credential.clone(),
                    subjects,
                    exchanger: self.build(credential)?,
                });
            }
        }
        Ok(changes)
    }

    fn build(&self, credential: &CredentialParams) -> Result<Arc<dyn Exchanger>, TokenFlowError> {
        let binding = Binding::of(&credential.injection, self.prover.as_ref());
        exchange::build(&credential.grant, binding, self.around.clock.clone()).map_err(|source| {
            TokenFlowError::Authority {
                credential: Arc::clone(&credential.name),
                source,
            }
        })
    }

    fn apply_subjects(&mut self, wanted: Vec<SubjectTokenParams>) {
        self.subjects
            .retain(|_, running| wanted.contains(&running.params));
        for params in wanted {
            if !self.subjects.contains_key(&params.name) {
                let name = Arc::clone(&params.name);
                self.subjects
                    .insert(name, self.around.start_subject(params));
            }
        }
    }

    fn change_or_start(
        &mut self,
        change: ToStart,
        staged: &mut HashMap<Arc<str>, RunningCredential>,
    ) {
        let ToStart {
            params,
            subjects,
            exchanger,
        } = change;
        let sources: Vec<_> = subjects.iter().filter_map(|s| self.source(s)).collect();
        let way = Way {
            subjects,
            sources,
            exchanger,
        };
        if params.grant.is_for_callers() {
            return self.change_or_start_callers(params, way);
        }
        let name = Arc::clone(&params.name);
        let way = match self.credentials.get_mut(&name) {
            None => match self.adopt(&params, way, staged.remove(&name)) {
                None => return,
                Some(way) => way,
            },
            Some(running) => match give(running, params.clone(), way) {
                None => return,
                Some(way) => way,
            },
        };
        // One whose task is gone may have others that listen to it.
        let issued = self
            .credentials
            .get(&name)
            .map_or_else(|| watch::Sender::new(None), |r| r.issued.clone());
        let running = self.around.start_credential(params, way, issued);
        self.credentials.insert(name, running);
    }

    /// Takes over what has run beside, if it is what is wanted: its token and its task. From now on it is shown. Gives `way` back when there is
    /// nothing to take over.
    fn adopt(
        &mut self,
        params: &CredentialParams,
        way: Way,
        staged: Option<RunningCredential>,
    ) -> Option<Way> {
        let Some(mut running) =
            staged.filter(|s| s.params == *params && s.subjects == way.subjects)
        else {
            return Some(way);
        };
        let name = &params.name;
        let condition = self.around.readiness.register(format!("credential {name}"));
        if let Some(expires_at) = running.slot.expires_at(Instant::now()) {
            condition.ready_until(expires_at);
        }
        let metrics = Arc::new(self.around.metrics.credential(name));
        let shown = Shown {
            condition,
            metrics: Arc::clone(&metrics),
            subjects: way.sources.clone(),
        };
        if running.changes.send(Change::Shown(shown)).is_err() {
            return Some(way);
        }
        running.metrics = metrics;
        self.credentials.insert(Arc::clone(name), running);
        None
    }

    /// What feeds a renewer; a credential must run already.
    pub(super) fn source(&self, subject: &Subject) -> Option<SubjectSource> {
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

    fn change_or_start_callers(&mut self, params: CredentialParams, way: Way) {
        let Way {
            subjects,
            sources,
            exchanger,
        } = way;
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
            self.around.clock.clone(),
            self.around
                .readiness
                .register(format!("credential {}", params.name)),
            &self.around.metrics,
            self.around.seed_of(&params.name),
        );
        let name = Arc::clone(&params.name);
        let credential = CallerCredential {
            params,
            subjects,
            running,
        };
        self.callers.insert(name, credential);
    }
}

/// Gives a credential that runs another way to the same token. Gives `way` back when it must be started anew for that.
fn give(running: &mut RunningCredential, params: CredentialParams, way: Way) -> Option<Way> {
    // Nothing asks for it: it is looked at where it is.
    if matches!(params.grant, GrantParams::StaticSecret(_)) {
        return Some(way);
    }
    let Way {
        subjects,
        sources,
        exchanger,
    } = way;
    let sent = running.changes.send(Change::NewWay(NewWay {
        exchanger,
        subjects: sources.clone(),
        exchange_timeout: params.exchange_timeout,
    }));
    match sent {
        Ok(()) => {
            running.params = params;
            running.subjects = subjects;
            None
        }
        Err(SendError(Change::NewWay(NewWay { exchanger, .. }))) => Some(Way {
            subjects,
            sources,
            exchanger,
        }),
        Err(SendError(Change::Shown(_))) => None,
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
