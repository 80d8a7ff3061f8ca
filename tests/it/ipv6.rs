//! `[::]`, where everything that a kubelet, a Prometheus or an API server calls listens unless told otherwise: callers of both families are served.

use crate::{
    inbound_lab::InboundLab,
    lab::{Lab, program},
    webhook_lab::{Injector, recorded},
};
use harness::{client::Client, process::McpServer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// Loopback by IPv4, and by IPv6 where this machine has it.
fn loopbacks(port: u16) -> Vec<SocketAddr> {
    let mut all: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        all.push(Ipv6Addr::LOCALHOST.into());
    } else {
        eprintln!("SKIPPED: this machine has no IPv6; only IPv4 is tried");
    }
    all.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

#[tokio::test]
async fn probes_and_metrics_of_the_sidecar() {
    let lab = Lab::new().await;
    let config = lab.config().replace("{admin}", "'[::]:{admin-port}'");
    let sidecar = crate::lab::start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    for address in loopbacks(sidecar.admin().port()) {
        for path in ["/livez", "/startupz", "/readyz", "/metrics"] {
            let answer = Client::new(address).get(path).await.unwrap();
            assert_eq!(answer.status, 200, "{address}{path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn callers_of_the_inbound_side() {
    let lab = InboundLab::new().await;
    let config = lab.config("").replace("{inbound}", "[::]:{inbound-port}");
    let sidecar = lab.ready(config).await;
    for address in loopbacks(sidecar.inbound().port()) {
        let path = "/.well-known/oauth-protected-resource";
        let answer = Client::new(address).get(path).await.unwrap();
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
    }
}

#[tokio::test]
async fn reviews_and_probes_of_the_webhook() {
    let profiles = std::fs::read_to_string(crate::webhook_lab::samples().join("profiles.yaml"));
    let mut injector = Injector::listening(&profiles.unwrap(), "[::]:0").await;
    for address in loopbacks(injector.address.port()) {
        injector.address = address;
        let response = injector.response(&recorded("deployment")).await;
        assert_eq!(response["patchType"], "JSONPatch", "{address}: {response}");
    }
    for address in loopbacks(injector.admin.port()) {
        let answer = Client::new(address).get("/readyz").await.unwrap();
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_mcp_server() {
    let server = McpServer::start(program(), "http://127.0.0.1:9", &[("HOST", "::")])
        .await
        .unwrap();
    for address in loopbacks(server.address().port()) {
        let answer = Client::new(address).get("/livez").await.unwrap();
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
    }
}
