//! Authorities that fail, throttle, lie, hang; each is a clear error, never an empty or wrong token.

use crate::lab::{Lab, assert_passes, assert_unavailable, start};
use harness::{
    authority::{Endpoint, Fault, Options},
    process::Metrics,
};
use serde_json::json;
use std::time::Duration;

fn errors(metrics: &Metrics, code: &str) -> f64 {
    metrics
        .value("token_sidecar_exchanges_total", &[("error", code)])
        .unwrap_or(0.0)
}

#[tokio::test]
async fn passing_faults_are_retried_until_they_have_passed() {
    for (code, fault) in [
        ("http_5xx", Fault::status(500)),
        ("http_5xx", Fault::html(502)),
        (
            "temporarily_unavailable",
            Fault::OAuth(503, "temporarily_unavailable"),
        ),
        ("aadsts_90033", Fault::Aadsts(90033)),
    ] {
        let lab = Lab::new().await;
        lab.authority.fail_once(Endpoint::Entra, fault.clone());
        lab.authority.fail_once(Endpoint::Entra, fault.clone());
        let sidecar = lab.ready_sidecar().await;
        assert_eq!(lab.authority.requests().len(), 3, "{fault:?}");
        assert_eq!(
            errors(&sidecar.metrics().await.unwrap(), code),
            2.0,
            "{fault:?}"
        );
        assert_passes(&sidecar).await;
    }
}

#[tokio::test]
async fn a_reset_connection_is_retried() {
    let lab = Lab::new().await;
    lab.authority.fail_once(Endpoint::Entra, Fault::Reset);
    let sidecar = lab.ready_sidecar().await;
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 1);
}

#[tokio::test]
async fn refusals_and_odd_replies_give_no_token_and_are_tried_again_when_the_file_rotates() {
    // Header-unsafe: what would split the workload's request.
    let unsafe_token = "abc\r\nX-Injected: yes";
    for fault in [
        Fault::Aadsts(700_016),
        Fault::Aadsts(7_000_215),
        Fault::OAuth(400, "invalid_grant"),
        Fault::without("access_token"),
        Fault::with("access_token", json!("")),
        Fault::with("access_token", json!(unsafe_token)),
        Fault::with("access_token", json!(17)),
        Fault::with("token_type", json!("N_A")),
        Fault::with("token_type", json!("DPoP")),
        Fault::without("token_type"),
        Fault::with("expires_in", json!(0)),
        Fault::with("expires_in", json!(-5)),
        Fault::with("expires_in", json!("soon")),
        Fault::not_json(),
        Fault::html(200),
        Fault::HugeBody(10_000_000),
        Fault::redirect("https://localhost:1/elsewhere"),
        Fault::Hang,
        Fault::SlowBody,
    ] {
        let lab = Lab::new().await;
        lab.authority.fail_always(Endpoint::Entra, fault.clone());
        // What never ends is to be given up soon, but the good exchange behind it needs its time.
        let config = lab
            .config()
            .replace("backend: { entra", "backend: { exchangeTimeout: 3s, entra");
        let sidecar = start(&lab.aks().config(config)).await;
        sidecar
            .metric(&format!("{fault:?} to be counted"), |metrics| {
                metrics
                    .value(
                        "token_sidecar_exchanges_total",
                        &[("credential", "backend")],
                    )
                    .is_some_and(|count| count >= 1.0)
            })
            .await
            .unwrap();
        let metrics = sidecar.metrics().await.unwrap();
        assert_eq!(
            metrics
                .value("token_sidecar_exchanges_total", &[("result", "success")])
                .unwrap_or(0.0),
            0.0,
            "{fault:?}"
        );
        assert_eq!(
            sidecar.admin_get("/readyz").await.unwrap().status,
            503,
            "{fault:?}"
        );
        assert_unavailable(&sidecar).await;
        assert!(lab.upstream.requests().is_empty(), "{fault:?}");
        assert!(
            !sidecar.process.output().contains("X-Injected"),
            "{fault:?}"
        );

        lab.authority.heal(Endpoint::Entra);
        lab.rotate();
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
    }
}

