//! Fetching, sharing, rolling, keeping: an issuer's keys over time, with the clock paused and a scripted issuer.

use super::*;
use crate::{
    metrics::inbound::InboundMetrics,
    token::verify::{
        jwk::Algorithm,
        test_keys::{TestKey, jwks},
    },
};
use async_trait::async_trait;
use prometheus::Registry;
use sidecar_runtime::{clock::Clock, readiness::Readiness};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::time::{advance, sleep};

const PARAMS: KeysParams = KeysParams {
    refresh: Duration::from_secs(900),
    cooldown: Duration::from_secs(10),
    max_stale: Duration::from_secs(3600),
    timeout: Duration::from_secs(5),
};

/// What the issuer answers from now on.
#[derive(Clone)]
enum Script {
    Keys(String),
    Down,
    Hangs,
}

struct Scripted {
    script: Mutex<Script>,
    fetches: AtomicUsize,
}

#[async_trait]
impl KeySource for Arc<Scripted> {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        self.fetches.fetch_add(1, SeqCst);
        let script = self.script.lock().unwrap().clone();
        sleep(Duration::from_millis(100)).await;
        match script {
            Script::Keys(text) => Ok(KeySet::parse(text.as_bytes())?),
            Script::Down => Err(FetchError::Status(503)),
            Script::Hangs => std::future::pending().await,
        }
    }
}

struct Lab {
    keys: Arc<IssuerKeys>,
    source: Arc<Scripted>,
    readiness: Readiness,
    registry: Registry,
}

impl Lab {
    fn new(script: Script) -> Self {
        let source = Arc::new(Scripted {
            script: Mutex::new(script),
            fetches: AtomicUsize::new(0),
        });
        let keys = IssuerKeys::new(PARAMS);
        let clock = Clock::anchored(Duration::from_secs(1000));
        let readiness = Readiness::with_clock(clock.clone());
        let registry = Registry::new();
        let metrics = InboundMetrics::register(&registry, clock).unwrap();
        drop(sidecar_runtime::spawn(
            "keys",
            Arc::clone(&keys).run(
                Arc::new(Arc::clone(&source)),
                readiness.register("inbound issuer i"),
                metrics.issuer(&"i".into()),
                0,
            ),
        ));
        Self {
            keys,
            source,
            readiness,
            registry,
        }
    }

    fn says(&self, script: Script) {
        *self.source.script.lock().unwrap() = script;
    }

    fn fetches(&self) -> usize {
        self.source.fetches.load(SeqCst)
    }

    async fn has(&self, kid: &str) -> Result<(), NoKey> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let find =
            |set: &KeySet| (!set.candidates(Some(kid), Algorithm::Es256).is_empty()).then_some(());
        self.keys.with(deadline, find).await
    }

    fn refreshes(&self, result: &str) -> u64 {
        self.registry
            .gather()
            .iter()
            .filter(|f| f.name() == "token_sidecar_jwks_refreshes_total")
            .flat_map(|f| f.get_metric().to_vec())
            .filter(|m| m.get_label().iter().any(|l| l.value() == result))
            .map(|m| m.get_counter().get_value() as u64)
            .sum()
    }
}

