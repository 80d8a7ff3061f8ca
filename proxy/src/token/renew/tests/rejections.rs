//! Tokens that an upstream rejected, with and without claims.

use super::*;
use http::HeaderValue;

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
async fn a_rejected_token_is_none_while_its_successor_is_awaited() {
    let bench = Bench::with_subject([life(3600), Answer::Hang, life(3600)]);
    let first = bench.slot.wait(Instant::now() + secs(5)).await.unwrap();
    assert!(bench.condition().ready);
    assert_eq!(bench.slot.reject(first.serial, None), Rejection::Replacing);
    // The authority hangs; /readyz does not wait for it to time out.
    sleep(secs(2)).await;
    assert_eq!(bench.calls().len(), 2);
    assert!(bench.reason().unwrap().contains("rejected"));
    sleep(secs(60)).await;
    let condition = bench.condition();
    assert!(condition.ready && condition.warning.is_none());
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
