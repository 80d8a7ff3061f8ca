//! What happens when an upstream answers 401 to our token: one renewal shared by all who wait, one replay of the very same request, and
//! bounds on both.

use crate::{
    lab::Lab,
    request_lab::{Bench, config, plain_upstream, ready, route},
};
use bytes::Bytes;
use harness::{
    authority::{Endpoint, Fault, Gate, Options},
    body,
    client::Answer,
    process::Sidecar,
    upstream::{Upstream, challenge::CLAIMS},
    wait::until,
};
use http::Request;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Barrier, task::JoinSet};

async fn replays(sidecar: &Sidecar, result: &str) -> f64 {
    let metrics = sidecar.metrics().await.unwrap();
    metrics
        .value(
            "token_sidecar_unauthorized_replays_total",
            &[("result", result)],
        )
        .unwrap_or(0.0)
}

/// Makes the upstream reject the current token.
fn revoke(lab: &Lab) {
    let token = lab.authority.issued().last().unwrap().token;
    lab.authority.access_tokens().revoke(&token);
}

/// Both upstream protocols: what a replay does to a body depends on them.
async fn upstreams(lab: &Lab) -> (Upstream, Sidecar) {
    let plain = plain_upstream(lab).await;
    let sidecar = ready(
        lab,
        config(
            "",
            &[
                route(&plain.url(), ""),
                format!(
                    "name: tls, match: {{ host: tls.example }}, upstream: '{}'",
                    lab.upstream.url()
                ),
            ],
        ),
    )
    .await;
    (plain, sidecar)
}

#[tokio::test]
async fn a_rejected_token_is_renewed_and_the_request_replayed_as_it_was() {
    let lab = Lab::new().await;
    let large: Bytes = (0..60_000u32).map(|i| (i % 251) as u8).collect();
    for way in 0..4 {
        for (method, body) in [
            ("GET", Bytes::new()),
            ("POST", Bytes::new()),
            ("POST", Bytes::from_static(b"abc")),
            ("PUT", large.clone()),
        ] {
            let name = format!("way {way}, {method} with {} bytes", body.len());
            // A sidecar of its own each time: a second rejection soon after the first is held off.
            let (plain, sidecar) = upstreams(&lab).await;
            let (client, upstream) = match way {
                0 => (sidecar.client(), &plain),
                1 => (sidecar.client().http2(), &plain),
                2 => (sidecar.client().host("tls.example"), &lab.upstream),
                _ => (sidecar.client().http2().host("tls.example"), &lab.upstream),
            };
            let (issued, before, bodies) = (
                lab.authority.issued().len(),
                upstream.requests().len(),
                upstream.bodies().len(),
            );
            revoke(&lab);
            let request = Request::builder()
                .method(method)
                .uri("/echo")
                .header("x-mine", "1")
                .body(body::full(body.clone()))
                .unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert_eq!(lab.authority.issued().len(), issued + 1, "{name}");
            let seen = upstream.requests().since(before);
            assert_eq!(seen.len(), 2, "{name}");
            let again = upstream.bodies().since(bodies);
            assert_eq!(
                again.last().unwrap().bytes,
                body,
                "{name}: the body changed"
            );
            assert_eq!(
                (&seen[0].method, seen[0].path(), seen[0].header("x-mine")),
                (&seen[1].method, seen[1].path(), seen[1].header("x-mine")),
            );
            assert_ne!(seen[0].token, seen[1].token);
            assert_eq!(seen[1].verified, Some(Ok(())));
            assert_eq!(replays(&sidecar, "accepted").await, 1.0);
        }
    }
}

#[tokio::test]
async fn all_who_wait_share_one_renewal() {
    let bench = Bench::new("", ", tokenWait: 1m").await;
    let gate = Gate::closed();
    revoke(&bench.lab);
    bench
        .lab
        .authority
        .fail_once(Endpoint::Entra, Fault::Gate(gate.clone()));
    let mut tasks = JoinSet::new();
    for i in 0..100 {
        let client = if i % 2 == 0 {
            bench.sidecar.client()
        } else {
            bench.sidecar.client().http2()
        };
        tasks.spawn(async move {
            client
                .post("/echo", format!("body {i}"))
                .await
                .map(|a| (i, a))
        });
    }
    // All of them are there, and some have been rejected, before the one exchange ends.
    bench
        .sidecar
        .metric("100 requests in flight", |m| {
            m.value("token_sidecar_requests_in_flight", &[]) == Some(100.0)
        })
        .await
        .unwrap();
    until("the exchange to begin", || {
        bench.lab.authority.requests().len() == 2
    })
    .await
    .unwrap();
    gate.open();
    while let Some(done) = tasks.join_next().await {
        let (i, answer) = done.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"], format!("body {i}"));
    }
    assert_eq!(
        bench.lab.authority.issued().len(),
        2,
        "one at the start, one for all"
    );
    let rejected = bench
        .upstream
        .requests()
        .count(|r| r.verified != Some(Ok(())));
    assert!(rejected >= 1);
    assert_eq!(replays(&bench.sidecar, "accepted").await, rejected as f64);
    assert_eq!(bench.upstream.requests().len(), 100 + rejected);
}

