//! The series of the request flow after known traffic, and that no caller can make them grow.

use crate::request_lab::Bench;
use harness::{body, process::Metrics, raw::exchange, wait::eventually};
use http::Request;
use std::collections::BTreeSet;

fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics.value(name, labels).unwrap_or(0.0)
}

#[tokio::test]
async fn the_series_say_what_happened() {
    let bench = Bench::new("", "").await;
    let client = bench.sidecar.client();
    for _ in 0..3 {
        client.get("/users/1").await.unwrap();
    }
    client.post("/echo", "abc").await.unwrap();
    client.get("/status/404").await.unwrap();
    client.get("/status/503").await.unwrap();
    client.get("/redirect?to=/x").await.unwrap();
    client.get("/a/../b").await.unwrap();
    bench
        .lab
        .authority
        .access_tokens()
        .revoke(&bench.lab.authority.issued().last().unwrap().token);
    client.get("/users/1").await.unwrap();
    let requests = |m: &Metrics, method: &str, class: &str| {
        value(
            m,
            "token_sidecar_requests_total",
            &[
                ("route", "backend"),
                ("method", method),
                ("status_class", class),
            ],
        )
    };
    let m = bench
        .sidecar
        .metric("all requests to be counted to their end", |m| {
            value(
                m,
                "token_sidecar_request_duration_seconds_count",
                &[("route", "backend")],
            ) == 8.0
        })
        .await
        .unwrap();
    assert_eq!(requests(&m, "GET", "2xx"), 4.0, "{}", m.0);
    assert_eq!(requests(&m, "POST", "2xx"), 1.0);
    assert_eq!(requests(&m, "GET", "3xx"), 1.0);
    assert_eq!(requests(&m, "GET", "4xx"), 1.0);
    assert_eq!(requests(&m, "GET", "5xx"), 1.0);
    assert_eq!(
        value(
            &m,
            "token_sidecar_rejected_total",
            &[("reason", "unsafe_path")]
        ),
        1.0
    );
    assert_eq!(
        value(
            &m,
            "token_sidecar_unauthorized_replays_total",
            &[("result", "accepted")]
        ),
        1.0
    );
    assert_eq!(
        m.value("token_sidecar_requests_in_flight", &[("route", "backend")]),
        Some(0.0)
    );
    let connects = value(
        &m,
        "token_sidecar_upstream_connect_duration_seconds_count",
        &[("route", "backend")],
    );
    assert_eq!(connects, bench.upstream.accepted_connections() as f64);
    assert_eq!(
        m.value(
            "token_sidecar_upstream_connections",
            &[("route", "backend")]
        ),
        Some(bench.upstream.open_connections() as f64)
    );
    let sum = value(
        &m,
        "token_sidecar_request_duration_seconds_sum",
        &[("route", "backend")],
    );
    assert!(sum > 0.0);
}

/// The series without their values.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    metrics
        .0
        .lines()
        .filter(|line| line.starts_with("token_sidecar_"))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series.to_owned())
        .collect()
}

#[tokio::test]
async fn no_caller_can_make_the_series_grow() {
    let bench = Bench::new("", "").await;
    let odd = async |round: usize| {
        for i in 0..20 {
            let n = round * 100 + i;
            for text in [
                format!("METHOD{n} /users/{n} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                format!("GET /path{n} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                format!("GET / HTTP/1.1\r\nHost: host{n}.example\r\n\r\n"),
                format!("GET http://host{n}.example/ HTTP/1.1\r\nHost: x\r\n\r\n"),
                format!(
                    "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://o{n}.example\r\n\r\n"
                ),
                format!("GET / HTTP/1.1\r\nHost: localhost\r\nExpect: e{n}\r\n\r\n"),
            ] {
                exchange(bench.sidecar.listen(), text).await.unwrap();
            }
        }
    };
    odd(1).await;
    let before = series(&bench.sidecar.metrics().await.unwrap());
    odd(2).await;
    let after = bench.sidecar.metrics().await.unwrap();
    let grown: Vec<_> = series(&after).difference(&before).cloned().collect();
    assert!(grown.is_empty(), "{grown:?}");
    assert_eq!(
        value(
            &after,
            "token_sidecar_requests_total",
            &[("method", "other")]
        ),
        40.0
    );
    for odd in ["METHOD", "path1", "host1", "o1.example"] {
        assert!(!after.0.contains(odd), "{odd}");
    }
}

#[tokio::test]
async fn in_flight_rises_and_falls() {
    let bench = Bench::new("", "").await;
    let mut open = vec![];
    for _ in 0..5 {
        let mut connection = bench.sidecar.client().connect().await.unwrap();
        let request = Request::get("/slow-body?n=2&ms=60000")
            .body(body::empty())
            .unwrap();
        let response = connection.start(request).await.unwrap();
        open.push((connection, response));
    }
    let m = bench.sidecar.metrics().await.unwrap();
    assert_eq!(m.value("token_sidecar_requests_in_flight", &[]), Some(5.0));
    assert_eq!(
        m.value("token_sidecar_upstream_connections", &[]),
        Some(5.0)
    );
    open.clear();
    bench
        .sidecar
        .metric("none in flight", |m| {
            m.value("token_sidecar_requests_in_flight", &[]) == Some(0.0)
                && m.value("token_sidecar_upstream_connections", &[]) == Some(0.0)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn promtool_is_content() {
    let bench = Bench::new("", "").await;
    bench.sidecar.client().get("/users/1").await.unwrap();
    let text = eventually("a scrape", || async {
        Some(bench.sidecar.metrics().await.ok()?.0)
    })
    .await
    .unwrap();
    let child = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "SKIPPED: promtool cannot be run ({error}); install Debian's package prometheus to have /metrics checked"
            );
            return;
        }
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
