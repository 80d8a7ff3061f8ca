//! Which route a request takes: by listener, host, path prefix on segment borders and method; and that nothing leaves without one.

use crate::{
    lab::Lab,
    request_lab::{Report, config, plain_upstream, problem, ready},
};
use harness::{client::Client, ports, raw::exchange};
use http::Request;

#[rustfmt::skip]
#[tokio::test]
async fn by_listener_host_path_and_method() {
    let lab = Lab::new().await;
    let mut upstreams = vec![];
    for _ in 0..7 {
        upstreams.push(plain_upstream(&lab).await);
    }
    let url = |i: usize| upstreams[i].url();
    let other = ports::free().unwrap();
    let sidecar = ready(&lab, config("", &[
        format!("name: r0, upstream: '{}'", url(0)),
        format!("name: r1, match: {{ host: a.example }}, upstream: '{}'", url(1)),
        format!("name: r2, match: {{ host: a.example, pathPrefix: /users }}, upstream: '{}'", url(2)),
        format!("name: r3, match: {{ host: a.example, pathPrefix: /users/deep/, methods: [POST] }}, upstream: '{}'", url(3)),
        format!("name: r4, match: {{ host: a.example, pathPrefix: /users/deep, methods: [GET] }}, upstream: '{}'", url(4)),
        format!("name: r5, listen: '{other}', match: {{ host: a.example }}, upstream: '{}'", url(5)),
        format!("name: r6, match: {{ host: b.example, pathPrefix: /users }}, upstream: '{}'", url(6)),
    ])).await;
    let mut report = Report::default();
    for (method, host, path, route) in [
        ("GET", "localhost", "/users/1", Ok(0)),
        ("GET", "a.example", "/", Ok(1)),
        ("GET", "A.Example:80", "/other", Ok(1)),
        ("GET", "a.example", "/users", Ok(2)),
        ("GET", "a.example", "/users/", Ok(2)),
        ("GET", "a.example", "/users/1?x=/users/deep", Ok(2)),
        ("GET", "a.example", "/users?x", Ok(2)),
        ("GET", "a.example", "/usersdeep", Ok(1)),
        ("GET", "a.example", "/Users/1", Ok(1)),
        ("GET", "a.example", "/users/deeper", Ok(2)),
        ("GET", "a.example", "/users/deep", Ok(4)),
        ("GET", "a.example", "/users/deep/er", Ok(4)),
        ("POST", "a.example", "/users/deep/er", Ok(3)),
        ("PUT", "a.example", "/users/deep/er", Err((403, "method_not_allowed"))),
        ("GET", "b.example", "/users/1", Ok(6)),
        // The host's own routes do not match; the one for any host does.
        ("GET", "b.example", "/other", Ok(0)),
        ("GET", "c.example", "/users/1", Err((403, "foreign_host"))),
        ("GET", "http://a.example", "/users/1", Ok(2)),
        ("GET", "http://c.example", "/users/1", Err((404, "no_route"))),
        ("GET", "http://localhost", "/users/1", Err((404, "no_route"))),
    ] {
        let name = format!("{method} {host} {path}");
        for client in [sidecar.client(), sidecar.client().http2()] {
            let before: Vec<_> = upstreams.iter().map(|u| u.requests().len()).collect();
            let absolute = host.starts_with("http://");
            if absolute && client.is_http2() {
                continue;
            }
            let client = client.host(host.trim_start_matches("http://"));
            let uri = if absolute { format!("{host}{path}") } else { path.to_owned() };
            let request = Request::builder().method(method).uri(uri).body(harness::body::empty()).unwrap();
            let answer = client.send(request).await.unwrap();
            let now: Vec<_> = upstreams.iter().map(|u| u.requests().len()).collect();
            let went: Vec<_> = (0..upstreams.len()).filter(|i| now[*i] > before[*i]).collect();
            match route {
                Ok(i) => {
                    report.check(&name, went == [i], format!("went to {went:?}: {}", answer.text()));
                    // The path goes out as it came in.
                    let seen = upstreams[i].requests().last();
                    report.check(&name, seen.is_some_and(|r| r.uri == path), "another path");
                }
                Err((status, reason)) => {
                    report.check(&name, went.is_empty(), format!("went to {went:?}"));
                    if let Err(what) = problem(&answer, status, reason) {
                        report.note(&name, what);
                    }
                }
            }
        }
    }
    // The other listener knows its own routes alone.
    let answer = Client::new(other).host("a.example").get("/users/1").await.unwrap();
    report.check("the other listener", answer.status == 200 && upstreams[5].requests().len() == 1, answer.text());
    for host in ["localhost", "b.example"] {
        let answer = Client::new(other).host(host).get("/users/1").await.unwrap();
        report.check("the other listener", answer.status == 404 || answer.status == 403, answer.text());
    }
    report.end();
}