#[tokio::test]
async fn what_the_specifications_leave_open_is_accepted() {
    for (what, fault) in [
        ("lower case", Fault::with("token_type", json!("bearer"))),
        ("a string", Fault::with("expires_in", json!("3600"))),
        ("a fraction", Fault::with("expires_in", json!(3600.5))),
        ("no life", Fault::without("expires_in")),
        (
            "more than is known",
            Fault::with("new_field", json!({"a": [1]})),
        ),
    ] {
        let lab = Lab::new().await;
        lab.authority.fail_once(Endpoint::Entra, fault);
        let sidecar = lab.ready_sidecar().await;
        assert_passes(&sidecar).await;
        assert_eq!(lab.authority.requests().len(), 1, "{what}");
    }
    let lab = Lab::new().await;
    lab.authority
        .fail_once(Endpoint::Entra, Fault::with("refresh_in", json!("2")));
    let _sidecar = lab.ready_sidecar().await;
    lab.authority.issued().wait_for(2).await.unwrap();
}

#[tokio::test]
async fn retry_after_in_seconds_and_as_a_date_is_obeyed() {
    // Longer than what it would wait for by itself after a first refusal.
    const LONG: Duration = Duration::from_secs(12);
    let (by_seconds, by_date) = (Lab::new().await, Lab::new().await);
    by_seconds.authority.fail_once(
        Endpoint::Entra,
        Fault::throttled(&LONG.as_secs().to_string()),
    );
    // Whole seconds, as an HTTP-date has them.
    let until = Duration::from_secs((harness::keys::unix_now() + LONG).as_secs() + 1);
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + until);
    by_date
        .authority
        .fail_once(Endpoint::Entra, Fault::throttled(&date));
    let sidecars = [by_seconds.sidecar().await, by_date.sidecar().await];
    for sidecar in &sidecars {
        sidecar.ready().await.unwrap();
        assert_passes(sidecar).await;
    }

    let requests = by_seconds.authority.requests().all();
    assert_eq!(requests.len(), 2);
    let gap = requests[1].at - requests[0].at;
    assert!(gap >= LONG, "asked again after {gap:?}");
    let requests = by_date.authority.requests().all();
    assert_eq!(requests.len(), 2);
    let second = sidecar_runtime::clock::Clock::system().unix_at(requests[1].at);
    assert!(
        second >= until,
        "asked again {:?} before {date}",
        until - second
    );
}

#[tokio::test]
async fn a_long_retry_after_is_capped_and_reported() {
    let lab = Lab::new().await;
    lab.authority
        .fail_always(Endpoint::Entra, Fault::throttled("3600"));
    let sidecar = lab.sidecar().await;
    let metrics = sidecar
        .metric("the Retry-After to be reported", |metrics| {
            metrics
                .value(
                    "token_sidecar_exchange_retry_after_seconds",
                    &[("credential", "default")],
                )
                .is_some_and(|seconds| seconds > 0.0)
        })
        .await
        .unwrap();
    let seconds = metrics
        .value("token_sidecar_exchange_retry_after_seconds", &[])
        .unwrap();
    assert_eq!(seconds, 3600.0, "what the authority asked for");
    assert_unavailable(&sidecar).await;
    let answer = sidecar.client().get("/users/1").await.unwrap();
    let retry_after: u64 = answer.header("retry-after").parse().unwrap();
    // Five minutes, and some jitter on top: far from the hour that was asked for.
    assert!(
        (30..=360).contains(&retry_after),
        "the workload is told the truth: {retry_after}"
    );
    assert_eq!(
        lab.authority.requests().len(),
        1,
        "requests of the workload do not undercut it"
    );
}

