//! Arguments, environment and exit codes of the `token-sidecar` binary. No HTTP in here. What goes wrong before a log stands is written to
//! standard error.

mod injector;

use crate::{
    app,
    config::{self, Document, Overrides, Source},
    doctor,
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

/// Bad arguments or configuration (`EX_USAGE` of sysexits). Nothing was started. The other codes come from [`app::AppError::exit_code`].
pub const EXIT_USAGE: u8 = 64;
/// `check` found something that fails.
const EXIT_UNWELL: u8 = 1;
/// The system refused a thread or the like, as in [`app::AppError::exit_code`].
const EXIT_SYSTEM: u8 = 71;

/// The exit codes and what they mean, for `--help`.
const EXIT_CODES: &[(&str, &str)] = &[
    (
        "0",
        "stopped as asked (SIGTERM, SIGINT): requests in flight finished, or their deadline passed",
    ),
    (
        "1",
        "check, webhook --probe: a step failed; what it printed says which, why, and what mends it",
    ),
    (
        "64",
        "bad arguments or configuration: the reasons are on standard error, nothing was started",
    ),
    (
        "65",
        "inject, uninject: a manifest is refused: the reasons are on standard error, nothing was printed",
    ),
    ("70", "a fault in the sidecar itself"),
    (
        "71",
        "the system refused something it needs: an address to listen on, a thread, a file",
    ),
    (
        "130, 143",
        "a second SIGINT or SIGTERM cut requests in flight short",
    ),
];

/// Gives the containers of a pod access to protected upstreams while none of them holds a credential.
#[derive(Debug, Parser)]
#[command(
    name = "token-sidecar",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
    /// Check the configuration, print `ok` or every error, and exit
    #[arg(long)]
    check: bool,
    /// Print version and revision
    #[arg(long, short = 'V')]
    version: bool,
}

/// What a configuration is made of.
#[derive(Debug, Default, clap::Args)]
struct Settings {
    /// Configuration file, YAML or JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Without a file: where requests go
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    #[arg(
        long,
        value_name = "SCOPE",
        help = "Without a file: the scope of the access token, such as https://management.azure.com/.default"
    )]
    scope: Option<String>,
    /// Where routes without a listener of their own are served: IP:PORT or unix:/PATH [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where probes and metrics are served [default: `[::]:9090`, which is every address, IPv4 too]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// error, warn, info, debug or trace, or directives such as token_sidecar=debug,info [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// json or text [default: json]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// What else the program does; without one of these it is the sidecar.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Walk the chain from the projected token to the upstreams with what the sidecar would use, and say what is wrong and what mends it
    Check {
        #[command(flatten)]
        settings: Settings,
        /// How to print what was found
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        output: Output,
        /// Admin address (HOST:PORT or unix:/PATH) of the sidecar that must be running and ready [default: the configured one, if something answers there]
        #[arg(long, value_name = "ADDR")]
        sidecar: Option<String>,
        /// Send a GET with the route's token to its upstream, too, and say what the answer means; may be repeated [default: nothing is sent to upstreams]
        #[arg(long, value_name = "[ROUTE=]/PATH")]
        request: Vec<doctor::Asked>,
    },
    /// Put the sidecar into the pods and pod templates of manifests, and print them
    Inject(injector::Inject),
    /// Take the sidecar out of manifests again, and print them
    Uninject(injector::Uninject),
    /// Serve the admission webhook that puts the sidecar into pods as they are created
    Webhook(injector::Webhook),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the sidecar from the process's own arguments and environment until it is told to stop.
pub fn main() -> ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the process's environment; everything else is handed a closure"
    )]
    let env = |name: &str| std::env::var(name).ok();
    run(std::env::args_os(), env)
}

/// Gives an environment variable's value: always the same one, for a process's environment does not change.
pub type Env = fn(&str) -> Option<String>;

/// Runs the sidecar until it is told to stop. `args` begins with the program's name; `env` is asked at the start and for each reload, where a changed
/// file may name a variable that was not looked at before.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let parsed = command()
        .try_get_matches_from(args)
        .and_then(|m| Arguments::from_arg_matches(&m));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(e) if e.use_stderr() => {
            err(e.render());
            return EXIT_USAGE.into();
        }
        Err(help) => {
            out(help.render());
            return ExitCode::SUCCESS;
        }
    };
    if arguments.version {
        out(version());
        return ExitCode::SUCCESS;
    }
    match arguments.command {
        None => serve(arguments.settings, arguments.check, env),
        Some(Command::Check {
            settings,
            output,
            sidecar,
            request,
        }) => examine(settings, output, sidecar, request, env),
        Some(Command::Inject(inject)) => inject.run(),
        Some(Command::Uninject(uninject)) => uninject.run(),
        Some(Command::Webhook(webhook)) => webhook.run(&env),
    }
}

