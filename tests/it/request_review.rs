//! What a review of the request flow found, row by row: bodies that come late, parked connections, framing of bodies that few send, reloads
//! under way, pools that are full or cold, ports of a forward proxy, paths that read in two ways, answers to what is no request.

use crate::{
    lab::Lab,
    request_lab::{Bench, Report, config, plain_upstream, problem, ready, route},
};
use harness::{
    body,
    certs::{Alpn, LOCAL_NAMES},
    client::{Answer, Client, Connected},
    ports,
    process::Sidecar,
    raw::{Raw, RawAnswer, exchange},
    record::Record,
    serve::{Server, handler},
    temp::TempDir,
    upstream::{
        Upstream,
        raw::{RawUpstream, Step},
    },
    wait::{LONG, until, within},
};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longer than a connection waits for its next request before it gives its memory back.
const PARKED: Duration = Duration::from_millis(1600);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn get_request(path: &str) -> Request<body::Body> {
    Request::get(path).body(body::empty()).unwrap()
}

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

/// An answer of 20 bytes, one every 100 ms, that has begun.
async fn streaming(client: &Client) -> (Connected, Response<Incoming>) {
    let mut connection = client.connect().await.unwrap();
    let response = connection
        .start(get_request("/slow-body?n=20&ms=100"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    (connection, response)
}

async fn finishes((connection, response): (Connected, Response<Incoming>)) {
    let body = within(LONG, "a stream to end", response.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.to_bytes().len(), 20);
    drop(connection);
}

async fn reloaded(sidecar: &Sidecar, text: &str, count: f64) {
    sidecar.write_config(text).unwrap();
    sidecar
        .metric("a reload", |m| {
            m.value(
                "token_sidecar_config_reloads_total",
                &[("result", "success")],
            )
            .is_some_and(|n| n >= count)
        })
        .await
        .unwrap();
}

async fn gauge(sidecar: &Sidecar, open: usize) {
    sidecar
        .metric(&format!("{open} connections in the gauge"), |m| {
            m.value("token_sidecar_upstream_connections", &[]) == Some(open as f64)
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_pool_finishes_its_requests_and_closes() {
    let lab = Lab::new().await;
    let plain = plain_upstream(&lab).await;
    for (upstream, http) in [(&plain, "1"), (&plain, "2"), (&lab.upstream, "auto")] {
        let text = |idle: &str| {
            let more = format!(
                ", http: '{http}', pool: {{ idleTimeout: {idle} }}, timeouts: {{ idle: {idle} }}"
            );
            config("", &[route(&upstream.url(), &more)])
        };
        let sidecar = ready(&lab, text("4m")).await;
        let mut streams = vec![];
        for _ in 0..4 {
            streams.push(streaming(&sidecar.client()).await);
            streams.push(streaming(&sidecar.client().http2()).await);
        }
        // Some idle ones too.
        for _ in 0..4 {
            assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
        }
        let open = upstream.open_connections();
        assert!(open > 0, "{http}");
        gauge(&sidecar, open).await;
        reloaded(&sidecar, &text("3m"), 2.0).await;
        for stream in streams {
            finishes(stream).await;
        }
        until("the old connections to be closed", || {
            upstream.open_connections() == 0
        })
        .await
        .unwrap();
        gauge(&sidecar, 0).await;
        assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
        assert_eq!(upstream.open_connections(), 1, "{http}");
        gauge(&sidecar, 1).await;
        drop(sidecar);
        until("the sidecar to be gone", || {
            upstream.open_connections() == 0
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_goes_finishes_what_it_took_and_disturbs_no_other() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let (second, third) = (ports::free().unwrap(), ports::free().unwrap());
    let with = |more: &[String]| {
        let mut routes = vec![route(&upstream.url(), "")];
        routes.extend_from_slice(more);
        config("", &routes)
    };
    let at = |name: &str, listen| {
        format!(
            "name: {name}, listen: '{listen}', upstream: '{}'",
            upstream.url()
        )
    };
    let sidecar = ready(&lab, with(&[at("second", second)])).await;
    let mut kept = sidecar.client().connect().await.unwrap();
    assert_eq!(
        kept.send(get_request("/users/1")).await.unwrap().status,
        200
    );
    let undisturbed = streaming(&sidecar.client()).await;
    let going = [
        streaming(&Client::new(second)).await,
        streaming(&Client::new(second).http2()).await,
    ];
    // One that has not been answered, and one whose body is still to come.
    let mut slow = Raw::connect(second).await.unwrap();
    slow.send(get("/slow-header?ms=1500")).await.unwrap();
    let mut uploading = Raw::connect(second).await.unwrap();
    uploading
        .send("POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    until("both to arrive", || {
        upstream
            .requests()
            .count(|r| ["/slow-header", "/sink"].contains(&r.path()))
            == 2
    })
    .await
    .unwrap();

    // One listener goes, another one comes with its route.
    reloaded(&sidecar, &with(&[at("third", third)]), 2.0).await;
    until("the listener to be gone", || {
        std::net::TcpStream::connect(second).is_err()
    })
    .await
    .unwrap();
    uploading.send("def").await.unwrap();
    let answer = uploading.answer().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert!(answer.text().contains("\"bytes\":6"), "{}", answer.text());
    assert_eq!(slow.answer().await.unwrap().status(), 200);
    for raw in [&mut uploading, &mut slow] {
        assert!(raw.closes_within(LONG).await);
    }
    for stream in going {
        finishes(stream).await;
    }
    finishes(undisturbed).await;
    assert_eq!(
        kept.send(get_request("/users/1")).await.unwrap().status,
        200
    );
    for client in [Client::new(third), Client::new(third).http2()] {
        assert_eq!(client.get("/users/1").await.unwrap().status, 200);
    }
    let metrics = sidecar.metrics().await.unwrap();
    let counted = metrics.value("token_sidecar_requests_total", &[("route", "third")]);
    assert_eq!(counted, Some(2.0));
}

#[tokio::test]
async fn a_unix_socket_is_guarded_as_a_port_is() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let dir = TempDir::new("token-sidecar-review").unwrap();
    let path = dir.join("http.sock");
    let text = config(
        "",
        &[format!(
            "name: unix, listen: 'unix:{}', upstream: '{}'",
            path.display(),
            upstream.url()
        )],
    );
    let sidecar = ready(&lab, text).await;
    for client in [Client::unix(&path), Client::unix(&path).http2()] {
        let answer = client.post("/echo", "abc").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"], "abc");
        assert_eq!(upstream.requests().last().unwrap().verified, Some(Ok(())));
        let reached = upstream.requests().len();
        let answer = client
            .clone()
            .host("evil.example")
            .get("/users/1")
            .await
            .unwrap();
        problem(&answer, 403, "foreign_host").unwrap();
        let browser = Request::get("/users/1")
            .header("origin", "https://evil.example")
            .body(body::empty())
            .unwrap();
        let answer = client.send(browser).await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.text());
        let answer = client.get("/users/../status/200").await.unwrap();
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(upstream.requests().len(), reached, "something left");
    }
    drop(sidecar);
}

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

    let sidecar = ready(&lab, text("300ms")).await;
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

/// Many at once, over a connection each.
async fn at_once(client: &Client, count: usize, path: &'static str) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        tasks.spawn(async move { client.get(path).await.unwrap() });
    }
    within(LONG, "all answers", tasks.join_all()).await.unwrap()
}

/// Those who wait for the first connection do not wait in vain: neither when it cannot be shared, nor when it cannot be opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_do_not_wait_for_what_cannot_be_shared() {
    let lab = Lab::new().await;
    let tls = lab.ca.server(&LOCAL_NAMES, Alpn::Http1).unwrap();
    let http1 = Upstream::start(Some(tls), None).await.unwrap();
    let nobody = ports::free().unwrap().port();
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

/// Requests that queue for a place in a pool are served even if the pool is replaced meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_queue_in_a_replaced_pool_are_served() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let text = |idle: &str| {
        let more = format!(
            ", pool: {{ maxConnections: 1, idleTimeout: {idle} }}, timeouts: {{ connect: 5m }}"
        );
        config("workers: 1", &[route(&upstream.url(), &more)])
    };
    let sidecar = ready(&lab, text("4m")).await;
    let held = streaming(&sidecar.client()).await;
    let client = sidecar.client();
    let mut queued = JoinSet::new();
    queued.spawn(async move { at_once(&client, 10, "/users/1").await });
    sidecar
        .metric("all to be in", |m| {
            m.value("token_sidecar_requests_in_flight", &[])
                .is_some_and(|n| n >= 11.0)
        })
        .await
        .unwrap();
    reloaded(&sidecar, &text("3m"), 2.0).await;
    finishes(held).await;
    for answer in queued.join_all().await.concat() {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until("the old connections to be closed", || {
        upstream.open_connections() == 0
    })
    .await
    .unwrap();
    gauge(&sidecar, 0).await;
}

#[tokio::test]
async fn a_forward_proxy_forwards_to_no_other_port() {
    let lab = Lab::new().await;
    let (root, api) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    let sidecar = ready(
        &lab,
        config(
            "",
            &[
                route(&root.url(), ""),
                format!(
                    "name: api, match: {{ host: api.example }}, upstream: '{}'",
                    api.url()
                ),
            ],
        ),
    )
    .await;
    let own = sidecar.listen().port();
    let foreign = ports::free().unwrap().port();
    let mut report = Report::default();
    for (authority, to) in [
        ("api.example".to_owned(), Some(&api)),
        ("api.example:80".to_owned(), Some(&api)),
        ("API.example:".to_owned(), Some(&api)),
        (format!("api.example:{}", api.address().port()), Some(&api)),
        (format!("api.example:{foreign}"), None),
        ("api.example:443".to_owned(), None),
        (format!("api.example:{own}"), None),
        (format!("localhost:{own}"), Some(&root)),
        (format!("127.0.0.1:{own}"), Some(&root)),
        (format!("localhost:{foreign}"), None),
        (format!("localhost:{}", root.address().port()), None),
        (format!("127.0.0.1:{foreign}"), None),
        (format!("[::1]:{foreign}"), None),
        ("localhost".to_owned(), None),
        ("localhost:80".to_owned(), None),
    ] {
        let counts = || [root.requests().len(), api.requests().len()];
        let before = counts();
        let text = format!("GET http://{authority}/users/1 HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let answer = exchange(sidecar.listen(), text).await.unwrap();
        let went: Vec<usize> = counts().iter().zip(before).map(|(n, b)| n - b).collect();
        let (status, expected) = match to {
            Some(to) if std::ptr::eq(to, &raw const root) => (200, [1, 0]),
            Some(_) => (200, [0, 1]),
            None => (404, [0, 0]),
        };
        report.check(&authority, went == expected, format!("went to {went:?}"));
        report.check(
            &authority,
            answer.status() == status,
            format!("{} {}", answer.head, answer.text()),
        );
        if status == 404 {
            let is_ours = answer.text().contains("\"reason\":\"no_route\"");
            report.check(&authority, is_ours, answer.text());
        }
    }
    report.end();
}

#[tokio::test]
async fn paths_that_read_in_two_ways_are_refused_where_they_decide() {
    let lab = Lab::new().await;
    let (root, admin) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    let sidecar = ready(
        &lab,
        config(
            "",
            &[
                route(&root.url(), ""),
                format!(
                    "name: admin, match: {{ pathPrefix: /admin }}, upstream: '{}'",
                    admin.url()
                ),
            ],
        ),
    )
    .await;
    let mut report = Report::default();
    for client in [sidecar.client(), sidecar.client().http2()] {
        for path in [
            "/%61dmin",
            "/admin;x",
            "/admin%2Fx",
            "/admin%2fx",
            "/%41dmin",
            "/admi%6E/x",
            "/admin;x/y",
            "/users/%7Eada",
            "//admin",
            "/x%5cadmin",
        ] {
            let answer = client.get(path).await.unwrap();
            if let Err(what) = problem(&answer, 400, "unsafe_path") {
                report.note(path, what);
            }
        }
    }
    let reached = root.requests().len() + admin.requests().len();
    report.check("all", reached == 0, "something left");
    // What needs its encoding has only one reading; the query is nobody's path.
    for path in ["/users/%C3%A9", "/users/a%20b", "/users/1?x=%61;y=%2F"] {
        let answer = sidecar.client().get(path).await.unwrap();
        report.check(path, answer.status == 200, answer.text());
        let seen = root.requests().last().map(|r| r.uri.to_string());
        report.check(path, seen.as_deref() == Some(path), format!("{seen:?}"));
    }
    report.end();

    // One route for all paths: then they are the upstream's own business.
    let upstream = plain_upstream(&lab).await;
    let sidecar = ready(
        &lab,
        config("", &[route(&format!("{}/users", upstream.url()), "")]),
    )
    .await;
    for path in ["/%7Eada", "/%61da", "/ada;v=1"] {
        let answer = sidecar.client().get(path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let seen = upstream.requests().last().unwrap();
        assert_eq!(seen.uri.to_string(), format!("/users{path}"));
    }
}

#[tokio::test]
async fn what_is_no_request_gets_a_problem_and_the_connection_closes() {
    let bench = Bench::new("", "").await;
    let fields = |n: usize| (0..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    let with = |lines: &str| format!("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let mut report = Report::default();
    for (name, text, status) in [
        ("a space before the colon", with("X-A : b\r\n"), 400),
        ("no colon", with("nonsense\r\n"), 400),
        ("a NUL", with("X-A: b\0c\r\n"), 400),
        ("no version", "GET /users/1\r\n\r\n".to_owned(), 400),
        ("no HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("a bad length", with("Content-Length: -1\r\n"), 400),
        ("101 fields", with(&fields(100)), 431),
        ("1000 fields", with(&fields(1000)), 431),
        (
            "too much of fields",
            with(&format!("X-Big: {}\r\n", "y".repeat(200 * 1024))),
            431,
        ),
    ] {
        // As the first request, and behind one that was good.
        for behind in [false, true] {
            let name = format!("{name}, behind another: {behind}");
            let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
            if behind {
                raw.send(get("/users/1")).await.unwrap();
                assert_eq!(raw.answer().await.unwrap().status(), 200);
            }
            // A refusal may come before all of it is sent.
            drop(raw.send(&text).await);
            match raw.answer().await {
                Ok(answer) => unparsed(&name, &answer, status, &mut report),
                Err(error) => report.note(&name, error),
            }
            match raw.rest().await {
                Ok(rest) => report.check(&name, rest.is_empty(), "more than one answer"),
                Err(error) => report.note(&name, error),
            }
        }
    }
    // Right behind a good one, in the same packet.
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(format!("{}{}", get("/users/1"), with("nonsense\r\n")))
        .await
        .unwrap();
    assert_eq!(raw.answer().await.unwrap().status(), 200);
    let answer = raw.answer().await.unwrap();
    report.check("pipelined", answer.status() == 400, &answer.head);
    report.check("pipelined", raw.closes_within(LONG).await, "stays open");
    // Too long a target can be parsed, and refused like any other request.
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(get(&format!("/{}", "u".repeat(20_000))))
        .await
        .unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 414, "{}", answer.head);
    assert_eq!(answer.headers("content-type"), ["application/problem+json"]);
    report.end();
    assert_eq!(bench.upstream.requests().len(), 10, "something left");
}

fn unparsed(name: &str, answer: &RawAnswer, status: u16, report: &mut Report) {
    let said = || format!("{}\n{}", answer.head, answer.text());
    report.check(name, answer.status() == status && !answer.cut, said());
    report.check(
        name,
        answer.headers("content-type") == ["application/problem+json"],
        said(),
    );
    report.check(
        name,
        answer.headers("proxy-status").len() == 1 && answer.headers("connection") == ["close"],
        said(),
    );
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let says = ["reason", "title", "detail"]
        .iter()
        .all(|key| json[key].as_str().is_some_and(|text| !text.is_empty()));
    report.check(name, json["status"] == status && says, said());
}
