//! Renewers against a scripted exchanger, on tokio's paused clock: no sockets, no files, no waiting.

use super::{state::CLAIMS_TRIES, *};
use crate::{
    metrics::token::TokenMetrics,
    token::{
        exchange::error::{AuthoritySays, Class},
        file::{SubjectFile, tests::TestDir},
        slot::{Injectable, Rejection},
        subject::tests::jwt,
    },
};
use http::HeaderValue;
use prometheus::Registry;
use sidecar_runtime::readiness::Readiness;
use std::{
    collections::VecDeque,
    sync::{Mutex, atomic::AtomicBool, atomic::Ordering},
};
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinSet,
    time::{advance, sleep},
};

const START: Duration = Duration::from_secs(1_000_000);
const FAR: u64 = 100_000_000;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

enum Answer {
    Token {
        lifetime: Duration,
        refresh_in: Option<Duration>,
    },
    Refuse(AuthoritySays),
    Hang,
}

fn life(seconds: u64) -> Answer {
    Answer::Token {
        lifetime: secs(seconds),
        refresh_in: None,
    }
}

fn refuse(status: u16, error: &str, aadsts: Option<u64>, retry_after: Option<u64>) -> Answer {
    Answer::Refuse(AuthoritySays {
        status,
        error: Some(error.into()),
        aadsts,
        retry_after: retry_after.map(secs),
        ..AuthoritySays::default()
    })
}

#[derive(Debug, Clone, PartialEq)]
struct Call {
    at: Duration,
    assertion: String,
    claims: Option<String>,
}

#[derive(Clone)]
struct Script(Arc<Shared>);

struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    /// When the script has run out.
    always: Mutex<Box<dyn Fn() -> Answer + Send>>,
    calls: Mutex<Vec<Call>>,
    takes: Duration,
    started: Instant,
    busy: AtomicBool,
}

impl Script {
    fn new(takes: Duration, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(Arc::new(Shared {
            answers: Mutex::new(answers.into_iter().collect()),
            always: Mutex::new(Box::new(|| life(3600))),
            calls: Mutex::default(),
            takes,
            started: Instant::now(),
            busy: AtomicBool::new(false),
        }))
    }
}

impl Exchanger for Script {
    const TAKES_CLAIMS: bool = true;

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let number = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(Call {
                at: self.0.started.elapsed(),
                assertion: tokens.named("pod")?.expose().to_owned(),
                claims: claims.map(str::to_owned),
            });
            calls.len()
        };
        assert!(!self.0.busy.swap(true, Ordering::SeqCst), "two at once");
        struct Idle<'a>(&'a AtomicBool);
        impl Drop for Idle<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        let _idle = Idle(&self.0.busy);
        sleep(self.0.takes).await;
        let next = self.0.answers.lock().unwrap().pop_front();
        match next.unwrap_or_else(|| self.0.always.lock().unwrap()()) {
            Answer::Token {
                lifetime,
                refresh_in,
            } => Ok(IssuedToken {
                header: HeaderValue::try_from(format!("Bearer t{number}")).unwrap(),
                lifetime,
                refresh_in,
            }),
            Answer::Refuse(says) => Err(ExchangeError::refused(&says)),
            Answer::Hang => std::future::pending().await,
        }
    }
}

struct Bench {
    slot: Arc<Slot>,
    script: Script,
    subject: watch::Sender<Option<Arc<SubjectToken>>>,
    readiness: Readiness,
    registry: Registry,
    clock: Clock,
    tasks: JoinSet<()>,
    changes: UnboundedSender<Change<Script>>,
}

