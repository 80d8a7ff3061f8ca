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
    let refused = harness::ports::free().unwrap();
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
    let bench = Bench::new("", ", timeouts: { idle: 1s, responseHeader: 20s }").await;
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
        .get("/slow-body?n=8&ms=300")
        .await
        .unwrap();
    assert_eq!(answer.body.len(), 8);
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

#[rustfmt::skip]
#[tokio::test]
async fn refusals() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let top = "allowedHosts: [inside.example]\nallowedOrigins: ['https://good.example']";
    let more = ", match: { methods: [GET, POST], pathPrefix: /users }";
    let sidecar = ready(&lab, config(top, &[route(&upstream.url(), more)])).await;
    let get = || Request::get("/users/1");
    let mut report = Report::default();
    for (name, status, reason, request) in [
        ("a foreign host", 403, "foreign_host", get().header("host", "evil.example")),
        ("an allowed host", 200, "", get().header("host", "INSIDE.example:99")),
        ("a subdomain of an allowed host", 403, "foreign_host", get().header("host", "x.inside.example")),
        ("an origin", 403, "foreign_origin", get().header("origin", "https://evil.example")),
        ("the null origin", 403, "foreign_origin", get().header("origin", "null")),
        ("an allowed origin", 200, "", get().header("origin", "https://good.example")),
        ("two origins", 403, "foreign_origin", get().header("origin", "https://good.example").header("origin", "null")),
        ("a cross-site fetch", 403, "foreign_origin", get().header("sec-fetch-site", "cross-site")),
        ("a same-origin fetch", 200, "", get().header("sec-fetch-site", "same-origin")),
        ("a method that is not listed", 403, "method_not_allowed", Request::put("/users/1")),
        ("a path without a route", 404, "no_route", Request::get("/other")),
        ("a prefix off a segment border", 404, "no_route", Request::get("/users1")),
        ("an encoded slash", 400, "unsafe_path", Request::get("/users/a%2Fb")),
        ("an encoded backslash", 400, "unsafe_path", Request::get("/users/a%5cb")),
        ("an empty segment", 400, "unsafe_path", Request::get("/users//b")),
    ] {
        for client in [sidecar.client(), sidecar.client().http2()] {
            let before = upstream.requests().len();
            let mut request = request_of(&request);
            let http2 = name.contains("host") && client.is_http2();
            if http2 {
                // Over HTTP/2 the name is the authority.
                let host = request.headers_mut().remove("host").unwrap();
                *request.uri_mut() = format!("http://{}/users/1", host.to_str().unwrap()).parse().unwrap();
            }
            let answer = match client.send(request).await {
                Ok(answer) => answer,
                Err(error) => {
                    report.note(name, error);
                    continue;
                }
            };
            let reached = upstream.requests().len() - before;
            if status == 200 {
                report.check(name, answer.status == 200 && reached == 1, answer.text());
                continue;
            }
            if let Err(what) = problem(&answer, status, reason) {
                report.note(name, what);
            }
            report.check(name, reached == 0, "reached the upstream");
        }
    }
    report.end();
    let metrics = sidecar.metrics().await.unwrap();
    assert!(
        metrics
            .value("token_sidecar_rejected_total", &[("reason", "foreign_origin")])
            .is_some_and(|n| n == 8.0),
        "{}",
        metrics.0
    );
}

fn request_of(builder: &http::request::Builder) -> Request<body::Body> {
    let mut request = Request::new(body::empty());
    *request.method_mut() = builder.method_ref().unwrap().clone();
    *request.uri_mut() = builder.uri_ref().unwrap().clone();
    *request.headers_mut() = builder.headers_ref().unwrap().clone();
    request
}

async fn chunks(n: usize) -> body::Body {
    let (writer, body) = body::channel();
    writer.data("x").await;
    writer.data("x".repeat(n - 1)).await;
    body
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let bench = Bench::new("", ", maxRequestBody: 10B").await;
    let sidecar = &bench.sidecar;
    let mut report = Report::default();
    // Too large: by its length, at once; by its bytes, when they have come.
    for client in [sidecar.client(), sidecar.client().http2()] {
        for (name, body, ok) in [
            ("11 bytes", body::full("x".repeat(11)), false),
            ("10 bytes", body::full("x".repeat(10)), true),
            ("11 bytes in chunks", chunks(11).await, false),
            ("10 bytes in chunks", chunks(10).await, true),
        ] {
            let answer = client
                .send(Request::post("/sink").body(body).unwrap())
                .await;
            match answer {
                Ok(answer) if ok => report.check(name, answer.status == 200, answer.text()),
                Ok(answer) => {
                    if let Err(what) = problem(&answer, 413, "body_too_large") {
                        report.note(name, what);
                    }
                }
                Err(error) => report.note(name, error),
            }
        }
    }
    report.end();
}

