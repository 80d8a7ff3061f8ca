//! `POST /messages`: plain JSON-RPC, as the older guide shows it.

use serde_json::{Value, json};

use crate::{
    client::{Answer, send},
    server::{TestServer, pair},
};

async fn post(server: &TestServer, body: &str) -> Answer {
    let answer = send(server.addr, "POST", "/messages", &[], body).await;
    assert_eq!(answer.header("deprecation"), Some("@1785196800"));
    assert_eq!(
        answer.header("link"),
        Some("</mcp>; rel=\"successor-version\"")
    );
    answer
}

async fn result(server: &TestServer, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = post(server, &body.to_string()).await;
    assert_eq!(answer.status, 200);
    answer.json()["result"].clone()
}

#[tokio::test]
async fn the_guides_call_answers_directly() {
    let (backend, server) = pair();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_user_profile","arguments":{"user_id":"123"}}}"#;
    let answer = post(&server, body).await;
    let expected = json!({ "jsonrpc": "2.0", "id": 1, "result": {
        "content": [{ "type": "text", "text": r#"{"id":"123","name":"Ada"}"# }],
        "isError": false,
        "structuredContent": { "id": "123", "name": "Ada" },
    } });
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert_eq!(backend.only().target, "/users/123");
}

#[tokio::test]
async fn the_other_methods() {
    let (_backend, server) = pair();
    assert_eq!(result(&server, "ping", json!({})).await, json!({}));
    let tools = result(&server, "tools/list", json!({})).await;
    assert_eq!(tools["tools"][0]["name"], "get_user_profile");
    let hello = result(
        &server,
        "initialize",
        json!({ "protocolVersion": "2025-03-26" }),
    )
    .await;
    assert_eq!(hello["protocolVersion"], "2025-03-26");
    let hello = result(
        &server,
        "initialize",
        json!({ "protocolVersion": "2099-01-01" }),
    )
    .await;
    assert_eq!(hello["protocolVersion"], "2025-11-25");
    let answer = post(
        &server,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    )
    .await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
}

#[tokio::test]
async fn errors_are_json_rpc_errors() {
    let (backend, server) = pair();
    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 400, -32600),
        (r#"{"id":1}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#, 200, -32601),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope"}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
            200,
            -32602,
        ),
    ] {
        let answer = post(&server, body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{body}: {answer:?}"
        );
    }
    assert!(backend.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_same_limits_as_mcp() {
    let (_backend, server) = pair();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for header in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let answer = send(server.addr, "POST", "/messages", &[header], call).await;
        assert_eq!(answer.status, 403, "{header:?}");
    }
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        send(server.addr, "POST", "/messages", &[], &large)
            .await
            .status,
        413
    );
    let answer = send(server.addr, "GET", "/messages", &[], "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}
