//! Tests of `guard`: each refusal, and that ordinary requests pass.

use super::*;
use http::Request;
use std::time::Duration;

fn limits() -> Limits {
    Limits {
        max_connections: 10,
        max_requests: 10,
        max_header_bytes: 1000,
        max_header_fields: 10,
        max_uri_bytes: 100,
        header_read_timeout: Duration::from_secs(10),
        keep_alive_timeout: Duration::from_secs(60),
    }
}

fn parts(method: &str, uri: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
    let mut r = Request::builder().method(method).uri(uri).version(version);
    for (n, v) in fields {
        r = r.header(*n, *v);
    }
    r.body(()).unwrap().into_parts().0
}

fn of(
    method: &str,
    uri: &str,
    version: Version,
    fields: &[(&str, &str)],
) -> Result<(String, bool), u16> {
    check(&parts(method, uri, version, fields), &limits())
        .map(|d| (d.host.into_owned(), d.absolute))
        .map_err(|p| p.status().as_u16())
}

#[test]
fn ordinary_requests_pass() {
    let v = Version::HTTP_11;
    assert_eq!(
        of("GET", "/", v, &[("host", "LocalHost:8080")]),
        Ok(("localhost".into(), false))
    );
    assert_eq!(
        of("GET", "/", v, &[("host", "[::1]:8080")]),
        Ok(("::1".into(), false))
    );
    assert_eq!(
        of(
            "GET",
            "http://Orders.Example.com/v1",
            v,
            &[("host", "other")]
        ),
        Ok(("orders.example.com".into(), true)),
        "the target counts, not Host"
    );
    assert_eq!(
        of("GET", "http://orders.example.com/v1", Version::HTTP_2, &[]),
        Ok(("orders.example.com".into(), false))
    );
    assert_eq!(
        of("GET", "/", Version::HTTP_10, &[]),
        Ok(("localhost".into(), false))
    );
    assert_eq!(
        of(
            "POST",
            "/",
            v,
            &[
                ("host", "h"),
                ("expect", "100-Continue"),
                ("transfer-encoding", "Chunked")
            ]
        ),
        Ok(("h".into(), false))
    );
}

#[test]
fn what_the_parser_lets_through_is_refused() {
    let v = Version::HTTP_11;
    for (method, uri, fields, status) in [
        ("GET", "/", &[][..], 400),
        ("GET", "/", &[("host", "a"), ("host", "a")], 400),
        ("GET", "http://u@h/", &[("host", "h")], 400),
        ("GET", "http://u:p@h/", &[("host", "h")], 400),
        ("GET", "/", &[("host", "u@h")], 400),
        ("GET", "/", &[("host", "")], 400),
        ("GET", "/", &[("host", "a b")], 400),
        ("GET", "/", &[("host", "a/b")], 400),
        ("GET", "/", &[("host", "a:b")], 400),
        ("GET", "/", &[("host", "a:80:80")], 400),
        ("GET", "/", &[("host", "[::1")], 400),
        ("GET", "https://h/", &[("host", "h")], 400),
        (
            "POST",
            "/",
            &[("host", "h"), ("transfer-encoding", "gzip, chunked")],
            400,
        ),
        (
            "POST",
            "/",
            &[
                ("host", "h"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            400,
        ),
        (
            "POST",
            "/",
            &[("host", "h"), ("transfer-encoding", "identity")],
            400,
        ),
        ("POST", "/", &[("host", "h"), ("expect", "200-ok")], 417),
        ("CONNECT", "h:443", &[("host", "h")], 405),
        ("TRACE", "/", &[("host", "h")], 405),
        ("OPTIONS", "*", &[("host", "h")], 405),
    ] {
        assert_eq!(
            of(method, uri, v, fields),
            Err(status),
            "{method} {uri} {fields:?}"
        );
    }
    assert_eq!(
        of(
            "POST",
            "/",
            Version::HTTP_10,
            &[("transfer-encoding", "chunked")]
        ),
        Err(400)
    );
    assert_eq!(
        of("GET", "http://a/", Version::HTTP_2, &[("host", "b")]),
        Err(400)
    );
}

#[test]
fn sizes_are_limited() {
    let long = format!("/{}", "a".repeat(100));
    assert_eq!(
        of("GET", &long, Version::HTTP_11, &[("host", "h")]),
        Err(414)
    );
    let big = "v".repeat(1000);
    assert_eq!(
        of("GET", "/", Version::HTTP_11, &[("host", "h"), ("x", &big)]),
        Err(431)
    );
    let many: Vec<(&str, &str)> = std::iter::once(("host", "h"))
        .chain(std::iter::repeat_n(("x", "y"), 10))
        .collect();
    assert_eq!(of("GET", "/", Version::HTTP_11, &many), Err(431));
    let host = "a".repeat(300);
    assert_eq!(
        of("GET", "/", Version::HTTP_11, &[("host", &host)]),
        Err(400)
    );
}

#[test]
fn browsers_of_other_sites_are_refused() {
    let refused = |fields: &[(&str, &str)]| {
        check_origin(
            &parts("GET", "/", Version::HTTP_11, fields).headers,
            &["http://ui.local".into()],
        )
        .is_err()
    };
    assert!(!refused(&[]));
    assert!(refused(&[("origin", "http://evil.example")]));
    assert!(refused(&[("origin", "null")]));
    assert!(!refused(&[("origin", "http://UI.local")]));
    assert!(!refused(&[
        ("origin", "http://ui.local"),
        ("sec-fetch-site", "cross-site")
    ]));
    assert!(refused(&[("sec-fetch-site", "cross-site")]));
    assert!(!refused(&[("sec-fetch-site", "none")]));
    assert!(refused(&[
        ("origin", "http://ui.local"),
        ("origin", "http://evil.example")
    ]));
}

#[test]
fn own_hosts() {
    for h in [
        "localhost",
        "127.0.0.1",
        "::1",
        "127.1.2.3",
        "a.localhost",
        "sidecar.internal",
    ] {
        assert!(is_own_host(h, &["Sidecar.internal".into()]), "{h}");
    }
    for h in ["evil.example", "localhost.evil.example", "10.0.0.1", ""] {
        assert!(!is_own_host(h, &[]), "{h}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    for p in [
        "/a/../b",
        "/..",
        "/a/./b",
        "/.",
        "/a/%2e%2E/b",
        "/a/.%2e",
        "/%2e",
        "/a/..;x/b",
        "/a\\b",
    ] {
        assert!(check_path(p, false, false).is_err(), "{p}");
        assert!(check_path(p, true, true).is_err(), "{p}");
    }
    for p in [
        "//a", "/a//b", "/a%2Fb", "/a%5cb", "/%61dmin", "/admin;x", "/%7Euser",
    ] {
        assert!(check_path(p, false, false).is_ok(), "{p}");
        assert!(check_path(p, true, true).is_err(), "{p}");
    }
    for p in [
        "/",
        "/a/b",
        "/.well-known/x",
        "/a.b/..c",
        "/a%20b",
        "/...",
        "/a/b..",
        "/%C3%A9",
    ] {
        assert!(check_path(p, true, true).is_ok(), "{p}");
    }
}
