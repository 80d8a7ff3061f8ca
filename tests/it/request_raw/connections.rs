//! What becomes of a connection: late, broken and pipelined messages, silence, slowness.

use super::*;
use harness::upstream::raw::{RawUpstream, Step};

/// What is refused before its body is read must not have that body taken for the next request, however late it comes.
#[tokio::test]
async fn a_late_body_of_a_refused_request_is_no_request() {
    let bench = Bench::new("", "").await;
    let inner = "GET /users/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for head in [
        format!(
            "POST http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            inner.len()
        ),
        format!(
            "POST /users/1 HTTP/1.1\r\nHost: localhost\r\nExpect: a-pony\r\nContent-Length: {}\r\n\r\n",
            inner.len()
        ),
    ] {
        let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
        raw.send(&head).await.unwrap();
        let answer = raw.answer().await.unwrap();
        assert!((400..500).contains(&answer.status()), "{}", answer.head);
        // Longer than an idle connection keeps its buffers.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        drop(raw.send(inner).await);
        let rest = raw.rest().await.unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    // What is answered early by the upstream, likewise.
    let head = format!(
        "POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        inner.len()
    );
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(&head).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 413);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(raw.send(inner).await);
    drop(raw.rest().await);
    assert_eq!(
        bench.sidecar.client().get("/users/1").await.unwrap().status,
        200
    );
    assert_eq!(
        bench
            .upstream
            .requests()
            .count(|r| r.path().contains("smuggled")),
        0
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::new("", "").await;
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    let text: String = (0..5)
        .map(|i| format!("GET /users/{i} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    raw.send(&text).await.unwrap();
    for i in 0..5 {
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer.text().contains(&format!("\"id\":\"{i}\"")),
            "{}",
            answer.text()
        );
    }
    // The beginning of a request that is read together with the one before is not lost, however late the rest comes.
    let whole = get("");
    let (beginning, rest) = whole.split_at(20);
    raw.send(format!("{whole}{beginning}")).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 200);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    raw.send(rest).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_error_says_what_to_do_and_connect_is_explained() {
    let bench = Bench::new("", "").await;
    let ask = async |text: &str| -> RawAnswer {
        harness::raw::exchange(bench.sidecar.listen(), text)
            .await
            .unwrap()
    };
    let connect = ask("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await;
    assert!(
        connect.text().contains("tunnel") && connect.text().contains("http://"),
        "{}",
        connect.text()
    );
    assert_eq!(connect.headers("allow").len(), 1, "{}", connect.head);
    let other = ask(&get("Expect: a-pony\r\n")).await;
    assert_eq!(other.headers("content-type"), ["application/problem+json"]);
}

#[tokio::test]
async fn a_broken_chunk_aborts_the_upstream_request() {
    let bench = Bench::new("", "").await;
    let mut report = Report::default();
    for (name, body) in [
        ("no hexadecimal size", "zz\r\nabc\r\n0\r\n\r\n"),
        ("a chunk longer than said", "2\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("a broken second chunk", "3\r\nabc\r\nxyz\r\n"),
    ] {
        let before = bench.upstream.bodies().len();
        let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
        raw.send(format!(
            "POST /sink HTTP/1.1\r\nHost: localhost\r\n{CHUNKED}\r\n"
        ))
        .await
        .unwrap();
        until("the request to arrive", || {
            bench.upstream.requests().len() > before
        })
        .await
        .unwrap();
        raw.send(body).await.unwrap();
        let answer = raw.answer().await.unwrap();
        report.check(
            name,
            answer.status() == 400 || answer.status() == 0,
            format!("{} {}", answer.head, answer.text()),
        );
        report.check(name, raw.closes_within(LONG).await, "stays open");
        let bodies = bench.upstream.bodies().wait_for(before + 1).await;
        match bodies {
            Ok(bodies) => report.check(name, bodies[before].broken, "the upstream saw a clean end"),
            Err(error) => report.note(name, error),
        }
    }
    report.end();
}

#[tokio::test]
async fn a_body_that_stops_short_aborts_the_upstream_request() {
    let bench = Bench::new("", "").await;
    for lines in ["Content-Length: 10\r\n", CHUNKED] {
        let before = bench.upstream.bodies().len();
        let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
        let body = if lines == CHUNKED {
            "3\r\nabc\r\n"
        } else {
            "abc"
        };
        raw.send(format!(
            "POST /sink HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}"
        ))
        .await
        .unwrap();
        until("the request to arrive", || {
            bench.upstream.requests().count(|r| r.path() == "/sink") > before
        })
        .await
        .unwrap();
        drop(raw);
        let bodies = bench.upstream.bodies().wait_for(before + 1).await.unwrap();
        assert!(bodies[before].broken, "{lines}");
    }
}

#[tokio::test]
async fn trailers_pass_without_credentials_and_framing() {
    let bench = Bench::new("", ", stripRequestHeaders: [x-private]").await;
    let body = "3\r\nabc\r\n0\r\nAuthorization: Bearer mine\r\nX-Sum: 1\r\nX-Private: p\r\nHost: evil\r\nContent-Length: 9\r\n\r\n";
    let answer = harness::raw::exchange(
        bench.sidecar.listen(),
        format!(
            "POST /sink HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: x-sum, authorization, x-private, host, content-length\r\n{CHUNKED}\r\n{body}"
        ),
    )
    .await
    .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let bodies = bench.upstream.bodies().wait_for(1).await.unwrap();
    let trailers = bodies[0].trailers.clone().unwrap_or_default();
    assert_eq!(trailers.get("x-sum").unwrap(), "1");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    let request = bench.upstream.requests().last().unwrap();
    assert_eq!(request.header("authorization").len(), 1);
    assert_eq!(request.verified, Some(Ok(())));
}

/// HTTP/1.1 lets trailers be dropped that were not announced (RFC 9110 section 6.6.2), or that nobody said to take (section 10.1.4): the body is whole all
/// the same, and the connection serves on.
#[tokio::test]
async fn trailers_that_were_not_announced_or_not_asked_for_are_dropped_alone() {
    let lab = Lab::new().await;
    let echo = plain_upstream(&lab).await;
    let answers = |announced: &str| {
        Step::text(&format!(
            "HTTP/1.1 200 OK\r\n{announced}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
        ))
    };
    let upstreams = [
        RawUpstream::start(vec![answers("Trailer: X-Sum\r\n"), Step::Again])
            .await
            .unwrap(),
        RawUpstream::start(vec![answers(""), Step::Again])
            .await
            .unwrap(),
    ];
    let of = |name: &str, url: &str| {
        format!("name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{url}'")
    };
    let sidecar = ready(
        &lab,
        config(
            "",
            &[
                of("sink", &echo.url()),
                of("announced", &upstreams[0].url()),
                of("unannounced", &upstreams[1].url()),
            ],
        ),
    )
    .await;

    // Towards the upstream.
    let chunks = "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
    for (announced, passes) in [("", false), ("Trailer: x-sum\r\n", true)] {
        raw.send(format!(
            "POST /sink HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n{announced}{CHUNKED}\r\n{chunks}"
        ))
        .await
        .unwrap();
        assert_eq!(raw.answer().await.unwrap().status(), 200, "{announced}");
        let body = echo.bodies().last().unwrap();
        assert_eq!((body.len, body.broken), (3, false), "{announced}");
        let got = body.trailers.is_some_and(|t| t.contains_key("x-sum"));
        assert_eq!(got, passes, "{announced}");
    }

    // Towards the workload.
    for (path, te, passes) in [
        ("/announced", "TE: trailers\r\n", true),
        ("/announced", "", false),
        ("/unannounced", "TE: trailers\r\n", false),
    ] {
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{te}\r\n"
        ))
        .await
        .unwrap();
        let answer = raw.answer().await.unwrap();
        let text = answer.text().to_lowercase();
        assert!(text.starts_with("3\r\nabc\r\n0\r\n"), "{path} {te}: {text}");
        assert_eq!(text.contains("x-sum: 1"), passes, "{path} {te}: {text}");
    }
    // HTTP/2 needs no announcement.
    let answer = sidecar.client().http2().get("/unannounced").await.unwrap();
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailers.unwrap_or_default()["x-sum"], "1");
}

