//! Exchanges that fail: how long the old token serves, when the next try comes, what is said meanwhile.

use super::*;

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
async fn while_the_old_token_serves_the_failing_renewal_is_named_and_dated() {
    let bench = Bench::with_subject([Answer::Token {
        lifetime: secs(3600),
        refresh_in: Some(secs(600)),
    }]);
    bench.always(|| refuse(400, "unauthorized_client", Some(700_016), None));
    sleep(secs(60)).await;
    assert_eq!(bench.condition().warning, None);
    sleep(secs(1740)).await;
    let condition = bench.condition();
    assert!(condition.ready);
    let expiry = condition.until.unwrap() - START;
    assert!(expiry > secs(3590) && expiry <= secs(3600), "{expiry:?}");
    let warning = condition.warning.unwrap();
    assert!(
        warning
            .reason
            .starts_with("renewal fails: unauthorized_client aadsts_700016: "),
        "{}",
        warning.reason
    );
    let since = warning.since - START;
    assert!(since >= secs(540) && since <= secs(661), "{since:?}");
    let shown = format!(
        r#"renewal_failing_since_timestamp_seconds{{credential="arm",error="aadsts_700016"}} {}"#,
        warning.since.as_secs()
    );
    assert!(
        bench.metrics().contains(&shown),
        "{shown}\n{}",
        bench.metrics()
    );
    // Another reason, the same since; without a subject token, too.
    bench.subject.send_replace(None);
    sleep(secs(400)).await;
    let other = bench.condition().warning.unwrap();
    assert!(
        other.reason.contains("subject_token_missing"),
        "{}",
        other.reason
    );
    assert_eq!(other.since, warning.since);
    // The next token ends it.
    bench.always(|| life(3600));
    bench.rotate("b");
    sleep(secs(120)).await;
    assert_eq!(bench.condition().warning, None);
    assert!(!bench.metrics().contains("renewal_failing"));
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