#[tokio::test]
async fn a_body_that_was_not_kept_is_not_replayed_and_the_401_passes() {
    let bench = Bench::new("", ", replayBuffer: 1KiB").await;
    revoke(&bench.lab);
    let answer = bench
        .sidecar
        .client()
        .post("/reject-once", vec![b'x'; 2000])
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    assert!(
        answer.header("www-authenticate").contains("invalid_token"),
        "{answer:?}"
    );
    assert_eq!(bench.upstream.requests().len(), 1);
    assert_eq!(replays(&bench.sidecar, "body_too_large").await, 1.0);
    // The token is replaced all the same: the next request passes.
    bench.lab.authority.issued().wait_for(2).await.unwrap();
    let answer = bench
        .sidecar
        .client()
        .post("/echo", vec![b'x'; 2000])
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn an_upstream_that_always_answers_401_causes_few_exchanges() {
    let bench = Bench::new("", "").await;
    let client = bench.sidecar.client();
    let passes = |answer: &Answer| {
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    };
    let begun = tokio::time::Instant::now();
    for _ in 0..300 {
        passes(&client.get("/reject-always").await.unwrap());
    }
    // Doubling from a second on: 1, 2, 4 … seconds apart.
    let elapsed = begun.elapsed().as_secs_f64();
    let most = 3.0 + (elapsed + 1.0).log2().ceil();
    let exchanges = bench.lab.authority.requests().len();
    assert!(
        (exchanges as f64) <= most,
        "{exchanges} exchanges in {elapsed} s"
    );
    assert!(exchanges >= 2, "the rejected token was never replaced");
    assert!(replays(&bench.sidecar, "held_off").await >= 250.0);
    // Other requests are not hurt: the token that is there goes on.
    assert_eq!(client.get("/users/1").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_claims_challenge_is_answered_with_the_claims() {
    let bench = Bench::new("", "").await;
    let answer = bench.sidecar.client().post("/claims", "abc").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["body"], "abc");
    let requests = bench.lab.authority.requests().all();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].field("claims"), None);
    assert_eq!(requests[1].field("claims"), Some(CLAIMS));
    assert_eq!(bench.upstream.requests().len(), 2);
}

#[tokio::test]
async fn without_a_new_token_the_401_passes() {
    let bench = Bench::new("", ", tokenWait: 500ms").await;
    bench
        .lab
        .authority
        .fail_always(Endpoint::Entra, Fault::status(500));
    revoke(&bench.lab);
    let answer = bench.sidecar.client().get("/echo").await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(replays(&bench.sidecar, "no_token").await, 1.0);
    assert_eq!(bench.upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_401_to_a_streaming_body_is_replayed_whole_when_it_fits() {
    let lab = Lab::new().await;
    let (plain, sidecar) = upstreams(&lab).await;
    for (client, upstream) in [
        (sidecar.client(), &plain),
        (sidecar.client().http2().host("tls.example"), &lab.upstream),
    ] {
        let before = upstream.requests().len();
        revoke(&lab);
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        assert!(writer.data("one ").await);
        let request = Request::post("/echo").body(body).unwrap();
        let sending = async {
            // The rest comes when the first attempt has been rejected and the second one is on its way.
            upstream.requests().entry(before + 1).await;
            assert!(writer.data("two ").await);
            assert!(writer.data("three").await);
            drop(writer);
        };
        let (answer, ()) = tokio::join!(connection.send(request), sending);
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"], "one two three");
        // The next round's rejection is the first one again.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
}

/// Ten thousand requests on their way when the token expires: all pass, and the authority sees one exchange.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_the_moment_of_expiry_cause_one_exchange() {
    const CONNECTIONS: usize = 50;
    const STREAMS: usize = 200;
    let lab = Lab::with(Options {
        access_token_lifetime: Duration::from_secs(3600),
        ..Options::default()
    })
    .await;
    let sidecar = ready(
        &lab,
        config(
            "",
            &[route(
                &lab.upstream.url(),
                ", tokenWait: 1m, timeouts: { connect: 30s }",
            )],
        ),
    )
    .await;
    revoke(&lab);
    let gate = Gate::closed();
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Gate(gate.clone()));
    let (start, mut tasks) = (Arc::new(Barrier::new(CONNECTIONS)), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (client, start) = (sidecar.client().http2(), Arc::clone(&start));
        tasks.spawn(async move {
            let connection = client.connect().await.unwrap();
            start.wait().await;
            let mut streams = JoinSet::new();
            for _ in 0..STREAMS {
                let mut shared = connection.share().unwrap();
                streams.spawn(async move {
                    let request = Request::get("/users/1").body(body::empty()).unwrap();
                    let answer = shared.send(request).await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                });
            }
            while let Some(done) = streams.join_next().await {
                done.unwrap();
            }
        });
    }
    // Every one of them is in flight, and none can go on.
    let all = (CONNECTIONS * STREAMS) as f64;
    sidecar
        .metric("all requests to be in flight", |m| {
            m.value("token_sidecar_requests_in_flight", &[]) == Some(all)
        })
        .await
        .unwrap();
    until("the exchange to begin", || {
        lab.authority.requests().len() == 2
    })
    .await
    .unwrap();
    gate.open();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(
        lab.authority.requests().len(),
        2,
        "one at the start, one at the expiry"
    );
    println!(
        "{all} requests over {} upstream connections",
        lab.upstream.accepted_connections()
    );
}
