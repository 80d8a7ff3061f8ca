//! Calls on behalf of a caller: the handle that goes along when that was asked for, and the step-up that comes back.

use serde_json::json;

use crate::{
    backend::FakeBackend,
    client::{Answer, send},
    server::{TestServer, start},
};

const HANDLE: &str = "Bearer abcdefghijklmnopqrstuvwxyz-_ABCDEFGHIJKLMNO";
const TOKEN: &str = "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
const MARK: &str = "abcdefghijklmnopqrst-_";

/// A call of the tool through one of the two doors.
async fn call(server: &TestServer, path: &str, authorization: &str, user: &str) -> Answer {
    let mut body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "get_user_profile", "arguments": { "user_id": user } },
    });
    let mut headers = vec![
        ("authorization", authorization),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    if path == "/mcp" {
        body["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        headers.extend([
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "get_user_profile"),
        ]);
    }
    send(server.addr, "POST", path, &headers, &body.to_string()).await
}

/// What the backend got in `Authorization` for a call.
async fn relayed(variables: &[(&str, &str)], path: &str, authorization: &str) -> Vec<String> {
    let backend = FakeBackend::start();
    let server = start(&backend, variables);
    let answer = call(&server, path, authorization, "1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let values = |name: &str| -> Vec<String> {
        backend
            .only()
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect()
    };
    values("authorization")
}

#[tokio::test]
async fn the_handle_goes_along_when_that_was_asked_for_and_a_token_never() {
    for path in ["/messages", "/mcp"] {
        let on = [("FORWARD_CALLER", "true")];
        assert_eq!(relayed(&on, path, HANDLE).await, [HANDLE]);
        assert!(relayed(&on, path, TOKEN).await.is_empty());
        assert!(relayed(&[], path, HANDLE).await.is_empty());
        let elsewhere = [("FORWARD_CALLER", "true"), ("CALLER_HEADER", "x-handle")];
        assert!(relayed(&elsewhere, path, HANDLE).await.is_empty());
    }
}

#[tokio::test]
async fn a_step_up_is_a_tool_error_with_the_challenge_and_its_mark_goes_back() {
    let backend = FakeBackend::start();
    let server = start(&backend, &[("FORWARD_CALLER", "true")]);
    for path in ["/messages", "/mcp"] {
        let answer = call(&server, path, HANDLE, "step-up").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("token-sidecar-step-up"), Some(MARK), "{path}");
        let result = answer.json()["result"].clone();
        assert_eq!(result["isError"], true);
        let structured = &result["structuredContent"];
        assert_eq!(structured["status"], 401);
        assert_eq!(structured["stepUp"], true);
        assert_eq!(structured["error"], "insufficient_claims");
        assert_eq!(structured["scope"], "a b");
        assert_eq!(structured["claims"], "e30=");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("sign in again") && text.contains("insufficient_claims"),
            "{text}"
        );
        // Of a call that was made on nobody's behalf, nothing is relayed; the next call is clean.
        let answer = call(&server, path, TOKEN, "step-up").await;
        assert_eq!(answer.header("token-sidecar-step-up"), None);
        let answer = call(&server, path, HANDLE, "1").await;
        assert_eq!(answer.header("token-sidecar-step-up"), None);
    }
}

#[test]
fn settings_are_checked() {
    let errors = |name: &'static str, value: &'static str| {
        let env = move |asked: &str| match asked {
            "BACKEND_API_URL" => Some("http://127.0.0.1:1".to_owned()),
            _ if asked == name => Some(value.to_owned()),
            _ => None,
        };
        mcp_server::env::Settings::from_env(&env)
            .map(drop)
            .unwrap_err()
    };
    assert_eq!(
        errors("FORWARD_CALLER", "yes"),
        ["FORWARD_CALLER: `yes` must be true or false"]
    );
    let wrong = errors("CALLER_HEADER", "not a name");
    assert!(
        wrong[0].starts_with("CALLER_HEADER: ") && wrong[0].contains("must be a header name"),
        "{wrong:?}"
    );
}