impl Bench {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::taking(Duration::from_millis(10), answers)
    }

    fn taking(takes: Duration, answers: impl IntoIterator<Item = Answer>) -> Self {
        let (subject, receiver) = watch::channel(None);
        let source = SubjectSource::fed("pod".into(), receiver);
        Self::build(takes, answers, source, subject)
    }

    fn build(
        takes: Duration,
        answers: impl IntoIterator<Item = Answer>,
        source: SubjectSource,
        subject: watch::Sender<Option<Arc<SubjectToken>>>,
    ) -> Self {
        let clock = Clock::anchored(START);
        let readiness = Readiness::with_clock(clock.clone());
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let slot = Slot::new("arm".into());
        let script = Script::new(takes, answers);
        let renewer = Renewer {
            slot: Arc::clone(&slot),
            exchanger: script.clone(),
            subjects: vec![source],
            exchange_timeout: secs(10),
            clock: clock.clone(),
            condition: readiness.register("credential arm"),
            metrics: Arc::new(metrics.credential("arm")),
            seed: 7,
        };
        let mut tasks = JoinSet::new();
        let (changes, receiver) = unbounded_channel();
        tasks.spawn(renewer.run(receiver));
        Self {
            slot,
            script,
            subject,
            readiness,
            registry,
            clock,
            tasks,
            changes,
        }
    }

    /// Gives the renewer another script.
    fn change(&self, answers: impl IntoIterator<Item = Answer>) -> Script {
        let script = Script::new(Duration::from_millis(10), answers);
        let change = Change {
            exchanger: script.clone(),
            subjects: vec![SubjectSource::fed("pod".into(), self.subject.subscribe())],
            exchange_timeout: secs(10),
        };
        assert!(self.changes.send(change).is_ok());
        script
    }

    /// Another renewer with the same script and a slot of its own, which nobody runs.
    fn by_hand(&self) -> (Renewer<Script>, State) {
        let metrics = TokenMetrics::register(&Registry::new()).unwrap();
        let renewer = Renewer {
            slot: Slot::new("by hand".into()),
            exchanger: self.script.clone(),
            subjects: vec![SubjectSource::fed("pod".into(), self.subject.subscribe())],
            exchange_timeout: secs(10),
            clock: self.clock.clone(),
            condition: self.readiness.register("credential by hand"),
            metrics: Arc::new(metrics.credential("by hand")),
            seed: 7,
        };
        (renewer, State::new(Instant::now()))
    }

    fn with_subject(answers: impl IntoIterator<Item = Answer>) -> Self {
        let bench = Self::new(answers);
        bench.rotate("a");
        bench
    }

    fn rotate(&self, id: &str) {
        self.rotate_until(id, FAR);
    }

    fn rotate_until(&self, id: &str, exp: u64) {
        let token = SubjectToken::parse(jwt(exp, id).as_bytes(), Duration::ZERO).unwrap();
        self.subject.send_replace(Some(Arc::new(token)));
    }

    fn calls(&self) -> Vec<Call> {
        self.script.0.calls.lock().unwrap().clone()
    }

    fn always(&self, answer: impl Fn() -> Answer + Send + 'static) {
        *self.script.0.always.lock().unwrap() = Box::new(answer);
    }

    fn load(&self) -> Option<Injectable> {
        self.slot.load(Instant::now())
    }

    fn reason(&self) -> Option<String> {
        self.readiness.report().conditions[0].reason.clone()
    }

    async fn token(&self) -> Injectable {
        self.slot
            .wait(Instant::now() + secs(5))
            .await
            .expect("a token")
    }

    fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

