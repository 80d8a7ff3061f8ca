//! What users of other projects ran into, as tests of the renewer.

use super::*;

/// kedacore/keda#8152: AADSTS700213 comes and goes while a federated identity credential spreads. It ends nothing: a good token serves on, the
/// exchange is tried again within a minute, the cause is told all the while, and what works again is used.
#[tokio::test(start_paused = true)]
async fn a_transient_aadsts700213_costs_no_request_and_passes_by_itself() {
    let refused = || refuse(401, "invalid_client", Some(700_213), None);
    let bench = Bench::with_subject([life(3600), refused(), refused(), life(3600)]);
    assert_eq!(header(&bench.token().await), "Bearer t1");
    // A renewal is due at about 2700 s; two of them are refused.
    let mut told = false;
    while bench.calls().len() < 4 {
        sleep(secs(1)).await;
        assert!(bench.load().is_some(), "a request would have failed");
        let warning = bench.condition().warning;
        told |= warning.is_some_and(|w| w.reason.contains("aadsts_700213"));
        assert!(bench.condition().ready);
    }
    assert!(told);
    let calls = bench.calls();
    for pair in calls[1..].windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= secs(15) && pause <= secs(61), "{pause:?}");
    }
    sleep(secs(1)).await;
    assert_eq!(header(&bench.load().unwrap()), "Bearer t4");
    assert_eq!(bench.condition().warning, None);
}

/// Azure/azure-sdk-for-rust#1739: an assertion that is kept while the file rotates gets AADSTS700024 for ever. Each exchange reads the file anew; when
/// one is refused as stale all the same, what the file holds by then is sent at once, once.
#[tokio::test(start_paused = true)]
async fn a_stale_assertion_aadsts700024_is_replaced_by_what_the_file_holds_now() {
    let stale = || refuse(401, "invalid_client", Some(700_024), None);
    let bench = Bench::taking(secs(2), [stale()].into_iter().chain([life(3600)]));
    bench.rotate("old");
    sleep(secs(1)).await;
    // While the old one is under way the kubelet rotates.
    bench.rotate("new");
    sleep(secs(4)).await;
    let assertions: Vec<_> = bench.calls().into_iter().map(|c| c.assertion).collect();
    assert_eq!(assertions, [jwt(FAR, "old"), jwt(FAR, "new")]);
    assert!(bench.load().is_some());
    // And hours later it is the file's content of that time, not a kept one.
    bench.rotate("later");
    sleep(secs(3000)).await;
    assert_eq!(bench.calls().last().unwrap().assertion, jwt(FAR, "later"));
    assert!(bench.calls().len() >= 3);
}
