//! Renewal: before expiry, when told to, shared by all who wait; and what happens when it fails.

use crate::lab::{Lab, assert_passes, assert_unavailable, start};
use harness::{
    authority::{Endpoint, Fault, Gate, Options},
    body,
    client::Client,
    wait::{eventually, until},
};
use http::Request;
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test]
async fn tokens_are_renewed_before_they_expire_and_no_request_notices() {
    // Lives of which the last quarter, in which the next token has to come, is long for a busy machine, too.
    let lab = Lab::with(Options {
        access_token_lifetime: Duration::from_secs(12),
        ..Options::default()
    })
    .await;
    let sidecar = lab.ready_sidecar().await;
    eventually("three tokens", || async {
        assert_passes(&sidecar).await;
        assert_eq!(sidecar.admin_get("/readyz").await.unwrap().status, 200);
        (lab.authority.issued().len() >= 3).then_some(())
    })
    .await
    .unwrap();
    let issued = lab.authority.issued().all();
    for pair in issued.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(
            gap < pair[0].lifetime,
            "renewed {gap:?} after a token that lives {:?}",
            pair[0].lifetime
        );
    }
    assert!(
        lab.upstream
            .requests()
            .all()
            .iter()
            .all(|request| request.verified == Some(Ok(())))
    );
    // The authority knows of the last one before the sidecar does.
    let metrics = sidecar
        .metric("three exchanges to be counted", |metrics| {
            metrics
                .value(
                    "token_sidecar_exchanges_total",
                    &[("credential", "default"), ("result", "success")],
                )
                .is_some_and(|count| count >= 3.0)
        })
        .await
        .unwrap();
    assert_eq!(
        metrics
            .value("token_sidecar_token_unavailable_total", &[])
            .unwrap_or(0.0),
        0.0
    );
}

#[tokio::test]
async fn refresh_in_is_obeyed() {
    let lab = Lab::with(Options {
        refresh_in: Some(Duration::from_secs(2)),
        ..Options::default()
    })
    .await;
    let _sidecar = lab.ready_sidecar().await;
    // Without it, the next exchange of a token that lives an hour would come after three quarters of it.
    lab.authority.issued().wait_for(3).await.unwrap();
    lab.authority.configure(|options| options.refresh_in = None);
}

