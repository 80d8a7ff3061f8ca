//! Verification of callers' tokens: signed JWTs of configured issuers, for this server, now, with the rights that are asked for. It knows no HTTP
//! request and gives out no handle; the inbound side of `request` does.

pub mod claims;
pub mod fetch;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod params;
pub mod seen;

use super::{
    caller::token::{CallerToken, TokenDigest},
    subject::{SubjectError, SubjectToken},
};
use crate::{
    metrics::inbound::{InboundMetrics, IssuerMetrics},
    net::client::SetupError,
};
use fetch::HttpSource;
use jwks::{IssuerKeys, NoKey};
use jwt::Jwt;
use params::{IssuerParams, KeysParams, VerifyParams};
use seen::{Entry, Seen};
use sidecar_runtime::{clock::Clock, readiness::Readiness, spawn};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// How often what has expired is forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No signed JWT with an `exp`.
    Malformed,
    /// `none`, HMAC, unknown, or none that is accepted from this issuer.
    Algorithm,
    /// It demands extensions that nobody here understands (`crit`).
    Critical,
    /// `iss` names no configured issuer.
    Issuer,
    /// The issuer has no such key.
    Key,
    /// No key of that name has signed this.
    Signature,
    /// It says to be another kind of token.
    Type,
    /// It is for somebody else.
    Audience,
    /// `exp` has passed.
    Expired,
    /// `nbf` is to come.
    NotYetValid,
    /// It is bound to a key (`cnf`), and was sent as if it were not.
    Bound,
    /// A required claim is missing or different.
    Claim,
    /// A good token that lacks a required scope.
    Scope,
    /// Nobody knows: the issuer's keys are not at hand.
    Unavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
}

impl Refusal {
    /// A bounded code for metrics and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "crit",
            Self::Issuer => "issuer",
            Self::Key => "unknown_key",
            Self::Signature => "signature",
            Self::Type => "type",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Bound => "bound",
            Self::Claim => "claim",
            Self::Scope => "scope",
            Self::Unavailable { .. } => "keys_unavailable",
        }
    }

    /// What a caller is told: enough to mend an honest mistake.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Malformed => "the access token is not a signed JWT with an expiry",
            Self::Algorithm => "the access token is signed with an algorithm that is not accepted",
            Self::Critical => "the access token demands extensions that are not understood",
            Self::Issuer => "the access token is of an issuer that is not accepted",
            Self::Key | Self::Signature => {
                "the access token's signature is not one of its issuer's"
            }
            Self::Type => "the token is not an access token of the kind that is accepted",
            Self::Audience => "the access token is for another audience",
            Self::Expired => "the access token has expired",
            Self::NotYetValid => "the access token is not valid yet",
            Self::Bound => {
                "the access token is bound to a key and cannot be used as a bearer token"
            }
            Self::Claim => "the access token lacks a claim that is required",
            Self::Scope => "the access token lacks a scope that is required",
            Self::Unavailable { .. } => "the issuer's keys cannot be fetched at present",
        }
    }
}

/// Verifies tokens. One for each set of parameters; workers share it.
pub struct Verifier {
    params: VerifyParams,
    clock: Clock,
    issuers: Vec<Issuer>,
    seen: Seen,
    metrics: InboundMetrics,
}

struct Issuer {
    keys: Arc<IssuerKeys>,
    metrics: IssuerMetrics,
}

impl Verifier {
    /// The token, verified. One that was verified before costs a digest and a look-up. Waits for keys at the longest until `deadline`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn verify(&self, text: &str, deadline: Instant) -> Result<Arc<CallerToken>, Refusal> {
        if let Some(token) = self.seen(text) {
            return Ok(token);
        }
        let jwt = Jwt::parse(text);
        let iss = jwt
            .as_ref()
            .ok()
            .and_then(|jwt| jwt.claims.get("iss")?.as_str());
        let issuer = self
            .params
            .issuers
            .iter()
            .position(|i| Some(&*i.issuer) == iss);
        let result = match (jwt, issuer) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), None) => Err(Refusal::Issuer),
            (Ok(jwt), Some(at)) => self.verify_unseen(text, &jwt, at, deadline).await,
        };
        match issuer.and_then(|at| self.issuers.get(at)) {
            Some(issuer) => issuer
                .metrics
                .verified(result.as_ref().err().map(|r| r.code())),
            None => self
                .metrics
                .of_nobody(result.as_ref().err().map_or("malformed", |r| r.code())),
        }
        result
    }

    /// A token that was verified before, if it still counts.
    fn seen(&self, text: &str) -> Option<Arc<CallerToken>> {
        let now = Instant::now();
        let entry = self.seen.get(&TokenDigest::of(text), now)?;
        let issuer = self.issuers.get(entry.issuer)?;
        // What keys have verified that nobody may use any more counts as little as they do: they may have been withdrawn since.
        let counts = issuer.keys.generation() == entry.generation && issuer.keys.usable(now);
        counts.then(|| {
            issuer.metrics.seen();
            entry.token
        })
    }

    async fn verify_unseen(
        &self,
        text: &str,
        jwt: &Jwt<'_>,
        at: usize,
        deadline: Instant,
    ) -> Result<Arc<CallerToken>, Refusal> {
        let (Some(params), Some(issuer)) = (self.params.issuers.get(at), self.issuers.get(at))
        else {
            return Err(Refusal::Issuer);
        };
        if !params.algorithms.contains(&jwt.algorithm) {
            return Err(Refusal::Algorithm);
        }
        // Before the keys are looked at: if one goes away meanwhile, the verification counts for nothing.
        let generation = issuer.keys.generation();
        let signed = issuer.keys.with(deadline, |keys| {
            let candidates = keys.candidates(jwt.kid.as_deref(), jwt.algorithm);
            (!candidates.is_empty()).then(|| {
                candidates
                    .iter()
                    .any(|key| key.verifies(jwt.algorithm, jwt.message, &jwt.signature))
            })
        });
        match signed.await {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::Signature),
            Err(NoKey::Unknown) => return Err(Refusal::Key),
            Err(NoKey::Unavailable { retry_after }) => {
                return Err(Refusal::Unavailable { retry_after });
            }
        }
        let now = self.clock.unix_now();
        claims::check(jwt, params, &self.params, now)?;
        let subject = SubjectToken::parse(text.as_bytes(), now).map_err(|error| match error {
            SubjectError::Expired => Refusal::Expired,
            _ => Refusal::Malformed,
        })?;
        let token = Arc::new(CallerToken::new(
            Arc::new(subject),
            Arc::clone(&params.issuer),
            &self.clock,
        ));
        self.seen.insert(Entry {
            token: Arc::clone(&token),
            issuer: at,
            generation,
        });
        Ok(token)
    }
}

