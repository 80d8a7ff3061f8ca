//! What the tests against parts of others share: where `tests/interop/setup` has put them, and how they are run.

use harness::{
    ports,
    process::Process,
    wait::{LONG, eventually, within},
};
use std::{
    collections::BTreeMap,
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

    /// The folder of an npm package.
    pub(crate) fn package(&self, name: &str) -> PathBuf {
        self.installed.join("node/node_modules").join(name)
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
    pub(crate) fn clients(&self) -> [(&'static str, PathBuf, PathBuf); 2] {
        [
            ("Python", self.python(), self.script("client.py")),
            ("TypeScript", self.node(), self.module("client.mjs")),
        ]
    }

    /// A server written by somebody else, whose base URL is `base`.
    pub(crate) async fn server(
        &self,
        program: PathBuf,
        script: PathBuf,
        base: &str,
    ) -> (Process, u16) {
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

/// Runs a program to its end, with `PATH` and this environment.
pub(crate) async fn run(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(env.iter().copied());
    within(LONG, "the program ends", command.output())
        .await
        .unwrap()
        .unwrap()
}

/// What a program ended with, and all that it printed.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
