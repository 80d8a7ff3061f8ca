//! Lives, limits and secrecy of handles, with the clock paused; and random sequences of what can happen to them against a model.

use super::*;
use crate::token::caller::token::tests::caller;
use proptest::prelude::*;
use sidecar_runtime::clock::Clock;
use std::collections::HashSet;
use tokio::time::advance;

const GRACE: Duration = Duration::from_secs(5);

fn table(max: usize) -> Arc<Handles> {
    Handles::new(max, GRACE, IntGauge::new("handles", "h").unwrap())
}

fn clock() -> Clock {
    Clock::anchored(Duration::from_secs(1000))
}

fn text(handle: &MintedHandle) -> Vec<u8> {
    handle.value("").unwrap().as_bytes().to_vec()
}

fn step_up(error: &str) -> StepUp {
    StepUp {
        status: 401,
        error: error.into(),
        scope: None,
        claims: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_stands_for_its_token_while_the_request_lasts_and_a_grace() {
    let handles = table(10);
    let token = caller(9000, "a", &clock());
    let minted = handles.mint(Arc::clone(&token)).unwrap();
    let handle = text(&minted);
    advance(Duration::from_secs(3600)).await;
    assert!(Arc::ptr_eq(&handles.resolve(&handle).unwrap(), &token));
    drop(minted);
    advance(GRACE - Duration::from_millis(1)).await;
    assert!(handles.resolve(&handle).is_ok());
    advance(Duration::from_millis(1)).await;
    assert_eq!(handles.resolve(&handle).unwrap_err(), HandleError::Lapsed);
    handles.sweep(Instant::now());
    assert_eq!(handles.resolve(&handle).unwrap_err(), HandleError::Unknown);
    assert!(handles.is_empty());
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "the table keeps nothing of a token that nobody can ask for any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handle_never_outlives_its_token() {
    let handles = table(10);
    let clock = clock();
    // Within the request's life …
    let minted = handles.mint(caller(1010, "a", &clock)).unwrap();
    let lasting = text(&minted);
    // … and within the grace.
    let ended = handles.mint(caller(1010, "b", &clock)).unwrap();
    let graced = text(&ended);
    advance(Duration::from_secs(8)).await;
    drop(ended);
    advance(Duration::from_millis(1999)).await;
    assert!(handles.resolve(&lasting).is_ok() && handles.resolve(&graced).is_ok());
    advance(Duration::from_millis(1)).await;
    for handle in [&lasting, &graced] {
        assert_eq!(handles.resolve(handle).unwrap_err(), HandleError::Lapsed);
    }
    drop(minted);
    handles.sweep(Instant::now());
    assert!(handles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_table_is_bounded_and_frees_what_has_lapsed_when_it_is_full() {
    let handles = table(2);
    let token = caller(9000, "a", &clock());
    let first = handles.mint(Arc::clone(&token)).unwrap();
    let second = handles.mint(Arc::clone(&token)).unwrap();
    assert!(handles.mint(Arc::clone(&token)).is_none());
    drop(first);
    advance(GRACE).await;
    let third = handles.mint(Arc::clone(&token)).unwrap();
    assert_eq!(handles.gauge.get(), 2);
    assert!(handles.mint(Arc::clone(&token)).is_none());
    drop((second, third));
    advance(GRACE).await;
    handles.sweep(Instant::now());
    assert_eq!((handles.len(), handles.gauge.get()), (0, 0));
}

/// One caller with many short requests must not shut out the others for as long as a grace.
#[tokio::test(start_paused = true)]
async fn in_a_full_table_requests_come_before_graces() {
    let handles = table(3);
    let clock = clock();
    let lasting = handles.mint(caller(9000, "a", &clock)).unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let minted = handles.mint(caller(9000, "flood", &clock)).unwrap();
        ended.push(text(&minted));
        drop(minted);
        advance(Duration::from_secs(1)).await;
    }
    let another = handles.mint(caller(9000, "b", &clock)).unwrap();
    assert_eq!(
        handles.resolve(&ended[0]).unwrap_err(),
        HandleError::Unknown,
        "the next to lapse"
    );
    assert!(handles.resolve(&ended[1]).is_ok());
    let one_more = handles.mint(caller(9000, "c", &clock)).unwrap();
    assert!(
        handles.mint(caller(9000, "d", &clock)).is_none(),
        "no request that lasts loses its handle"
    );
    for minted in [&lasting, &another, &one_more] {
        assert!(handles.resolve(&text(minted)).is_ok());
    }
    assert_eq!((handles.len(), handles.gauge.get()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_a_handle_ends_with_its_request() {
    let handles = Handles::new(2, Duration::ZERO, IntGauge::new("handles", "h").unwrap());
    let minted = handles.mint(caller(9000, "a", &clock())).unwrap();
    let handle = text(&minted);
    drop(minted);
    assert_eq!(handles.resolve(&handle).unwrap_err(), HandleError::Unknown);
    assert!(handles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_handle_is_refused() {
    let handles = table(10);
    let minted = handles.mint(caller(9000, "a", &clock())).unwrap();
    let good = text(&minted);
    assert_eq!(good.len(), Handles::CHARS);
    let mut flipped = good.clone();
    // The last bits of a handle are compared too, not only those that it is found by.
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    assert_eq!(handles.resolve(&flipped).unwrap_err(), HandleError::Unknown);
    let padded = [&good[..], b"="].concat();
    for bad in [
        &b""[..],
        &good[..42],
        &padded,
        b"not a handle, though as long as one is: !!!",
        &[0xff; Handles::CHARS],
    ] {
        assert_eq!(
            handles.resolve(bad).unwrap_err(),
            HandleError::Malformed,
            "{bad:?}"
        );
    }
    let another = table(10);
    assert_eq!(another.resolve(&good).unwrap_err(), HandleError::Unknown);
    assert!(handles.resolve(&good).is_ok());
}

#[tokio::test(start_paused = true)]
async fn handles_of_one_token_differ_and_none_is_ever_shown() {
    let handles = table(1000);
    let token = caller(9000, "a", &clock());
    let minted: Vec<_> = (0..1000)
        .map(|_| handles.mint(Arc::clone(&token)).unwrap())
        .collect();
    let all: HashSet<Vec<u8>> = minted.iter().map(text).collect();
    assert_eq!(all.len(), 1000);
    let one = String::from_utf8(text(&minted[0])).unwrap();
    let value = minted[0].value("Bearer ").unwrap();
    assert_eq!(value.as_bytes(), format!("Bearer {one}").as_bytes());
    let shown = format!("{:?} {:?} {value:?}", minted[0], handles);
    assert!(value.is_sensitive() && !shown.contains(&one), "{shown}");
    assert!(minted[0].value("a\nb").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_step_up_is_told_to_its_own_request_alone() {
    let handles = table(10);
    let clock = clock();
    let (a, b) = (
        handles.mint(caller(9000, "a", &clock)).unwrap(),
        handles.mint(caller(9000, "b", &clock)).unwrap(),
    );
    let reference = handles.remember(&text(&a), step_up("consent")).unwrap();
    let mark = reference.as_str().as_bytes();
    assert_eq!(a.step_up(mark).unwrap().error, "consent");
    assert!(b.step_up(mark).is_none(), "another request's");
    for _ in 0..2 * STEP_UPS {
        let again = handles.remember(&text(&a), step_up("consent")).unwrap();
        assert_eq!(again, reference, "what is the same is kept once");
    }
    assert!(a.step_up(b"").is_none() && a.step_up(&mark[1..]).is_none());
    for i in 0..STEP_UPS {
        handles
            .remember(&text(&a), step_up(&i.to_string()))
            .unwrap();
    }
    assert!(
        a.step_up(mark).is_none(),
        "bounded: the oldest is forgotten"
    );
    assert_eq!(
        handles
            .remember(&[b'A'; Handles::CHARS], step_up("x"))
            .unwrap_err(),
        HandleError::Unknown
    );
}

#[tokio::test(start_paused = true)]
async fn other_limits_count_from_then_on() {
    let handles = table(1);
    let clock = clock();
    let before = handles.mint(caller(9000, "a", &clock)).unwrap();
    let long = text(&before);
    drop(before);
    handles.configure(3, Duration::from_secs(1));
    let after = handles.mint(caller(9000, "b", &clock)).unwrap();
    let short = text(&after);
    drop(after);
    advance(Duration::from_secs(1)).await;
    handles.sweep(Instant::now());
    assert_eq!(handles.resolve(&short).unwrap_err(), HandleError::Unknown);
    assert!(handles.resolve(&long).is_ok());
}

#[test]
fn many_threads_mint_and_let_go_and_nothing_is_left() {
    let handles = Handles::new(64, Duration::ZERO, IntGauge::new("handles", "h").unwrap());
    let token = caller(9000, "a", &clock());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let minted = handles.mint(Arc::clone(&token)).unwrap();
                    assert!(handles.resolve(&text(&minted)).is_ok());
                }
            });
        }
    });
    assert_eq!((handles.len(), handles.gauge.get()), (0, 0));
    assert_eq!(Arc::strong_count(&token), 1);
}

/// What can happen to a table.
#[derive(Debug, Clone)]
enum Step {
    /// A request of the caller with that number.
    Mint(u8),
    /// The request with that number (modulo those there are) ends.
    End(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// A sweep.
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_u8).prop_map(Step::Mint),
        2 => any::<usize>().prop_map(Step::End),
        2 => (0..8000_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A handle as the model knows it.
struct Known {
    caller: u8,
    handle: Vec<u8>,
    live: Option<MintedHandle>,
    /// When its request ended.
    ended: Option<Instant>,
}

proptest! {
    /// Whatever happens, in whatever order: a handle gives its own caller's token, exactly as long as it should; and the bound holds.
    #[test]
    fn every_handle_gives_its_own_callers_token_exactly_as_long_as_it_should(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            const MAX: usize = 6;
            let handles = table(MAX);
            let clock = clock();
            // Their tokens end at different times, some within the run.
            let tokens: Vec<_> = (0..4_u64).map(|i| caller(1012 + i * 20, &i.to_string(), &clock)).collect();
            let mut known: Vec<Known> = Vec::new();
            for step in steps {
                let now = Instant::now();
                match step {
                    Step::Mint(caller) => {
                        let lapsed = |k: &&Known| k.ended.is_some_and(|at| now >= (at + GRACE).min(tokens[usize::from(k.caller)].expires_at()));
                        let held = known.len() - known.iter().filter(lapsed).count();
                        let lasting = known.iter().filter(|k| k.live.is_some()).count();
                        match handles.mint(Arc::clone(&tokens[usize::from(caller)])) {
                            Some(minted) => {
                                assert!(lasting < MAX, "more than the bound");
                                if held == MAX {
                                    // The next to lapse made room; of several, any.
                                    let lapses = |k: &Known| k.ended.map(|at| (at + GRACE).min(tokens[usize::from(k.caller)].expires_at())).filter(|at| now < *at);
                                    let next = known.iter().filter_map(lapses).min();
                                    let gone = known.iter().position(|k| lapses(k).is_some() && handles.resolve(&k.handle).is_err()).unwrap();
                                    assert_eq!(lapses(&known[gone]), next);
                                    known.remove(gone);
                                }
                                known.push(Known { caller, handle: text(&minted), live: Some(minted), ended: None });
                            }
                            None => assert_eq!(lasting, MAX, "refused while one is in its grace"),
                        }
                    }
                    Step::End(which) if !known.is_empty() => {
                        let count = known.len();
                        let one = &mut known[which % count];
                        if one.live.take().is_some() {
                            one.ended = Some(now);
                        }
                    }
                    Step::End(_) => {}
                    Step::Pass(millis) => advance(Duration::from_millis(millis)).await,
                    Step::Sweep => handles.sweep(now),
                }
                let now = Instant::now();
                assert!(handles.len() <= MAX);
                for one in &known {
                    let token = &tokens[usize::from(one.caller)];
                    let lives = now < token.expires_at() && one.ended.is_none_or(|at| now < at + GRACE);
                    match handles.resolve(&one.handle) {
                        Ok(found) => assert!(lives && Arc::ptr_eq(&found, token)),
                        Err(_) => assert!(!lives),
                    }
                }
            }
        });
    }
}
