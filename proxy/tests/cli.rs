//! The binary's arguments, what it prints where, and its exit codes, by running it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_token-sidecar"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/samples/config")
        .join(name)
}

const AKS: &[(&str, &str)] = &[
    ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
    ("AZURE_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
    ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token"),
];

#[test]
fn check_says_ok() {
    let file = sample("minimal.yaml");
    let output = run(&["--check", "--config", file.to_str().unwrap()], AKS);
    assert_eq!(said(&output), (Some(0), "ok\n".to_owned(), String::new()));
}

#[test]
fn check_without_a_file() {
    let args = [
        "--check",
        "--upstream",
        "https://management.azure.com",
        "--scope",
        "https://management.azure.com/.default",
    ];
    assert_eq!(
        said(&run(&args, AKS)),
        (Some(0), "ok\n".to_owned(), String::new())
    );
}

#[test]
fn a_bad_configuration_exits_64_and_says_everything_on_standard_error() {
    let file = sample("minimal.yaml");
    let file = file.to_str().unwrap();
    let args = ["--config", file, "--admin", "nowhere", "--workers", "0"];
    let (code, out, err) = said(&run(&args, AKS));
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert_eq!(
        err,
        "--admin: not a listener; write IP:PORT such as 127.0.0.1:8080 (a name is not an IP), or unix:/PATH such as \
         unix:/run/token-sidecar/http.sock\n--workers: not a whole number from 1 to 1024; write one in digits\n"
    );
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let (code, _, err) = said(&run(
        &[],
        &[("TOKEN_SIDECAR_CONFIG", "/nonexistent/c.yaml")],
    ));
    assert_eq!(code, Some(64));
    assert!(
        err.starts_with("/nonexistent/c.yaml: cannot be read"),
        "{err}"
    );
}

#[test]
fn a_variable_that_the_configuration_names_is_looked_at_by_both_checks() {
    let text = "credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: r, upstream: {env: TOKEN_SIDECAR_UPSTREAM_A}, credential: a}]";
    let with = |args: &[&str], value: Option<&str>| {
        let value = value.map(|v| ("TOKEN_SIDECAR_UPSTREAM_A", v));
        let own: Vec<_> = value
            .into_iter()
            .chain([("TOKEN_SIDECAR_CONFIG_TEXT", text)])
            .collect();
        said(&run(args, &[AKS, &own].concat()))
    };
    let ok = with(&["--check"], Some("https://u.example\n"));
    assert_eq!(ok, (Some(0), "ok\n".to_owned(), String::new()));
    for args in [["--check"], ["check"]] {
        for (value, what) in [
            (None, "TOKEN_SIDECAR_UPSTREAM_A is not set; "),
            (
                Some("https://u.example\"}"),
                "the value of TOKEN_SIDECAR_UPSTREAM_A: not a URL; ",
            ),
        ] {
            let (code, out, err) = with(&args, value);
            assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}");
            let place = "TOKEN_SIDECAR_CONFIG_TEXT:2:36: routes[0].upstream.env: ";
            assert!(
                err.starts_with(&format!("{place}{what}")),
                "{args:?}: {err}"
            );
            assert!(!err.contains("u.example"), "{args:?}: {err}");
        }
    }
}

#[test]
fn a_bad_argument_exits_64() {
    let (code, out, err) = said(&run(&["--confg", "x"], AKS));
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains("--confg"), "{err}");
}

#[test]
fn help_names_options_variables_and_exit_codes() {
    let (code, out, err) = said(&run(&["--help"], &[]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for variable in token_sidecar::config::env::VARIABLES {
        assert!(
            out.contains(variable.name),
            "{} is missing:\n{out}",
            variable.name
        );
    }
    for word in [
        "--config",
        "--upstream",
        "--scope",
        "--listen",
        "--admin",
        "--log-level",
        "--log-format",
        "--workers",
        "--check",
        "--version",
        "\n  0\n",
        "\n  64\n",
        "\n  70\n",
        "\n  71\n",
        "130, 143",
    ] {
        assert!(out.contains(word), "{word} is missing:\n{out}");
    }
}

#[test]
fn version_is_the_packages() {
    let (code, out, _) = said(&run(&["--version"], &[]));
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with(concat!("token-sidecar ", env!("CARGO_PKG_VERSION"))),
        "{out}"
    );
}

const WITHOUT_FILE: &[&str] = &[
    "--upstream",
    "http://127.0.0.1:1",
    "--scope",
    "x/.default",
    "--admin",
    "127.0.0.1:0",
    "--workers",
    "1",
    "--listen",
];

#[test]
fn an_address_in_use_exits_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = said(&run(&[WITHOUT_FILE, &[address.as_str()]].concat(), AKS));
    assert_eq!(code, Some(71), "{err}");
    assert!(err.contains(&address), "{err}");
}

#[test]
fn sigterm_stops_it_with_0() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_token-sidecar"))
        .args(WITHOUT_FILE)
        .arg("127.0.0.1:0")
        .env_clear()
        .envs(AKS.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Standard error ends with the process, so neither loop can outlast it.
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let started = lines.by_ref().any(|l| l.contains("\"listening\""));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(
        (started, child.wait().unwrap().code()),
        (true, Some(0)),
        "{rest:?}"
    );
}
