//! The official MCP conformance suites (two packages for three revisions) against our own server: by itself, and with the inbound sidecar in front of it,
//! which must change nothing. What fails by design is `tests/interop/conformance.txt`, exactly.
//!
//! The suites cannot send a token: they have no option for headers, and their scenarios of authorization are for clients and authorization servers. So a
//! forwarder of the harness stands between them and the sidecar and adds one ([`BearerForwarder`]).

use crate::{
    interop_lab::{Parts, listening, parts, run, said},
    lab::{Lab, program},
    on_behalf_of,
};
use harness::{
    bearer::BearerForwarder,
    ports,
    process::{AS_MCP_SERVER, Process},
    temp::TempDir,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::Path,
};
use tokio::net::TcpListener;

/// Revision, package, how many checks pass at least.
const SUITES: [(&str, &str, usize); 3] = [
    ("2026-07-28", "@modelcontextprotocol/conformance", 90),
    ("2025-11-25", "@modelcontextprotocol/conformance", 30),
    ("2025-06-18", "conformance-2025-06-18", 5),
];

/// What became of each check of a run (`SUCCESS`, `FAILURE`, and what else there is): scenario, check, status.
type Outcomes = BTreeSet<(String, String, String)>;

/// `dir` has a folder for each scenario, whose name ends in the time it was run at.
fn outcomes(dir: &Path) -> Outcomes {
    let mut all = Outcomes::new();
    for scenario in fs::read_dir(dir).unwrap() {
        let scenario = scenario.unwrap();
        let name = scenario.file_name().into_string().unwrap();
        let (name, _time) = name.split_at(name.len() - "-2026-11-25T19-26-38-471Z".len());
        let checks = fs::read(scenario.path().join("checks.json"))
            .unwrap_or_else(|_| panic!("the scenario {name} broke off: it left no checks"));
        let checks: Vec<serde_json::Value> = serde_json::from_slice(&checks).unwrap();
        let mut times = BTreeMap::new();
        for check in checks {
            let [id, status] = ["id", "status"].map(|key| check[key].as_str().unwrap().to_owned());
            // Some checks are made several times in a scenario.
            let time = times.entry(id.clone()).or_insert(0);
            *time += 1;
            all.insert((format!("{name} {time}"), id, status));
        }
    }
    all
}

/// Runs every suite against the server at `url`; by revision.
async fn run_suites(parts: &Parts, url: &str) -> BTreeMap<&'static str, Outcomes> {
    let mut all = BTreeMap::new();
    for (revision, package, at_least) in SUITES {
        let dir = TempDir::new("conformance").unwrap();
        let suite = parts.package(package).join("dist/index.js");
        let (suite, out) = (suite.to_str().unwrap(), dir.join("out"));
        let mut args = vec![suite, "server", "--url", url, "-o", out.to_str().unwrap()];
        if package.starts_with('@') {
            args.extend(["--requirements", revision]);
        }
        let output = run(&parts.node(), &args, &[]).await;
        let outcomes = outcomes(&out);
        let passed = with_status(&outcomes, "SUCCESS").count();
        assert!(
            passed >= at_least,
            "{revision}: only {passed} checks passed: {}",
            said(&output)
        );
        all.insert(revision, outcomes);
    }
    all
}

fn with_status<'o>(outcomes: &'o Outcomes, status: &'o str) -> impl Iterator<Item = &'o str> {
    outcomes
        .iter()
        .filter(move |(_, _, s)| s == status)
        .map(|(_, id, _)| id.as_str())
}

/// `mcp-server` at `address`. The suites send an Origin of their own, which a server that serves no pages refuses unless told otherwise.
async fn server(address: SocketAddr, backend: &str, callers: SocketAddr, forward: &str) -> Process {
    let env: BTreeMap<String, OsString> = [
        ("BACKEND_API_URL", backend.to_owned()),
        ("HOST", address.ip().to_string()),
        ("PORT", address.port().to_string()),
        ("ALLOWED_ORIGINS", origins(callers).join(",")),
        ("FORWARD_CALLER", forward.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into();
    let server = Process::spawn(program(), &[AS_MCP_SERVER.into()], &env).unwrap();
    listening(address, &server).await;
    server
}

fn origins(callers: SocketAddr) -> [String; 2] {
    ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{}", callers.port()))
}

/// The suite of each revision fails exactly where this server says that it offers less; and check by check alike with the inbound sidecar in front.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_server_conforms_with_and_without_the_inbound_sidecar_in_front() {
    let Some(parts) = parts("the MCP conformance suites") else {
        return;
    };
    let lab = Lab::new().await;
    let outbound = lab.ready_sidecar().await;
    let address = ports::free().unwrap();
    let backend = format!("http://{}", outbound.listen());
    let _server = server(address, &backend, address, "false").await;

    let callers_lab = on_behalf_of::lab().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callers = listener.local_addr().unwrap();
    let behind = ports::free().unwrap();
    let allowed = format!(", allowedOrigins: ['{}']", origins(callers).join("', '"));
    let sidecar = on_behalf_of::configured(
        &callers_lab,
        on_behalf_of::config(&callers_lab, behind, &allowed, ""),
    )
    .await;
    let backend = format!("http://{}", sidecar.listen());
    let _behind = server(behind, &backend, callers, "true").await;
    let token = on_behalf_of::token(&callers_lab, "ada");
    let _forwarder = BearerForwarder::serve(listener, sidecar.inbound(), &token).unwrap();

    let urls = [address, callers].map(|at| format!("http://{at}/mcp"));
    let (alone, with_inbound) =
        tokio::join!(run_suites(&parts, &urls[0]), run_suites(&parts, &urls[1]));
    let expected = fs::read_to_string(parts.script("conformance.txt")).unwrap();
    for (revision, outcomes) in &alone {
        let failed: BTreeSet<&str> = with_status(outcomes, "FAILURE").collect();
        let by_design: BTreeSet<&str> = expected
            .lines()
            .filter_map(|line| line.strip_prefix(revision)?.split_whitespace().next())
            .collect();
        assert_eq!(failed, by_design, "{revision}");
        let with = &with_inbound[revision];
        let only = |a: &Outcomes, b: &Outcomes| a.difference(b).cloned().collect::<Vec<_>>();
        assert_eq!(
            (only(outcomes, with), only(with, outcomes)),
            (vec![], vec![]),
            "{revision}: what holds by itself alone, and what with the inbound sidecar in front alone"
        );
    }
    // Had the token not been asked for, nothing would have been shown.
    let metrics = sidecar.metrics().await.unwrap();
    let verifications = |result: &str| {
        metrics
            .value(
                "token_sidecar_inbound_verifications_total",
                &[("result", result)],
            )
            .unwrap_or_default()
    };
    assert_eq!(verifications("verified"), 1.0);
    assert!(verifications("seen") >= 100.0, "{}", metrics.0);
}