/// `HTTP_PROXY` pointing at the sidecar: the routes are the allow-list.
#[tokio::test]
async fn as_a_forward_proxy() {
    let lab = Lab::new().await;
    let sidecar = ready(
        &lab,
        config(
            "",
            &[format!(
                "name: api, match: {{ host: api.example }}, upstream: '{}'",
                lab.upstream.url()
            )],
        ),
    )
    .await;
    let ask = async |line: &str, host: &str| {
        exchange(
            sidecar.listen(),
            format!(
                "{line} HTTP/1.1\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n"
            ),
        )
        .await
        .unwrap()
    };
    let answer = ask("GET http://api.example/users/1?q=1", "api.example").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = lab.upstream.requests().last().unwrap();
    assert_eq!(
        (seen.uri.path_and_query().unwrap().as_str(), seen.verified),
        ("/users/1?q=1", Some(Ok(())))
    );
    assert_eq!(seen.header("proxy-authorization"), [""; 0]);
    // A port in the URL, and no path, and another case.
    for line in [
        "GET http://api.example:80/users/1",
        "GET HTTP://API.EXAMPLE/users/1",
    ] {
        assert_eq!(ask(line, "x").await.status(), 200, "{line}");
    }
    assert_eq!(
        ask("GET http://api.example", "x").await.status(),
        404,
        "the upstream's own"
    );
    let reached = lab.upstream.requests().len();
    for (line, status) in [
        ("GET http://other.example/users/1", 404),
        (
            "GET http://169.254.169.254/metadata/identity/oauth2/token",
            404,
        ),
        ("GET https://api.example/users/1", 400),
        ("GET http://u:p@api.example/users/1", 400),
        ("GET http://api.example@other.example/users/1", 400),
        ("GET http://api.example.other.example/users/1", 404),
        ("CONNECT api.example:443", 405),
    ] {
        let answer = ask(line, "api.example").await;
        assert_eq!(
            answer.status(),
            status,
            "{line}: {} {}",
            answer.head,
            answer.text()
        );
    }
    assert_eq!(lab.upstream.requests().len(), reached, "something left");
}

#[tokio::test]
async fn a_base_path_is_put_before_and_cannot_be_climbed_out_of() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let sidecar = ready(
        &lab,
        config(
            "",
            &[format!(
                "name: based, upstream: '{}/users/'",
                upstream.url()
            )],
        ),
    )
    .await;
    for (path, sent) in [
        ("/1", "/users/1"),
        ("/1?a=b&c=..%2F", "/users/1?a=b&c=..%2F"),
        ("/", "/users/"),
        ("/%7Eada", "/users/%7Eada"),
    ] {
        sidecar.client().get(path).await.unwrap();
        let seen = upstream.requests().last().unwrap();
        assert_eq!(seen.uri.to_string(), sent);
    }
    let reached = upstream.requests().len();
    for path in [
        "/../status/200",
        "/a/../../status/200",
        "/%2e%2e/status/200",
        "/.%2E/status/200",
        "/..%2fstatus/200",
        "/..%5cstatus/200",
        "/..\\status/200",
        "/..;a=b/status/200",
        "//status/200",
        "/a//../../status/200",
    ] {
        let answer = exchange(
            sidecar.listen(),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        )
        .await
        .unwrap();
        assert_eq!(answer.status(), 400, "{path}: {}", answer.text());
    }
    assert_eq!(upstream.requests().len(), reached);
}
