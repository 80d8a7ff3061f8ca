//! The inbound side over real sockets: who is let in, what the workload sees in the place of a token, and what is told to those who are not.

use crate::inbound_lab::{InboundLab, RESOURCE, bare, client, send, with_token};
use harness::{
    caller_issuer::{CallerIssuer, Discovery},
    wait::eventually,
};
use http::{Method, Request};
use serde_json::json;
use tokio::task::JoinSet;

const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";

#[tokio::test]
async fn the_workload_gets_a_handle_in_the_place_of_the_callers_token() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar("").await;
    let token = lab.token("ada");
    let mut handles = Vec::new();
    for _ in 0..3 {
        let answer = send(&sidecar, with_token("/tools?x=1", &token)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = lab.last();
        assert_eq!(received.target, "/tools?x=1");
        let handle = received.handle().unwrap().to_owned();
        assert_eq!(handle.len(), 43);
        assert_eq!(received.header("authorization").len(), 1);
        assert!(
            !handles.contains(&handle),
            "a handle of its own for each request"
        );
        handles.push(handle);
    }
    let metrics = sidecar
        .metric("one verification and two that were seen before", |m| {
            let of = |result: &str| {
                let labels = [("issuer", lab.issuer.url()), ("result", result)];
                m.value("token_sidecar_inbound_verifications_total", &labels)
            };
            of("verified") == Some(1.0) && of("seen") == Some(2.0)
        })
        .await
        .unwrap();
    assert_eq!(
        metrics.value("token_sidecar_inbound_handles", &[]),
        Some(3.0),
        "in their grace"
    );
    // Neither tokens nor handles are in anything that the sidecar says.
    let said = format!("{}{}", sidecar.process.output(), metrics.0);
    for secret in handles
        .iter()
        .map(String::as_str)
        .chain(token.split('.').skip(1))
    {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn every_other_header_that_carries_a_credential_is_taken_out() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar(", stripRequestHeaders: [x-mine]").await;
    let token = lab.token("ada");
    let request = Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .header("x-copy", token.clone())
        .header("x-copy-in-json", format!("{{\"t\":\"{token}\"}}"))
        .header("cookie", "session=secret")
        .header("x-api-key", "secret")
        .header("dpop", "proof")
        .header("x-mine", "secret")
        .header("x-forwarded-access-token", "secret")
        .header("proxy-authorization", "Basic eA==")
        .header("token-sidecar-step-up", "made-up")
        .header("x-harmless", "kept");
    assert_eq!(send(&sidecar, bare(request)).await.status, 200);
    let mut names: Vec<String> = lab.last().headers.keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["authorization", "host", "via", "x-harmless"]);

    let sidecar = lab
        .sidecar(", handleHeader: x-caller-handle, forwardCookies: true")
        .await;
    let request = Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .header("x-caller-handle", "made up by the caller")
        .header("cookie", "session=secret");
    assert_eq!(send(&sidecar, bare(request)).await.status, 200);
    let received = lab.last();
    assert_eq!(received.header("x-caller-handle").len(), 1);
    assert_eq!(received.header("x-caller-handle")[0].len(), 43);
    assert!(received.header("authorization").is_empty());
    assert_eq!(received.header("cookie"), ["session=secret"]);
}

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
    assert_eq!(
        answer.header("access-control-expose-headers"),
        "www-authenticate"
    );
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

