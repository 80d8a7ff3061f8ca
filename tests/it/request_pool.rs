//! Listeners and connections: HTTP/1.1 and cleartext HTTP/2, TCP and Unix sockets; upstreams by ALPN, with private roots and pinned names;
//! connections reused, limited, and never mistaken for live ones.

use crate::{
    lab::{Lab, start},
    request_lab::{Bench, config, plain_upstream, problem, ready, route},
};
use harness::{
    authority::options::RESOURCE,
    body,
    certs::{Alpn, Ca},
    client::Client,
    raw::Raw,
    temp::TempDir,
    upstream::{
        Upstream,
        raw::{RawUpstream, Step},
    },
    wait::until,
};
use http::{Request, Version};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_unix_socket_serves_as_a_port_does() {
    let lab = Lab::new().await;
    let dir = TempDir::new("token-sidecar-socket").unwrap();
    let path = dir.join("http.sock");
    let sidecar = ready(
        &lab,
        config(
            "",
            &[
                route(&lab.upstream.url(), ""),
                format!(
                    "name: unix, listen: 'unix:{}', upstream: '{}'",
                    path.display(),
                    lab.upstream.url()
                ),
            ],
        ),
    )
    .await;
    for client in [
        Client::unix(&path),
        Client::unix(&path).http2(),
        sidecar.client(),
    ] {
        let answer = client.get("/users/1").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut raw = Raw::unix(&path).await.unwrap();
    raw.send("GET /users/1 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 403);
    let metrics = sidecar.metrics().await.unwrap();
    assert_eq!(
        metrics.value("token_sidecar_requests_total", &[("route", "unix")]),
        Some(2.0)
    );
}

#[tokio::test]
async fn https_upstreams_speak_what_alpn_says_and_are_known_by_their_pinned_name() {
    let lab = Lab::new().await;
    // Roots that the system does not know, and a certificate for another name than the URL's.
    let private = Ca::new().unwrap();
    let mut upstreams = vec![];
    for (alpn, version) in [
        (Alpn::Both, Version::HTTP_2),
        (Alpn::Http2, Version::HTTP_2),
        (Alpn::Http1, Version::HTTP_11),
        (Alpn::None, Version::HTTP_11),
    ] {
        let tls = private.server(&["pinned.example"], alpn).unwrap();
        let upstream = Upstream::start(
            Some(tls),
            Some((lab.authority.access_tokens(), RESOURCE.to_owned())),
        )
        .await
        .unwrap();
        upstreams.push((upstream, version));
    }
    let pinned = format!(
        ", upstreamCaFile: '{}', serverName: pinned.example",
        private.file().display()
    );
    let mut routes: Vec<_> = upstreams
        .iter()
        .enumerate()
        .map(|(i, (upstream, _))| {
            format!(
                "name: r{i}, match: {{ host: r{i}.example }}, upstream: '{}'{pinned}",
                upstream.url()
            )
        })
        .collect();
    let first = upstreams[0].0.url();
    routes.push(format!(
        "name: h1, match: {{ host: h1.example }}, upstream: '{first}', http: '1'{pinned}"
    ));
    routes.push(format!(
        "name: unpinned, match: {{ host: unpinned.example }}, upstream: '{first}', upstreamCaFile: '{}'",
        private.file().display()
    ));
    routes.push(format!(
        "name: rootless, match: {{ host: rootless.example }}, upstream: '{first}', serverName: pinned.example"
    ));
    let sidecar = ready(&lab, config("", &routes)).await;
    for (i, (upstream, version)) in upstreams.iter().enumerate() {
        for client in [sidecar.client(), sidecar.client().http2()] {
            let answer = client
                .host(&format!("r{i}.example"))
                .get("/users/1")
                .await
                .unwrap();
            assert_eq!(answer.status, 200, "{i}: {}", answer.text());
            let seen = upstream.requests().last().unwrap();
            assert_eq!(
                (seen.version, seen.verified),
                (*version, Some(Ok(()))),
                "{i}"
            );
        }
    }
    let answer = sidecar
        .client()
        .host("h1.example")
        .get("/users/1")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        upstreams[0].0.requests().last().unwrap().version,
        Version::HTTP_11
    );
    let seen = upstreams[0].0.requests().len();
    for host in ["unpinned.example", "rootless.example"] {
        let answer = sidecar.client().host(host).get("/users/1").await.unwrap();
        problem(&answer, 502, "tls_certificate_error").unwrap();
    }
    assert_eq!(
        upstreams[0].0.requests().len(),
        seen,
        "a token went to an upstream that is not proven"
    );
}

#[tokio::test]
async fn cleartext_http2_upstreams_by_prior_knowledge() {
    let bench = Bench::new("", ", http: '2'").await;
    for client in [bench.sidecar.client(), bench.sidecar.client().http2()] {
        let answer = client.get("/users/1").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            bench.upstream.requests().last().unwrap().version,
            Version::HTTP_2
        );
    }
}

