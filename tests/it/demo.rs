//! The demo is the newcomer's first command: it must work.

use crate::lab::program;
use harness::{
    demo::{self, DemoOptions},
    process::Process,
};
use rustix::process::Signal;
use std::{collections::BTreeMap, path::Path};

#[tokio::test]
async fn once_makes_one_call_through_everything() {
    let mut demo = Process::spawn(program(), &["--once".into()], &BTreeMap::new()).unwrap();
    let status = demo.wait().await.unwrap();
    demo.read_up().await;
    let output = demo.output();
    assert!(status.success(), "{output}");
    assert!(
        output.contains("Ada Lovelace") && output.contains("accepted access token"),
        "{output}"
    );
}

#[tokio::test]
async fn the_account_tells_what_happens_and_a_signal_ends_it() {
    let mut demo = Process::spawn(
        program(),
        &["--seconds".into(), "60".into()],
        &BTreeMap::new(),
    )
    .unwrap();
    let lines = demo.stdout();
    for part in [
        "/messages",
        "/mcp",
        "/users/123",
        "/readyz",
        "/metrics",
        "exchanged ",
        "injected ",
        "called ",
    ] {
        lines
            .find(&format!("a line with `{part}`"), |line| line.contains(part))
            .await
            .unwrap_or_else(|error| panic!("{error}:\n{}", demo.output()));
    }
    let called = lines
        .find("the first call", |line| line.contains("called "))
        .await
        .unwrap();
    assert!(called.contains("-> a profile"), "{called}");
    assert!(!demo.output().contains("eyJ"), "no token is printed");
    assert!(
        !demo.output().contains('\u{1b}'),
        "no colours off a terminal"
    );
    demo.signal(Signal::INT).unwrap();
    let status = demo.wait().await.unwrap();
    demo.read_up().await;
    assert!(status.success(), "{}", demo.output());
    assert!(demo.output().contains("stopped"), "{}", demo.output());
}

#[tokio::test]
async fn a_part_that_does_not_start_is_named() {
    let mut out = Vec::new();
    let options = DemoOptions {
        once: true,
        ..DemoOptions::default()
    };
    let error = demo::run(&options, Path::new("/bin/false"), &mut out)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the sidecar ended"), "{error}");
    let error = demo::run(&options, Path::new("/no/such/program"), &mut out)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}
