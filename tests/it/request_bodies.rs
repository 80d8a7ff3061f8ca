//! Bodies that come late or that few send, and connections parked between requests: what is left of a body is never taken for a request.

use crate::{
    lab::Lab,
    request_lab::{Bench, config, get, ready, route},
};
use harness::{
    body,
    process::Sidecar,
    raw::{Raw, exchange},
    record::Record,
    serve::{Server, handler},
    upstream::raw::{RawUpstream, Step},
};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use std::time::Duration;

/// Longer than a connection waits for its next request before it gives its memory back.
const PARKED: Duration = Duration::from_millis(1600);

/// An upstream that answers 200 at once, whatever of the body has come, and reads the body afterwards or lets go of it.
struct Early {
    server: Server,
    paths: Record<String>,
}

impl Early {
    async fn start(reads: bool) -> Self {
        let paths = Record::new();
        let seen = paths.clone();
        let answer = handler(move |request: Request<Incoming>, connection| {
            seen.push(request.uri().path().to_owned());
            if reads {
                let body = request.into_body();
                connection.spawn(async move { drop(body::collect(body).await) });
            }
            async { Response::new(body::full("ok")) }
        });
        Self {
            server: Server::start(None, answer).await.unwrap(),
            paths,
        }
    }
}

/// A body of 1000 bytes of which 100 are sent, an early answer, a long pause, and then the rest, which begins with a whole request.
async fn late_rest(sidecar: &Sidecar, chunked: bool) {
    let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
    let framing = if chunked {
        "Transfer-Encoding: chunked\r\n\r\n3e8\r\n"
    } else {
        "Content-Length: 1000\r\n\r\n"
    };
    let head = format!("POST /first HTTP/1.1\r\nHost: localhost\r\n{framing}");
    raw.send(format!("{head}{}", "x".repeat(100)))
        .await
        .unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 200);
    tokio::time::sleep(PARKED).await;
    let inner = get("/users/2");
    let end = if chunked { "\r\n0\r\n\r\n" } else { "" };
    let rest = format!("{inner}{}{end}", "x".repeat(900 - inner.len()));
    // It may be closed by now; that is as good an end.
    if raw.send(rest).await.is_ok() {
        drop(raw.finish().await);
    }
    let more = raw.rest().await.unwrap_or_default();
    assert!(more.is_empty(), "{}", String::from_utf8_lossy(&more));
}