fn header(token: &Injectable) -> &str {
    token.header.to_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn at_the_start_it_waits_for_the_file_says_so_and_goes_on_when_it_comes() {
    let bench = Bench::new([]);
    sleep(secs(3600)).await;
    assert!(bench.calls().is_empty());
    let reason = bench.reason().unwrap();
    assert!(
        reason.contains("`pod`") && reason.contains("subject_token_missing"),
        "{reason}"
    );
    // Those who ask are told at once.
    let asked = Instant::now();
    let refusal = bench.slot.wait(asked + secs(5)).await.unwrap_err();
    assert_eq!(&*refusal.reason, "subject_token_missing");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    bench.rotate("a");
    sleep(Duration::from_secs(1)).await;
    let token = bench.load().expect("issued");
    assert_eq!(header(&token), "Bearer t1");
    assert!(token.header.is_sensitive());
    assert_eq!(bench.reason(), None);
    assert!(bench.readiness.report().ready);
}

#[tokio::test(start_paused = true)]
async fn an_expired_subject_token_is_not_sent() {
    let bench = Bench::new([]);
    bench.rotate_until("old", START.as_secs() - 1);
    sleep(secs(60)).await;
    assert!(bench.calls().is_empty());
    assert!(bench.reason().unwrap().contains("subject_token_expired"));
    bench.rotate("new");
    sleep(secs(2)).await;
    assert!(bench.load().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_refresh_in_or_by_its_share_of_life() {
    for (answer, low, high) in [
        (life(3600), 2430, 2970),
        (life(10_000), 4500, 5500),
        (
            Answer::Token {
                lifetime: secs(86_400),
                refresh_in: Some(secs(43_200)),
            },
            38_880,
            47_520,
        ),
    ] {
        let bench = Bench::with_subject([answer]);
        bench.token().await;
        sleep(secs(low) - secs(1)).await;
        assert_eq!(bench.calls().len(), 1);
        sleep(secs(high - low) + secs(2)).await;
        assert_eq!(bench.calls().len(), 2, "{low}");
        assert_eq!(header(&bench.load().unwrap()), "Bearer t2");
    }
}

#[tokio::test(start_paused = true)]
async fn short_lives_do_not_spin_and_do_not_lapse() {
    let bench = Bench::with_subject([]);
    bench.always(|| life(1));
    bench.token().await;
    for _ in 0..1000 {
        sleep(Duration::from_millis(60)).await;
    }
    let calls = bench.calls();
    assert!(calls.len() <= 121, "{} exchanges in 60 s", calls.len());
    for pair in calls.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(500));
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_dead_on_arrival_make_exchanges_rarer_and_rarer() {
    for (takes, lifetime) in [
        (secs(2), secs(1)),
        (secs(1), secs(1)),
        (Duration::from_millis(950), secs(1)),
        (Duration::from_millis(10), Duration::from_millis(300)),
        (Duration::ZERO, Duration::from_nanos(1)),
    ] {
        let bench = Bench::taking(takes, []);
        bench.always(move || Answer::Token {
            lifetime,
            refresh_in: None,
        });
        bench.rotate("a");
        // Somebody asks all the time, as the workers of a busy pod do.
        let began = Instant::now();
        while began.elapsed() < secs(3600) {
            bench
                .slot
                .wait(Instant::now() + secs(5))
                .await
                .expect_err("no such token");
            sleep(Duration::from_millis(100)).await;
        }
        let calls = bench.calls();
        // Up to a minute apart, at any point of it: 30 s on average.
        assert!(
            (60..200).contains(&calls.len()),
            "{} exchanges in an hour, {takes:?} for {lifetime:?}",
            calls.len()
        );
        for pair in calls.windows(2) {
            assert!(pair[1].at - pair[0].at >= takes + schedule::FLOOR);
        }
        let reason = bench.reason().unwrap();
        assert!(
            reason.starts_with("dead_on_arrival: ") && reason.contains("lifetime"),
            "{reason}"
        );
        bench.always(|| life(3600));
        sleep(secs(63)).await;
        assert!(bench.load().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_live_hardly_longer_than_an_exchange_takes_keep_a_distance() {
    for takes in [100, 300, 380, 399] {
        let bench = Bench::taking(Duration::from_millis(takes), []);
        bench.always(|| life(1));
        bench.rotate("a");
        sleep(secs(60)).await;
        let calls = bench.calls();
        assert!(calls.len() > 50, "{}", calls.len());
        for pair in calls.windows(2) {
            let idle = pair[1].at - pair[0].at - Duration::from_millis(takes);
            assert!(idle >= schedule::FLOOR, "{idle:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_renewal_fails_the_old_token_serves_until_it_expires_and_not_longer() {
    let bench = Bench::with_subject([life(100)]);
    bench.always(|| refuse(500, "server_error", None, None));
    bench.token().await;
    let issued = Instant::now();
    while issued.elapsed() < secs(98) {
        assert_eq!(header(&bench.load().expect("still there")), "Bearer t1");
        assert_eq!(bench.reason(), None);
        sleep(Duration::from_millis(500)).await;
    }
    sleep_until(issued + secs(100)).await;
    assert!(bench.load().is_none());
    let reason = bench.reason().unwrap();
    assert!(
        reason.contains("server_error") && reason.contains("next try in"),
        "{reason}"
    );
    // Asked at once: an answer at once, with the reason and a time.
    let refusal = bench.slot.wait(Instant::now() + secs(5)).await.unwrap_err();
    assert_eq!(&*refusal.reason, "server_error");
    assert!(refusal.retry_after <= secs(60) && refusal.retry_after > Duration::ZERO);
    // And it recovers by itself.
    bench.always(|| life(3600));
    sleep(secs(61)).await;
    assert!(bench.load().is_some());
    assert_eq!(bench.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn transient_failures_back_off() {
    let bench = Bench::with_subject([]);
    bench.always(|| refuse(500, "server_error", None, None));
    sleep(secs(600)).await;
    let calls = bench.calls().len();
    assert!((12..60).contains(&calls), "{calls} in 10 minutes");
    let shown = bench.metrics();
    assert!(
        shown.contains(&format!(
            r#"exchanges_total{{credential="arm",error="server_error",result="failure"}} {calls}"#
        )),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn permanent_failures_back_off_to_minutes_and_keep_their_reason() {
    let bench = Bench::with_subject([]);
    bench.always(|| refuse(400, "unauthorized_client", Some(700_016), None));
    sleep(secs(3600)).await;
    let calls = bench.calls().len();
    assert!((10..35).contains(&calls), "{calls} in an hour");
    let reason = bench.reason().unwrap();
    assert!(
        reason.starts_with("unauthorized_client aadsts_700016: ") && reason.contains("clientId"),
        "{reason}"
    );
    assert!(
        bench
            .metrics()
            .contains(r#"error="aadsts_700016",result="failure""#)
    );
    // Demand does not hurry it.
    for _ in 0..100 {
        bench.slot.wait(Instant::now() + secs(5)).await.unwrap_err();
        advance(Duration::from_millis(10)).await;
    }
    assert!(bench.calls().len() <= calls + 1);
}

#[tokio::test(start_paused = true)]
async fn propagation_is_retried_every_30_to_60_seconds_and_reported_meanwhile() {
    let no_match = || refuse(401, "invalid_client", Some(700_213), None);
    let bench = Bench::with_subject([no_match(), no_match(), no_match()]);
    sleep(secs(1)).await;
    let reason = bench.reason().unwrap();
    assert!(
        reason.starts_with("invalid_client aadsts_700213: ") && reason.contains("subject"),
        "{reason}"
    );
    sleep(secs(200)).await;
    let calls = bench.calls();
    assert_eq!(calls.len(), 4);
    for pair in calls.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= secs(30) && gap <= secs(61), "{gap:?}");
    }
    assert_eq!(bench.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_capped_and_shown() {
    let bench = Bench::with_subject([
        refuse(429, "temporarily_unavailable", None, Some(20)),
        refuse(429, "temporarily_unavailable", None, Some(86_400)),
    ]);
    sleep(secs(1)).await;
    assert!(
        bench
            .metrics()
            .contains(r#"exchange_retry_after_seconds{credential="arm"} 20"#)
    );
    // Not even a rotation overrules it.
    bench.rotate("b");
    sleep(secs(18)).await;
    assert_eq!(bench.calls().len(), 1);
    sleep(secs(5)).await;
    assert_eq!(bench.calls().len(), 2);
    sleep(secs(290)).await;
    assert_eq!(bench.calls().len(), 2);
    sleep(secs(45)).await;
    assert_eq!(bench.calls().len(), 3);
    assert!(bench.load().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_retries_a_failed_exchange_at_once_and_never_storms() {
    let denied = || refuse(400, "unauthorized_client", Some(700_016), None);
    let bench = Bench::with_subject([denied(), life(3600)]);
    sleep(secs(5)).await;
    assert_eq!(bench.calls().len(), 1);
    bench.rotate("b");
    sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.calls().len(), 2);
    assert_ne!(bench.calls()[0].assertion, bench.calls()[1].assertion);
    assert!(bench.load().is_some());
    // Healthy: a rotation is no reason to exchange.
    bench.rotate("c");
    sleep(secs(60)).await;
    assert_eq!(bench.calls().len(), 2);

    let bench = Bench::with_subject([]);
    bench.always(denied);
    for n in 0..600 {
        sleep(Duration::from_millis(100)).await;
        bench.rotate(&n.to_string());
    }
    let calls = bench.calls().len();
    assert!(calls <= 62, "{calls} exchanges in 60 s of rotations");
}

#[tokio::test(start_paused = true)]
async fn a_stale_assertion_is_read_again_and_sent_once_more() {
    let stale = || refuse(401, "invalid_client", Some(700_024), None);
    let bench = Bench::with_subject([stale(), life(3600)]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.calls().len(), 2);
    assert!(bench.load().is_some());
    // Once, not for ever.
    let bench = Bench::with_subject([stale(), stale(), stale()]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hung_authority_times_out_and_delays_no_other_credential() {
    let hung = Bench::with_subject([]);
    hung.always(|| Answer::Hang);
    let other = Bench::with_subject([]);
    sleep(Duration::from_millis(50)).await;
    assert!(other.load().is_some());
    assert!(hung.load().is_none());
    sleep(secs(11)).await;
    assert!(hung.reason().unwrap().starts_with("timeout: "));
    assert!(
        hung.metrics()
            .contains(r#"error="timeout",result="failure"} 1"#)
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_wait_at_the_moment_of_expiry_cause_one_exchange() {
    // The renewal fails once shortly before expiry with an order to wait until after it; then all ask at once.
    let bench = Bench::taking(
        secs(2),
        [
            life(100),
            refuse(503, "temporarily_unavailable", None, Some(40)),
        ],
    );
    bench.rotate("a");
    bench.token().await;
    let mut waiting = JoinSet::new();
    // Asked while the third exchange is under way.
    while bench.calls().len() < 3 {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(bench.load().is_none());
    for _ in 0..10_000 {
        let slot = Arc::clone(&bench.slot);
        waiting.spawn(async move { slot.wait(Instant::now() + secs(5)).await });
    }
    let mut served = 0;
    while let Some(result) = waiting.join_next().await {
        assert_eq!(header(&result.unwrap().unwrap()), "Bearer t3");
        served += 1;
    }
    assert_eq!(served, 10_000);
    assert_eq!(bench.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn demand_wakes_a_renewer_whose_token_is_gone_and_waits_no_longer_than_asked() {
    let bench = Bench::taking(secs(8), []);
    bench.rotate("a");
    let asked = Instant::now();
    let refusal = bench.slot.wait(asked + secs(3)).await.unwrap_err();
    assert_eq!(asked.elapsed(), secs(3));
    assert_eq!(&*refusal.reason, "not_yet_issued");
    bench.slot.wait(asked + secs(9)).await.unwrap();
    assert_eq!(bench.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_dropped_once_and_replaced_for_all_who_wait() {
    let bench = Bench::with_subject([]);
    let token = bench.token().await;
    let mut waiting = JoinSet::new();
    for _ in 0..1000 {
        let slot = Arc::clone(&bench.slot);
        let serial = token.serial;
        waiting.spawn(async move {
            assert_eq!(slot.reject(serial, None), Rejection::Replacing);
            slot.replaced(serial, Instant::now() + secs(5)).await
        });
    }
    while let Some(result) = waiting.join_next().await {
        assert_eq!(header(&result.unwrap().unwrap()), "Bearer t2");
    }
    sleep(secs(10)).await;
    assert_eq!(bench.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_rejects_everything_causes_no_storm() {
    let bench = Bench::with_subject([]);
    bench.token().await;
    let began = Instant::now();
    let mut held = 0;
    while began.elapsed() < secs(3600) {
        if let Some(token) = bench.load() {
            match bench.slot.reject(token.serial, None) {
                Rejection::Replacing => {
                    let next = bench
                        .slot
                        .replaced(token.serial, Instant::now() + secs(5))
                        .await;
                    assert!(next.unwrap().serial > token.serial);
                }
                // The token stays: other upstreams may take it.
                Rejection::HeldOff => {
                    held += 1;
                    assert_eq!(bench.load().unwrap().serial, token.serial);
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
    let calls = bench.calls();
    // 1 s doubling to 5 min: 1+2+...+256 is nine in 511 s, then one in 5 min; and the renewals by the schedule.
    assert!(calls.len() <= 25, "{} exchanges in an hour", calls.len());
    assert!(calls.len() >= 15);
    assert!(held > 6000);
    // After a quiet time a rejection counts as the first again.
    sleep(secs(301)).await;
    let token = bench.load().unwrap();
    assert_eq!(bench.slot.reject(token.serial, None), Rejection::Replacing);
}

#[tokio::test(start_paused = true)]
async fn while_renewals_fail_a_rejected_token_is_kept() {
    let bench = Bench::with_subject([life(1000)]);
    bench.always(|| refuse(400, "invalid_grant", None, None));
    let token = bench.token().await;
    sleep(secs(840)).await;
    assert!(bench.calls().len() >= 2);
    assert_eq!(bench.slot.reject(token.serial, None), Rejection::HeldOff);
    assert_eq!(bench.load().unwrap().serial, token.serial);
    let asked = Instant::now();
    assert!(
        bench
            .slot
            .replaced(token.serial, asked + secs(5))
            .await
            .is_none()
    );
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_claims_challenge_goes_with_the_next_exchange_and_only_with_it() {
    let bench = Bench::with_subject([]);
    let token = bench.token().await;
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    assert_eq!(
        bench.slot.reject(token.serial, Some(claims)),
        Rejection::Replacing
    );
    bench
        .slot
        .replaced(token.serial, Instant::now() + secs(5))
        .await
        .unwrap();
    sleep(secs(3000)).await;
    let sent: Vec<_> = bench.calls().into_iter().map(|c| c.claims).collect();
    assert_eq!(sent, [None, Some(claims.to_owned()), None]);
}

const NONSENSE: &str = r#"{"nonsense":true}"#;

#[tokio::test(start_paused = true)]
async fn claims_that_the_authority_refuses_are_forgotten_and_those_who_wait_get_a_token() {
    let bench = Bench::with_subject([
        life(3600),
        refuse(400, "invalid_request", None, None),
        life(3600),
    ]);
    // An authority that never takes these claims, whenever they are sent again.
    bench.always(|| refuse(400, "invalid_request", None, None));
    let token = bench.token().await;
    assert_eq!(
        bench.slot.reject(token.serial, Some(NONSENSE)),
        Rejection::Replacing
    );
    let asked = Instant::now();
    let next = bench
        .slot
        .replaced(token.serial, asked + secs(5))
        .await
        .expect("a token without the claims");
    assert!(asked.elapsed() >= WAKE_FLOOR && asked.elapsed() < WAKE_FLOOR + secs(1));
    assert!(next.serial > token.serial);
    let sent: Vec<_> = bench.calls().into_iter().map(|c| c.claims).collect();
    assert_eq!(sent, [None, Some(NONSENSE.to_owned()), None]);
    assert!(bench.readiness.report().ready);
}

#[tokio::test(start_paused = true)]
async fn claims_are_not_carried_through_failure_after_failure() {
    for status in [500, 429] {
        let bench = Bench::with_subject([life(3600)]);
        bench.always(move || refuse(status, "server_error", None, None));
        let token = bench.token().await;
        assert_eq!(
            bench.slot.reject(token.serial, Some(NONSENSE)),
            Rejection::Replacing
        );
        sleep(secs(300)).await;
        let calls = bench.calls();
        let carried = calls.iter().filter(|c| c.claims.is_some()).count();
        assert_eq!(carried, CLAIMS_TRIES as usize);
        assert!(calls.len() > carried + 1);
        // Such failures back off as ever: a limit on calls is not met with another call a second later.
        assert!(calls.len() < 30, "{}", calls.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_rejection_adds_no_claims_and_drops_no_newer_token() {
    let mut bench = Bench::new([]);
    bench.tasks.shutdown().await;
    let (mut renewer, mut state) = bench.by_hand();
    let old = renewer
        .slot
        .store(HeaderValue::from_static("x"), state.due + secs(60));
    assert_eq!(
        renewer.slot.reject(old, Some(NONSENSE)),
        Rejection::Replacing
    );
    let new = renewer
        .slot
        .store(HeaderValue::from_static("y"), state.due + secs(60));
    state.serial = Some(new);
    assert_eq!(
        renewer.slot.reject(old, Some(NONSENSE)),
        Rejection::Replacing
    );
    assert_eq!(renewer.slot.load(state.due).unwrap().serial, new);
    bench.rotate("a");
    renewer.attempt(&mut state).await;
    let sent: Vec<_> = bench.calls().into_iter().map(|c| c.claims).collect();
    assert_eq!(sent, [None]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_token_that_is_just_being_renewed_costs_no_second_exchange() {
    let bench = Bench::taking(secs(2), [life(100)]);
    bench.rotate("a");
    let token = bench.token().await;
    while bench.calls().len() < 2 {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bench.slot.reject(token.serial, None), Rejection::Replacing);
    // Said again, and later: the token has gone, or has been replaced.
    assert_eq!(bench.slot.reject(token.serial, None), Rejection::Replacing);
    let next = bench
        .slot
        .replaced(token.serial, Instant::now() + secs(5))
        .await
        .unwrap();
    assert_eq!(bench.slot.reject(token.serial, None), Rejection::Replacing);
    sleep(secs(30)).await;
    assert_eq!(bench.load().unwrap().serial, next.serial);
    assert_eq!(bench.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_way_to_the_same_token_is_tried_soon_and_the_token_stays_when_it_fails() {
    let bench = Bench::with_subject([life(3600)]);
    let token = bench.token().await;
    sleep(secs(60)).await;
    let broken = bench.change([]);
    *broken.0.always.lock().unwrap() = Box::new(|| refuse(500, "server_error", None, None));
    let changed = Instant::now();
    while changed.elapsed() < secs(3400) {
        assert_eq!(bench.load().expect("still there").serial, token.serial);
        assert!(bench.readiness.report().ready);
        sleep(Duration::from_millis(500)).await;
    }
    let tries = broken.0.calls.lock().unwrap().clone();
    assert!(tries.len() > 10);
    assert!(tries[0].at < secs(1), "{:?}", tries[0].at);
    assert_eq!(bench.calls().len(), 1, "the old way is not gone any more");
    // Backing off goes on as before, with the mend tried at once.
    let mended = bench.change([life(3600)]);
    sleep(secs(1)).await;
    assert_eq!(mended.0.calls.lock().unwrap().len(), 1);
    assert!(bench.load().unwrap().serial > token.serial);
    // A rejection still names the token that it is about.
    let serial = bench.load().unwrap().serial;
    bench.change([]);
    assert_eq!(bench.slot.reject(serial, None), Rejection::Replacing);
    let next = bench.slot.replaced(serial, Instant::now() + secs(5)).await;
    assert!(next.unwrap().serial > serial);
}

#[tokio::test(start_paused = true)]
async fn a_change_cuts_a_hanging_exchange_short_for_those_who_wait() {
    let bench = Bench::with_subject([]);
    bench.always(|| Answer::Hang);
    sleep(secs(3)).await;
    let asked = Instant::now();
    let slot = Arc::clone(&bench.slot);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { slot.wait(asked + secs(5)).await });
    sleep(Duration::from_millis(10)).await;
    bench.change([life(3600)]);
    waiting
        .join_next()
        .await
        .unwrap()
        .unwrap()
        .expect("a token");
    assert!(asked.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn changes_cause_no_storm_and_overrule_no_retry_after() {
    let bench = Bench::with_subject([]);
    let mut scripts = Vec::new();
    for _ in 0..600 {
        scripts.push(bench.change([]));
        sleep(Duration::from_millis(100)).await;
    }
    let calls = |scripts: &[Script]| -> usize {
        let of = |s: &Script| s.0.calls.lock().unwrap().len();
        scripts.iter().map(of).sum()
    };
    let count = calls(&scripts);
    assert!((30..=62).contains(&count), "{count} exchanges in 60 s");
    sleep(secs(5)).await;
    let throttled = bench.change([refuse(429, "temporarily_unavailable", None, Some(60))]);
    sleep(secs(2)).await;
    let next = bench.change([]);
    sleep(secs(50)).await;
    assert_eq!(calls(&[throttled, next.clone()]), 1);
    sleep(secs(30)).await;
    assert_eq!(calls(&[next]), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_renewer_is_gone_those_who_wait_are_told() {
    let mut bench = Bench::taking(secs(5), []);
    bench.rotate("a");
    let slot = Arc::clone(&bench.slot);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { slot.wait(Instant::now() + secs(60)).await });
    sleep(secs(1)).await;
    bench.tasks.shutdown().await;
    let refusal = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(&*refusal.reason, "credential_removed");
}

#[tokio::test(start_paused = true)]
async fn expiry_counts_from_when_the_request_was_sent() {
    let bench = Bench::taking(secs(9), [life(100)]);
    bench.rotate("a");
    bench.always(|| refuse(500, "server_error", None, None));
    let sent = Instant::now();
    sleep(secs(10)).await;
    assert!(bench.load().is_some());
    assert!(bench.slot.load(sent + secs(98)).is_some());
    assert!(bench.slot.load(sent + secs(100)).is_none());
    let expiry = bench.clock.unix_at(sent).as_secs_f64() + 99.0;
    assert!(
        bench.metrics().contains(&format!(
            r#"issued_token_expiry_timestamp_seconds{{credential="arm"}} {expiry}"#
        )),
        "{}",
        bench.metrics()
    );
}

#[test]
fn the_classes_named_in_scripts_are_what_they_are_meant_to_be() {
    let class = |answer| match answer {
        Answer::Refuse(says) => ExchangeError::refused(&says).class(),
        _ => Class::Transient,
    };
    assert_eq!(
        class(refuse(400, "unauthorized_client", Some(700_016), None)),
        Class::Permanent
    );
    assert_eq!(
        class(refuse(401, "invalid_client", Some(700_213), None)),
        Class::Propagation
    );
}

#[tokio::test(start_paused = true)]
async fn the_file_is_read_right_before_each_exchange() {
    let dir = TestDir::new();
    let path = dir.path().join("token");
    let readiness = Readiness::new();
    let metrics = TokenMetrics::register(&Registry::new()).unwrap();
    // Neither watched nor polled: whatever is seen of it is seen by the renewer.
    let file = SubjectFile::new(
        "pod".into(),
        path.clone(),
        Clock::anchored(START),
        readiness.register("subject token pod"),
        metrics.subject_token("pod"),
    );
    std::fs::write(&path, jwt(FAR, "a")).unwrap();
    let bench = Bench::build(
        Duration::from_millis(10),
        [],
        file.source(),
        watch::Sender::new(None),
    );
    bench.token().await;
    std::fs::write(&path, jwt(FAR, "b")).unwrap();
    sleep(secs(3000)).await;
    let sent: Vec<_> = bench.calls().into_iter().map(|c| c.assertion).collect();
    assert_eq!(sent, [jwt(FAR, "a"), jwt(FAR, "b")]);
}
