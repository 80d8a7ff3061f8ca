//! The inbound side over real sockets: who is let in and who is not, and what is told to those who are not, with and without a browser.

use crate::inbound_lab::{InboundLab, RESOURCE, bare, send, with_token};
use http::{Method, Request};
use serde_json::json;

const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";

#[tokio::test]
async fn challenges_say_what_is_wrong_and_where_to_learn_more() {
    let lab = InboundLab::new().await;
    let sidecar = lab
        .sidecar(", requiredScopes: [tools.read, tools.call]")
        .await;
    let good = lab.token("ada");
    let signed = |name: &str, value: serde_json::Value| {
        let mut claims = lab.issuer.claims("ada", RESOURCE);
        claims[name] = value;
        lab.issuer.sign(&claims).unwrap()
    };
    let bearer = |token: &str| Request::get("/").header("authorization", format!("Bearer {token}"));
    let scope = "scope=\"tools.read tools.call\"";
    let plain = format!("Bearer resource_metadata=\"{METADATA}\", {scope}");
    let cases = [
        (
            "no credentials",
            Request::get("/"),
            401,
            "no_credentials",
            "",
        ),
        (
            "another scheme",
            Request::get("/").header("authorization", "Basic YTpi"),
            401,
            "no_credentials",
            "",
        ),
        (
            "two tokens",
            bearer(&good).header("authorization", "Bearer x"),
            400,
            "invalid_request",
            "invalid_request",
        ),
        (
            "a token in the query",
            Request::get(format!("/?access_token={good}")),
            400,
            "invalid_request",
            "invalid_request",
        ),
        (
            "the token in the URL too",
            Request::get(format!("/{good}")).header("authorization", format!("Bearer {good}")),
            400,
            "invalid_request",
            "invalid_request",
        ),
        (
            "no JWT",
            bearer("garbage"),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "expired",
            bearer(&signed("exp", json!(1))),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "not yet valid",
            bearer(&signed("nbf", json!(4_000_000_000_u64))),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "for another server",
            bearer(&signed("aud", json!("https://other.example"))),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "of another issuer",
            bearer(&signed("iss", json!("https://other.example"))),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "without a scope",
            bearer(&signed("scope", json!("tools.read"))),
            403,
            "insufficient_scope",
            "insufficient_scope",
        ),
    ];
    for (what, request, status, reason, error) in cases {
        let answer = send(&sidecar, bare(request)).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.json()["reason"], reason, "{what}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.contains(&format!("resource_metadata=\"{METADATA}\"")),
            "{what}: {challenge}"
        );
        assert!(challenge.contains(scope), "{what}: {challenge}");
        if error.is_empty() {
            assert_eq!(
                challenge, plain,
                "{what}: no error for one who did not know"
            );
        } else {
            assert!(
                challenge.contains(&format!("error=\"{error}\"")),
                "{what}: {challenge}"
            );
        }
        assert!(!answer.text().contains(&good) && !challenge.contains(&good));
    }
    assert!(
        lab.workload.received().is_empty(),
        "nothing reached the workload"
    );
    assert_eq!(send(&sidecar, with_token("/", &good)).await.status, 200);
}

#[tokio::test]
async fn the_metadata_says_who_issues_tokens_with_and_without_path() {
    let lab = InboundLab::new().await;
    let sidecar = lab
        .sidecar(", requiredScopes: [tools.read], scopesSupported: [tools.admin]")
        .await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
    ] {
        // From anywhere, under any name: it is public.
        let request = Request::get(path)
            .header("host", "10.1.2.3:8000")
            .header("origin", "https://any.example");
        let answer = send(&sidecar, bare(request)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(
            answer.json(),
            json!({
                "resource": RESOURCE,
                "authorization_servers": [lab.issuer.url()],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["tools.admin", "tools.read"],
            })
        );
        let post = bare(Request::post(path));
        assert_eq!(send(&sidecar, post).await.status, 405);
    }
    let other = bare(Request::get("/.well-known/oauth-protected-resource/other"));
    assert_eq!(send(&sidecar, other).await.status, 401);
    assert!(lab.workload.received().is_empty());
}