#[tokio::test]
async fn a_rolled_key_is_taken_over_and_a_withdrawn_one_ends_what_it_signed() {
    let lab = InboundLab::with(Discovery::OAuth).await;
    let sidecar = lab
        .sidecar(", keys: { cooldown: 1s, refreshInterval: 10s }")
        .await;
    let old = lab.token("ada");
    assert_eq!(send(&sidecar, with_token("/", &old)).await.status, 200);
    lab.issuer.roll(false).unwrap();
    let new = lab.token("ada");
    eventually("the new key to be taken over", || async {
        (send(&sidecar, with_token("/", &new)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(send(&sidecar, with_token("/", &old)).await.status, 200);
    lab.issuer.roll(true).unwrap();
    let newest = lab.token("ada");
    eventually("the newest key to be taken over", || async {
        (send(&sidecar, with_token("/", &newest)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
    for withdrawn in [&old, &new] {
        let answer = send(&sidecar, with_token("/", withdrawn)).await;
        assert_eq!(answer.status, 401, "seen before, but its key is gone");
    }
    assert!(
        lab.issuer.key_fetches() <= 12,
        "{}",
        lab.issuer.key_fetches()
    );
}

#[tokio::test]
async fn an_issuer_that_is_down_at_start_is_named_and_its_callers_wait() {
    let lab = InboundLab::new().await;
    lab.issuer.set_down(true);
    let sidecar = lab.started(lab.config(", keys: { cooldown: 1s }")).await;
    let pending = sidecar.pending("no keys: status").await.unwrap();
    assert!(
        pending
            .text()
            .contains(&format!("inbound issuer {}", lab.issuer.url())),
        "{}",
        pending.text()
    );
    let token = lab.token("ada");
    let answer = send(&sidecar, with_token("/", &token)).await;
    assert_eq!(answer.status, 503, "not 401: the token may be good");
    assert_eq!(answer.json()["reason"], "keys_unavailable");
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|s| s >= 1)
    );
    assert_eq!(answer.header("www-authenticate"), "");
    lab.issuer.set_down(false);
    sidecar.ready().await.unwrap();
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 200);
    // Down again: the keys are kept.
    lab.issuer.set_down(true);
    assert_eq!(
        send(&sidecar, with_token("/", &lab.token("bob")))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn several_issuers_each_for_their_own() {
    let lab = InboundLab::new().await;
    let second = CallerIssuer::start(&lab.ca, Discovery::None).await.unwrap();
    let ca = lab.ca.file().display().to_string();
    let config = lab.config_for(&format!(
        "issuers: [{{ issuer: '{}', caFile: '{ca}' }}, {{ issuer: '{}', jwksUri: '{}', caFile: '{ca}', audience: ['api://mcp'], typ: at+jwt }}]",
        lab.issuer.url(),
        second.url(),
        second.jwks_uri(),
    ));
    let sidecar = lab.ready(config).await;
    let sent = |token: String| {
        let sidecar = &sidecar;
        async move { send(sidecar, with_token("/", &token)).await.status.as_u16() }
    };
    assert_eq!(sent(lab.token("ada")).await, 200);
    assert_eq!(sent(second.token("bob", "api://mcp").unwrap()).await, 200);
    assert_eq!(sent(second.token("bob", RESOURCE).unwrap()).await, 401);
    assert_eq!(
        sent(lab.issuer.token("ada", "api://mcp").unwrap()).await,
        401
    );
    let untyped = second
        .sign_as("JWT", &second.claims("bob", "api://mcp"))
        .unwrap();
    assert_eq!(sent(untyped).await, 401);
    // One's claims under the other's key.
    let mut claims = lab.issuer.claims("ada", RESOURCE);
    claims["iss"] = json!(second.url());
    assert_eq!(sent(lab.issuer.sign(&claims).unwrap()).await, 401);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_believed() {
    let lab = InboundLab::new().await;
    lab.issuer.lie("https://evil.example");
    let sidecar = lab.started(lab.config("")).await;
    sidecar.pending("no keys: other_issuer").await.unwrap();
    assert_eq!(
        send(&sidecar, with_token("/", &lab.token("ada")))
            .await
            .status,
        503
    );
    assert_eq!(lab.issuer.key_fetches(), 0);
}

#[tokio::test]
async fn streams_and_upgrades_pass_untouched_and_a_handle_lasts_as_long() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar(", handleGrace: 0s").await;
    let token = lab.token("ada");
    let answer = send(&sidecar, with_token("/sse?n=5&ms=20", &token)).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(
        answer.text(),
        "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"
    );
    let handles = |count: f64| {
        sidecar.metric("as many handles as requests", move |m| {
            m.value("token_sidecar_inbound_handles", &[]) == Some(count)
        })
    };
    handles(0.0).await.unwrap();
    let mut held = JoinSet::new();
    let (caller, request) = (client(&sidecar), with_token("/hold", &token));
    held.spawn(async move { caller.send(request).await.unwrap() });
    handles(1.0).await.unwrap();
    lab.workload.release();
    assert_eq!(held.join_next().await.unwrap().unwrap().text(), "released");
    handles(0.0).await.unwrap();

    let mut socket = harness::raw::Raw::connect(sidecar.inbound()).await.unwrap();
    socket
        .send(format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ))
        .await
        .unwrap();
    assert_eq!(socket.answer_to(true).await.unwrap().status(), 101);
    handles(1.0).await.unwrap();
    socket.send("echo").await.unwrap();
    assert_eq!(socket.bytes(4).await.unwrap(), b"echo");
    assert!(lab.last().handle().is_some());
    drop(socket);
    handles(0.0).await.unwrap();
}

#[tokio::test]
async fn a_full_table_of_handles_refuses_and_recovers() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar(", handleGrace: 0s, maxHandles: 1").await;
    let token = lab.token("ada");
    let mut held = JoinSet::new();
    let (caller, request) = (client(&sidecar), with_token("/hold", &token));
    held.spawn(async move { caller.send(request).await.unwrap() });
    lab.workload.received().wait_for(1).await.unwrap();
    let answer = send(&sidecar, with_token("/", &token)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].as_str()),
        (503, Some("overloaded"))
    );
    lab.workload.release();
    held.join_next().await.unwrap().unwrap();
    eventually("a place to be free", || async {
        (send(&sidecar, with_token("/", &token)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_reload_changes_who_is_let_in_and_keeps_what_stays() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar("").await;
    let token = lab.token("ada");
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 200);
    let fetches = lab.issuer.key_fetches();
    sidecar
        .write_config(&lab.config(", requiredScopes: [admin]"))
        .unwrap();
    eventually(
        "the new rule to count, also for a token that was seen",
        || async { (send(&sidecar, with_token("/", &token)).await.status == 403).then_some(()) },
    )
    .await
    .unwrap();
    assert_eq!(
        lab.issuer.key_fetches(),
        fetches,
        "the issuer's keys were kept"
    );
    // A configuration that cannot be used changes nothing.
    let missing = lab.config_for(&format!(
        "issuers: [{{ issuer: '{}', caFile: /nowhere.pem }}]",
        lab.issuer.url()
    ));
    sidecar.write_config(&missing).unwrap();
    sidecar
        .metric("the refusal to be counted", |m| {
            m.value(
                "token_sidecar_config_reloads_total",
                &[("result", "failure")],
            ) == Some(1.0)
        })
        .await
        .unwrap();
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 403);
    sidecar.write_config(&lab.config("")).unwrap();
    eventually("the first rule again", || async {
        (send(&sidecar, with_token("/", &token)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_mark_that_was_not_given_for_this_request_means_nothing_and_goes_no_further() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar("").await;
    lab.workload
        .answer_with("token-sidecar-step-up", "AAAAAAAAAAAAAAAAAAAAAA")
        .unwrap();
    let answer = send(&sidecar, with_token("/mark", &lab.token("ada"))).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "marked")
    );
    assert_eq!(answer.header("token-sidecar-step-up"), "");
}

#[tokio::test]
async fn a_workload_on_a_unix_socket_is_served_too() {
    let lab = InboundLab::new().await;
    let dir = harness::temp::TempDir::new("token-sidecar-workload").unwrap();
    let socket = dir.join("w.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut served = JoinSet::new();
    served.spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let n = stream.read(&mut bytes).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    });
    let config = lab
        .config("")
        .replace(&lab.workload.url(), &format!("unix:{}", socket.display()));
    let sidecar = lab.ready(config).await;
    let answer = send(&sidecar, with_token("/", &lab.token("ada"))).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "ok")
    );
    let request = served.join_next().await.unwrap().unwrap();
    assert!(
        request
            .to_ascii_lowercase()
            .contains("authorization: bearer "),
        "{request}"
    );
}