#[tokio::test]
async fn a_federated_credential_that_is_not_known_yet_is_waited_for() {
    let lab = Lab::new().await;
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Aadsts(700_213));
    let sidecar = lab.sidecar().await;
    let answer = sidecar.pending("aadsts_700213").await.unwrap();
    assert!(
        answer.text().contains("system:serviceaccount:"),
        "what to do is said: {}",
        answer.text()
    );
    assert_unavailable(&sidecar).await;
    let retry_after: u64 = sidecar
        .client()
        .get("/users/1")
        .await
        .unwrap()
        .header("retry-after")
        .parse()
        .unwrap();
    assert!(
        (1..=60).contains(&retry_after),
        "retried within a minute: {retry_after}"
    );
    lab.rotate();
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    assert_eq!(
        errors(&sidecar.metrics().await.unwrap(), "aadsts_700213"),
        1.0
    );
}

#[tokio::test]
async fn a_hung_authority_delays_no_other_credential() {
    let lab = Lab::with(Options {
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    lab.authority.fail_always(Endpoint::Entra, Fault::Hang);
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  hung: {{ exchangeTimeout: 120s, entraClientAssertion: {{ scope: api://backend/.default }} }}\n  \
         orders: {{ tokenExchange: {{ tokenEndpoint: '{}', audience: [api://backend] }} }}\n\
         routes:\n  - {{ name: hung, match: {{ pathPrefix: /hung }}, upstream: '{1}', credential: hung }}\n  \
         - {{ name: orders, upstream: '{1}', credential: orders }}\n",
        lab.authority.token_endpoint(),
        lab.upstream.url()
    );
    let sidecar = start(&lab.aks().config(config)).await;
    lab.authority.issued().wait_for(1).await.unwrap();
    harness::wait::eventually("the healthy route to pass", || async {
        (sidecar.client().get("/users/123").await.ok()?.status == 200).then_some(())
    })
    .await
    .unwrap();
    let unavailable = sidecar.client().get("/hung").await.unwrap();
    assert_eq!(unavailable.status, 503);
    // Renewals of the healthy one go on.
    lab.authority.issued().wait_for(3).await.unwrap();
    let text = sidecar.pending("hung").await.unwrap().text();
    assert!(
        text.lines()
            .any(|line| line.contains("orders") && line.starts_with("[+]")),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.contains("hung") && line.starts_with("[-]")),
        "{text}"
    );
}

#[tokio::test]
async fn an_assertion_out_of_its_time_is_read_again_and_sent_once_more() {
    let lab = Lab::new().await;
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Aadsts(700_024));
    let sidecar = lab.ready_sidecar().await;
    assert_eq!(lab.authority.requests().len(), 2);
    assert_eq!(
        errors(&sidecar.metrics().await.unwrap(), "aadsts_700024"),
        1.0
    );
    assert!(
        !sidecar.process.output().contains("next_try"),
        "no waiting in between: {}",
        sidecar.process.output()
    );
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn an_issuer_that_rolls_its_key_is_followed() {
    let lab = Lab::with(Options {
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let lives = |seconds| {
        lab.authority
            .configure(|options| options.access_token_lifetime = Duration::from_secs(seconds));
    };
    let sidecar = lab.ready_sidecar().await;
    lab.authority.issuer().roll().unwrap();
    let newest = lab.rotate();
    lab.authority
        .issued()
        .find("a token for the new key's assertion", |issued| {
            issued.subject_token == newest
        })
        .await
        .unwrap();
    assert_passes(&sidecar).await;

    // A key that the authority does not know (yet): said by its code once the last token has expired, and over when a good token comes.
    lives(2);
    lab.authority
        .issued()
        .find("a token that does not last", |issued| {
            issued.lifetime.as_secs() == 2
        })
        .await
        .unwrap();
    lab.authority.issuer().roll_unpublished().unwrap();
    lab.rotate();
    sidecar.pending("aadsts_700027").await.unwrap();
    lives(3600);
    lab.authority.issuer().roll().unwrap();
    lab.rotate();
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}
