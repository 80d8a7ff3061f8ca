//! MCP before 2026-07-28: the `initialize` handshake, here without sessions.

use serde_json::{Value, json};

use crate::{
    client::{Answer, send},
    server::{TestServer, pair},
};

async fn post(server: &TestServer, version: Option<&str>, body: &Value) -> Answer {
    let mut headers = vec![
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    headers.extend(version.map(|version| ("mcp-protocol-version", version)));
    send(server.addr, "POST", "/mcp", &headers, &body.to_string()).await
}

fn initialize(version: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } })
}

#[tokio::test]
async fn initialize_negotiates_without_a_session() {
    let (_backend, server) = pair();
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let answer = post(&server, None, &initialize(asked)).await;
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        let json = answer.json();
        assert_eq!(json["id"], "i");
        assert_eq!(json["result"]["protocolVersion"], given, "{asked}");
        assert_eq!(json["result"]["serverInfo"]["name"], "mcp-server");
        assert_eq!(
            json["result"]["serverInfo"]["version"],
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(answer.header("mcp-session-id"), None);
    }
}

#[tokio::test]
async fn the_whole_conversation() {
    let (backend, server) = pair();
    let version = Some("2025-06-18");
    post(&server, None, &initialize("2025-06-18")).await;
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let answer = post(&server, version, &initialized).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let result = post(&server, version, &list).await.json()["result"].clone();
    assert_eq!(result["tools"][0]["name"], "get_user_profile");
    assert_eq!(
        result.get("resultType"),
        None,
        "legacy results are plain: {result}"
    );
    let call = json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
        "name": "get_user_profile", "arguments": { "user_id": "123" } } });
    let result = post(&server, version, &call).await.json()["result"].clone();
    assert_eq!(result["structuredContent"]["name"], "Ada");
    assert_eq!(result["isError"], false);
    assert_eq!(
        (result.get("resultType"), result.get("_meta")),
        (None, None),
        "{result}"
    );
    assert_eq!(backend.only().target, "/users/123");
    let ping = json!({ "jsonrpc": "2.0", "id": 4, "method": "ping" });
    assert_eq!(
        post(&server, version, &ping).await.json()["result"],
        json!({})
    );
}

#[tokio::test]
async fn no_version_header_means_an_old_client_and_a_bad_one_400() {
    let (_backend, server) = pair();
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    assert_eq!(post(&server, None, &list).await.status, 200);
    assert_eq!(post(&server, Some("nonsense"), &list).await.status, 400);
}

#[tokio::test]
async fn unknown_methods_are_errors_on_200() {
    let (_backend, server) = pair();
    let unknown = json!({ "jsonrpc": "2.0", "id": 2, "method": "resources/list" });
    let answer = post(&server, Some("2025-06-18"), &unknown).await;
    assert_eq!((answer.status, answer.code()), (200, -32601));
}

#[tokio::test]
async fn responses_and_batches_are_refused() {
    let (_backend, server) = pair();
    for body in [
        json!({ "jsonrpc": "2.0", "id": 2, "result": {} }),
        json!([]),
    ] {
        let answer = post(&server, Some("2025-06-18"), &body).await;
        assert_eq!((answer.status, answer.code()), (400, -32600), "{body}");
    }
}