/// A large body that is refused still gets its answer: the workload is not cut off while it sends.
#[tokio::test]
async fn a_large_body_that_is_refused_gets_its_answer() {
    let bench = Bench::new("", ", maxRequestBody: 1KiB").await;
    for path in ["/users/1", "/a/../b"] {
        for _ in 0..3 {
            let request = Request::post(path)
                .header(header::CONTENT_LENGTH, 3_000_000)
                .body(body::full(vec![b'x'; 3_000_000]))
                .unwrap();
            let answer = bench.sidecar.client().send(request).await.unwrap();
            assert!(
                matches!(answer.status.as_u16(), 413 | 400),
                "{}",
                answer.text()
            );
        }
    }
    assert!(bench.upstream.requests().is_empty());
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let lab = Lab::without_token(
        Options::default(),
        TokenVolume::new(Layout::Nested).unwrap(),
    )
    .await;
    let upstream = plain_upstream(&lab).await;
    lab.authority.fail_always(
        Endpoint::Entra,
        Fault::Reply {
            status: 400,
            headers: vec![],
            body: r#"{"error":"invalid_client","error_description":"AADSTS700016: SECRET-TEXT of the authority","error_codes":[700016]}"#.into(),
        },
    );
    let sidecar = start(
        &lab.aks()
            .config(config("", &[route(&upstream.url(), ", tokenWait: 1s")])),
    )
    .await;
    let client = sidecar.client();
    let before = client.get("/users/1").await.unwrap();
    problem(&before, 503, "no_token").unwrap();
    lab.rotate();
    until("the authority to be asked", || {
        !lab.authority.requests().is_empty()
    })
    .await
    .unwrap();
    for client in [sidecar.client(), sidecar.client().http2()] {
        for request in [
            Request::get("/users/1").body(body::empty()).unwrap(),
            Request::post("/echo").body(body::full("x")).unwrap(),
        ] {
            let answer = client.send(request).await.unwrap();
            problem(&answer, 503, "no_token").unwrap();
            assert!(
                !answer.text().contains("SECRET-TEXT") && !answer.text().contains("AADSTS"),
                "{}",
                answer.text()
            );
            assert_eq!(answer.json()["route"], "backend");
        }
    }
    assert!(upstream.requests().is_empty(), "failed open");
    sidecar
        .metric("requests without a token to be counted", |m| {
            m.value(
                "token_sidecar_token_unavailable_total",
                &[("credential", "backend")],
            ) == Some(5.0)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn overload_is_answered_at_once() {
    let bench = Bench::new(
        "workers: 1\nlimits: { maxRequests: 2, maxConnections: 4 }",
        "",
    )
    .await;
    let client = bench.sidecar.client();
    let mut streams = vec![];
    for _ in 0..2 {
        let mut connection = client.connect().await.unwrap();
        let request = Request::get("/slow-body?n=2&ms=60000")
            .body(body::empty())
            .unwrap();
        let response = connection.start(request).await.unwrap();
        assert_eq!(response.status(), 200);
        streams.push((connection, response));
    }
    let answer = client.get("/users/1").await.unwrap();
    problem(&answer, 503, "overloaded").unwrap();
    // As many connections as allowed: the next one is told so, whatever it says.
    let mut idle = vec![];
    let turned_away = loop {
        let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
        drop(
            raw.send("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await,
        );
        let answer = raw.answer().await.unwrap();
        if answer.head.contains("connection: close") {
            break answer;
        }
        idle.push(raw);
        assert!(idle.len() < 5, "never turned away");
    };
    assert_eq!(turned_away.status(), 503);
    assert_eq!(turned_away.headers("retry-after"), ["1"]);
    assert!(turned_away.text().contains("\"reason\":\"overloaded\""));
    assert!(turned_away.headers("proxy-status").len() == 1);
    // And room again as soon as something ends.
    drop((idle, streams));
    harness::wait::eventually("room again", || async {
        let answer = exchange(
            bench.sidecar.listen(),
            "GET /users/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        (answer.await.ok()?.status() == 200).then_some(())
    })
    .await
    .unwrap();
}