#[tokio::test]
async fn what_is_left_of_a_body_is_never_a_request_raw() {
    let lab = Lab::new().await;
    let ok = Step::text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for (name, steps) in [
        (
            "reads on",
            vec![Step::Read(100), ok.clone(), Step::Read(900), Step::Again],
        ),
        ("closes", vec![Step::Read(100), ok]),
    ] {
        let upstream = RawUpstream::start(steps).await.unwrap();
        let sidecar = ready(&lab, config("workers: 1", &[route(&upstream.url(), "")])).await;
        late_rest(&sidecar, false).await;
        let heads = upstream.heads().all();
        // The request lines alone: heads have tokens.
        let heads: Vec<_> = heads.iter().filter_map(|h| h.lines().next()).collect();
        assert_eq!(heads, ["POST /first HTTP/1.1"], "{name}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_body_is_never_a_request_both_versions() {
    let lab = Lab::new().await;
    for (http, reads) in [("1", true), ("1", false), ("2", true), ("2", false)] {
        let name = format!("HTTP/{http}, reads on: {reads}");
        let upstream = Early::start(reads).await;
        let url = format!("http://{}", upstream.server.address());
        let more = format!(", http: '{http}'");
        let sidecar = ready(&lab, config("workers: 1", &[route(&url, &more)])).await;
        tokio::join!(late_rest(&sidecar, false), late_rest(&sidecar, true));
        assert_eq!(upstream.paths.all(), ["/first", "/first"], "{name}");
        // Nobody else is harmed by it.
        let answer = sidecar.client().get("/after").await.unwrap();
        assert_eq!(answer.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_parked_connection_serves_on() {
    let bench = Bench::new("", "").await;
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    let answered = async |raw: &mut Raw, what: &str| {
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status(), 200, "{what}: {}", answer.head);
        answer.text()
    };
    raw.send(get("/users/0")).await.unwrap();
    answered(&mut raw, "the first").await;

    tokio::time::sleep(PARKED).await;
    raw.send(get("/users/1")).await.unwrap();
    assert!(answered(&mut raw, "whole").await.contains("\"id\":\"1\""));

    // Begins as HTTP/2 would.
    tokio::time::sleep(PARKED).await;
    let post = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    for piece in [
        &post[..1],
        &post[1..4],
        &post[4..30],
        &post[30..post.len() - 2],
        "bc",
    ] {
        raw.send(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let text = answered(&mut raw, "in pieces").await;
    assert!(text.contains("\"body\":\"abc\""), "{text}");

    tokio::time::sleep(PARKED).await;
    raw.send(format!("{}{}", get("/users/3"), get("/users/4")))
        .await
        .unwrap();
    for id in ["3", "4"] {
        let text = answered(&mut raw, "two at once").await;
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{text}");
    }

    // A body that comes in over a time in which an idle connection would be parked belongs to its request.
    raw.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na")
        .await
        .unwrap();
    tokio::time::sleep(PARKED).await;
    raw.send("bc").await.unwrap();
    let text = answered(&mut raw, "a slow body").await;
    assert!(text.contains("\"body\":\"abc\""), "{text}");
    assert_eq!(bench.upstream.requests().len(), 6);
}

#[tokio::test]
async fn bodies_of_methods_that_seldom_have_one_arrive_whole() {
    let bench = Bench::new("", "").await;
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        for (lines, body, framing) in [
            (
                "Transfer-Encoding: chunked\r\n",
                "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                "transfer-encoding",
            ),
            ("Content-Length: 5\r\n", "abcde", "content-length"),
        ] {
            let before = bench.upstream.bodies().len();
            raw.send(format!(
                "{method} /echo HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}"
            ))
            .await
            .unwrap();
            let answer = raw.answer_to(method == "HEAD").await.unwrap();
            assert_eq!(answer.status(), 200, "{method} {lines}");
            let bodies = bench.upstream.bodies().wait_for(before + 1).await.unwrap();
            assert_eq!(&bodies[before].bytes[..], b"abcde", "{method} {lines}");
            let seen = bench.upstream.requests().last().unwrap();
            assert_eq!(seen.version, Version::HTTP_11);
            assert_eq!(seen.method, method);
            assert_eq!(seen.header(framing).len(), 1, "{method} {lines}");
        }
    }
}

#[tokio::test]
async fn te_trailers_survives_being_named_by_connection() {
    let bench = Bench::new("", "").await;
    for lines in [
        "Connection: TE\r\nTE: trailers\r\n",
        "TE: trailers\r\nConnection: TE\r\n",
        "Connection: keep-alive, te\r\nTE: gzip, trailers\r\n",
    ] {
        let before = bench.upstream.bodies().len();
        let answer = exchange(
            bench.sidecar.listen(),
            format!(
                "POST /sink HTTP/1.1\r\nHost: localhost\r\n{lines}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n"
            ),
        )
        .await
        .unwrap();
        assert_eq!(answer.status(), 200, "{lines}: {}", answer.text());
        let seen = bench.upstream.requests().last().unwrap();
        assert_eq!(seen.version, Version::HTTP_11);
        assert_eq!(seen.header("te"), ["trailers"], "{lines}");
        let bodies = bench.upstream.bodies().wait_for(before + 1).await.unwrap();
        let trailers = bodies[before].trailers.clone().unwrap_or_default();
        assert_eq!(
            trailers.get("x-sum").map(|v| v.as_bytes()),
            Some(&b"42"[..]),
            "{lines}"
        );
    }
}
