//! The status table: each answer of the sidecar's own, with its problem, its `Proxy-Status`, and nothing secret in it.

use crate::{
    lab::{Lab, start},
    request_lab::{Bench, Report, config, plain_upstream, problem, ready, route},
};
use harness::{
    authority::{Endpoint, Fault, Options},
    body,
    certs::{Alpn, Ca},
    client::Answer,
    process::UPSTREAM_HOST,
    raw::{Raw, exchange},
    upstream::{
        Upstream,
        raw::{RawUpstream, Step},
    },
    volume::{Layout, TokenVolume},
    wait::{LONG, until, within},
};
use http::{Request, header};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

mod early;
mod refused;
mod unread;

fn proxy_error(answer: &Answer) -> String {
    answer
        .header("proxy-status")
        .trim_start_matches("token-sidecar; error=")
        .to_owned()
}

/// Keeps a connection open that nobody writes to any more.
const HOLD: Step = Step::Read(1 << 20);

/// A route named after its path prefix.
fn named(name: &str, url: &str, more: &str) -> String {
    format!("name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{url}'{more}")
}

#[tokio::test]
async fn upstreams_that_cannot_be_reached() {
    let lab = Lab::new().await;
    let foreign = Ca::new().unwrap();
    let untrusted = Upstream::start(
        Some(foreign.server(&["localhost"], Alpn::Both).unwrap()),
        None,
    )
    .await
    .unwrap();
    let misnamed = Upstream::start(
        Some(lab.ca.server(&["elsewhere.example"], Alpn::Both).unwrap()),
        None,
    )
    .await
    .unwrap();
    let plain = plain_upstream(&lab).await;
    let closed = harness::ports::closed().unwrap();
    let refused = closed.address();
    // Accepts and never says a word of TLS.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    // Its queue is full: a further connection is never completed.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let full_address = full.local_addr().unwrap();
    let mut waiting = vec![];
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(full_address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let short = ", timeouts: { connect: 1s }";
    let sidecar = ready(
        &lab,
        config(
            "",
            &[
                named("refused", &format!("http://{refused}"), ""),
                named("untrusted", &untrusted.url(), ""),
                named("misnamed", &misnamed.url(), ""),
                named("no-tls", &plain.url().replace("http:", "https:"), ""),
                named("mute", &format!("https://localhost:{mute_port}"), short),
                named("full", &format!("http://{full_address}"), short),
                named("unresolvable", "https://nowhere.invalid", ""),
            ],
        ),
    )
    .await;
    let mut report = Report::default();
    for (path, status, error) in [
        ("refused", 502, "connection_refused"),
        ("untrusted", 502, "tls_certificate_error"),
        ("misnamed", 502, "tls_certificate_error"),
        ("no-tls", 502, "tls_protocol_error"),
        ("mute", 504, "connection_timeout"),
        ("full", 504, "connection_timeout"),
        ("unresolvable", 502, "dns_error"),
    ] {
        // Twice: a failure is no state, and a body changes nothing.
        for request in [
            Request::get(format!("/{path}"))
                .body(body::empty())
                .unwrap(),
            Request::post(format!("/{path}"))
                .body(body::full("x"))
                .unwrap(),
        ] {
            let answer = sidecar.client().send(request).await.unwrap();
            if let Err(what) = problem(&answer, status, error) {
                report.note(path, what);
            }
            report.check(path, proxy_error(&answer) == error, proxy_error(&answer));
            report.check(path, answer.json()["route"] == path, answer.text());
        }
    }
    for upstream in [&untrusted, &misnamed, &plain] {
        report.check(
            "untrusted",
            upstream.requests().is_empty(),
            "a token was sent",
        );
    }
    report.end();
    drop((mute, full));
}

/// Names that resolve to where no token may go; the resolver takes the old spellings of an address for names. (An address in the configuration is refused
/// at the start.)
#[tokio::test]
async fn an_upstream_that_resolves_to_a_forbidden_address_is_refused() {
    let lab = Lab::new().await;
    for (name, address) in [
        ("0xa9.0xfe.0xa9.0xfe", "169.254.169.254"),
        ("169.254.257", "169.254.1.1"),
        ("2130706433", "127.0.0.1"),
    ] {
        let text = config("", &[route("https://u.example", ", serverName: u.example")]);
        let sidecar = start(&lab.aks().config(text).env(UPSTREAM_HOST, name)).await;
        sidecar.ready().await.unwrap();
        for client in [sidecar.client(), sidecar.client().http2()] {
            let answer = client.get("/users/1").await.unwrap();
            problem(&answer, 403, "address_forbidden").unwrap();
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.contains(name) && detail.contains(address),
                "{detail}"
            );
            assert_eq!(proxy_error(&answer), "destination_ip_prohibited");
        }
        let metrics = sidecar.metrics().await.unwrap();
        let rejected = [("reason", "address_forbidden")];
        assert_eq!(
            metrics.value("token_sidecar_rejected_total", &rejected),
            Some(2.0)
        );
    }
}

