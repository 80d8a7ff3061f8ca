//! Parts that this project did not write, against the real processes: MCP servers in Python and TypeScript that know a base URL and nothing of tokens,
//! the official clients of both languages, the official conformance suites, gRPC's C core, curl, and users of `HTTP_PROXY`.
//!
//! `tests/interop/setup` installs them; without it these tests say that they are skipped, or fail where INTEROP=required.

use crate::lab::{Lab, program, start};
use harness::{
    client::Client,
    ports,
    process::{AS_MCP_SERVER, McpServer, Process},
    temp::TempDir,
    wait::{LONG, eventually, within},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};
use tokio::process::Command;

/// Where `setup` has put everything.
pub(crate) struct Parts {
    scripts: PathBuf,
    installed: PathBuf,
}

/// `None`, and a line on standard error that no capture swallows, when the parts are not installed.
pub(crate) fn parts(test: &str) -> Option<Parts> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parts = Parts {
        scripts: tests.join("interop"),
        installed: tests.join("../target/interop"),
    };
    if parts.installed.join("stamp").exists() {
        return Some(parts);
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "whether a missing part is a failure is for whoever runs the tests to say"
    )]
    let required = std::env::var("INTEROP").is_ok_and(|v| v == "required");
    assert!(
        !required,
        "the parts are not installed, and INTEROP=required: run tests/interop/setup"
    );
    writeln!(
        std::io::stderr(),
        "SKIPPED: {test}: the parts are not installed; run tests/interop/setup (Python packages and npm packages) to have it run"
    )
    .unwrap();
    None
}

impl Parts {
    pub(crate) fn python(&self) -> PathBuf {
        self.installed.join("venv/bin/python")
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.installed.join("node/node")
    }

    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// A JavaScript module finds its packages from where it lies: beside `node_modules`.
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        let beside = self.installed.join("node").join(name);
        fs::copy(self.script(name), &beside).unwrap();
        beside
    }

    /// The official clients: name, program, script.
    fn clients(&self) -> [(&'static str, PathBuf, PathBuf); 2] {
        [
            ("Python", self.python(), self.script("client.py")),
            ("TypeScript", self.node(), self.module("client.mjs")),
        ]
    }

    /// A server written by somebody else, whose base URL is `base`.
    async fn server(&self, program: PathBuf, script: PathBuf, base: &str) -> (Process, u16) {
        let port = ports::free().unwrap().port();
        let env: BTreeMap<String, OsString> = [
            ("BASE_URL".to_owned(), base.into()),
            ("PORT".to_owned(), port.to_string().into()),
        ]
        .into();
        let process = Process::spawn(&program, &[script.into()], &env).unwrap();
        listening(([127, 0, 0, 1], port).into()).await;
        (process, port)
    }
}

