//! Bodies on their way through: piece by piece in both directions, with back-pressure, trailers, upgrades, cancellation, and never a clean
//! end for what broke off.

use crate::{
    lab::Lab,
    request_lab::{Bench, config, plain_upstream, ready, route},
};
use bytes::Bytes;
use harness::{
    body,
    client::Client,
    process::Sidecar,
    raw::{Raw, exchange},
    upstream::{
        Upstream,
        raw::{RawUpstream, Step},
    },
    wait::{LONG, until, within},
};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;

mod large;

use large::rss;

const MIB: u64 = 1024 * 1024;

/// A sidecar with two routes: `/` to a plain HTTP/1.1 upstream, and by its host to an https one that speaks HTTP/2.
struct Both {
    _lab: Lab,
    http1: Upstream,
    http2: Upstream,
    sidecar: Sidecar,
}

impl Both {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let http1 = plain_upstream(&lab).await;
        let http2 = Upstream::https(
            &lab.ca,
            lab.authority.access_tokens(),
            harness::authority::options::RESOURCE,
        )
        .await
        .unwrap();
        let sidecar = ready(
            &lab,
            config(
                "",
                &[
                    route(&http1.url(), ""),
                    format!(
                        "name: tls, match: {{ host: tls.example }}, upstream: '{}'",
                        http2.url()
                    ),
                ],
            ),
        )
        .await;
        Self {
            _lab: lab,
            http1,
            http2,
            sidecar,
        }
    }

    /// Both protocols of the workload's, to both upstreams.
    fn ways(&self) -> Vec<(&'static str, Client, &Upstream)> {
        let client = || self.sidecar.client();
        vec![
            ("HTTP/1.1 to HTTP/1.1", client(), &self.http1),
            ("HTTP/2 to HTTP/1.1", client().http2(), &self.http1),
            (
                "HTTP/1.1 to HTTP/2",
                client().host("tls.example"),
                &self.http2,
            ),
            (
                "HTTP/2 to HTTP/2",
                client().http2().host("tls.example"),
                &self.http2,
            ),
        ]
    }
}

async fn data(response: &mut Response<Incoming>) -> Option<Bytes> {
    let frame = within(LONG, "a piece of the answer", response.body_mut().frame())
        .await
        .unwrap()?;
    frame.unwrap().into_data().ok()
}