#[tokio::test]
async fn probes_pass_by_rule_and_carry_nothing() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar(", publicPaths: [/alive]").await;
    let token = lab.token("ada");
    let get = |path: &str| Request::get(path).header("host", "10.1.2.3:8000");
    assert_eq!(send(&sidecar, bare(get("/alive"))).await.status, 200);
    assert!(lab.last().header("authorization").is_empty());
    let known = get("/alive").header("authorization", format!("Bearer {token}"));
    assert_eq!(send(&sidecar, bare(known)).await.status, 200);
    assert!(
        lab.last().header("authorization").is_empty(),
        "a token that nobody asked for goes nowhere"
    );
    for (request, status) in [
        (get("/alive/x").header("host", "localhost"), 400),
        (Request::post("/alive"), 401),
        (Request::get("/health"), 401),
        (get("/other"), 403),
    ] {
        assert_eq!(send(&sidecar, bare(request)).await.status, status);
    }
    assert_eq!(lab.workload.received().len(), 2);
}

/// A tunnel would let anybody send anything, behind one GET that needed no token.
#[tokio::test]
async fn a_request_that_needs_no_token_is_not_upgraded() {
    let lab = InboundLab::new().await;
    let sidecar = lab
        .sidecar(", publicPaths: [/ws], allowedOrigins: ['https://app.example']")
        .await;
    for request in [
        "GET /ws HTTP/1.1\r\nHost: localhost\r\n",
        "OPTIONS /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n",
    ] {
        let mut socket = harness::raw::Raw::connect(sidecar.inbound()).await.unwrap();
        socket
            .send(format!(
                "{request}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            ))
            .await
            .unwrap();
        let status = socket.answer_to(true).await.unwrap().status();
        assert_eq!(status, 502, "the workload switches unasked: {request}");
        assert!(lab.last().header("upgrade").is_empty());
    }
}

#[tokio::test]
async fn hosts_and_origins_are_checked() {
    let lab = InboundLab::new().await;
    let sidecar = lab
        .sidecar(", allowedHosts: [mcp.internal], allowedOrigins: ['https://app.example.com']")
        .await;
    let token = lab.token("ada");
    for (host, origin, status) in [
        ("mcp.example.com", "", 200),
        ("MCP.example.com:443", "", 200),
        ("mcp.internal", "", 200),
        ("localhost", "", 200),
        ("evil.example", "", 403),
        ("10.1.2.3", "", 403),
        ("mcp.example.com", "https://app.example.com", 200),
        ("mcp.example.com", "https://evil.example", 403),
        ("mcp.example.com", "null", 403),
    ] {
        let mut request = Request::get("/")
            .header("host", host)
            .header("authorization", format!("Bearer {token}"));
        if !origin.is_empty() {
            request = request.header("origin", origin);
        }
        let answer = send(&sidecar, bare(request)).await;
        assert_eq!(answer.status, status, "{host} {origin}");
    }
    // A page of an allowed origin may read why it was refused.
    let request = Request::get("/").header("origin", "https://app.example.com");
    let answer = send(&sidecar, bare(request)).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert_eq!(answer.header("access-control-expose-headers"), "*");
}

#[tokio::test]
async fn preflights_pass_or_are_answered_by_rule() {
    let lab = InboundLab::new().await;
    let preflight = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/mcp")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization, content-type",
            )
    };
    let rules = ", allowedOrigins: ['https://app.example.com']";
    let sidecar = lab.sidecar(rules).await;
    let allowed = bare(preflight("https://app.example.com"));
    assert_eq!(send(&sidecar, allowed).await.status, 200);
    assert_eq!(lab.last().method, Method::OPTIONS);
    assert!(lab.last().header("authorization").is_empty());
    let foreign = bare(preflight("https://evil.example"));
    assert_eq!(send(&sidecar, foreign).await.status, 403);
    let no_preflight = bare(Request::options("/mcp"));
    assert_eq!(send(&sidecar, no_preflight).await.status, 401);
    assert_eq!(lab.workload.received().len(), 1);

    let sidecar = lab
        .sidecar(&format!("{rules}, corsPreflights: answer"))
        .await;
    let answer = send(&sidecar, bare(preflight("https://app.example.com"))).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert_eq!(answer.header("access-control-allow-methods"), "POST");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "authorization, content-type"
    );
    let foreign = bare(preflight("https://evil.example"));
    assert_eq!(send(&sidecar, foreign).await.status, 403);
    let request = Request::get("/")
        .header("origin", "https://app.example.com")
        .header("authorization", format!("Bearer {}", lab.token("ada")));
    let answer = send(&sidecar, bare(request)).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert_eq!(lab.workload.received().len(), 2, "no preflight reached it");
}
