//! The binary as a process: help, errors before it serves, signals, exit codes; and what it is linked with.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

const BINARY: &str = env!("CARGO_BIN_EXE_mcp-server");

fn command(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied());
    command
}

fn output(arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(arguments, env).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_documents_every_variable_and_exit_code() {
    let (code, help, _) = output(&["--help"], &[]);
    assert_eq!(code, 0);
    // Where the lines break depends on the features that other packages of the workspace want of the argument parser.
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = flat(&help);
    for variable in mcp_server::env::VARIABLES {
        assert!(
            said.contains(variable.name) && said.contains(&flat(variable.help)),
            "{}: {help}",
            variable.name
        );
    }
    assert!(said.contains("SIGHUP ignored: environment and TOOLS_FILE are read at the start"));
    for exit in ["64", "70", "71", "130", "143"] {
        assert!(help.contains(&format!("\n  {exit}")), "{help}");
    }
    let (code, version, _) = output(&["--version"], &[]);
    assert_eq!(code, 0);
    assert!(
        version.starts_with(&format!("mcp-server {} (", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
}

#[test]
fn a_bad_configuration_exits_with_64_and_says_everything() {
    assert_eq!(output(&["--nope"], &[]).0, 64);
    let env = [
        ("BACKEND_API_URL", "https://api.example.com"),
        ("PORT", "x"),
    ];
    let (code, _, errors) = output(&[], &env);
    assert_eq!(code, 64);
    assert!(
        errors.contains("BACKEND_API_URL: uses https, but this server holds no credential"),
        "{errors}"
    );
    assert!(errors.contains("point it at the sidecar"), "{errors}");
    assert!(
        errors.contains("mcp-server: PORT: `x` must be a port"),
        "{errors}"
    );
    let env = [
        ("BACKEND_API_URL", "http://127.0.0.1:1"),
        ("TOOLS_FILE", "/nonexistent/tools.yaml"),
    ];
    let (code, _, errors) = output(&["--check"], &env);
    assert_eq!(code, 64);
    assert!(
        errors.contains("TOOLS_FILE: cannot read /nonexistent/tools.yaml"),
        "{errors}"
    );
    let (code, out, _) = output(&["--check"], &[("BACKEND_API_URL", "http://127.0.0.1:1")]);
    assert_eq!((code, out.as_str()), (0, "ok\n"));
}

#[test]
fn a_taken_port_exits_with_71() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let env = [
        ("BACKEND_API_URL", "http://127.0.0.1:1"),
        ("HOST", "127.0.0.1"),
        ("PORT", &port),
    ];
    let (code, _, errors) = output(&[], &env);
    assert_eq!(code, 71);
    assert!(errors.contains("is in use by another process"), "{errors}");
}

/// A serving process, killed if the test ends before it does.
struct Serving(Child, BufReader<std::process::ChildStderr>);

impl Serving {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("BACKEND_API_URL", "http://127.0.0.1:1"),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
        ];
        all.extend(env);
        let mut child = command(&[], &all).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self(child, log);
        serving.wait_for("serving");
        serving
    }

    /// Reads the log up to the line with that message.
    fn wait_for(&mut self, message: &str) {
        let mut read = String::new();
        loop {
            let start = read.len();
            assert_ne!(
                self.1.read_line(&mut read).unwrap(),
                0,
                "no `{message}` in:\n{read}"
            );
            let line: serde_json::Value = serde_json::from_str(&read[start..]).unwrap();
            if line["message"].as_str().unwrap().starts_with(message) {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn sigterm_stops_with_0() {
    let mut serving = Serving::start(&[("SHUTDOWN_DELAY", "0"), ("LOG_LEVEL", "info,")]);
    serving.signal("HUP");
    serving.signal("TERM");
    serving.wait_for("stopped");
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_aborts() {
    let mut serving = Serving::start(&[("SHUTDOWN_DELAY", "600")]);
    serving.signal("TERM");
    serving.wait_for("stopping");
    serving.signal("INT");
    serving.wait_for("aborted by a second signal");
    assert_eq!(serving.0.wait().unwrap().code(), Some(130));
}

/// Asks cargo what the crate is linked with.
fn linked(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "-f",
            "{p}",
            "-p",
            package,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_links_no_tls_and_no_identity_library() {
    let tree = linked("mcp-server");
    assert!(
        tree.lines().any(|line| line.starts_with("rmcp v")),
        "{tree}"
    );
    for foreign in [
        "rustls",
        "aws-lc",
        "ring ",
        "openssl",
        "native-tls",
        "azure_",
        "reqwest",
        "token-sidecar",
        "harness",
    ] {
        let found: Vec<&str> = tree
            .lines()
            .filter(|line| line.starts_with(foreign))
            .collect();
        assert!(found.is_empty(), "{found:?}");
    }
}
