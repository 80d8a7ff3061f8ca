//! The arguments of `inject`, `uninject` and `webhook`, and what the first two read and print.

use super::{EXIT_SYSTEM, EXIT_UNWELL, EXIT_USAGE, chain, err, out};
use crate::{
    admission::{
        manifest::{self, Action},
        profile::Profiles,
    },
    app::webhook::{self, WebhookParams},
    config::{self, Document, profiles},
    doctor::{self, WebhookProbe},
};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use url::Url;

/// A manifest is refused (`EX_DATAERR` of sysexits).
const EXIT_REFUSED: u8 = 65;
/// Where the webhook finds its certificate and key unless it is told.
const CERTIFICATE: &str = "/etc/token-sidecar/tls/tls.crt";
const CERTIFICATE_KEY: &str = "/etc/token-sidecar/tls/tls.key";
/// More than this is not read.
const MAX_INPUT: u64 = (16 << 20) + 1;

/// Which manifests, and how to print them.
#[derive(Debug, clap::Args)]
struct Manifests {
    /// A manifest, YAML or JSON; - is standard input. May be given several times
    #[arg(long = "file", short, value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print what would change instead
    #[arg(long)]
    diff: bool,
}

/// `inject`.
#[derive(Debug, clap::Args)]
pub(super) struct Inject {
    #[command(flatten)]
    manifests: Manifests,
    /// The profiles file
    #[arg(long, value_name = "FILE")]
    profiles: PathBuf,
    /// The profile of pods that name none [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// `uninject`.
#[derive(Debug, clap::Args)]
pub(super) struct Uninject {
    #[command(flatten)]
    manifests: Manifests,
}

/// `webhook`.
#[derive(Debug, clap::Args)]
pub(super) struct Webhook {
    /// The profiles file; watched and reloaded
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/token-sidecar/profiles.yaml"
    )]
    profiles: PathBuf,
    /// The serving certificate's chain, PEM; watched and reloaded [default: /etc/token-sidecar/tls/tls.crt]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its key, PEM [default: /etc/token-sidecar/tls/tls.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Serve nothing: check options and profiles, and the certificate when it or its key is given; print one line that begins with `ok`, or every error, and exit
    #[arg(long)]
    check: bool,
    /// Serve nothing: call the webhook that runs at this URL as an API server does, ask it for a pod of each of the profiles (a dry run), and say what is wrong and what mends it
    #[arg(long, value_name = "URL", requires = "ca", conflicts_with_all = ["check", "certificate", "key", "listen", "admin", "namespace", "shutdown_delay"])]
    probe: Option<Url>,
    /// With --probe: the webhook's caBundle, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "probe",
        conflicts_with = "check"
    )]
    ca: Option<PathBuf>,
    /// Where the API server calls, by https: IP:PORT; `[::]` is every address, IPv4 too
    #[arg(long, value_name = "ADDR", default_value = "[::]:8443")]
    listen: String,
    /// Where probes and metrics are served
    #[arg(long, value_name = "ADDR", default_value = "[::]:9090")]
    admin: String,
    /// The injector's own namespace, whose pods are left alone
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// From SIGTERM to the closing of the listener: until then, the API server's endpoints may still name it
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    shutdown_delay: String,
    /// error, warn, info, debug or trace, or directives [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// json or text [default: json]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Inject {
    pub(super) fn run(&self) -> ExitCode {
        let profiles = match profiles::load(Document::File(self.profiles.clone())) {
            Ok(loaded) => {
                warn(&loaded);
                loaded.profiles
            }
            Err(errors) => {
                err(format_args!("{errors}\n"));
                return EXIT_USAGE.into();
            }
        };
        self.manifests.print(Action::Inject {
            profiles: &profiles,
            check: &profiles::check,
            profile: self.profile.as_deref(),
        })
    }
}

impl Uninject {
    pub(super) fn run(&self) -> ExitCode {
        self.manifests.print(Action::Uninject)
    }
}

impl Manifests {
    /// All or nothing: what is refused must not be missing in a pipe to `kubectl apply`.
    fn print(&self, action: Action<'_>) -> ExitCode {
        let (mut text, mut notes, mut problems) = (String::new(), Vec::new(), Vec::new());
        for file in &self.files {
            let standard_input = file.as_os_str() == "-";
            let name = if standard_input {
                "standard input".to_owned()
            } else {
                file.display().to_string()
            };
            let input = match read(file, standard_input) {
                Ok(input) => input,
                Err(problem) => {
                    err(format_args!("{name}: {problem}\n"));
                    return EXIT_USAGE.into();
                }
            };
            match manifest::apply(&input, &name, action) {
                Ok(done) => {
                    if self.diff {
                        text.push_str(&manifest::unified(&input, &done.text, &name));
                    } else {
                        join(&mut text, &done.text);
                    }
                    notes.extend(done.notes);
                }
                Err(mut wrong) => problems.append(&mut wrong),
            }
        }
        if problems.is_empty() {
            for note in notes {
                err(format_args!("{note}\n"));
            }
            out(text);
            return ExitCode::SUCCESS;
        }
        for problem in problems {
            err(format_args!("{problem}\n"));
        }
        EXIT_REFUSED.into()
    }
}

