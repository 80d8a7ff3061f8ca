//! The command line: arguments, messages before logging exists, exit codes.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use sidecar_runtime::{
    listener::{BindOptions, ListenAddr, Listener},
    shutdown::{Aborted, Signals},
    telemetry::{self, chain},
};
use tokio::sync::oneshot;

use crate::{
    app::{self, App, BuildError, Ended},
    env::{self, Settings, VARIABLES, Variable},
    metrics::revision,
};

/// Stopped by a signal, every request finished.
const OK: u8 = 0;
/// `EX_USAGE` of sysexits.h: arguments, environment or tools file are wrong.
const USAGE: u8 = 64;
/// `EX_SOFTWARE`: requests were cut at the deadline, or something that should not happen.
const SOFTWARE: u8 = 70;
/// `EX_OSERR`: the port cannot be bound, or the system refused something else.
const OS: u8 = 71;

const EXIT_CODES: &str = "Exit codes:
  0    stopped by a signal, every request finished
  64   arguments, environment or tools file are wrong (all errors are listed)
  70   stopped, but requests were cut at the deadline
  71   the port cannot be bound, or another failure of the system
  130  aborted by a second signal (SIGINT)
  143  aborted by a second signal (SIGTERM)";

const SIGNALS: &str = "Signals:
  SIGTERM, SIGINT  stop: not ready, then SHUTDOWN_DELAY, then requests in flight finish; a second one aborts
  SIGHUP           ignored: environment and TOOLS_FILE are read at the start, restart the container to take over new ones";

/// A minimal MCP server without credentials: declared tools, forwarded to the sidecar over plain HTTP.
#[derive(Debug, Parser)]
#[command(name = "mcp-server", disable_version_flag = true)]
struct Arguments {
    /// Check environment and tools file, list the tools, and stop
    #[arg(long)]
    check: bool,
    /// Print the version
    #[arg(long)]
    version: bool,
}

/// The binary: arguments and environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os(), &env::of_process)
}

/// The binary with given arguments (the first is the program's name) and a given environment.
///
/// Sets up logging for the process and handles its signals; the exit codes are those of `--help`.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> ExitCode {
    ExitCode::from(code(arguments, env))
}

fn code(arguments: impl IntoIterator<Item = OsString>, env: &dyn Fn(&str) -> Option<String>) -> u8 {
    let arguments = match arguments_of(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.version {
        say(&format!(
            "mcp-server {} ({})",
            env!("CARGO_PKG_VERSION"),
            revision()
        ));
        return OK;
    }
    let settings = match Settings::from_env(env) {
        Ok(settings) => settings,
        Err(errors) => return refuse(&errors),
    };
    let app = match App::build(&settings) {
        Ok(app) => app,
        Err(BuildError::Tools { path, source }) => {
            let errors = source.errors().iter();
            let lines: Vec<String> = errors.map(|e| format!("{}: {e}", path.display())).collect();
            return refuse(&lines);
        }
        Err(error) => return refuse(&[chain(&error).to_string()]),
    };
    if arguments.check {
        say("ok");
        return OK;
    }
    serve(&settings, app)
}

fn arguments_of(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, u8> {
    use clap::{CommandFactory as _, FromArgMatches as _};
    let command =
        Arguments::command().after_help(format!("{}\n\n{SIGNALS}\n\n{EXIT_CODES}", variables()));
    let matches = command.try_get_matches_from(arguments);
    matches
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| {
            // Help is an "error" too, one that goes to standard output.
            let printed = error.print();
            if error.use_stderr() || printed.is_err() {
                USAGE
            } else {
                OK
            }
        })
}

fn variables() -> String {
    let mut text = "Environment:".to_owned();
    for Variable {
        name,
        default,
        help,
    } in VARIABLES
    {
        let default = if default.is_empty() {
            "required"
        } else {
            default
        };
        text.push_str(&format!("\n  {name} [{default}]\n      {help}"));
    }
    text
}

fn serve(settings: &Settings, app: App) -> u8 {
    // The configuration itself stays as it is; only the MCP library, which logs each request, is kept quiet.
    let level = if settings.log_level.contains("rmcp") {
        settings.log_level.clone()
    } else {
        let level = settings.log_level.trim_end_matches([',', ' ']);
        format!("{level},rmcp=warn")
    };
    if let Err(error) = telemetry::init(settings.log_format, &level) {
        return complain(&chain(&error).to_string(), USAGE);
    }
    let address = ListenAddr::Tcp((settings.host, settings.port).into());
    let listener = match Listener::bind(&address, BindOptions::default()) {
        Ok(listener) => listener,
        Err(error) => return complain(&chain(&error).to_string(), OS),
    };
    if settings.allowed_hosts.is_any() {
        tracing::warn!(
            "ALLOWED_HOSTS allows any host: web pages may reach this server through DNS rebinding"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(until_stopped(listener, app)),
        Err(error) => complain(&format!("no runtime: {error}"), OS),
    }
}

async fn until_stopped(listener: Listener, app: App) -> u8 {
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("signals cannot be handled: {error}"), OS),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = std::pin::pin!(app::run(listener, app, async move {
        drop(stopped.await);
    }));
    let signal = tokio::select! {
        ended = server.as_mut() => return exit_code(ended),
        signal = signals.stop() => signal,
    };
    tracing::info!(%signal, "stopping; another signal aborts");
    drop(stop);
    match signals.stop.unless_aborted(server).await {
        Ok(ended) => exit_code(ended),
        Err(Aborted(signal)) => {
            tracing::error!(%signal, "aborted by a second signal");
            128 + signal.number()
        }
    }
}

fn exit_code(ended: io::Result<Ended>) -> u8 {
    match ended {
        Ok(Ended::Drained) => {
            tracing::info!("stopped");
            OK
        }
        Ok(Ended::Cut(connections)) => {
            tracing::error!(
                connections,
                "the deadline came before requests in flight had finished"
            );
            SOFTWARE
        }
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            OS
        }
    }
}

fn refuse(errors: &[String]) -> u8 {
    complain(&errors.join("\nmcp-server: "), USAGE)
}

/// Writes to standard error; there is nobody to tell when that fails.
fn complain(message: &str, code: u8) -> u8 {
    drop(writeln!(io::stderr().lock(), "mcp-server: {message}"));
    code
}

fn say(line: &str) {
    drop(writeln!(io::stdout().lock(), "{line}"));
}
