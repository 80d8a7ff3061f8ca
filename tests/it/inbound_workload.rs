//! The workload behind the inbound side, over real sockets: what it sees in the place of a token, how long that lasts, and how it is reached.

use crate::inbound_lab::{InboundLab, bare, client, send, with_token};
use harness::wait::eventually;
use http::Request;
use tokio::task::JoinSet;

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
