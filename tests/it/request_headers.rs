//! What the upstream and the workload see of each other's header sections: stripped both ways before anything is injected, Host from the
//! route, exactly one Authorization and it is ours, redirects passed on.

use crate::{
    lab::{Lab, program},
    request_lab::{Bench, config, plain_upstream, ready, route},
};
use harness::{
    body,
    process::Sidecar,
    raw,
    upstream::{
        Scripted,
        raw::{RawUpstream, Step},
    },
};
use http::{Request, Version};

/// Everything that must not reach an upstream, with what may.
fn laden() -> http::request::Builder {
    Request::get("/users/1")
        .header("authorization", "Bearer mine")
        .header("authorization", "Basic bWluZQ==")
        .header("proxy-authorization", "Basic bWluZQ==")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-forwarded-access-token", "mine")
        .header("x-ms-token-aad-access-token", "mine")
        .header("x-real-ip", "1.2.3.4")
        .header("forwarded", "for=1.2.3.4")
        .header("cookie", "private=1")
        .header("x-private", "1")
        .header("accept", "a/b")
        .header("x-mine", "1")
        .header("x-mine", "2")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
}

fn sorted(headers: &http::HeaderMap) -> Vec<String> {
    let mut names: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != "authorization" && *name != "via" && *name != "host")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    names.sort();
    names
}

const PASSED: [&str; 4] = [
    "accept: a/b",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-mine: 1",
    "x-mine: 2",
];

#[tokio::test]
async fn a_request_is_stripped_and_then_gets_our_token_alone() {
    let bench = Bench::new("", ", stripRequestHeaders: [Cookie, X-Private]").await;
    let request = laden()
        .header("connection", "keep-alive, authorization, x-hop")
        .header("connection", "via, host, cookie")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")
        .header("proxy-authenticate", "Basic")
        .body(body::empty())
        .unwrap();
    let seen = bench.received(request).await;
    assert_eq!(sorted(&seen.headers), PASSED);
    assert_eq!(seen.verified, Some(Ok(())));
    assert_eq!(
        seen.header("host"),
        [bench.upstream.url().trim_start_matches("http://")]
    );
    assert_eq!(seen.header("via").len(), 1);
    assert!(seen.header("via")[0].starts_with("1.1 token-sidecar"));
    assert_eq!(
        seen.bearer(),
        Some(bench.lab.authority.issued().last().unwrap().token.as_str())
    );

    // The same over HTTP/2, which knows no Connection header.
    let before = bench.upstream.requests().len();
    let client = bench.sidecar.client().http2();
    let answer = client
        .send(
            laden()
                .header("te", "trailers")
                .body(body::empty())
                .unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.version),
        (200, Version::HTTP_2)
    );
    let seen = bench.upstream.requests().since(before).remove(0);
    let mut passed = PASSED.to_vec();
    passed.insert(1, "te: trailers");
    assert_eq!(sorted(&seen.headers), passed);
    assert_eq!(
        (seen.verified, seen.version),
        (Some(Ok(())), Version::HTTP_11)
    );
}

