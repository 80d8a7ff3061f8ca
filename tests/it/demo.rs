//! The demo is the newcomer's first command: it must work.

use crate::lab::{Lab, program};
use harness::{
    authority::options::RESOURCE,
    client::Client,
    demo::{self, DemoOptions},
    ports,
    process::{AS_MCP_SERVER, Process, mcp_server::rpc},
    upstream::Upstream,
    wait::eventually,
};
use rustix::process::Signal;
use serde_json::json;
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::Path};

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

/// The demo with a server of somebody's own, which is the built-in one at an address that we know.
fn with_a_server(arguments: &[&str], server: &[&str]) -> (Process, SocketAddr) {
    let address = ports::free().unwrap();
    let environment = BTreeMap::from([
        ("HOST".to_owned(), address.ip().to_string().into()),
        ("PORT".to_owned(), address.port().to_string().into()),
        ("PATH".to_owned(), "/usr/bin:/bin".into()),
        ("SHUTDOWN_DELAY".to_owned(), "0".into()),
    ]);
    let arguments: Vec<OsString> = [arguments, &["--seconds", "60", "--"], server]
        .concat()
        .into_iter()
        .map(OsString::from)
        .collect();
    let demo = Process::spawn(program(), &arguments, &environment).unwrap();
    (demo, address)
}

/// What the demo's own server at this address answers, once it listens.
async fn call(demo: &Process, server: SocketAddr) -> String {
    eventually("the server listens", || async move {
        tokio::net::TcpStream::connect(server).await.ok()
    })
    .await
    .unwrap_or_else(|error| panic!("{error}; the demo said:\n{}", demo.output()));
    let answer = Client::new(server)
        .post_json(
            "/messages",
            &rpc("get_user_profile", &json!({ "user_id": "7" })),
        )
        .await
        .unwrap();
    answer.text()
}

#[tokio::test]
async fn a_server_of_ones_own_runs_in_the_place_of_the_built_in_one() {
    let (mut demo, server) = with_a_server(&[], &[program().to_str().unwrap(), AS_MCP_SERVER]);
    let answer = call(&demo, server).await;
    assert!(answer.contains("Ada Lovelace"), "{answer}");
    let injected = demo
        .stdout()
        .find("its request", |line| line.contains("injected "))
        .await
        .unwrap();
    assert!(
        injected.contains("GET /users/7 and accepts it"),
        "{injected}"
    );
    let output = demo.output();
    assert!(
        output.contains("BACKEND_API_URL=http://127.0.0.1:"),
        "{output}"
    );
    assert!(
        !output.contains("/messages") && !output.contains("called "),
        "nobody else's server is called: {output}"
    );
    demo.signal(Signal::TERM).unwrap();
    let status = demo.wait().await.unwrap();
    demo.read_up().await;
    assert!(status.success(), "{}", demo.output());
    assert!(
        tokio::net::TcpStream::connect(server).await.is_err(),
        "the server is stopped with the demo"
    );
}

#[tokio::test]
async fn its_variable_may_have_another_name_and_its_backend_be_a_stand_in() {
    let lab = Lab::new().await;
    let stand_in = Upstream::http(lab.authority.access_tokens(), RESOURCE)
        .await
        .unwrap();
    let arguments = ["--variable", "ORDERS_URL", "--backend", &stand_in.url()];
    let script = format!("BACKEND_API_URL=$ORDERS_URL exec \"$0\" {AS_MCP_SERVER}");
    let (mut demo, server) = with_a_server(
        &arguments,
        &["sh", "-c", &script, program().to_str().unwrap()],
    );
    call(&demo, server).await;
    let request = stand_in.requests().wait_for(1).await.unwrap().remove(0);
    assert_eq!(request.path(), "/users/7");
    assert!(
        request.token.is_some(),
        "with the token of the demo's authority"
    );
    assert!(demo.output().contains(&stand_in.url()));
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_of_ones_own_that_ends_ends_the_demo() {
    let (mut demo, _) = with_a_server(&[], &["sh", "-c", "exit 3"]);
    assert_eq!(demo.wait().await.unwrap().code(), Some(1));
    demo.read_up().await;
    assert!(
        demo.output().contains("your server ended: exit status: 3"),
        "{}",
        demo.output()
    );
    let (mut demo, _) = with_a_server(&[], &["/no/such/program"]);
    assert_eq!(demo.wait().await.unwrap().code(), Some(1));
    demo.read_up().await;
    assert!(demo.output().contains("cannot start /no/such/program"));
}
