//! The demo's command line. The same binary is also the sidecar and the MCP server when its first argument says so: they run as separate
//! processes, started from here.

use clap::Parser;
use harness::{
    demo::{self, DemoOptions},
    process::{AS_MCP_SERVER, AS_SIDECAR},
};
use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
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
    token_sidecar::cli::run(own_arguments("token-sidecar"), &environment)
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