fn keys(kids: &[&'static str]) -> Script {
    let keys: Vec<TestKey> = kids
        .iter()
        .map(|kid| TestKey::new(kid, Algorithm::Es256))
        .collect();
    Script::Keys(jwks(&keys.iter().collect::<Vec<_>>()))
}

fn is_unavailable(result: Result<(), NoKey>) -> bool {
    matches!(result, Err(NoKey::Unavailable { .. }))
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_for_the_first_fetch() {
    let lab = Lab::new(keys(&["a"]));
    assert!(!lab.readiness.report().ready);
    assert_eq!(lab.has("a").await, Ok(()));
    assert!(lab.readiness.report().ready);
    assert_eq!((lab.fetches(), lab.refreshes("success")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rolled_key_is_fetched_once_for_all_who_ask_for_it() {
    let lab = Arc::new(Lab::new(keys(&["a"])));
    lab.has("a").await.unwrap();
    advance(PARAMS.cooldown).await;
    lab.says(keys(&["a", "b"]));
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let lab = Arc::clone(&lab);
            sidecar_runtime::spawn("asks", async move { lab.has("b").await })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(lab.fetches(), 2, "one fetch, shared");
}

#[tokio::test(start_paused = true)]
async fn made_up_kids_cannot_cause_more_than_a_fetch_a_cooldown() {
    let lab = Lab::new(keys(&["a"]));
    lab.has("a").await.unwrap();
    let started = Instant::now();
    for i in 0..1000 {
        assert_eq!(lab.has(&format!("made-up-{i}")).await, Err(NoKey::Unknown));
        advance(Duration::from_millis(50)).await;
        assert_eq!(lab.has("a").await, Ok(()), "others are not held up");
    }
    let cooldowns = started.elapsed().as_secs() / PARAMS.cooldown.as_secs();
    assert!(
        (3..=cooldowns as usize + 1).contains(&lab.fetches()),
        "{}",
        lab.fetches()
    );
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_while_the_issuer_is_down_but_not_for_ever() {
    let lab = Lab::new(keys(&["a"]));
    lab.has("a").await.unwrap();
    lab.says(Script::Down);
    advance(PARAMS.max_stale - Duration::from_secs(1)).await;
    assert_eq!(lab.has("a").await, Ok(()));
    assert!(lab.readiness.report().ready);
    // A key that is not known may be new: nobody knows.
    assert!(is_unavailable(lab.has("b").await));
    assert!(lab.refreshes("status") > 0);
    sleep(Duration::from_secs(2)).await;
    assert!(is_unavailable(lab.has("a").await));
    assert!(!lab.readiness.report().ready);
    lab.says(keys(&["a"]));
    sleep(Duration::from_secs(90)).await;
    assert_eq!(lab.has("a").await, Ok(()));
    assert!(lab.readiness.report().ready);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_at_start_is_named_and_tried_again() {
    let lab = Lab::new(Script::Down);
    let before = Instant::now();
    assert!(is_unavailable(lab.has("a").await));
    assert!(before.elapsed() < Duration::from_secs(1), "told at once");
    let report = lab.readiness.report();
    let condition = &report.conditions[0];
    assert_eq!(condition.name, "inbound issuer i");
    let reason = condition.reason.clone().unwrap();
    assert!(
        reason.contains("status") && reason.contains("503"),
        "{reason}"
    );
    lab.says(keys(&["a"]));
    sleep(Duration::from_secs(120)).await;
    assert_eq!(lab.has("a").await, Ok(()));
    assert!(lab.readiness.report().ready);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_holds_nobody_up_for_longer_than_allowed() {
    let lab = Lab::new(Script::Hangs);
    let before = Instant::now();
    assert!(is_unavailable(lab.has("a").await));
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    sleep(Duration::from_secs(10)).await;
    assert!(lab.refreshes("timeout") > 0);
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_from_time_to_time_and_one_that_went_away_ends_what_it_verified() {
    let (a, b) = (
        TestKey::new("a", Algorithm::Es256),
        TestKey::new("b", Algorithm::Es256),
    );
    let lab = Lab::new(Script::Keys(jwks(&[&a])));
    lab.has("a").await.unwrap();
    let first = lab.keys.generation();
    lab.says(Script::Keys(jwks(&[&a, &b])));
    sleep(PARAMS.refresh + Duration::from_secs(1)).await;
    lab.has("b").await.unwrap();
    assert_eq!(lab.keys.generation(), first, "nothing went away");
    lab.says(Script::Keys(jwks(&[&b])));
    sleep(PARAMS.refresh + Duration::from_secs(1)).await;
    lab.has("b").await.unwrap();
    assert_ne!(lab.keys.generation(), first);
    assert_eq!(lab.has("a").await, Err(NoKey::Unknown));
}
