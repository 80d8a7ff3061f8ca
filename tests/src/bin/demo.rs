//! The demo's command line. The same binary is also the sidecar and the MCP server when its first argument says so: they run as separate
//! processes, started from here.

use clap::Parser;
use harness::{
    demo::{self, DemoOptions, OwnServer},
    process::{AS_MCP_SERVER, AS_SIDECAR, UPSTREAM_HOST},
};
use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};
use token_sidecar::{
    app,
    config::{self, ConfigErrors, Document, Source},
};

/// Watch a workload without a credential call a protected backend through the sidecar, while its token rotates.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Make one MCP call through everything, print the result, and exit 0 if it succeeded.
    #[arg(long)]
    once: bool,
    /// End by itself after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Leave the token volume and the certificates in place at the end.
    #[arg(long)]
    keep: bool,
    /// The variable in which your server reads its backend's base URL.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "BACKEND_API_URL",
        requires = "server"
    )]
    variable: String,
    /// A stand-in of your server's backend on this machine, in the place of the built-in one.
    #[arg(long, value_name = "URL", requires = "server")]
    backend: Option<String>,
    /// A server of your own in the place of the built-in one, such as `-- python server.py`: it gets the sidecar's address as its base URL.
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "once")]
    server: Vec<OsString>,
}

fn main() -> ExitCode {
    match std::env::args_os()
        .nth(1)
        .as_ref()
        .and_then(|first| first.to_str())
    {
        Some(AS_SIDECAR) => sidecar(),
        Some(AS_MCP_SERVER) => mcp_server(),
        _ => run(&Arguments::parse()),
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let options = DemoOptions {
        once: arguments.once,
        limit: arguments.seconds.map(Duration::from_secs),
        keep: arguments.keep,
        colour: io::stdout().is_terminal(),
        own: (!arguments.server.is_empty()).then(|| OwnServer {
            command: arguments.server.clone(),
            variable: arguments.variable.clone(),
            backend: arguments.backend.clone(),
        }),
        ..DemoOptions::default()
    };
    let outcome = (|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(Box::pin(demo::run(
            &options,
            &std::env::current_exe()?,
            &mut io::stdout(),
        )))
    })();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(io::stderr(), "demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The binaries' own entry points, given the arguments that follow the word that says which.
fn sidecar() -> ExitCode {
    match environment(UPSTREAM_HOST) {
        Some(host) => sidecar_to(&host),
        None => token_sidecar::cli::run(own_arguments("token-sidecar"), environment),
    }
}

/// The sidecar with every upstream at `host`; a configuration file must be the last argument.
fn sidecar_to(host: &str) -> ExitCode {
    let source = Source {
        document: std::env::args_os()
            .next_back()
            .map(|file| Document::File(file.into())),
        ..Source::default()
    };
    let host = host.to_owned();
    let load = move || {
        let mut config = config::load(&source, &environment)?;
        for route in &mut config.request.routes {
            route.upstream.host.clone_from(&host);
        }
        Ok(config)
    };
    let outcome = load()
        .map_err(|errors: ConfigErrors| errors.to_string())
        .and_then(|config| app::run(config, Box::new(load)).map_err(|error| error.to_string()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "token-sidecar: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn mcp_server() -> ExitCode {
    mcp_server::cli::run(own_arguments("mcp-server"), &environment)
}

/// The arguments after the first two, behind a program name of their own.
fn own_arguments(name: &str) -> impl Iterator<Item = OsString> {
    std::iter::once(name.into()).chain(std::env::args_os().skip(2))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the process that hands its environment to the binaries' entry points"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