#[tokio::test]
async fn a_failing_renewal_leaves_the_old_token_in_service_until_it_expires() {
    // Renewed early, so that much is left of its life when that fails.
    let lab = Lab::with(Options {
        access_token_lifetime: Duration::from_secs(12),
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let sidecar = lab.ready_sidecar().await;
    lab.authority
        .fail_always(Endpoint::Entra, Fault::status(503));
    lab.authority.refusals().wait_for(1).await.unwrap();
    assert_passes(&sidecar).await;
    // A token that is still good is good; but that it is the last one is said, in text and in JSON, with the reason and the times.
    let text = eventually("/readyz to name the failing renewal", || async {
        let answer = sidecar.admin_get("/readyz").await.ok()?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        text.contains("since").then_some(text)
    })
    .await
    .unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with("[+] credential default ready until 20"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("Z; since 20")
            && line.contains("Z: renewal fails: ")
            && line.contains("http_5xx"),
        "{line}"
    );
    let request = Request::get("/readyz")
        .header("accept", "application/json")
        .body(body::empty())
        .unwrap();
    let report = Client::new(sidecar.admin()).send(request).await.unwrap();
    let report = report.json();
    assert_eq!(report["ready"], true, "{report}");
    let condition = &report["conditions"][0];
    assert_eq!(condition["name"], "credential default");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    assert!(
        text(&condition["warning"]["reason"]).starts_with("renewal fails: "),
        "{report}"
    );
    assert!(
        text(&condition["warning"]["since"]) < text(&condition["until"]),
        "{report}"
    );
    let failing = "token_sidecar_renewal_failing_since_timestamp_seconds";
    let metrics = sidecar.metrics().await.unwrap();
    let of_default = [("credential", "default")];
    let since = metrics.value(failing, &of_default).unwrap();
    let expiry = "token_sidecar_issued_token_expiry_timestamp_seconds";
    assert!(since < metrics.value(expiry, &of_default).unwrap());

    // It expires: refused at once, and not passed on without its credential.
    sidecar.pending("default").await.unwrap();
    let seen = lab.upstream.requests().len();
    assert_unavailable(&sidecar).await;
    assert_eq!(
        lab.upstream.requests().len(),
        seen,
        "nothing may leave without its credential"
    );
    let metrics = sidecar.metrics().await.unwrap();
    assert!(
        metrics
            .value(
                "token_sidecar_token_unavailable_total",
                &[("credential", "default")]
            )
            .unwrap()
            >= 1.0
    );

    // The lives are long again, so that a slow machine does not run into the next expiry.
    lab.authority.configure(|options| {
        options.access_token_lifetime = Duration::from_secs(3600);
        options.refresh_in = None;
    });
    lab.authority.heal(Endpoint::Entra);
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let healed = sidecar.admin_get("/readyz").await.unwrap().text();
    assert!(
        healed.contains("[+] credential default ready\n"),
        "{healed}"
    );
    let metrics = sidecar.metrics().await.unwrap();
    assert_eq!(metrics.value(failing, &[]), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_the_moment_of_expiry_share_one_exchange() {
    const STREAMS: usize = 10_000;
    const CONNECTIONS: usize = 100;
    let lab = Lab::with(Options {
        access_token_lifetime: Duration::from_secs(8),
        ..Options::default()
    })
    .await;
    let config = lab
        .config()
        .replace(
            "credential: backend }",
            "credential: backend, tokenWait: 60s, timeouts: { connect: 60s } }",
        )
        .replace(
            "backend: { entraClientAssertion",
            "backend: { exchangeTimeout: 60s, entraClientAssertion",
        );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    assert_eq!(lab.authority.requests().len(), 1);

    // The renewal is under way, and held; the old token expires.
    lab.authority
        .configure(|options| options.access_token_lifetime = Duration::from_secs(3600));
    let gate = Gate::closed();
    lab.authority
        .fail_always(Endpoint::Entra, Fault::Gate(gate.clone()));
    lab.authority.requests().wait_for(2).await.unwrap();
    sidecar.pending("backend").await.unwrap();

    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = sidecar.client().http2();
        connections.spawn(async move {
            let connection = client.connect().await.unwrap();
            let mut statuses = Vec::new();
            let mut waiting = JoinSet::new();
            for _ in 0..STREAMS / CONNECTIONS {
                let mut stream = connection.share().unwrap();
                waiting.spawn(async move {
                    let answer = stream
                        .send(Request::get("/users/1").body(body::empty()).unwrap())
                        .await
                        .unwrap();
                    (answer.status.as_u16(), answer.text())
                });
            }
            while let Some(status) = waiting.join_next().await {
                statuses.push(status.unwrap());
            }
            drop(connection);
            statuses
        });
    }
    sidecar
        .metric("all requests to be in flight", |metrics| {
            metrics.value("token_sidecar_requests_in_flight", &[("route", "backend")])
                == Some(STREAMS as f64)
        })
        .await
        .unwrap();
    assert!(lab.upstream.requests().is_empty());
    gate.open();
    let (mut passed, mut other) = (0, None);
    while let Some(answers) = connections.join_next().await {
        let answers = answers.unwrap();
        passed += answers.iter().filter(|(status, _)| *status == 200).count();
        other = other.or(answers.into_iter().find(|(status, _)| *status != 200));
    }
    assert_eq!((passed, other), (STREAMS, None));
    assert_eq!(
        lab.authority.requests().len(),
        2,
        "one exchange for all who waited"
    );
    until("the upstream to have seen them all", || {
        lab.upstream.requests().len() == STREAMS
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_token_that_an_upstream_rejects_is_replaced_once_for_all_who_wait() {
    let lab = Lab::new().await;
    let sidecar = lab.patient_sidecar().await;
    let first = lab.authority.issued().last().unwrap().token;
    assert_passes(&sidecar).await;
    lab.authority.access_tokens().revoke(&first);
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let client = sidecar.client();
        requests.spawn(async move { client.post("/echo", "body").await.unwrap() });
    }
    while let Some(answer) = requests.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["body"]),
            (200, &"body".into()),
            "{}",
            answer.text()
        );
    }
    assert_eq!(lab.authority.issued().len(), 2, "one renewal for all");
}

#[tokio::test]
async fn a_claims_challenge_is_answered_with_a_token_that_has_the_claims() {
    let lab = Lab::new().await;
    let sidecar = lab.patient_sidecar().await;
    let answer = sidecar.client().get("/claims").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["accepted"]),
        (200, &true.into()),
        "{}",
        answer.text()
    );
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(
        request.field("claims"),
        Some(harness::upstream::challenge::CLAIMS)
    );
    assert_eq!(lab.authority.requests().len(), 2);
}

#[tokio::test]
async fn an_upstream_that_always_answers_401_causes_no_storm_of_exchanges() {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    for _ in 0..200 {
        let answer = sidecar.client().get("/reject-always").await.unwrap();
        assert_eq!(
            answer.status, 401,
            "the upstream's answer passes in the end"
        );
    }
    let exchanges = lab.authority.requests().len();
    // 1 at the start; then spaced a second, two, four … apart: even a very slow run of the loop above stays far below 200.
    assert!(exchanges <= 12, "{exchanges} exchanges");
    assert_passes(&sidecar).await;
}