/// Keeps a verifier going: the tasks that fetch its issuers' keys, and the one that forgets.
pub struct Verification {
    clock: Clock,
    readiness: Readiness,
    metrics: InboundMetrics,
    seed: u64,
    running: Option<Running>,
}

struct Running {
    verifier: Arc<Verifier>,
    issuers: Vec<RunningIssuer>,
    _sweeper: Task,
}

#[derive(Clone)]
struct RunningIssuer {
    params: IssuerParams,
    timing: KeysParams,
    keys: Arc<IssuerKeys>,
    _task: Arc<Task>,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Verification {
    /// Nothing yet.
    pub fn new(clock: Clock, readiness: Readiness, metrics: InboundMetrics) -> Self {
        Self {
            clock,
            readiness,
            metrics,
            seed: fastrand::u64(..),
            running: None,
        }
    }

    /// Goes over to other parameters; `None`: no tokens of callers are verified. An issuer that is unchanged keeps its keys; what was verified
    /// under other parameters is verified anew. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`SetupError`], with the issuer that cannot be set up; then everything runs on as before.
    pub fn apply(
        &mut self,
        params: Option<VerifyParams>,
    ) -> Result<Option<Arc<Verifier>>, (Arc<str>, SetupError)> {
        let Some(params) = params else {
            self.running = None;
            self.metrics.keep_issuers(&[]);
            return Ok(None);
        };
        if let Some(running) = &self.running
            && running.verifier.params == params
        {
            return Ok(Some(Arc::clone(&running.verifier)));
        }
        // All that can fail comes before anything is started.
        let mut sources = Vec::new();
        for issuer in &params.issuers {
            let kept = self.running.as_ref().and_then(|running| {
                let same = |r: &&RunningIssuer| r.params == *issuer && r.timing == params.keys;
                running.issuers.iter().find(same).cloned()
            });
            let source = match kept {
                Some(kept) => Ok(kept),
                None => Err(HttpSource::new(issuer).map_err(|e| (Arc::clone(&issuer.issuer), e))?),
            };
            sources.push((issuer, source));
        }
        let names: Vec<&str> = params.issuers.iter().map(|i| &*i.issuer).collect();
        self.metrics.keep_issuers(&names);
        let issuers: Vec<RunningIssuer> = sources
            .into_iter()
            .map(|(issuer, source)| match source {
                Ok(kept) => kept,
                Err(source) => self.start(issuer, params.keys, source),
            })
            .collect();
        let verifier = Arc::new(Verifier {
            seen: Seen::new(params.max_seen),
            issuers: issuers
                .iter()
                .map(|issuer| Issuer {
                    keys: Arc::clone(&issuer.keys),
                    metrics: self.metrics.issuer(&issuer.params.issuer),
                })
                .collect(),
            params,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        });
        let swept = Arc::clone(&verifier);
        let sweeper = spawn("verified_tokens", async move {
            let mut ticks = interval(SWEEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                swept.seen.sweep(Instant::now());
            }
        });
        self.running = Some(Running {
            verifier: Arc::clone(&verifier),
            issuers,
            _sweeper: Task(sweeper),
        });
        Ok(Some(verifier))
    }

    fn start(
        &self,
        issuer: &IssuerParams,
        timing: KeysParams,
        source: HttpSource,
    ) -> RunningIssuer {
        let keys = IssuerKeys::new(timing);
        let condition = self
            .readiness
            .register(format!("inbound issuer {}", issuer.issuer));
        let task = spawn(
            "issuer_keys",
            Arc::clone(&keys).run(
                Arc::new(source),
                condition,
                self.metrics.issuer(&issuer.issuer),
                self.seed,
            ),
        );
        RunningIssuer {
            params: issuer.clone(),
            timing,
            keys,
            _task: Arc::new(Task(task)),
        }
    }
}

#[cfg(test)]
pub(crate) mod test_keys;

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