#[rustfmt::skip]
#[tokio::test]
async fn upstreams_that_answer_late_or_badly() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let mut raws = vec![];
    for (name, error, steps) in [
        ("closes", "connection_terminated", vec![]),
        ("resets", "connection_terminated", vec![Step::Reset]),
        ("half", "connection_terminated", vec![Step::text("HTTP/1.1 200 OK\r\nContent-")]),
        ("nonsense", "http_protocol_error", vec![Step::text("no HTTP at all\r\n\r\n"), HOLD]),
        ("huge", "http_protocol_error", vec![Step::Send(
            format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
        ), HOLD]),
        ("lengths", "http_protocol_error", vec![Step::text(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ), HOLD]),
        ("switches", "http_protocol_error", vec![
            Step::text("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
            HOLD,
        ]),
        ("only-interim", "connection_terminated", vec![Step::text("HTTP/1.1 103 Early Hints\r\n\r\n")]),
    ] {
        raws.push((name, error, RawUpstream::start(steps).await.unwrap()));
    }
    let mut routes: Vec<_> = raws
        .iter()
        .map(|(name, _, raw)| named(name, &raw.url(), ""))
        .collect();
    routes.push(route(&upstream.url(), ", timeouts: { responseHeader: 1s }"));
    let sidecar = ready(&lab, config("", &routes)).await;
    let mut report = Report::default();
    for (name, error, raw) in &raws {
        // POST: what is not idempotent is not sent twice.
        let request = Request::post(format!("/{name}")).body(body::full("x")).unwrap();
        let answer = match sidecar.client().send(request).await {
            Ok(answer) => answer,
            Err(error) => {
                report.note(name, error);
                continue;
            }
        };
        if let Err(what) = problem(&answer, 502, error) {
            report.note(name, what);
        }
        report.check(name, raw.heads().len() == 1, format!("sent {} times", raw.heads().len()));
    }
    let answer = sidecar.client().get("/hang").await.unwrap();
    if let Err(what) = problem(&answer, 504, "http_response_timeout") {
        report.note("hang", what);
    }
    report.end();
    // Interim answers and a slow header within its time are fine.
    assert_eq!(sidecar.client().get("/slow-header?ms=100").await.unwrap().status, 200);
    // What timed out holds no connection.
    until("the connection to be closed", || upstream.open_connections() <= 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn bodies_that_stand_still_are_given_up() {
    let bench = Bench::new("", ", timeouts: { idle: 3s, responseHeader: 60s }").await;
    // Upwards: the workload stops in mid-body.
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send("POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        .await
        .unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 504, "{}", answer.text());
    assert!(
        answer.text().contains("connection_write_timeout"),
        "{}",
        answer.text()
    );
    let bodies = bench.upstream.bodies().wait_for(1).await.unwrap();
    assert!(bodies[0].broken);
    // Downwards: the upstream stops in mid-body. The answer is cut, not ended as if it were whole.
    for client in [bench.sidecar.client(), bench.sidecar.client().http2()] {
        let mut connection = client.connect().await.unwrap();
        let request = Request::get("/slow-body?n=3&ms=60000")
            .body(body::empty())
            .unwrap();
        let response = connection.start(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let broken = within(LONG, "the body to break", response.into_body().collect())
            .await
            .unwrap();
        assert!(broken.is_err(), "a clean end");
    }
    bench
        .sidecar
        .process
        .logged("response broke off")
        .await
        .unwrap();
    // A body that goes on, slower than the timeout in all, is fine.
    let answer = bench
        .sidecar
        .client()
        .get("/slow-body?n=16&ms=300")
        .await
        .unwrap();
    assert_eq!(answer.body.len(), 16);
}

#[tokio::test]
async fn what_a_workload_does_not_read_is_given_up() {
    let bench = Bench::new("", ", timeouts: { idle: 1s }").await;
    // HTTP/1.1: nothing is read at all.
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    raw.bytes(100).await.unwrap();
    until("the upstream connection to be given up", || {
        bench.upstream.open_connections() == 0
    })
    .await
    .unwrap();
    // HTTP/2: the window is never opened again.
    let client = bench.sidecar.client().http2();
    let mut connection = client.connect().await.unwrap();
    let request = Request::get("/bytes/1000000000")
        .body(body::empty())
        .unwrap();
    let response = connection.start(request).await.unwrap();
    assert_eq!(response.status(), 200);
    until("the upstream connection to be given up", || {
        bench.upstream.open_connections() == 0
    })
    .await
    .unwrap();
    // The connection itself lives on.
    let answer = connection
        .send(Request::get("/users/1").body(body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    drop(response);
}
