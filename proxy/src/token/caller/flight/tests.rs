//! Caches and their exchanges against a scripted authority, on tokio's paused clock: no sockets, no waiting.

use super::*;
use crate::{
    metrics::token::TokenMetrics,
    token::{
        caller::{
            cache::{CacheFull, Place},
            running::{Breakers, RunningCaller},
            token::{
                CallerToken,
                tests::{caller, caller_named},
            },
        },
        exchange::{IssuedToken, TokenType, error::AuthoritySays},
        params::{CredentialParams, GrantParams, tests::token_exchange},
        slot::{Injectable, Rejection, Serial, Unavailable},
        subject::{SubjectToken, tests::jwt},
    },
};
use async_trait::async_trait;
use prometheus::Registry;
use sidecar_runtime::readiness::{ConditionReport, Readiness};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::{sync::watch, time::sleep};
use url::Url;

mod authority;
mod failures;
mod lives;
mod rejections;

const START: u64 = 1_000_000;
const FAR: u64 = 100_000_000;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

enum Answer {
    Token(Duration),
    Refuse(AuthoritySays),
    Hang,
}

fn refuse(status: u16, error: &str) -> AuthoritySays {
    AuthoritySays {
        status,
        error: Some(error.into()),
        ..AuthoritySays::default()
    }
}

/// What the authority saw: whose token, with which of the pod's assertions, with which claims, and when.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    caller: String,
    pod: Option<String>,
    claims: Option<String>,
    at: Duration,
}

type Answers = Box<dyn Fn(&Call) -> Answer + Send + Sync>;

/// An authority whose answers a test writes; each takes a while.
struct Script {
    answer: Mutex<Answers>,
    calls: Mutex<Vec<Call>>,
    takes: Duration,
    began: Instant,
    now: AtomicUsize,
    most: AtomicUsize,
    takes_claims: bool,
}

struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Exchanger for Script {
    fn takes_claims(&self) -> bool {
        self.takes_claims
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let call = Call {
            caller: tokens.named(NAME)?.expose().to_owned(),
            pod: tokens.named("pod").ok().map(|t| t.expose().to_owned()),
            claims: claims.map(str::to_owned),
            at: self.began.elapsed(),
        };
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        let _busy = Busy(&self.now);
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len()
        };
        let answer = self.answer.lock().unwrap()(&call);
        sleep(self.takes).await;
        match answer {
            Answer::Token(lifetime) => Ok(IssuedToken {
                // Whose it is, for tests to see that nobody gets another's.
                token: format!("{number}-for-{}", call.caller).into(),
                token_type: TokenType::Bearer,
                lifetime,
                refresh_in: None,
            }),
            Answer::Refuse(says) => Err(ExchangeError::refused(&says)),
            Answer::Hang => std::future::pending().await,
        }
    }
}

struct World {
    clock: Clock,
    script: Arc<Script>,
    running: RunningCaller,
    readiness: Readiness,
    registry: Registry,
    pod: watch::Sender<Option<Arc<SubjectToken>>>,
}

struct Setup {
    limits: CacheLimits,
    takes: Duration,
    takes_claims: bool,
    timeout: Duration,
    breaker: SharedBreaker,
    pod: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: CacheLimits::default(),
            takes: Duration::from_millis(200),
            takes_claims: true,
            timeout: secs(10),
            breaker: SharedBreaker::default(),
            pod: true,
        }
    }
}

fn params(limits: CacheLimits, timeout: Duration) -> CredentialParams {
    let (grant, _) = token_exchange(Url::parse("https://sts.example/token").unwrap());
    let GrantParams::TokenExchange(mut exchange) = grant else {
        unreachable!()
    };
    exchange.subject_token = NAME.into();
    CredentialParams {
        name: "orders".into(),
        grant: GrantParams::TokenExchange(exchange),
        injection: Arc::default(),
        exchange_timeout: timeout,
        caller_cache: limits,
    }
}

impl World {
    fn new(setup: Setup, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let clock = Clock::anchored(secs(START));
        let script = Arc::new(Script {
            answer: Mutex::new(Box::new(answer)),
            calls: Mutex::default(),
            takes: setup.takes,
            began: Instant::now(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            takes_claims: setup.takes_claims,
        });
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let readiness = Readiness::with_clock(clock.clone());
        let (pod, receiver) = watch::channel(setup.pod.then(|| subject("pod-1")));
        let running = RunningCaller::start(
            &params(setup.limits, setup.timeout),
            Arc::clone(&script) as _,
            vec![SubjectSource::fed("pod".into(), receiver)],
            setup.breaker,
            clock.clone(),
            readiness.register("credential orders"),
            &metrics,
            7,
        );
        Self {
            clock,
            script,
            running,
            readiness,
            registry,
            pod,
        }
    }

    fn good() -> Self {
        Self::new(Setup::default(), |_| Answer::Token(secs(3600)))
    }

    /// As [`World::good`], with a cache that holds so many.
    fn good_for(max_entries: usize) -> Self {
        let limits = CacheLimits {
            max_entries,
            ..CacheLimits::default()
        };
        let setup = Setup {
            limits,
            ..Setup::default()
        };
        Self::new(setup, |_| Answer::Token(secs(3600)))
    }

    fn answer(&self, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.script.answer.lock().unwrap() = Box::new(answer);
    }

    fn caller(&self, id: &str) -> Arc<CallerToken> {
        caller(FAR, id, &self.clock)
    }

    /// Somebody else, with one token.
    fn person(&self, sub: &str) -> Arc<CallerToken> {
        caller_named(sub, FAR, "1", &self.clock)
    }

    fn cache(&self) -> &Arc<CallerCache> {
        self.running.cache()
    }

    fn place(&self, caller: &Arc<CallerToken>) -> Place {
        self.cache().place(Arc::clone(caller)).unwrap()
    }

    /// One request's token, after waiting as requests do.
    async fn get(&self, caller: &Arc<CallerToken>) -> Result<Injectable, Unavailable> {
        let place = self.place(caller);
        let now = Instant::now();
        match place.slot().load(now) {
            Some(token) => Ok(token),
            None => place.slot().wait(now + secs(2)).await,
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.script.calls.lock().unwrap().clone()
    }

    fn condition(&self) -> ConditionReport {
        self.readiness.report().conditions.remove(0)
    }

    fn metric(&self, line: &str) -> bool {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines().any(|l| l == format!("token_sidecar_{line}"))
    }
}

fn subject(id: &str) -> Arc<SubjectToken> {
    Arc::new(SubjectToken::parse(jwt(FAR, id).as_bytes(), secs(START)).unwrap())
}

/// What comes in the place of a rejected token, waited for as requests do.
async fn replaced(place: &Place, serial: Serial) -> Injectable {
    let until = Instant::now() + secs(2);
    place.slot().replaced(serial, until).await.unwrap()
}

/// That this is a token issued for this very caller.
#[track_caller]
fn belongs(token: &Injectable, caller: &CallerToken) {
    let value = token.header.to_str().unwrap();
    let for_whom = value.split_once("-for-").unwrap().1;
    assert_eq!(for_whom, caller.subject().expose());
}
