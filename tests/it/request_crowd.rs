//! Many requests at once for few connections: cold pools, full pools, connections that cannot be shared.

use crate::{
    lab::Lab,
    request_lab::{at_once, config, get_request, plain_upstream, problem, ready, route},
};
use harness::{
    certs::{Alpn, LOCAL_NAMES},
    client::Connected,
    ports,
    process::Sidecar,
    upstream::Upstream,
};
use http::{Response, Version};
use hyper::body::Incoming;
use tokio::task::JoinSet;

#[tokio::test]
async fn one_connection_serves_all_in_turn_or_says_that_it_is_too_much() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let text = |connect: &str| {
        let more = format!(", pool: {{ maxConnections: 1 }}, timeouts: {{ connect: {connect} }}");
        config("workers: 1", &[route(&upstream.url(), &more)])
    };
    let five = async |sidecar: &Sidecar, path: &'static str| {
        let mut tasks = JoinSet::new();
        for _ in 0..5 {
            let client = sidecar.client();
            tasks.spawn(async move { client.get(path).await.unwrap() });
        }
        tasks.join_all().await
    };
    let sidecar = ready(&lab, text("30s")).await;
    for answer in five(&sidecar, "/slow-header?ms=200").await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(upstream.accepted_connections(), 1);
    drop(sidecar);

    let sidecar = ready(&lab, text("2s")).await;
    let held = streaming_forever(&sidecar).await;
    for answer in five(&sidecar, "/users/1").await {
        // With `Retry-After`.
        problem(&answer, 503, "overloaded").unwrap();
    }
    drop(held);
    assert_eq!(upstream.accepted_connections(), 2);
}

async fn streaming_forever(sidecar: &Sidecar) -> (Connected, Response<Incoming>) {
    let mut connection = sidecar.client().connect().await.unwrap();
    let response = connection
        .start(get_request("/slow-body?n=1000&ms=60000"))
        .await
        .unwrap();
    (connection, response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_that_come_at_once_share_http2_connections() {
    let lab = Lab::new().await;
    let sidecar = ready(&lab, config("", &[route(&lab.upstream.url(), "")])).await;
    assert_eq!(lab.upstream.accepted_connections(), 0);
    let mut connections = vec![];
    for _ in 0..200 {
        connections.push(sidecar.client().connect().await.unwrap());
    }
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move {
            let request = get_request("/slow-header?ms=200");
            connection.send(request).await.unwrap().status.as_u16()
        });
    }
    let statuses = tasks.join_all().await;
    assert!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
    let accepted = lab.upstream.accepted_connections();
    assert!((1..=10).contains(&accepted), "{accepted} connections");
    let requests = lab.upstream.requests().all();
    assert!(requests.iter().all(|r| r.version == Version::HTTP_2));
}

/// Those who wait for the first connection do not wait in vain: neither when it cannot be shared, nor when it cannot be opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_do_not_wait_for_what_cannot_be_shared() {
    let lab = Lab::new().await;
    let tls = lab.ca.server(&LOCAL_NAMES, Alpn::Http1).unwrap();
    let http1 = Upstream::start(Some(tls), None).await.unwrap();
    let closed = ports::closed().unwrap();
    let nobody = closed.address().port();
    // Far above the bound of this test.
    let more = ", timeouts: { connect: 5m, responseHeader: 5m }";
    let sidecar = ready(
        &lab,
        config(
            "workers: 1",
            &[
                route(&http1.url(), more),
                format!(
                    "name: nobody, match: {{ host: nobody.example }}, upstream: 'https://localhost:{nobody}'{more}"
                ),
            ],
        ),
    )
    .await;
    for answer in at_once(&sidecar.client(), 30, "/slow-header?ms=300").await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let client = sidecar.client().host("nobody.example");
    for answer in at_once(&client, 30, "/").await {
        problem(&answer, 502, "connection_refused").unwrap();
    }
}