#[tokio::test]
async fn pieces_pass_one_by_one_in_both_directions() {
    let both = Both::new().await;
    for (name, client, upstream) in both.ways() {
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        let request = Request::post("/echo/raw")
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap();
        assert!(writer.data("data: 0\n\n").await);
        let mut response = within(LONG, name, connection.start(request))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), 200, "{name}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // The next piece is sent only when the one before has come back: whatever is held back anywhere stops this.
        for i in 0..50 {
            let mut piece = Vec::new();
            let expected = format!("data: {i}\n\n");
            while piece.len() < expected.len() {
                piece.extend(data(&mut response).await.unwrap());
            }
            assert_eq!(piece, expected.as_bytes(), "{name}");
            assert!(writer.data(format!("data: {}\n\n", i + 1)).await);
        }
        drop(writer);
        while data(&mut response).await.is_some() {}
        let version = if name.ends_with("HTTP/2") {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        assert_eq!(
            upstream.requests().last().unwrap().version,
            version,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_slow_upstream_holds_the_sender_back() {
    let both = Both::new().await;
    for (name, client, _) in both.ways() {
        let before = rss(&both.sidecar);
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        let request = Request::post("/hang").body(body).unwrap();
        let sending = async {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            let mut sent = 0;
            // Nobody reads: buffers fill, and then nothing moves any more.
            while let Ok(true) =
                within(Duration::from_secs(2), "room", writer.data(piece.clone())).await
            {
                sent += piece.len() as u64;
                assert!(sent < 512 * MIB, "{name}: nobody holds the sender back");
            }
            sent
        };
        let sent = tokio::select! {
            answer = connection.start(request) => panic!("{name}: {answer:?}"),
            sent = sending => sent,
        };
        let grown = rss(&both.sidecar).saturating_sub(before);
        assert!(grown < 32 * MIB, "{name}: {sent} bytes sent, {grown} held");
    }
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let both = Both::new().await;
    for (name, client, upstream) in both.ways() {
        let before = upstream.bodies().len();
        let (writer, body) = body::channel();
        assert!(writer.data("abc").await);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", HeaderValue::from_static("1"));
        trailers.insert("authorization", HeaderValue::from_static("Bearer mine"));
        assert!(writer.trailers(trailers).await);
        drop(writer);
        let request = Request::post("/trailers")
            .header("te", "trailers")
            .header("trailer", "x-mine, authorization")
            .body(body)
            .unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.text(), "abc", "{name}");
        let back = answer.trailers.unwrap_or_default();
        assert_eq!(back.get("x-mine").unwrap(), "1", "{name}");
        assert_eq!(back.get("x-checksum").unwrap(), "3", "{name}");
        assert_eq!(back.get("authorization"), None, "{name}");
        let there = upstream
            .bodies()
            .since(before)
            .remove(0)
            .trailers
            .unwrap_or_default();
        assert_eq!(there.get("x-mine").unwrap(), "1", "{name}");
        assert_eq!(there.get("authorization"), None, "{name}");
    }
}

#[tokio::test]
async fn grpc_passes_from_cleartext_http2_to_tls() {
    let both = Both::new().await;
    let client = both.sidecar.client().http2().host("tls.example");
    let call = |method: &str| {
        Request::post(format!("/harness.Echo/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "10S")
            .body(body::full(Bytes::from_static(b"\0\0\0\0\x05hello")))
            .unwrap()
    };
    let said = client.send(call("Say")).await.unwrap();
    assert_eq!(
        (said.status.as_u16(), said.header("content-type")),
        (200, "application/grpc")
    );
    assert_eq!(&said.body[..], b"\0\0\0\0\x05hello");
    let trailers = said.trailers.unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(trailers.get("grpc-message").unwrap(), "said");
    let seen = both.http2.requests().last().unwrap();
    assert_eq!(
        (seen.header("te"), seen.header("grpc-timeout")),
        (vec!["trailers".into()], vec!["10S".into()])
    );
    // An answer that is trailers alone.
    let unknown = client.send(call("Shout")).await.unwrap();
    assert_eq!(unknown.header("grpc-status"), "12");
    assert!(unknown.body.is_empty());
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted_and_not_before() {
    let bench = Bench::new("", ", maxRequestBody: 1KiB").await;
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(head("/echo", 3)).await.unwrap();
    assert_eq!(
        raw.bytes(25).await.unwrap(),
        b"HTTP/1.1 100 Continue\r\n\r\n"
    );
    raw.send("abc").await.unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        bench.upstream.requests().last().unwrap().header("expect"),
        [""; 0]
    );
    // What is refused asks for no body.
    for (path, length, status) in [("/echo", 2000, 413), ("/a/../b", 3, 400)] {
        let answer = exchange(bench.sidecar.listen(), head(path, length))
            .await
            .unwrap();
        assert_eq!(
            (answer.status(), answer.interim.len()),
            (status, 0),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let both = Both::new().await;
    for (host, upstream) in [("localhost", &both.http1), ("tls.example", &both.http2)] {
        let mut raw = Raw::connect(both.sidecar.listen()).await.unwrap();
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        raw.send(format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n{key}\r\nearly"
        ))
        .await
        .unwrap();
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status(), 101, "{} {}", answer.head, answer.text());
        assert_eq!(answer.headers("upgrade"), ["websocket"]);
        assert_eq!(answer.headers("connection"), ["upgrade"]);
        assert_eq!(raw.bytes(5).await.unwrap(), b"early");
        let large = vec![b'x'; 300_000];
        for piece in [&b"hello"[..], &[0, 255, 13, 10], &large] {
            raw.send(piece).await.unwrap();
            assert_eq!(raw.bytes(piece.len()).await.unwrap(), piece);
        }
        let seen = upstream.requests().last().unwrap();
        assert_eq!(
            (seen.version, seen.verified),
            (Version::HTTP_11, Some(Ok(())))
        );
        assert_eq!(seen.header("upgrade"), ["websocket"]);
        assert_eq!(seen.header("sec-websocket-key").len(), 1);
        // It is a request in flight as long as it lasts, and its end reaches the other side.
        both.sidecar
            .metric("the tunnel to be counted", |m| {
                m.value("token_sidecar_requests_in_flight", &[]) == Some(1.0)
            })
            .await
            .unwrap();
        raw.finish().await.unwrap();
        assert!(raw.closes_within(LONG).await);
        both.sidecar
            .metric("the tunnel to be gone", |m| {
                m.value("token_sidecar_requests_in_flight", &[]) == Some(0.0)
            })
            .await
            .unwrap();
    }
    // An upstream that does not want to: its answer passes.
    let answer = exchange(
        both.sidecar.listen(),
        "GET /users/1 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await
    .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_tunnel_that_stands_still_is_closed_and_upgrades_can_be_off() {
    let bench = Bench::new("", ", timeouts: { idle: 1s }").await;
    let ask =
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(ask).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 101);
    assert!(raw.closes_within(LONG).await);
    let off = Bench::new("", ", upgrades: false").await;
    let answer = exchange(off.sidecar.listen(), ask).await.unwrap();
    assert_eq!(answer.status(), 426);
    assert_eq!(
        off.upstream.requests().last().unwrap().header("upgrade"),
        [""; 0]
    );
}

#[tokio::test]
async fn a_workload_that_goes_away_cancels_the_request() {
    let both = Both::new().await;
    for (name, client, upstream) in both.ways() {
        // While it waits for the answer's header, and in the middle of an answer.
        for path in ["/hang", "/slow-body?n=1000000&ms=20"] {
            let before = upstream.requests().len();
            let mut connection = client.connect().await.unwrap();
            let request = Request::get(path).body(body::empty()).unwrap();
            let begun = async {
                let response = connection.start(request).await.unwrap();
                if path == "/hang" {
                    panic!("{name}: {response:?}");
                }
                response
            };
            let arrived = async {
                upstream.requests().entry(before).await;
            };
            if path == "/hang" {
                tokio::select! {
                    _ = begun => {}
                    () = arrived => {}
                }
            } else {
                drop(begun.await);
            }
            drop(connection);
            both.sidecar
                .metric(&format!("{name} {path}: nothing in flight"), |m| {
                    m.value("token_sidecar_requests_in_flight", &[]) == Some(0.0)
                })
                .await
                .unwrap();
            if name.ends_with("HTTP/1.1") {
                until(
                    &format!("{name} {path}: the upstream connection to close"),
                    || upstream.open_connections() == 0,
                )
                .await
                .unwrap();
            }
        }
        // In the middle of its own body.
        let before = upstream.bodies().len();
        let requests = upstream.requests().len();
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        assert!(writer.data("abc").await);
        let request = Request::post("/sink").body(body).unwrap();
        tokio::select! {
            answer = connection.start(request) => panic!("{name}: {answer:?}"),
            _ = upstream.requests().entry(requests) => {}
        }
        drop(connection);
        let bodies = upstream.bodies().wait_for(before + 1).await.unwrap();
        assert!(bodies[before].broken, "{name}: a clean end");
    }
}

#[tokio::test]
async fn an_early_answer_arrives_while_the_body_is_still_being_sent() {
    let both = Both::new().await;
    for (name, client, _) in both.ways() {
        let mut connection = client.connect().await.unwrap();
        let (writer, body) = body::channel();
        assert!(writer.data("abc").await);
        let request = Request::post("/early").body(body).unwrap();
        let response = within(LONG, name, connection.start(request))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), 413, "{name}");
        drop(writer);
        drop(response);
    }
    // Nothing of it is left on a connection that others use.
    for (name, client, _) in both.ways() {
        for _ in 0..3 {
            let answer = client.get("/users/1").await.unwrap();
            assert_eq!(answer.status, 200, "{name}");
        }
    }
}
