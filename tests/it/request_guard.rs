//! Who may call, and for what: Unix sockets, ports of a forward proxy, paths that read in two ways, answers to what is no request.

use crate::{
    lab::Lab,
    request_lab::{Bench, Report, config, get, plain_upstream, problem, ready, route},
};
use harness::{
    body,
    client::Client,
    ports,
    process::Sidecar,
    raw::{Raw, RawAnswer, exchange},
    temp::TempDir,
    upstream::{
        Upstream,
        raw::{RawUpstream, Step},
    },
};
use http::Request;

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

/// Two plain upstreams.
async fn upstreams() -> (Lab, Upstream, Upstream) {
    let lab = Lab::new().await;
    let (root, other) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    (lab, root, other)
}

/// A sidecar that sends to `other` what is `matched`, and the rest to `root`.
async fn beside(lab: &Lab, root: &Upstream, other: &Upstream, matched: &str) -> Sidecar {
    let routes = [
        route(&root.url(), ""),
        format!(
            "name: other, match: {{ {matched} }}, upstream: '{}'",
            other.url()
        ),
    ];
    ready(lab, config("", &routes)).await
}

#[tokio::test]
async fn a_forward_proxy_forwards_to_no_other_port() {
    let (lab, root, api) = upstreams().await;
    let sidecar = beside(&lab, &root, &api, "host: api.example").await;
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
    let (lab, root, admin) = upstreams().await;
    let sidecar = beside(&lab, &root, &admin, "pathPrefix: /admin").await;
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

/// It looks like what is said to a request that cannot be parsed, and passes as it is.
#[tokio::test]
async fn an_upstreams_own_bare_refusal_passes() {
    let lab = Lab::new().await;
    for status in ["400 Bad Request", "431 Request Header Fields Too Large"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let upstream = RawUpstream::start(vec![Step::text(&answer), Step::Read(1 << 20)])
            .await
            .unwrap();
        let sidecar = ready(&lab, config("", &[route(&upstream.url(), "")])).await;
        let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
        raw.send(get("/users/1")).await.unwrap();
        let answer = raw.answer().await.unwrap();
        assert!(answer.head.contains(status), "{}", answer.head);
        assert_eq!(answer.text(), "");
        assert!(answer.headers("proxy-status").is_empty());
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
        (
            "60 KB of target",
            get(&format!("/{}", "u".repeat(60_000))),
            414,
        ),
        (
            "80 KB of target",
            get(&format!("/{}", "u".repeat(80_000))),
            414,
        ),
        (
            "500 KB of target",
            get(&format!("/{}", "u".repeat(500_000))),
            414,
        ),
        (
            "no end of a target",
            format!("GET /{}", "u".repeat(80_000)),
            414,
        ),
    ] {
        // As the first request, behind one that was good, and right behind one, in the same packet.
        for behind in ["nothing", "another", "another in one go"] {
            let name = format!("{name}, behind {behind}");
            let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
            let text = match behind {
                "nothing" => text.clone(),
                "another" => {
                    raw.send(get("/users/1")).await.unwrap();
                    assert_eq!(raw.answer().await.unwrap().status(), 200);
                    text.clone()
                }
                _ => format!("{}{text}", get("/users/1")),
            };
            // A refusal may come before all of it is sent.
            drop(raw.send(&text).await);
            if behind == "another in one go" {
                assert_eq!(raw.answer().await.unwrap().status(), 200, "{name}");
            }
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
    // Too long a target can be parsed, and refused like any other request.
    let mut raw = Raw::connect(bench.sidecar.listen()).await.unwrap();
    raw.send(get(&format!("/{}", "u".repeat(20_000))))
        .await
        .unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 414, "{}", answer.head);
    assert_eq!(answer.headers("content-type"), ["application/problem+json"]);
    report.end();
    assert_eq!(bench.upstream.requests().len(), 2 * 13, "something left");
    let metrics = bench.sidecar.metrics().await.unwrap();
    let rejected = |reason| metrics.value("token_sidecar_rejected_total", &[("reason", reason)]);
    assert_eq!(rejected("malformed"), Some(3.0 * 6.0));
    assert_eq!(rejected("headers_too_large"), Some(3.0 * 3.0));
    assert_eq!(rejected("uri_too_long"), Some(3.0 * 4.0 + 1.0));
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
