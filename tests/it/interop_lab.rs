//! What the tests against parts of others share: where `tests/interop/setup` has put them, and how they are run.

use harness::{process::Process, record::Record, wait::within};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// The bound of what waits for a program of others to start or to end: where everybody is busy, an interpreter takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

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

    /// A JavaScript module finds its packages from where it lies: beside `node_modules`. It is replaced at one blow, since others may be reading it.
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        static COPIES: AtomicUsize = AtomicUsize::new(0);
        let beside = self.installed.join("node").join(name);
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let new = beside.with_extension(format!("{}-{copy}", std::process::id()));
        fs::copy(self.script(name), &new).unwrap();
        fs::rename(&new, &beside).unwrap();
        beside
    }

    /// A program in Python or TypeScript (JavaScript, that is): what runs it, and its file.
    pub(crate) fn in_language(&self, language: Language, name: &str) -> (PathBuf, PathBuf) {
        match language {
            Language::Python => (self.python(), self.script(&format!("{name}.py"))),
            Language::TypeScript => (self.node(), self.module(&format!("{name}.mjs"))),
        }
    }

    /// Runs the official client of a language, with these arguments and this environment.
    pub(crate) async fn client(
        &self,
        language: Language,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Output {
        self.module("sign_in.mjs");
        let (program, script) = self.in_language(language, name);
        let mut all = vec![script.to_str().unwrap()];
        all.extend(args);
        run(&program, &all, env).await
    }

    /// A server written by somebody else, whose base URL is `base`, at `address` once it listens. `more`: what else is in its environment.
    pub(crate) async fn server(
        &self,
        (language, name): (Language, &str),
        address: SocketAddr,
        base: &str,
        more: &[(&str, &str)],
    ) -> Process {
        let (program, script) = self.in_language(language, name);
        let port = address.port().to_string();
        let env: BTreeMap<String, OsString> = [
            ("BASE_URL", base),
            ("PORT", &port),
            // Nothing is to be left beside the scripts.
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ]
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
        let process = Process::spawn(&program, &[script.into()], &env).unwrap();
        listening(address, &process).await;
        process
    }
}

/// What the parts are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    TypeScript,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::TypeScript];
}

/// Waits until this process listens there.
pub(crate) async fn listening(address: SocketAddr, process: &Process) {
    within(PATIENCE, "the server listens", async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|e| panic!("{e}; it said:\n{}", process.output()));
}

/// Runs a program to its end, with `PATH` and this environment. One that does not end is told with what it printed until then.
pub(crate) async fn run(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let always = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let env: BTreeMap<String, OsString> = always
        .iter()
        .chain(env)
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
    let args: Vec<OsString> = args.iter().map(Into::into).collect();
    let mut process = Process::spawn(program, &args, &env).unwrap();
    let status = process.wait().await;
    let status = status.unwrap_or_else(|e| panic!("{e}; it said:\n{}", process.output()));
    let bytes = |lines: &Record<String>| {
        let lines = lines.all().into_iter().map(|line| line + "\n");
        lines.collect::<String>().into_bytes()
    };
    Output {
        status,
        stdout: bytes(process.stdout()),
        stderr: bytes(process.stderr()),
    }
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