#[tokio::test]
async fn over_http2_the_upstream_gets_the_routes_authority_and_our_token_alone() {
    let lab = Lab::new().await;
    let sidecar = ready(
        &lab,
        config(
            "",
            &[route(
                &lab.upstream.url(),
                ", stripRequestHeaders: [cookie, x-private]",
            )],
        ),
    )
    .await;
    for client in [sidecar.client(), sidecar.client().http2()] {
        let before = lab.upstream.requests().len();
        let answer = client
            .send(laden().body(body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = lab.upstream.requests().since(before).remove(0);
        assert_eq!(seen.version, Version::HTTP_2);
        assert_eq!(sorted(&seen.headers), PASSED);
        assert_eq!(seen.verified, Some(Ok(())));
        assert_eq!(
            seen.uri.authority().unwrap().as_str(),
            lab.upstream.url().trim_start_matches("https://")
        );
        assert_eq!(seen.header("host"), [""; 0]);
    }
}

#[tokio::test]
async fn a_response_is_stripped_of_what_is_between_two_hops() {
    let lab = Lab::new().await;
    let upstream = RawUpstream::start(vec![Step::text(
        "HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\n\
         Proxy-Connection: close\r\nUpgrade: h2c\r\nTE: trailers\r\nAuthorization: Bearer echoed\r\nProxy-Authorization: x\r\n\
         Set-Cookie: private=1\r\nX-Mine: 1\r\nX-Mine: 2\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nhi",
    )])
    .await
    .unwrap();
    let sidecar = ready(
        &lab,
        config(
            "",
            &[route(
                &upstream.url(),
                ", stripResponseHeaders: [set-cookie]",
            )],
        ),
    )
    .await;
    let answer = raw::exchange(
        sidecar.listen(),
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .await
    .unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hi"));
    let mut names: Vec<_> = answer
        .head
        .split("\r\n")
        .skip(1)
        .map(|line| line.split(':').next().unwrap().to_ascii_lowercase())
        .filter(|name| name != "date")
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["content-length", "www-authenticate", "x-mine", "x-mine"],
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn redirects_are_passed_on_and_never_followed() {
    let bench = Bench::new("", "").await;
    let other = plain_upstream(&bench.lab).await;
    for to in [
        format!("{}/users/1", other.url()),
        format!("{}/users/1", bench.upstream.url()),
        "/users/1".to_owned(),
    ] {
        let answer = bench
            .sidecar
            .client()
            .get(&format!("/redirect?to={to}"))
            .await
            .unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (302, to.as_str())
        );
    }
    for status in [300, 301, 303, 304, 307, 308] {
        bench.upstream.script(
            "/moved",
            Scripted {
                status,
                headers: vec![("location".into(), other.url())],
                body: String::new(),
            },
        );
        let answer = bench.sidecar.client().get("/moved").await.unwrap();
        assert_eq!(answer.status, status);
    }
    assert_eq!(bench.upstream.requests().len(), 9);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn plain_http_off_loopback_is_refused_at_the_start() {
    let lab = Lab::new().await;
    let config = config("", &[route("http://192.0.2.1", "")]);
    let mut sidecar = Sidecar::spawn(program(), &lab.aks().config(config)).unwrap();
    assert_eq!(sidecar.process.wait().await.unwrap().code(), Some(64));
    assert!(
        sidecar.process.output().contains("allowInsecureHttp"),
        "{}",
        sidecar.process.output()
    );
    assert!(lab.authority.requests().is_empty());
}

#[tokio::test]
async fn a_loop_is_seen() {
    let lab = Lab::new().await;
    // The route leads to the sidecar's own listener.
    let sidecar = ready(&lab, config("", &[route("http://{listen}", "")])).await;
    let answer = sidecar.client().get("/users/1").await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.header("proxy-status"),
        "token-sidecar; error=proxy_loop_detected"
    );
    assert!(!answer.text().contains("Bearer"));
}

#[tokio::test]
async fn head_and_statuses_without_bodies_keep_their_headers() {
    let lab = Lab::new().await;
    let mut raw_upstreams = vec![];
    for (request, head) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nETag: \"x\"\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 123\r\nETag: \"x\"\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
        ),
    ] {
        let upstream = RawUpstream::start(vec![Step::text(head), Step::Again])
            .await
            .unwrap();
        raw_upstreams.push((request, head, upstream));
    }
    let routes: Vec<_> = raw_upstreams
        .iter()
        .enumerate()
        .map(|(i, (_, _, upstream))| {
            format!(
                "name: r{i}, match: {{ pathPrefix: /{i} }}, upstream: '{}'",
                upstream.url()
            )
        })
        .collect();
    let sidecar = ready(&lab, config("", &routes)).await;
    for (i, (method, head, _)) in raw_upstreams.iter().enumerate() {
        let mut raw = raw::Raw::connect(sidecar.listen()).await.unwrap();
        for _ in 0..2 {
            raw.send(format!("{method} /{i} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .await
                .unwrap();
            let answer = raw.answer_to(true).await.unwrap();
            assert_eq!(
                answer.head.split(' ').nth(1),
                head.split(' ').nth(1),
                "{head}: {}",
                answer.head
            );
            assert_eq!(answer.headers("etag"), ["\"x\""], "{head}");
            let length = head.contains("Content-Length").then(|| {
                head.split("Length: ")
                    .nth(1)
                    .unwrap()
                    .split("\r\n")
                    .next()
                    .unwrap()
            });
            if method == &"HEAD" {
                assert_eq!(
                    answer.headers("content-length").first().copied(),
                    length,
                    "{head}: {}",
                    answer.head
                );
            }
        }
    }
}