#[tokio::test]
async fn connections_are_reused_and_limited() {
    let lab = Lab::new().await;
    let plain = plain_upstream(&lab).await;
    let sidecar = ready(
        &lab,
        config(
            "workers: 1",
            &[
                route(
                    &plain.url(),
                    ", pool: { maxConnections: 4 }, timeouts: { connect: 20s }",
                ),
                format!(
                    "name: tls, match: {{ host: tls.example }}, upstream: '{}'",
                    lab.upstream.url()
                ),
            ],
        ),
    )
    .await;
    for _ in 0..20 {
        assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
        let tls = sidecar.client().host("tls.example");
        assert_eq!(tls.get("/users/1").await.unwrap().status, 200);
    }
    assert_eq!(plain.accepted_connections(), 1);
    assert_eq!(lab.upstream.accepted_connections(), 1);
    // Forty at once over four connections: they wait for their turn.
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let client = sidecar.client();
        tasks.spawn(async move {
            client
                .get("/slow-header?ms=20")
                .await
                .map(|a| a.status.as_u16())
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap(), 200);
    }
    assert!(
        plain.accepted_connections() <= 4,
        "{}",
        plain.accepted_connections()
    );
    let metrics = sidecar.metrics().await.unwrap();
    let open = metrics.value(
        "token_sidecar_upstream_connections",
        &[("route", "backend")],
    );
    assert_eq!(open, Some(plain.open_connections() as f64));
}

#[tokio::test]
async fn a_full_pool_is_overload() {
    let bench = Bench::new(
        "workers: 1",
        ", pool: { maxConnections: 1 }, timeouts: { connect: 2s }",
    )
    .await;
    let mut connection = bench.sidecar.client().connect().await.unwrap();
    let held = connection
        .start(
            Request::get("/slow-body?n=2&ms=60000")
                .body(body::empty())
                .unwrap(),
        )
        .await
        .unwrap();
    let answer = bench.sidecar.client().get("/users/1").await.unwrap();
    problem(&answer, 503, "overloaded").unwrap();
    drop((held, connection));
    let answer = harness::wait::eventually("room again", || async {
        let answer = bench.sidecar.client().get("/users/1").await.ok()?;
        (answer.status == 200).then_some(answer)
    });
    answer.await.unwrap();
}

/// A tunnel is a connection like any other: it takes a place, needs one, and gives it back.
#[tokio::test]
async fn a_tunnel_takes_a_place_in_the_pool() {
    let bench = Bench::new(
        "workers: 1",
        ", pool: { maxConnections: 1 }, timeouts: { connect: 2s }",
    )
    .await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let ask = async || {
        let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
        raw.send(upgrade).await.unwrap();
        let answer = raw.answer().await.unwrap();
        (raw, answer)
    };
    let (tunnel, answer) = ask().await;
    assert_eq!(answer.status(), 101, "{}", answer.text());
    // Neither another tunnel nor a request has room.
    let (_, answer) = ask().await;
    assert_eq!(answer.status(), 503, "{}", answer.head);
    assert!(
        answer.text().contains("\"reason\":\"overloaded\""),
        "{}",
        answer.text()
    );
    let answer = bench.sidecar.client().get("/users/1").await.unwrap();
    problem(&answer, 503, "overloaded").unwrap();
    assert_eq!(bench.upstream.accepted_connections(), 1);
    drop(tunnel);
    let passes = harness::wait::eventually("room again", || async {
        let answer = bench.sidecar.client().get("/users/1").await.ok()?;
        (answer.status == 200).then_some(())
    });
    passes.await.unwrap();
}

/// The upstream closes each connection after one answer, without saying so.
#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used_again() {
    let lab = Lab::new().await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = RawUpstream::start(vec![Step::text(ok)]).await.unwrap();
    let sidecar = ready(&lab, config("workers: 1", &[route(&upstream.url(), "")])).await;
    for i in 0..30 {
        let answer = sidecar.client().get("/").await.unwrap();
        assert_eq!(answer.status, 200, "{i}: {}", answer.text());
    }
    assert_eq!(upstream.heads().len(), 30);
}

