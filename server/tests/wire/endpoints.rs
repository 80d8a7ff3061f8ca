//! The endpoints beside MCP: lists, probes, metrics; and how the server stops.

use mcp_server::Ended;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    backend::FakeBackend,
    client::{BOUND, raw, send},
    server::{end, pair, start, start_at},
};

#[tokio::test]
async fn tools_and_health() {
    let (_backend, server) = pair();
    let tools = send(server.addr, "GET", "/tools", &[], "").await;
    assert_eq!(tools.json()[0]["name"], "get_user_profile");
    assert_eq!(
        send(
            server.addr,
            "GET",
            "/tools",
            &[("host", "evil.example")],
            ""
        )
        .await
        .status,
        403
    );
    let health = send(
        server.addr,
        "GET",
        "/health",
        &[("host", "10.0.0.7:3333")],
        "",
    )
    .await;
    let expected = json!({ "status": "ok", "ready": true, "version": env!("CARGO_PKG_VERSION") });
    assert_eq!((health.status, health.json()), (200, expected));
    assert_eq!(
        send(server.addr, "POST", "/health", &[], "").await.status,
        405
    );
    let other = send(server.addr, "GET", "/sse", &[], "").await;
    assert_eq!(other.status, 404);
    assert!(other.body.contains("/mcp"), "{other:?}");
}

#[tokio::test]
async fn probes_answer_whatever_host_they_name() {
    let (_backend, server) = pair();
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        let answer = send(server.addr, "GET", path, &[("host", "10.0.0.7:3333")], "").await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn readiness_asks_the_backend_when_told_to() {
    let backend = FakeBackend::start();
    let check = [("READINESS_CHECK_BACKEND", "true")];
    let server = start(&backend, &check);
    let started = send(server.addr, "GET", "/startupz", &[], "").await;
    assert_eq!(started.status, 200, "asks by itself: {started:?}");
    for _ in 0..3 {
        let ready = send(server.addr, "GET", "/readyz", &[], "").await;
        assert_eq!(
            (ready.status, ready.body.as_str()),
            (200, "[+] backend ready\n[+] tools ready\nready\n")
        );
    }
    let probe = backend.only();
    assert_eq!(
        (probe.method.as_str(), probe.target.as_str()),
        ("HEAD", "/"),
        "asked once, then cached"
    );
    let server = start_at("http://127.0.0.1:1", &check);
    let ready = send(server.addr, "GET", "/readyz", &[], "").await;
    let expected =
        "[-] backend pending: the backend cannot be reached\n[+] tools ready\nnot ready\n";
    assert_eq!((ready.status, ready.body.as_str()), (503, expected));
    assert_eq!(
        send(server.addr, "GET", "/livez", &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let (_backend, server) = pair();
    let call = |id: &str| {
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "get_user_profile", "arguments": { "user_id": id } } })
        .to_string()
    };
    for id in ["1", "none", ""] {
        send(server.addr, "POST", "/messages", &[], &call(id)).await;
    }
    let unknown = call("1").replace("get_user_profile", "caller-chosen-name");
    send(server.addr, "POST", "/messages", &[], &unknown).await;
    send(server.addr, "GET", "/caller-chosen-path", &[], "").await;
    send(server.addr, "POST", "/mcp", &[("host", "evil.example")], "").await;
    let text = send(server.addr, "GET", "/metrics", &[], "").await.body;
    for series in [
        r#"mcp_server_tool_calls_total{result="ok",tool="get_user_profile"} 1"#,
        r#"mcp_server_tool_calls_total{result="failed",tool="get_user_profile"} 1"#,
        r#"mcp_server_tool_calls_total{result="invalid_arguments",tool="get_user_profile"} 1"#,
        r#"mcp_server_tool_calls_total{result="unknown",tool="unknown"} 1"#,
        r#"mcp_server_requests_total{endpoint="messages",method="POST",status_class="2xx"} 4"#,
        r#"mcp_server_requests_total{endpoint="other",method="GET",status_class="4xx"} 1"#,
        r#"mcp_server_rejected_total{reason="foreign_host"} 1"#,
        r#"mcp_server_tool_call_duration_seconds_count{tool="get_user_profile"} 3"#,
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(series), "{series} in:\n{text}");
    }
    assert!(!text.contains("caller-chosen"), "{text}");
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight() {
    let backend = FakeBackend::start();
    let server = start(&backend, &[]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_user_profile","arguments":{"user_id":"held"}}}"#;
    let addr = server.addr;
    let in_flight = sidecar_runtime::spawn("in flight", async move {
        send(addr, "POST", "/messages", &[], body).await
    });
    backend.reached().await;
    server.stop.send(()).unwrap();
    // The listener is gone before the request in flight is.
    timeout(BOUND, async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    // Longer than no deadline at all would allow; it cannot make a right server fail.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(!in_flight.is_finished() && !server.ended.is_finished());
    backend.release.notify_one();
    let answer = timeout(BOUND, in_flight).await.unwrap().unwrap();
    assert_eq!(answer.json()["result"]["structuredContent"]["id"], "held");
    assert_eq!(end(server.ended).await, Ended::Drained);
}

#[tokio::test]
async fn the_deadline_cuts_what_does_not_finish() {
    let backend = FakeBackend::start();
    let server = start(&backend, &[("SHUTDOWN_DEADLINE", "0")]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_user_profile","arguments":{"user_id":"hang"}}}"#;
    let addr = server.addr;
    drop(sidecar_runtime::spawn("in flight", async move {
        send(addr, "POST", "/messages", &[], body).await
    }));
    backend.reached().await;
    server.stop.send(()).unwrap();
    assert_eq!(end(server.ended).await, Ended::Cut(1));
}

#[tokio::test]
async fn large_headers_and_broken_bodies() {
    let (_backend, server) = pair();
    let large = format!(
        "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n",
        "y".repeat(40_000)
    );
    assert_eq!(raw(server.addr, &large).await.status, 431);
    let bad_chunk = "POST /messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n";
    assert_eq!(raw(server.addr, bad_chunk).await.status, 400);
}

/// Callers that keep large bodies unfinished take room from other large ones only, and give it back.
#[tokio::test]
async fn unfinished_bodies_leave_room_for_small_ones() {
    const MIB: usize = 1024 * 1024;
    let (_backend, server) = pair();
    let large = "x".repeat(MIB);
    let ask = async || send(server.addr, "POST", "/messages", &[], &large).await;
    let mut held = Vec::new();
    let refused = async {
        // Whoever asks may take the room that one of these was to have: then there is one more of them the next time.
        loop {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            let head = format!(
                "POST /messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: {MIB}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // One that is refused meanwhile may be closed already.
            stream.write_all(&large.as_bytes()[1..]).await.ok();
            held.push(stream);
            let answer = ask().await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let refused = timeout(BOUND, refused).await.unwrap();
    assert_eq!(refused.header("retry-after"), Some("1"));
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let answer = send(server.addr, "POST", "/messages", &[], ping).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(held);
    // There is room for it again, and it is no JSON.
    timeout(BOUND, async { while ask().await.status != 400 {} })
        .await
        .unwrap();
}
