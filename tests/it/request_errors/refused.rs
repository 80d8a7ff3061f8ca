//! What is refused before anything is sent: hosts, origins, methods, paths, bodies too large, no token, too much at once.

use super::*;

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