/// The sidecar itself, or no more than a look at its configuration.
fn serve(settings: Settings, check: bool, env: Env) -> ExitCode {
    let source = settings.into_source();
    let load = move || config::load(&source, &env);
    let config = match load() {
        Ok(config) => config,
        Err(errors) => {
            err(format_args!("{errors}\n"));
            return EXIT_USAGE.into();
        }
    };
    if check {
        for warning in &config.warnings {
            err(format_args!("warning: {warning}\n"));
        }
        out("ok\n");
        return ExitCode::SUCCESS;
    }
    match app::run(config, Box::new(load)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            err(format_args!("token-sidecar: {}\n", chain(&e)));
            e.exit_code().into()
        }
    }
}

/// The doctor.
fn examine(
    settings: Settings,
    output: Output,
    admin: Option<String>,
    requests: Vec<doctor::Asked>,
    env: Env,
) -> ExitCode {
    let options = doctor::Options {
        admin,
        requests,
        // A pod's host name is its own name, unless it was told otherwise.
        pod: env("KUBERNETES_SERVICE_HOST").and_then(|_| env("HOSTNAME")),
        program: version().trim_end().to_owned(),
    };
    let config = match config::load(&settings.into_source(), &env) {
        Ok(config) => config,
        Err(errors) => {
            let text = errors.to_string();
            err(format_args!("{text}\n"));
            for command in doctor::after_refusal(&text, &options) {
                err(format_args!("  $ {command}\n"));
            }
            return EXIT_USAGE.into();
        }
    };
    let report = match doctor::run(&config, &options) {
        Ok(report) => report,
        Err(e) => {
            err(format_args!(
                "token-sidecar: the system refused what the check needs to run: {e}\n"
            ));
            return EXIT_SYSTEM.into();
        }
    };
    match output {
        Output::Text => out(&report),
        Output::Json => out(format_args!("{}\n", report.json())),
    }
    if report.ok() {
        ExitCode::SUCCESS
    } else {
        EXIT_UNWELL.into()
    }
}

impl Settings {
    fn into_source(self) -> Source {
        Source {
            document: self.config.map(Document::File),
            overrides: Overrides {
                upstream: self.upstream,
                scope: self.scope,
                listen: self.listen,
                admin: self.admin,
                workers: self.workers,
                log_level: self.log_level,
                log_format: self.log_format,
            },
        }
    }
}

fn command() -> clap::Command {
    let mut notes = String::from("Environment (options win over it, it wins over the file):\n");
    for variable in config::env::VARIABLES {
        push(&mut notes, variable.name, &variable.help.replace('`', ""));
    }
    notes.push_str("\nExit codes:\n");
    for (code, meaning) in EXIT_CODES {
        push(&mut notes, code, meaning);
    }
    Arguments::command().after_help(notes)
}

/// A term and its meaning below it, wrapped and indented.
fn push(notes: &mut String, term: &str, meaning: &str) {
    const WIDTH: usize = 90;
    notes.push_str(&format!("  {term}"));
    let mut column = WIDTH;
    for word in meaning.split(' ') {
        column += 1 + word.len();
        if column > WIDTH {
            notes.push_str("\n         ");
            column = 9 + 1 + word.len();
        }
        notes.push(' ');
        notes.push_str(word);
    }
    notes.push('\n');
}

/// `token-sidecar 0.1.0 (revision)`; the revision is what the build was told in `BUILD_REVISION`.
fn version() -> String {
    let mut text = concat!("token-sidecar ", env!("CARGO_PKG_VERSION")).to_owned();
    if let Some(revision) = option_env!("BUILD_REVISION") {
        text.push_str(&format!(" ({revision})"));
    }
    text.push('\n');
    text
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Writes to standard output. That nobody reads it is not an error.
fn out(text: impl std::fmt::Display) {
    write!(io::stdout().lock(), "{text}").ok();
}

/// Writes to standard error. That nobody reads it is not an error.
fn err(text: impl std::fmt::Display) {
    write!(io::stderr().lock(), "{text}").ok();
}
