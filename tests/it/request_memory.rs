//! What the sidecar's memory does when many connections come and go. How large it is while they last is a figure for benchmarks, not for here.

use crate::request_lab::Bench;
use harness::{process::Sidecar, raw::Raw, wait::until};

const CONNECTIONS: u64 = 1000;

/// Left to itself, the C library keeps what lies below any allocation that stays.
#[tokio::test]
#[cfg(target_env = "gnu")]
async fn memory_is_given_back_after_a_crowd_of_connections() {
    let bench = Bench::new("workers: 1", "").await;
    let before = anonymous(&bench.sidecar);
    let mut crowd = vec![];
    for _ in 0..CONNECTIONS {
        let mut connection = Raw::connect(bench.sidecar.listen()).await.unwrap();
        connection
            .send("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        crowd.push(connection);
    }
    let grown = anonymous(&bench.sidecar) - before;
    assert!(
        grown > CONNECTIONS * 2048,
        "{grown} bytes for all of them: this measures nothing"
    );
    drop(crowd);
    until("two thirds of the memory to be given back", || {
        anonymous(&bench.sidecar) < before + grown / 3
    })
    .await
    .unwrap();
}

/// Memory of the process that is its own: heap and stacks, without the program's text.
fn anonymous(sidecar: &Sidecar) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
