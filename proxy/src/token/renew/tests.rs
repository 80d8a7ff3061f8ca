//! Renewers against a scripted exchanger, on tokio's paused clock: no sockets, no files, no waiting.

use super::{state::CLAIMS_TRIES, *};
use crate::{
    metrics::token::TokenMetrics,
    token::{
        exchange::{
            IssuedToken, TokenType,
            error::{AuthoritySays, Class},
        },
        file::{SubjectFile, tests::TestDir},
        slot::{Injectable, Rejection},
        subject::tests::jwt,
    },
};
use async_trait::async_trait;
use prometheus::Registry;
use sidecar_runtime::readiness::{ConditionReport, Readiness};
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

mod asked_for;
mod changes;
mod failures;
mod rejections;
mod waiting;

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

#[async_trait]
impl Exchanger for Script {
    fn takes_claims(&self) -> bool {
        true
    }

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
                token: format!("t{number}").into(),
                token_type: TokenType::Bearer,
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
    changes: UnboundedSender<Change>,
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
            exchanger: Arc::new(script.clone()),
            injection: Some(Arc::default()),
            issued: watch::Sender::new(None),
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
        let change = Change::NewWay(NewWay {
            exchanger: Arc::new(script.clone()),
            subjects: vec![SubjectSource::fed("pod".into(), self.subject.subscribe())],
            exchange_timeout: secs(10),
        });
        assert!(self.changes.send(change).is_ok());
        script
    }

    /// Another renewer with the same script and a slot of its own, which nobody runs.
    fn by_hand(&self) -> (Renewer, State) {
        let metrics = TokenMetrics::register(&Registry::new()).unwrap();
        let renewer = Renewer {
            slot: Slot::new("by hand".into()),
            exchanger: Arc::new(self.script.clone()),
            injection: Some(Arc::default()),
            issued: watch::Sender::new(None),
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

    /// The credential as /readyz has it.
    fn condition(&self) -> ConditionReport {
        let conditions = self.readiness.report().conditions;
        conditions
            .into_iter()
            .find(|c| c.name == "credential arm")
            .unwrap()
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
