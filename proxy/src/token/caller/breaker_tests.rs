//! The breaker's rules, by hand and for sequences that nobody wrote.

use super::*;
use proptest::prelude::*;

/// Who failed at nothing.
const ANYBODY: Who = 1 << 40;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn fail_for(breaker: &mut Breaker, callers: std::ops::Range<u64>, now: Instant) {
    for who in callers {
        if let Ok(pass) = breaker.admit(who, now) {
            breaker.tell(pass, Told::Fails, who, now, 0);
        }
    }
}

#[test]
fn it_opens_when_different_callers_fail_in_a_row_and_one_asks_first_after_the_pause() {
    let now = Instant::now();
    let mut b = Breaker::default();
    fail_for(&mut b, 0..4, now);
    assert!(b.admit(ANYBODY, now).is_ok());
    fail_for(&mut b, 4..5, now);
    assert_eq!(b.admit(ANYBODY, now), Err(secs(1)));
    assert_eq!(b.shut(now), Some(secs(1)));
    let later = now + secs(1);
    let probe = b.admit(ANYBODY, later).unwrap();
    assert_eq!(probe, Pass::Probe(1));
    assert!(b.admit(ANYBODY, later).is_err(), "one asks, not all");
    b.tell(probe, Told::Fails, 9, later, 0);
    // Twice as long.
    assert_eq!(b.admit(ANYBODY, later), Err(secs(2)));
    let later = later + secs(2);
    let probe = b.admit(ANYBODY, later).unwrap();
    b.tell(probe, Told::Works, 9, later, 0);
    assert_eq!(b.admit(ANYBODY, later), Ok(Pass::Free));
    assert_eq!(b.shut(later), None);
}

#[test]
fn one_caller_cannot_open_it_and_a_success_starts_anew() {
    let now = Instant::now();
    let mut b = Breaker::default();
    for _ in 0..100 {
        fail_for(&mut b, 7..8, now);
    }
    assert_eq!(b.admit(ANYBODY, now), Ok(Pass::Free));
    fail_for(&mut b, 0..3, now);
    b.tell(Pass::Free, Told::Works, 1, now, 0);
    fail_for(&mut b, 0..4, now);
    assert_eq!(b.admit(ANYBODY, now), Ok(Pass::Free));
}

#[test]
fn retry_after_opens_it_at_once_is_obeyed_and_capped() {
    let now = Instant::now();
    for (asked, least, most) in [(20, 20, 22), (86_400, 300, 330), (0, 1, 2)] {
        let mut b = Breaker::default();
        b.tell(Pass::Free, Told::Throttles(Some(secs(asked))), 1, now, 999);
        let wait = b.admit(ANYBODY, now).unwrap_err();
        assert!(
            (secs(least)..=secs(most)).contains(&wait),
            "{asked}: {wait:?}"
        );
    }
    // Its word holds, whatever else comes in: a late success, a shorter word.
    let mut b = Breaker::default();
    b.tell(Pass::Free, Told::Throttles(Some(secs(60))), 1, now, 0);
    b.tell(Pass::Free, Told::Works, 2, now, 0);
    b.tell(Pass::Free, Told::Throttles(Some(secs(2))), 3, now, 0);
    assert_eq!(b.admit(ANYBODY, now + secs(59)), Err(secs(1)));
}

#[test]
fn a_probe_that_was_not_sent_lets_the_next_one_through() {
    let now = Instant::now();
    let mut b = Breaker::default();
    fail_for(&mut b, 0..5, now);
    let later = now + secs(1);
    let probe = b.admit(ANYBODY, later).unwrap();
    b.tell(probe, Told::Nothing, 1, later, 0);
    let next = b.admit(ANYBODY, later).unwrap();
    assert_ne!(probe, next);
    // The old one has nothing to say any more.
    b.tell(probe, Told::Works, 1, later, 0);
    assert!(b.admit(ANYBODY, later).is_err());
}

#[test]
fn whose_probe_failed_lets_others_go_first() {
    let now = Instant::now();
    let mut b = Breaker::default();
    fail_for(&mut b, 0..5, now);
    let mut later = now;
    for _ in 0..20 {
        // One whose own requests make it fail asks as often as they can.
        later += b.shut(later).unwrap();
        if let Ok(probe) = b.admit(7, later) {
            b.tell(probe, Told::Fails, 7, later, 0);
            continue;
        }
        let probe = b.admit(8, later).unwrap();
        b.tell(probe, Told::Works, 8, later, 0);
        assert_eq!(b.admit(7, later), Ok(Pass::Free));
        return;
    }
    panic!("nobody else came through");
}

#[test]
fn who_is_alone_with_an_authority_that_fails_asks_again_all_the_same() {
    let now = Instant::now();
    let mut b = Breaker::default();
    fail_for(&mut b, 0..5, now);
    let probe = b.admit(7, now + secs(1)).unwrap();
    b.tell(probe, Told::Fails, 7, now + secs(1), 0);
    assert_eq!(b.admit(7, now + secs(3)), Err(secs(1)));
    assert!(b.admit(7, now + secs(4)).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Admit,
    Tell(usize, Told, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let told = prop_oneof![
        Just(Told::Works),
        Just(Told::Fails),
        Just(Told::Fails),
        Just(Told::Nothing),
        proptest::option::of(0_u64..100_000)
            .prop_map(|s| Told::Throttles(s.map(Duration::from_secs))),
    ];
    prop_oneof![
        (0_u64..40_000).prop_map(Step::Wait),
        Just(Step::Admit),
        (0_usize..4, told, 0_u64..8).prop_map(|(which, told, who)| Step::Tell(which, told, who)),
    ]
}

proptest! {
    #[test]
    fn it_obeys_never_asks_twice_at_once_and_never_stays_shut(steps in proptest::collection::vec(step(), 1..200), seed: u64) {
        let mut now = Instant::now();
        let mut b = Breaker::default();
        let mut out: Vec<Pass> = Vec::new();
        let mut obey: Option<Instant> = None;
        for s in steps {
            match s {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Admit => match b.admit(ANYBODY, now) {
                    Ok(pass) => {
                        prop_assert!(obey.is_none_or(|until| now >= until), "asked before Retry-After was over");
                        out.push(pass);
                    }
                    Err(wait) => {
                        prop_assert!(!wait.is_zero());
                        prop_assert!(wait <= secs(330), "{:?}", wait);
                        prop_assert_eq!(b.shut(now).is_some(), true);
                    }
                },
                Step::Tell(which, told, who) => if !out.is_empty() {
                    let pass = out.remove(which % out.len());
                    if let Told::Throttles(Some(asked)) = told {
                        let until = now + asked.min(RETRY_AFTER_CAP);
                        obey = Some(obey.map_or(until, |o| o.max(until)));
                    }
                    b.tell(pass, told, who, now, seed);
                },
            }
        }
        // Whatever happened: when everybody has told, and the longest pause is over, somebody may ask.
        for pass in out {
            b.tell(pass, Told::Nothing, 0, now, seed);
        }
        prop_assert!(b.admit(ANYBODY, now + secs(331)).is_ok());
    }

    #[test]
    fn while_it_is_open_one_asks_at_a_time(askers in 2_usize..50) {
        let now = Instant::now();
        let mut b = Breaker::default();
        fail_for(&mut b, 0..5, now);
        let later = now + secs(2);
        let admitted = (0..askers).filter(|_| b.admit(ANYBODY, later).is_ok()).count();
        prop_assert_eq!(admitted, 1);
    }
}