/// Puts one file's documents behind another's.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if !more.trim_start().starts_with("---") {
            text.push_str("---\n");
        }
    }
    text.push_str(more);
}

fn read(file: &Path, standard_input: bool) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if standard_input {
        std::io::stdin()
            .lock()
            .take(MAX_INPUT)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX_INPUT).read_to_end(&mut bytes))
    };
    read.map_err(|e| format!("cannot be read ({e}); check the path"))?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8; save it as UTF-8 text".into())
}

impl Webhook {
    pub(super) fn run(self, env: &dyn Fn(&str) -> Option<String>) -> ExitCode {
        let given = |option: Option<String>, variable: &str, default: &str| {
            option
                .or_else(|| env(variable).filter(|v| !v.is_empty()))
                .unwrap_or_else(|| default.to_owned())
        };
        let log_level = given(self.log_level, config::env::LOG_LEVEL, "info");
        let log_format = given(self.log_format, config::env::LOG_FORMAT, "json");
        let options = profiles::WebhookOptions {
            listen: &self.listen,
            admin: &self.admin,
            namespace: self.namespace.as_deref(),
            shutdown_delay: &self.shutdown_delay,
            log_level: &log_level,
            log_format: &log_format,
        };
        let file = self.profiles.clone();
        let reload = move || profiles::load(Document::File(file.clone()));
        let settings = options
            .read()
            .and_then(|settings| Ok((settings, reload().map_err(|e| e.to_string())?)));
        let (settings, loaded) = match settings {
            Ok(read) => read,
            Err(problems) => {
                err(format_args!("{problems}\n"));
                return EXIT_USAGE.into();
            }
        };
        if let (Some(url), Some(ca)) = (self.probe, self.ca) {
            return probed(&WebhookProbe {
                url,
                ca,
                profiles: loaded.profiles,
            });
        }
        let pair_given = self.certificate.is_some() || self.key.is_some();
        let file = |file: Option<PathBuf>, default: &str| file.unwrap_or_else(|| default.into());
        let (certificate, key) = (
            file(self.certificate, CERTIFICATE),
            file(self.key, CERTIFICATE_KEY),
        );
        if self.check {
            warn(&loaded);
            return found(&loaded.profiles, pair_given.then_some((&certificate, &key)));
        }
        let params = WebhookParams {
            settings,
            profiles: self.profiles,
            certificate,
            key,
            namespace: self.namespace,
        };
        match webhook::run(params, loaded, Box::new(reload)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                err(format_args!("token-sidecar: {}\n", chain(&e)));
                e.exit_code().into()
            }
        }
    }
}

/// What is probably a slip in the profiles file, on standard error.
fn warn(loaded: &profiles::Loaded) {
    for warning in &loaded.warnings {
        err(format_args!("warning: {warning}\n"));
    }
}

/// What `--check` says once options and profiles are right, and what it then finds of the certificate and its key.
fn found(profiles: &Profiles, pair: Option<(&PathBuf, &PathBuf)>) -> ExitCode {
    let until = match pair.map(|(certificate, key)| webhook::certificate_until(certificate, key)) {
        None => String::new(),
        Some(Ok(until)) => format!("; certificate good until {until}"),
        Some(Err(e)) => {
            err(format_args!("{}\n", chain(&e)));
            return e.exit_code().into();
        }
    };
    let names: Vec<&str> = profiles.0.keys().map(String::as_str).collect();
    out(format_args!("ok: profiles {}{until}\n", names.join(", ")));
    ExitCode::SUCCESS
}

/// What `--probe` finds.
fn probed(asked: &WebhookProbe) -> ExitCode {
    if asked.url.scheme() != "https" {
        err(
            "--probe: an API server calls by https only; write https://SERVICE.NAMESPACE.svc/mutate\n",
        );
        return EXIT_USAGE.into();
    }
    match doctor::probe(asked) {
        Ok(report) => {
            out(&report);
            if report.ok() {
                ExitCode::SUCCESS
            } else {
                EXIT_UNWELL.into()
            }
        }
        Err(e) => {
            err(format_args!(
                "token-sidecar: the system refused what the probe needs to run: {e}\n"
            ));
            EXIT_SYSTEM.into()
        }
    }
}
