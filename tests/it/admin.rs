//! The admin port: probes that say what is pending and why, metrics that Prometheus accepts, logs without a secret.

use crate::lab::{Lab, assert_passes, start};
use harness::{
    authority::{Endpoint, Fault},
    body,
    client::Client,
};
use http::Request;
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
};

async fn json_of(admin: std::net::SocketAddr, path: &str) -> (u16, Value) {
    let request = Request::get(path)
        .header("accept", "application/json")
        .body(body::empty())
        .unwrap();
    let answer = Client::new(admin).send(request).await.unwrap();
    assert_eq!(answer.header("content-type"), "application/json");
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn the_probes_say_what_is_pending_and_why() {
    let lab = Lab::new().await;
    lab.authority
        .fail_always(Endpoint::Entra, Fault::Aadsts(700_016));
    let sidecar = lab.sidecar().await;
    let text = sidecar.pending("aadsts_700016").await.unwrap().text();
    assert!(
        text.contains("AZURE_CLIENT_ID"),
        "what to do is said: {text}"
    );
    assert!(
        !text.contains("Refused by script"),
        "the authority's words are for the log alone: {text}"
    );
    let (status, report) = json_of(sidecar.admin(), "/readyz").await;
    assert_eq!((status, &report["ready"]), (503, &false.into()));
    let conditions = report["conditions"].as_array().unwrap();
    let condition = |part: &str| {
        conditions
            .iter()
            .find(|condition| condition["name"].as_str().unwrap().contains(part))
            .unwrap()
    };
    assert_eq!(condition("default")["ready"], false);
    assert!(
        condition("default")["reason"]
            .as_str()
            .unwrap()
            .contains("aadsts_700016"),
        "{report}"
    );
    assert_eq!(
        condition("pod")["ready"],
        true,
        "the subject token is there: {report}"
    );
    assert_eq!(sidecar.admin_get("/startupz").await.unwrap().status, 503);
    assert_eq!(sidecar.admin_get("/livez").await.unwrap().status, 200);

    lab.authority.heal(Endpoint::Entra);
    lab.rotate();
    sidecar.ready().await.unwrap();
    assert_eq!(sidecar.admin_get("/startupz").await.unwrap().status, 200);
    let (status, report) = json_of(sidecar.admin(), "/readyz").await;
    assert_eq!((status, &report["ready"]), (200, &true.into()));
}

/// Every series of the contract that exists from the start or after one good request.
const SERIES: &[&str] = &[
    "token_sidecar_subject_token_expiry_timestamp_seconds{subject_token=\"pod\"}",
    "token_sidecar_subject_token_issued_timestamp_seconds{subject_token=\"pod\"}",
    "token_sidecar_subject_token_rotations_total{subject_token=\"pod\"}",
    "token_sidecar_issued_token_expiry_timestamp_seconds{credential=\"default\"}",
    "token_sidecar_issued_token_renewed_timestamp_seconds{credential=\"default\"}",
    "token_sidecar_exchanges_total{",
    "token_sidecar_exchange_duration_seconds_bucket{credential=\"default\"",
    "token_sidecar_exchange_retry_after_seconds{credential=\"default\"}",
    "token_sidecar_requests_total{",
    "token_sidecar_request_duration_seconds_bucket{route=\"default\"",
    "token_sidecar_requests_in_flight{route=\"default\"}",
    "token_sidecar_rejected_total{",
    "token_sidecar_unauthorized_replays_total{",
    "token_sidecar_upstream_connect_duration_seconds_bucket{route=\"default\"",
    "token_sidecar_upstream_connections{route=\"default\"}",
    "token_sidecar_config_reloads_total{",
    "token_sidecar_build_info{",
    "process_resident_memory_bytes",
    "process_open_fds",
];

#[tokio::test]
async fn the_metrics_are_complete_and_valid() {
    let lab = Lab::new().await;
    let sidecar = lab.patient_sidecar().await;
    assert_passes(&sidecar).await;
    // One of each that has no series before it happens.
    assert_eq!(
        sidecar
            .client()
            .host("evil.example")
            .get("/")
            .await
            .unwrap()
            .status,
        403
    );
    assert_eq!(
        sidecar.client().get("/reject-once").await.unwrap().status,
        200
    );
    lab.volume.write("").unwrap();
    let metrics = sidecar
        .metric("the empty file to be counted", |metrics| {
            metrics.value(
                "token_sidecar_subject_token_errors_total",
                &[("reason", "empty")],
            ) == Some(1.0)
        })
        .await
        .unwrap();
    for series in SERIES {
        assert!(
            metrics.0.lines().any(|line| line.starts_with(series)),
            "no {series} in\n{}",
            metrics.0
        );
    }
    let expiry = metrics
        .value(
            "token_sidecar_issued_token_expiry_timestamp_seconds",
            &[("credential", "default")],
        )
        .unwrap();
    let now = harness::keys::unix_now().as_secs_f64();
    assert!(
        expiry > now + 3000.0 && expiry < now + 3700.0,
        "{expiry} at {now}"
    );
    promtool(&metrics.0);
    let answer = sidecar.admin_get("/metrics").await.unwrap();
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4"),
        "{:?}",
        answer.headers
    );
}

/// `promtool check metrics`, when it is there: Debian's package `prometheus` has it.
fn promtool(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "SKIPPED: promtool is not installed ({error}); install Debian's package `prometheus` to check the metrics' form"
            );
            return;
        }
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // What it complains about in `process_*` is not ours to name.
    let ours: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("process_"))
        .collect();
    assert!(
        output.status.success() || ours.is_empty(),
        "promtool: {said}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn logs_are_one_json_object_a_line_and_hold_no_secret() {
    let lab = Lab::new().await;
    // A refusal, so that there is something to complain about.
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Aadsts(90_033));
    let sidecar = start(&lab.patient().env("TOKEN_SIDECAR_LOG_LEVEL", "trace")).await;
    sidecar.ready().await.unwrap();
    let request = Request::post("/echo")
        .header("authorization", "Bearer workload-secret-token")
        .header("cookie", "session=workload-secret-cookie")
        .body(body::full("workload-secret-body"))
        .unwrap();
    assert_eq!(sidecar.client().send(request).await.unwrap().status, 200);
    assert_eq!(
        sidecar
            .client()
            .get("/reject-once?secret=workload-secret-query")
            .await
            .unwrap()
            .status,
        200
    );
    let issued = lab.authority.issued().all();
    let lines = sidecar.process.stderr().all();
    assert!(!lines.is_empty());
    for line in &lines {
        let fact: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            fact["timestamp"].is_string()
                && fact["level"].is_string()
                && fact["message"].is_string(),
            "{line}"
        );
    }
    let metrics = sidecar.metrics().await.unwrap();
    let all = format!(
        "{}\n{}\n{}",
        lines.join("\n"),
        metrics.0,
        sidecar.admin_get("/readyz").await.unwrap().text()
    );
    for issued in issued {
        for secret in [&issued.token, &issued.subject_token] {
            let signature = secret.rsplit('.').next().unwrap();
            assert!(
                !all.contains(secret.as_str()) && !all.contains(signature),
                "a token was written down"
            );
        }
    }
    assert!(!all.contains("workload-secret"), "{all}");
}