/// Connections that are silent or slow, with 2 s for a header section and 3 s between requests.
#[tokio::test]
async fn silent_and_slow_connections_are_closed_in_time() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let top = "limits: { headerReadTimeout: 2s, keepAliveTimeout: 3s }";
    let sidecar = ready(&lab, config(top, &[route(&upstream.url(), "")])).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let half = "GET /users/1 HTTP/1.1\r\nHost: local";
    let rows: &[(&str, &str, usize)] = &[
        ("nothing", "", 0),
        ("P", "P", 0),
        ("half a preface", "PRI * HTTP/2.0\r\n", 0),
        ("half a header section", half, 0),
        ("a preface and nothing else", preface, 0),
        (
            "nothing after a request",
            "GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            1,
        ),
        (
            "half a request after a request",
            "GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /use",
            1,
        ),
        (
            "P after a request",
            "GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\nP",
            1,
        ),
    ];
    // The defaults (10 s and 5 min) are far above this, the configured times far below.
    let bound = Duration::from_secs(9);
    let mut waits = tokio::task::JoinSet::new();
    for (name, bytes, answers) in rows.iter().copied() {
        let address = sidecar.listen();
        waits.spawn(async move {
            let mut raw = Raw::connect(address).await.unwrap();
            raw.send(bytes).await.unwrap();
            for _ in 0..answers {
                assert_eq!(raw.answer().await.unwrap().status(), 200, "{name}");
            }
            (name, raw.closes_within(bound).await)
        });
    }
    let address = sidecar.listen();
    waits.spawn(async move {
        let mut raw = Raw::connect(address).await.unwrap();
        // A byte at a time, never stopping for long.
        let drip = async {
            for byte in half
                .bytes()
                .chain("host: localhost\r\nx-a: ".bytes().cycle())
            {
                if raw.send([byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        (
            "a slow drip",
            tokio::time::timeout(bound, drip).await.is_ok(),
        )
    });
    let mut report = Report::default();
    while let Some(done) = waits.join_next().await {
        let (name, closed) = done.unwrap();
        report.check(name, closed, "was not closed");
    }
    report.end();
}
