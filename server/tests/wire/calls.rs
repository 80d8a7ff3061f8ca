//! What reaches the backend, and what its answers become.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    backend::FakeBackend,
    client::send,
    server::{TestServer, pair, start, start_at},
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn call(server: &TestServer, headers: &[(&str, &str)], params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let answer = send(server.addr, "POST", "/messages", headers, &body.to_string()).await;
    answer.json()["result"].clone()
}

async fn profile(server: &TestServer, user: &str) -> Value {
    call(
        server,
        &[],
        json!({ "name": "get_user_profile", "arguments": { "user_id": user } }),
    )
    .await
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[test]
fn the_example_file_is_right() {
    let catalog = mcp_server::Catalog::from_yaml(include_str!("../../tools.example.yaml")).unwrap();
    assert_eq!(
        catalog.names().collect::<Vec<_>>(),
        ["create_note", "find_users"]
    );
}

/// A file that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-server-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[tokio::test]
async fn nothing_of_the_callers_headers_goes_on_but_the_trace() {
    let (backend, server) = pair();
    let headers = [
        ("authorization", "Bearer of-the-caller"),
        ("proxy-authorization", "Basic x"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-anything", "y"),
        ("traceparent", PARENT),
        ("tracestate", "a=b"),
    ];
    call(
        &server,
        &headers,
        json!({ "name": "get_user_profile", "arguments": { "user_id": "1" } }),
    )
    .await;
    let seen = backend.only();
    let mut names: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "host",
            "traceparent",
            "tracestate",
            "user-agent"
        ]
    );
    assert_eq!(
        (&seen.headers["traceparent"], &seen.headers["tracestate"]),
        (&PARENT.parse().unwrap(), &"a=b".parse().unwrap())
    );
    assert_eq!(
        format!("http://{}", seen.headers["host"].to_str().unwrap()),
        backend.url
    );
}

#[tokio::test]
async fn trace_context_comes_from_meta_too() {
    let (backend, server) = pair();
    let params = json!({ "name": "get_user_profile", "arguments": { "user_id": "1" }, "_meta": { "traceparent": PARENT } });
    call(&server, &[("traceparent", "nonsense")], params.clone()).await;
    assert_eq!(backend.only().headers["traceparent"], PARENT);
    backend.seen.lock().unwrap().clear();
    // And through /mcp.
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
    ];
    send(server.addr, "POST", "/mcp", &headers, &body).await;
    assert_eq!(backend.only().headers["traceparent"], PARENT);
}

#[tokio::test]
async fn trace_context_of_mcp_requests_comes_from_headers_too() {
    let (backend, server) = pair();
    let params = json!({ "name": "get_user_profile", "arguments": { "user_id": "1" } });
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("traceparent", PARENT),
        ("authorization", "Bearer of-the-caller"),
    ];
    send(server.addr, "POST", "/mcp", &headers, &body).await;
    let seen = backend.only();
    assert_eq!(seen.headers["traceparent"], PARENT);
    assert!(!seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn arguments_stay_in_their_place() {
    let (backend, server) = pair();
    profile(&server, "a/b?admin=1#x\u{fc} %2e").await;
    assert_eq!(
        backend.only().target,
        "/users/a%2Fb%3Fadmin%3D1%23x%C3%BC%20%252e"
    );
    backend.seen.lock().unwrap().clear();
    for user in [
        "..",
        ".",
        "../admin",
        "..\\admin",
        "a\r\nHost: evil",
        "a\u{0}",
    ] {
        let result = profile(&server, user).await;
        assert_eq!(result["isError"], true, "{user}");
        assert!(text(&result).contains("argument `user_id`"), "{result}");
    }
    assert!(backend.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn errors_of_the_backend_are_for_the_model() {
    let (_backend, server) = pair();
    let result = profile(&server, "none").await;
    assert_eq!(result["isError"], true);
    assert_eq!(
        text(&result),
        "The backend answered 503 Service Unavailable: No valid token: credential default: expired. Try again after 5 seconds."
    );
    assert_eq!(result["structuredContent"]["status"], 503);
    assert_eq!(result["structuredContent"]["retryAfterSeconds"], 5);
    let result = profile(&server, "moved").await;
    assert!(
        text(&result).starts_with("The backend answered 302 Found. Redirects are not followed"),
        "{result}"
    );
    let result = profile(&server, "large").await;
    assert!(
        text(&result).starts_with("The backend's answer is larger than 262144 bytes."),
        "{result}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (backend, server) = pair();
    profile(&server, "moved").await;
    assert_eq!(backend.only().target, "/users/moved");
}

#[tokio::test]
async fn time_and_reach_have_limits() {
    let backend = FakeBackend::start();
    let server = start(&backend, &[("BACKEND_API_TIMEOUT", "0.05")]);
    let began = tokio::time::Instant::now();
    let result = profile(&server, "hang").await;
    // A hundred times the limit and more, for slow machines.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert!(
        text(&result).starts_with("The backend did not answer within 50 ms."),
        "{result}"
    );
    let server = start_at("http://127.0.0.1:1/", &[]);
    let result = profile(&server, "1").await;
    assert!(
        text(&result).starts_with("The backend cannot be reached."),
        "{result}"
    );
}

#[tokio::test]
async fn declared_tools_with_query_headers_and_body() {
    let tools = Scratch::new(
        "tools.yaml",
        r"
tools:
  - name: add_note
    description: Adds a note.
    inputSchema:
      type: object
      properties:
        user_id: { type: string }
        text: { type: string }
        tags: { type: array, items: { type: string } }
        dry: { type: boolean }
      required: [user_id, text]
    request:
      method: POST
      path: /users/{user_id}
      query: { dry: '{dry}' }
      headers: { X-Source: 'mcp-{user_id}' }
      body: { note: { text: '{text}', tags: '{tags}' } }
    maxResultBytes: 10
    timeout: 20s
",
    );
    let backend = FakeBackend::start();
    let server = start(&backend, &[("TOOLS_FILE", tools.0.to_str().unwrap())]);
    let arguments = json!({ "user_id": "7", "text": "hi \"there\"", "tags": ["a"], "dry": true });
    let result = call(
        &server,
        &[],
        json!({ "name": "add_note", "arguments": arguments }),
    )
    .await;
    let seen = backend.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/users/7?dry=true")
    );
    assert_eq!(seen.headers["x-source"], "mcp-7");
    assert_eq!(seen.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(
        body,
        json!({ "note": { "text": "hi \"there\"", "tags": ["a"] } })
    );
    assert!(text(&result).contains("larger than 10 bytes"), "{result}");
}

#[tokio::test]
async fn a_base_path_is_kept_and_a_unix_socket_works() {
    let backend = FakeBackend::start();
    let server = start_at(&format!("{}/users/", backend.url), &[]);
    profile(&server, "5").await;
    assert_eq!(backend.only().target, "/users/users/5");
    let socket = std::env::temp_dir().join(format!("mcp-server-{}.sock", std::process::id()));
    let backend = FakeBackend::start_unix(&socket);
    let server = start(&backend, &[]);
    let result = profile(&server, "6").await;
    assert_eq!(result["structuredContent"]["id"], "6", "{result}");
    assert_eq!(backend.only().headers["host"], "localhost");
    drop(fs::remove_file(socket));
}