/// The upstream takes a second request on a connection and closes it without an answer: it may have acted on it.
#[tokio::test]
async fn what_is_not_idempotent_is_never_sent_twice() {
    let lab = Lab::new().await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (method, body, sent, status) in [
        ("POST", "abc", 1, 502),
        ("PATCH", "abc", 1, 502),
        ("GET", "", 2, 200),
        ("PUT", "abc", 2, 200),
        ("DELETE", "", 2, 200),
    ] {
        let upstream = FirstOnly::start(ok).await;
        let sidecar = ready(&lab, config("workers: 1", &[route(&upstream.url, "")])).await;
        assert_eq!(sidecar.client().get("/first").await.unwrap().status, 200);
        let request = Request::builder()
            .method(method)
            .uri("/second")
            .body(body::full(body))
            .unwrap();
        let answer = sidecar.client().send(request).await.unwrap();
        assert_eq!(answer.status, status, "{method}: {}", answer.text());
        let heads = upstream.heads.all();
        let seconds = heads.iter().filter(|head| head.contains("/second")).count();
        assert_eq!(seconds, sent, "{method}: {heads:?}");
    }
}

/// Answers the first request of each connection, takes the second one and closes. A connection whose first request is `/second` is served.
struct FirstOnly {
    url: String,
    heads: harness::record::Record<String>,
    _tasks: JoinSet<()>,
}

impl FirstOnly {
    async fn start(answer: &'static str) -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = harness::record::Record::new();
        let seen = heads.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = seen.clone();
                connections.spawn(async move {
                    for number in 0.. {
                        let mut head = vec![];
                        while !head.ends_with(b"\r\n\r\n") {
                            match stream.read_u8().await {
                                Ok(byte) => head.push(byte),
                                Err(_) => return,
                            }
                        }
                        let head = String::from_utf8_lossy(&head).into_owned();
                        if let Some(length) =
                            head.to_ascii_lowercase().split("content-length: ").nth(1)
                        {
                            let length: usize =
                                length.split("\r\n").next().unwrap().parse().unwrap();
                            drop(stream.read_exact(&mut vec![0; length]).await);
                        }
                        seen.push(head);
                        if number > 0 {
                            return;
                        }
                        drop(stream.write_all(answer.as_bytes()).await);
                    }
                });
            }
        });
        Self {
            url,
            heads,
            _tasks: tasks,
        }
    }
}

/// An answer that nobody asked for, waiting on an idle connection, must not become the answer to the next request.
#[tokio::test]
async fn an_unasked_answer_poisons_nobody() {
    let lab = Lab::new().await;
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let upstream = RawUpstream::start(vec![Step::text(two), Step::Again])
        .await
        .unwrap();
    let sidecar = ready(&lab, config("workers: 1", &[route(&upstream.url(), "")])).await;
    for i in 0..10 {
        let answer = sidecar.client().get("/").await.unwrap();
        assert_ne!(answer.text(), "poison", "{i}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_their_number_is_limited() {
    let bench = Bench::new("workers: 1", ", pool: { maxIdle: 2, idleTimeout: 1s }").await;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let client = bench.sidecar.client();
        tasks.spawn(async move {
            client
                .get("/slow-header?ms=200")
                .await
                .map(|a| a.status.as_u16())
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap(), 200);
    }
    until("two connections at most to be kept", || {
        bench.upstream.open_connections() <= 2
    })
    .await
    .unwrap();
    until("none to be kept", || bench.upstream.open_connections() == 0)
        .await
        .unwrap();
    bench
        .sidecar
        .metric("the gauge to say so", |m| {
            m.value("token_sidecar_upstream_connections", &[]) == Some(0.0)
        })
        .await
        .unwrap();
}

/// Thousands of streams share connections: the limit of streams on one opens another, not one for each request.
#[tokio::test]
async fn many_requests_share_few_http2_connections() {
    let lab = Lab::new().await;
    let setup = lab
        .aks()
        .config(config("workers: 1", &[route(&lab.upstream.url(), "")]));
    let sidecar = start(&setup).await;
    sidecar.ready().await.unwrap();
    let connection = sidecar.client().http2().connect().await.unwrap();
    // One connection is there already.
    assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
    let mut tasks = JoinSet::new();
    for _ in 0..80 {
        let mut shared = connection.share().unwrap();
        tasks.spawn(async move {
            let request = Request::get("/slow-header?ms=100")
                .body(body::empty())
                .unwrap();
            shared.send(request).await.map(|a| a.status.as_u16())
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap(), 200);
    }
    assert_eq!(lab.upstream.accepted_connections(), 1);
}
