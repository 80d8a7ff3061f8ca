//! A running renewer that is given another way to get its token.

use super::*;

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
