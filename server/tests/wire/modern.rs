//! MCP 2026-07-28: no handshake, every request carries its metadata.

use serde_json::{Value, json};

use crate::{
    backend::FakeBackend,
    client::{Answer, send},
    server::{TestServer, pair, start},
};

const VERSION: &str = "2026-07-28";
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

fn request(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })
}

async fn post(server: &TestServer, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![BOTH, JSON];
    all.extend(headers);
    send(server.addr, "POST", "/mcp", &all, &body.to_string()).await
}

fn call(user: &str) -> Value {
    request(
        "tools/call",
        json!({ "name": "get_user_profile", "arguments": { "user_id": user } }),
    )
}

const CALL_HEADERS: [(&str, &str); 3] = [
    ("mcp-protocol-version", VERSION),
    ("mcp-method", "tools/call"),
    ("mcp-name", "get_user_profile"),
];

#[tokio::test]
async fn discover_names_versions_and_server() {
    let (_backend, server) = pair();
    let headers = [
        ("mcp-protocol-version", VERSION),
        ("mcp-method", "server/discover"),
    ];
    let answer = post(&server, &headers, &request("server/discover", json!({}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = &answer.json()["result"];
    let versions: Vec<&str> = result["supportedVersions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert!(
        versions.contains(&VERSION) && versions.contains(&"2025-06-18"),
        "{versions:?}"
    );
    assert_eq!(result["resultType"], "complete");
    assert!(result["capabilities"]["tools"].is_object(), "{result}");
    let text = result.to_string();
    assert!(text.contains(r#""name":"mcp-server""#), "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    assert_eq!(answer.header("mcp-session-id"), None);
}

#[tokio::test]
async fn tools_are_listed_with_their_freshness() {
    let (_backend, server) = pair();
    let headers = [
        ("mcp-protocol-version", VERSION),
        ("mcp-method", "tools/list"),
    ];
    let answer = post(&server, &headers, &request("tools/list", json!({}))).await;
    let result = answer.json()["result"].clone();
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        (&result["ttlMs"], &result["cacheScope"]),
        (&json!(60_000), &json!("public"))
    );
    let info = json!({ "name": "mcp-server", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"], info);
    assert_eq!(result["tools"][0]["name"], "get_user_profile");
    assert_eq!(
        result["tools"][0]["inputSchema"]["required"],
        json!(["user_id"])
    );
    assert_eq!(result["tools"][0]["annotations"]["readOnlyHint"], true);
    let answer = post(
        &server,
        &headers,
        &request("tools/list", json!({ "cursor": "x" })),
    )
    .await;
    assert_eq!(answer.code(), -32602);
}

#[tokio::test]
async fn tools_are_called() {
    let (backend, server) = pair();
    let answer = post(&server, &CALL_HEADERS, &call("123")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(
        (&json["id"], &json["result"]["resultType"]),
        (&json!(7), &json!("complete"))
    );
    assert_eq!(json["result"]["isError"], false);
    assert_eq!(
        json["result"]["structuredContent"],
        json!({ "id": "123", "name": "Ada" })
    );
    assert_eq!(
        json["result"]["content"][0]["text"],
        r#"{"id":"123","name":"Ada"}"#
    );
    let info = json!({ "name": "mcp-server", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(
        json["result"]["_meta"]["io.modelcontextprotocol/serverInfo"],
        info
    );
    assert_eq!(backend.only().target, "/users/123");
}

#[tokio::test]
async fn wrong_metadata_is_refused_as_the_revision_says() {
    let (backend, server) = pair();
    let version = CALL_HEADERS[0];
    let (method, name) = (CALL_HEADERS[1], CALL_HEADERS[2]);
    let with = |key: &str, value: Option<Value>| {
        let mut body = call("1");
        let meta = body["params"]["_meta"].as_object_mut().unwrap();
        let key = format!("io.modelcontextprotocol/{key}");
        match value {
            Some(value) => drop(meta.insert(key, value)),
            None => drop(meta.remove(&key)),
        }
        body
    };
    for (what, headers, body, status, code) in [
        ("no Mcp-Method", vec![version, name], call("1"), 400, -32020),
        (
            "another Mcp-Method",
            vec![version, ("mcp-method", "tools/list"), name],
            call("1"),
            400,
            -32020,
        ),
        ("no Mcp-Name", vec![version, method], call("1"), 400, -32020),
        (
            "another Mcp-Name",
            vec![version, method, ("mcp-name", "other")],
            call("1"),
            400,
            -32020,
        ),
        (
            "no version header",
            vec![method, name],
            call("1"),
            400,
            -32020,
        ),
        (
            "another version header",
            vec![("mcp-protocol-version", "2025-06-18"), method, name],
            call("1"),
            400,
            -32020,
        ),
        (
            "no version in _meta",
            vec![version, method, name],
            with("protocolVersion", None),
            400,
            -32602,
        ),
        (
            "no capabilities",
            vec![version, method, name],
            with("clientCapabilities", None),
            400,
            -32602,
        ),
        (
            "unknown version",
            vec![("mcp-protocol-version", "2099-01-01"), method, name],
            with("protocolVersion", Some(json!("2099-01-01"))),
            400,
            -32022,
        ),
        (
            "unknown method",
            vec![version, ("mcp-method", "nope")],
            request("nope", json!({})),
            404,
            -32601,
        ),
    ] {
        let answer = post(&server, &headers, &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{what}: {answer:?}"
        );
    }
    assert!(
        backend.seen.lock().unwrap().is_empty(),
        "nothing of it reached the backend"
    );
    let headers = [("mcp-protocol-version", "2099-01-01"), method, name];
    let unknown = with("protocolVersion", Some(json!("2099-01-01")));
    let data = post(&server, &headers, &unknown).await.json()["error"]["data"].clone();
    assert_eq!(data["requested"], "2099-01-01");
    assert!(
        data["supported"]
            .as_array()
            .unwrap()
            .contains(&json!(VERSION)),
        "{data}"
    );
}

#[tokio::test]
async fn unknown_tools_and_malformed_calls_are_protocol_errors() {
    let (_backend, server) = pair();
    let headers = [CALL_HEADERS[0], CALL_HEADERS[1], ("mcp-name", "nope")];
    let unknown = request("tools/call", json!({ "name": "nope", "arguments": {} }));
    let answer = post(&server, &headers, &unknown).await;
    assert_eq!(answer.code(), -32602);
    assert!(answer.body.contains("get_user_profile"), "{answer:?}");
    let malformed = request(
        "tools/call",
        json!({ "name": "get_user_profile", "arguments": [1] }),
    );
    let answer = post(&server, &CALL_HEADERS, &malformed).await;
    assert_eq!((answer.status, answer.code()), (400, -32602));
}

#[tokio::test]
async fn wrong_arguments_are_tool_errors() {
    let (backend, server) = pair();
    let wrong = request(
        "tools/call",
        json!({ "name": "get_user_profile", "arguments": { "user_id": 5 } }),
    );
    let answer = post(&server, &CALL_HEADERS, &wrong).await;
    let result = answer.json()["result"].clone();
    assert_eq!((answer.status, &result["isError"]), (200, &json!(true)));
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("/user_id: 5 is not of type \"string\""),
        "{text}"
    );
    assert!(backend.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn notifications_get_202_and_nothing_else() {
    let (_backend, server) = pair();
    let body = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    let headers = [
        ("mcp-protocol-version", VERSION),
        ("mcp-method", "notifications/cancelled"),
    ];
    let answer = post(&server, &headers, &body).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, ""),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_session_header_is_ignored_and_none_is_minted() {
    let (_backend, server) = pair();
    let mut headers = CALL_HEADERS.to_vec();
    headers.push(("mcp-session-id", "abc"));
    let answer = post(&server, &headers, &call("1")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("mcp-session-id"), None);
}

#[tokio::test]
async fn only_post_and_only_what_was_agreed() {
    let (_backend, server) = pair();
    for method in ["GET", "DELETE", "PUT"] {
        let answer = send(server.addr, method, "/mcp", &[BOTH], "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let body = call("1").to_string();
    for accept in ["application/json", "text/event-stream", "*/*", "text/html"] {
        let answer = send(
            server.addr,
            "POST",
            "/mcp",
            &[("accept", accept), JSON],
            &body,
        )
        .await;
        assert_eq!(answer.status, 406, "{accept}");
    }
    let answer = send(
        server.addr,
        "POST",
        "/mcp",
        &[BOTH, ("content-type", "text/plain")],
        &body,
    )
    .await;
    assert_eq!(answer.status, 415);
    for (body, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("{}", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, -32600),
    ] {
        let answer = send(server.addr, "POST", "/mcp", &[BOTH, JSON], body).await;
        assert_eq!((answer.status, answer.code()), (400, code), "{body}");
    }
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        send(server.addr, "POST", "/mcp", &[BOTH, JSON], &large)
            .await
            .status,
        413
    );
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let backend = FakeBackend::start();
    let variables = [
        ("ALLOWED_HOSTS", "mcp.default.svc"),
        ("ALLOWED_ORIGINS", "https://app.example.com"),
    ];
    let server = start(&backend, &variables);
    for (header, status) in [
        (("host", "evil.example"), 403),
        (("host", "mcp.default.svc:3333"), 200),
        (("host", "127.0.0.1:3333"), 200),
        (("origin", "https://evil.example"), 403),
        (("origin", "null"), 403),
        (("origin", "https://app.example.com"), 200),
    ] {
        let mut headers = CALL_HEADERS.to_vec();
        headers.push(header);
        let answer = post(&server, &headers, &call("1")).await;
        assert_eq!(answer.status, status, "{header:?}: {answer:?}");
    }
    let twice = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(
        send(server.addr, "POST", "/mcp", &twice, "").await.status,
        400
    );
}
