//! Corners of the request flow: an answer that goes on after the request has ended, a 401 that passes while its request is still being sent,
//! places in a full pool, endings that cost nothing.

use crate::{
    lab::Lab,
    request_lab::{Bench, config, ready, route},
};
use bytes::Bytes;
use harness::{
    authority::{Endpoint, Fault},
    body::{self, Body},
    client::Connected,
    raw::{Raw, exchange},
    upstream::raw::{RawUpstream, Step},
    wait::{LONG, within},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::task::JoinSet;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The header section of the answer to a request whose body of so many bytes may still be coming.
async fn answered_early(
    connection: &mut Connected,
    length: usize,
    body: Body,
) -> Response<Incoming> {
    let request = Request::post("/").header("content-length", length);
    let request = request.body(body).unwrap();
    within(LONG, "a header section", connection.start(request))
        .await
        .unwrap()
        .unwrap()
}

/// The answer has begun, then the request ends, then the upstream is quiet for longer than it may take for a header section: that is a stream
/// that stands still, for which `timeouts.idle` holds.
#[tokio::test]
async fn the_end_of_a_request_does_not_shorten_its_answer() {
    let lab = Lab::new().await;
    let upstream = RawUpstream::start(vec![
        Step::text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"),
        Step::Read(4),
        Step::Pause(Duration::from_millis(3500)),
        Step::text("later"),
    ])
    .await
    .unwrap();
    let timeouts = ", timeouts: { responseHeader: 2s, idle: 60s }";
    let sidecar = ready(&lab, config("", &[route(&upstream.url(), timeouts)])).await;
    for client in [sidecar.client(), sidecar.client().http2()] {
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        let answer = answered_early(&mut connection, 4, body).await;
        assert_eq!(answer.status(), 200);
        let mut answer = answer.into_body();
        let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(b"first".starts_with(&first), "{first:?}");
        assert!(writer.data("rest").await);
        drop(writer);
        let rest = within(LONG, "the rest", answer.collect()).await.unwrap();
        let rest = rest.expect("broken off").to_bytes();
        assert_eq!([first, rest].concat(), b"firstlater");
    }
}

/// The upstream refuses the token before it has the body, and no other token comes: the 401 passes whole, and the body may still end.
#[tokio::test]
async fn a_401_passes_whole_while_its_request_is_still_being_sent() {
    let lab = Lab::new().await;
    let upstream = RawUpstream::start(vec![
        Step::text("HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nfirst"),
        Step::Read(8),
        Step::text("later"),
    ])
    .await
    .unwrap();
    let more = ", tokenWait: 300ms";
    let sidecar = ready(&lab, config("", &[route(&upstream.url(), more)])).await;
    lab.authority
        .fail_always(Endpoint::Entra, Fault::status(500));
    let mut connection = sidecar.client().connect().await.unwrap();
    let (writer, body) = body::channel();
    assert!(writer.data("half").await);
    let answer = answered_early(&mut connection, 8, body).await;
    assert_eq!(answer.status(), 401);
    assert!(writer.data("more").await);
    drop(writer);
    let whole = within(LONG, "the whole answer", answer.into_body().collect())
        .await
        .unwrap()
        .expect("broken off");
    assert_eq!(whole.to_bytes(), Bytes::from_static(b"firstlater"));
    assert_eq!(upstream.heads().len(), 1);
}

/// A connection that nobody uses makes room for one that is needed.
#[tokio::test]
async fn an_upgrade_takes_the_place_of_an_idle_connection() {
    let bench = Bench::new(
        "workers: 1",
        ", pool: { maxConnections: 1 }, timeouts: { connect: 20s }",
    )
    .await;
    let answer = bench.sidecar.client().get("/users/1").await.unwrap();
    assert_eq!(answer.status, 200);
    let answer = exchange(bench.sidecar.listen(), UPGRADE).await.unwrap();
    assert_eq!(answer.status(), 101, "{}", answer.text());
    assert_eq!(bench.upstream.accepted_connections(), 2);
}

/// An upgrade waits for a place as any request does.
#[tokio::test]
async fn an_upgrade_waits_for_a_place() {
    let bench = Bench::new(
        "workers: 1",
        ", pool: { maxConnections: 1 }, timeouts: { connect: 20s }",
    )
    .await;
    let mut connection = bench.sidecar.client().connect().await.unwrap();
    let (writer, body) = body::channel();
    let held = Request::post("/echo").body(body).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.send(held).await });
    assert!(writer.data("a").await);
    bench.upstream.requests().wait_for(1).await.unwrap();
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(UPGRADE).await.unwrap();
    let in_flight = || async {
        let metrics = bench.sidecar.metrics().await.ok()?;
        let value = metrics.value("token_sidecar_requests_in_flight", &[]);
        (value == Some(2.0)).then_some(())
    };
    harness::wait::eventually("both in flight", in_flight)
        .await
        .unwrap();
    drop(writer);
    let held = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(held.unwrap().status, 200);
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 101, "{}", answer.text());
}

/// An upstream that hangs up on an upgrade has sent nothing that could be wrong HTTP.
#[tokio::test]
async fn an_upstream_that_hangs_up_on_an_upgrade_is_named_so() {
    let lab = Lab::new().await;
    let upstream = RawUpstream::start(vec![]).await.unwrap();
    let sidecar = ready(&lab, config("", &[route(&upstream.url(), "")])).await;
    let answer = exchange(sidecar.listen(), UPGRADE).await.unwrap();
    assert_eq!(answer.status(), 502);
    let status = answer.headers("proxy-status");
    assert_eq!(status, ["token-sidecar; error=connection_terminated"]);
}

/// Trailers end a message as data does: the connection serves on.
#[tokio::test]
async fn a_connection_serves_on_after_trailers() {
    let bench = Bench::new("workers: 1", "").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    for _ in 0..3 {
        let (writer, body) = body::channel();
        assert!(writer.data("abc").await);
        assert!(writer.trailers(trailers.clone()).await);
        drop(writer);
        let request = Request::post("/trailers")
            .header("trailer", "x-checksum")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let answer = bench.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(bench.upstream.accepted_connections(), 1);
}

/// An absolute-form target without a path means `/` (RFC 9110 section 4.2.3), also where `:path` must begin with one.
#[tokio::test]
async fn a_target_without_a_path_means_the_root() {
    let lab = Lab::new().await;
    let tls = format!(
        "name: tls, match: {{ host: tls.example }}, upstream: '{}'",
        lab.upstream.url()
    );
    let sidecar = ready(&lab, config("", &[tls])).await;
    let request = "GET http://tls.example?x=1 HTTP/1.1\r\nHost: tls.example\r\n\r\n";
    exchange(sidecar.listen(), request).await.unwrap();
    let requests = lab.upstream.requests().all();
    assert_eq!(requests.len(), 1, "{}", sidecar.process.output());
    assert_eq!(requests[0].uri.path_and_query().unwrap().as_str(), "/?x=1");
}
