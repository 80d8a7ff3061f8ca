//! Those who wait for a token: what wakes the renewer, how long they wait, how many exchanges they cause.

use super::*;

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
