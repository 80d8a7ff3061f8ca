//! Faults by script, the CONNECT proxy, the echo upstream.

use super::*;

#[tokio::test]
async fn faults_come_in_order_and_heal() {
    let lab = Lab::new().await;
    let assertion = lab.authority.projected_token().unwrap();
    let endpoint = Endpoint::Entra;
    lab.authority.fail_once(endpoint, Fault::throttled("3600"));
    lab.authority.fail_once(endpoint, Fault::html(502));
    lab.authority.fail_once(endpoint, Fault::Aadsts(700213));
    lab.authority
        .fail_once(endpoint, Fault::without("access_token"));
    lab.authority
        .fail_always(endpoint, Fault::OAuth(400, "invalid_grant"));
    let throttled = lab.entra(&assertion, &[]).await;
    assert_eq!(
        (throttled.status.as_u16(), throttled.header("retry-after")),
        (429, "3600")
    );
    assert_eq!(
        lab.entra(&assertion, &[]).await.header("content-type"),
        "text/html"
    );
    assert_eq!(code(&lab.entra(&assertion, &[]).await), 700213);
    let odd = lab.entra(&assertion, &[]).await.json();
    assert!(
        odd["access_token"].is_null() && odd["expires_in"].is_number(),
        "{odd}"
    );
    for _ in 0..2 {
        assert_eq!(
            lab.entra(&assertion, &[]).await.json()["error"],
            "invalid_grant"
        );
    }
    lab.authority.heal(endpoint);
    lab.authority.fail_once(endpoint, Fault::Reset);
    let form = [("grant_type", "client_credentials")];
    assert!(
        lab.post(&format!("/{TENANT}/oauth2/v2.0/token"), &form, None)
            .await
            .is_err(),
        "a reset is no answer"
    );

    let gate = Gate::closed();
    lab.authority.fail_once(endpoint, Fault::Gate(gate.clone()));
    let (held, ()) = tokio::join!(lab.entra(&assertion, &[]), async {
        lab.authority.requests().wait_for(8).await.unwrap();
        gate.open();
    });
    assert_eq!(held.status, 200);
}

#[tokio::test]
async fn a_connect_proxy_tunnels_and_records() {
    let lab = Lab::new().await;
    let proxy = ForwardProxy::start(Some("Basic dTpw")).await.unwrap();
    proxy.lead("login.example:443", lab.authority.address());
    let refused = raw::exchange(
        proxy.address(),
        "CONNECT login.example:443 HTTP/1.1\r\nHost: login.example:443\r\n\r\n",
    )
    .await
    .unwrap();
    assert_eq!(refused.status(), 407);
    let mut raw = raw::Raw::connect(proxy.address()).await.unwrap();
    raw.send("CONNECT login.example:443 HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(raw.bytes(12).await.unwrap(), b"HTTP/1.1 200");
    let statuses: Vec<_> = proxy
        .tunnels()
        .all()
        .iter()
        .map(|tunnel| tunnel.status)
        .collect();
    assert_eq!(statuses, [407, 200]);
}

#[tokio::test]
async fn the_upstream_streams_echoes_upgrades_and_breaks_off() {
    let ca = Ca::new().unwrap();
    let upstream = Upstream::start(None, None).await.unwrap();
    let client = Client::new(upstream.address());
    drop(ca);
    assert_eq!(
        client.get("/bytes/200000").await.unwrap().body.len(),
        200_000
    );
    assert_eq!(
        client
            .get("/bytes/70000?length")
            .await
            .unwrap()
            .header("content-length"),
        "70000"
    );
    assert_eq!(
        client
            .get("/sse?n=3&ms=1")
            .await
            .unwrap()
            .text()
            .matches("data: ")
            .count(),
        3
    );
    assert!(client.get("/reset?after=10").await.is_err());
    assert!(client.get("/abort").await.is_err());
    assert_eq!(client.get("/status/204").await.unwrap().status, 204);
    assert_eq!(
        client
            .get("/redirect?to=http%3A%2F%2Felsewhere%2F")
            .await
            .unwrap()
            .header("location"),
        "http://elsewhere/"
    );
    assert_eq!(
        client.post("/echo/raw", "hello").await.unwrap().text(),
        "hello"
    );
    assert_eq!(
        client.post("/sink", vec![0; 100_000]).await.unwrap().json()["bytes"],
        100_000
    );
    let h2 = client.clone().http2();
    let said = h2.post("/harness.Echo/Say", "hi").await.unwrap();
    assert_eq!(
        (
            said.text().as_str(),
            said.trailers.unwrap()["grpc-status"].to_str().unwrap()
        ),
        ("hi", "0")
    );
    let trailers = raw::exchange(upstream.address(), "POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-A: b\r\n\r\n")
        .await
        .unwrap();
    assert!(
        trailers
            .text()
            .ends_with("0\r\nx-a: b\r\nx-checksum: 2\r\n\r\n"),
        "{trailers:?}"
    );
    let mut ws = raw::Raw::connect(upstream.address()).await.unwrap();
    ws.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(ws.answer().await.unwrap().status(), 101);
    ws.send("ping").await.unwrap();
    assert_eq!(ws.bytes(4).await.unwrap(), b"ping");
}