pub(crate) async fn listening(address: SocketAddr) {
    eventually("the server listens", || async move {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await
    .unwrap();
}

async fn run(program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    within(LONG, "the program ends", command.output())
        .await
        .unwrap()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Each official client gets the profile through `url`, and no token comes with it.
async fn assert_profile(parts: &Parts, lab: &Lab, url: &str) {
    for (language, program, script) in parts.clients() {
        let output = run(
            &program,
            &[
                script.to_str().unwrap(),
                url,
                "get_user_profile",
                r#"{"user_id":"123"}"#,
            ],
        )
        .await;
        let printed = said(&output);
        assert!(output.status.success(), "{language}: {printed}");
        assert!(printed.contains("Ada Lovelace"), "{language}: {printed}");
        for issued in lab.authority.issued().all() {
            assert!(!printed.contains(&issued.token), "{language}");
        }
    }
}

#[tokio::test]
async fn a_fastmcp_server_changes_one_base_url_and_nothing_else() {
    let Some(parts) = parts("a FastMCP server behind the sidecar") else {
        return;
    };
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let base = format!("http://{}", sidecar.listen());
    let (_server, port) = parts
        .server(parts.python(), parts.script("fastmcp_server.py"), &base)
        .await;
    assert_profile(&parts, &lab, &format!("http://127.0.0.1:{port}/mcp")).await;
}

#[tokio::test]
async fn a_typescript_server_changes_one_base_url_and_nothing_else() {
    let Some(parts) = parts("a TypeScript MCP server behind the sidecar") else {
        return;
    };
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let base = format!("http://{}", sidecar.listen());
    let (_server, port) = parts
        .server(parts.node(), parts.module("sdk_server.mjs"), &base)
        .await;
    assert_profile(&parts, &lab, &format!("http://127.0.0.1:{port}/mcp")).await;
}

#[tokio::test]
async fn the_official_clients_call_our_own_server() {
    let Some(parts) = parts("the official MCP clients") else {
        return;
    };
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let server = McpServer::start(program(), &format!("http://{}", sidecar.listen()), &[])
        .await
        .unwrap();
    assert_profile(&parts, &lab, &format!("http://{}/mcp", server.address())).await;
}

/// Failed checks of a run, and how many passed.
fn results(dir: &Path) -> (BTreeSet<String>, usize) {
    let (mut failed, mut passed) = (BTreeSet::new(), 0);
    for scenario in fs::read_dir(dir).unwrap() {
        let checks = fs::read(scenario.unwrap().path().join("checks.json")).unwrap();
        let checks: Vec<serde_json::Value> = serde_json::from_slice(&checks).unwrap();
        for check in checks {
            match check["status"].as_str() {
                Some("FAILURE") => {
                    failed.insert(check["id"].as_str().unwrap().to_owned());
                }
                Some("SUCCESS") => passed += 1,
                _ => {}
            }
        }
    }
    (failed, passed)
}

/// The suite of each revision fails exactly where this server says that it offers less.
async fn assert_conforms(parts: &Parts, url: &str) {
    let expected = fs::read_to_string(parts.script("conformance.txt")).unwrap();
    let suites = [
        ("2026-07-28", "@modelcontextprotocol/conformance", 90),
        ("2025-11-25", "@modelcontextprotocol/conformance", 30),
        ("2025-06-18", "conformance-2025-06-18", 5),
    ];
    for (revision, package, at_least) in suites {
        let dir = TempDir::new("conformance").unwrap();
        let suite = parts
            .installed
            .join("node/node_modules")
            .join(package)
            .join("dist/index.js");
        let (suite, out) = (suite.to_str().unwrap(), dir.join("out"));
        let mut args = vec![suite, "server", "--url", url, "-o", out.to_str().unwrap()];
        if package.starts_with('@') {
            args.extend(["--requirements", revision]);
        }
        let output = run(&parts.node(), &args).await;
        let (failed, passed) = results(&out);
        let by_design: BTreeSet<String> = expected
            .lines()
            .filter_map(|line| line.strip_prefix(revision)?.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        assert_eq!(failed, by_design, "{revision}: {}", said(&output));
        assert!(
            passed >= at_least,
            "{revision}: only {passed} checks passed"
        );
    }
}

#[tokio::test]
async fn our_own_server_conforms() {
    let Some(parts) = parts("the MCP conformance suites") else {
        return;
    };
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let address = ports::free().unwrap();
    // The suite sends an Origin of its own, which a server that serves no pages refuses unless told otherwise.
    let origins = format!("http://localhost:{0},http://127.0.0.1:{0}", address.port());
    let env: BTreeMap<String, OsString> = [
        ("BACKEND_API_URL", format!("http://{}", sidecar.listen())),
        ("HOST", address.ip().to_string()),
        ("PORT", address.port().to_string()),
        ("ALLOWED_ORIGINS", origins),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into();
    let _server = Process::spawn(program(), &[AS_MCP_SERVER.into()], &env).unwrap();
    listening(address).await;
    assert_conforms(&parts, &format!("http://{address}/mcp")).await;
}

/// Unary and streaming calls both ways, trailers, over cleartext HTTP/2 on both sides; the server sees the sidecar's credential, not the client's.
#[tokio::test]
async fn grpc_passes() {
    let Some(parts) = parts("gRPC through the sidecar") else {
        return;
    };
    let lab = Lab::new().await;
    let dir = TempDir::new("grpc").unwrap();
    let seen = dir.join("seen");
    let upstream = ports::free().unwrap();
    let script = parts.script("grpc_echo.py");
    let args = [
        "server",
        &upstream.port().to_string(),
        seen.to_str().unwrap(),
    ]
    .map(OsString::from);
    let args: Vec<OsString> = [script.clone().into_os_string()]
        .into_iter()
        .chain(args)
        .collect();
    let server = Process::spawn(&parts.python(), &args, &BTreeMap::new()).unwrap();
    eventually("the gRPC server serves", || async {
        server
            .stdout()
            .all()
            .iter()
            .any(|l| l == "serving")
            .then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e}:\n{}", server.output()));
    let config = lab
        .config()
        .replace(&lab.upstream.url(), &format!("http://{upstream}"))
        .replace("credential: backend }", "credential: backend, http: '2' }");
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let output = run(
        &parts.python(),
        &[
            script.to_str().unwrap(),
            "client",
            &sidecar.listen().to_string(),
        ],
    )
    .await;
    assert!(
        output.status.success(),
        "{}\n{}",
        said(&output),
        sidecar.process.output()
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello kept\n0 1 2 3 4\n42\n",
        "{}",
        said(&output)
    );
    let injected = fs::read_to_string(seen).unwrap();
    assert!(
        lab.authority
            .issued()
            .all()
            .iter()
            .any(|i| i.token == injected)
    );
}

/// Two programs that everybody has, with nothing but an environment variable: `http://` URLs leave as https, with a credential.
#[tokio::test]
async fn users_of_http_proxy_need_no_other_change() {
    let Some(parts) = parts("curl and Python with HTTP_PROXY") else {
        return;
    };
    let lab = Lab::new().await;
    let config = lab.config().replace(
        "credential: backend }",
        "credential: backend, match: { host: backend.example.com } }",
    );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let proxy = format!("http://{}", sidecar.listen());
    let url = "http://backend.example.com/users/123";
    let python = parts.python();
    let fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())";
    let httpx = "import sys, httpx; print(httpx.get(sys.argv[1]).raise_for_status().text)";
    for (program, args) in [
        (Path::new("curl"), vec!["-sS", "--fail-with-body", url]),
        (&python, vec!["-c", fetch, url]),
        (&python, vec!["-c", httpx, url]),
    ] {
        let mut command = Command::new(program);
        command
            .args(&args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HTTP_PROXY", &proxy)
            .env("http_proxy", &proxy);
        let output = within(LONG, "the program ends", command.output())
            .await
            .unwrap()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("Ada Lovelace"), "{}", said(&output));
    }
    // A host that no route names is not fetched for anybody.
    let output = Command::new("curl")
        .args(["-sS", "--fail-with-body", "http://elsewhere.example.com/"])
        .env("http_proxy", &proxy)
        .output()
        .await
        .unwrap();
    assert!(
        !output.status.success() && said(&output).contains("404"),
        "{}",
        said(&output)
    );
    // What the sidecar said to those programs is what any client gets.
    assert_eq!(
        Client::new(sidecar.listen())
            .get("/users/123")
            .await
            .unwrap()
            .status,
        404
    );
}
