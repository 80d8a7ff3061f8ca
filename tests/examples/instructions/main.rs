//! The regression gate on the CPU of a proxied request: user instructions, counted by callgrind. Unlike a time they do not depend on the
//! machine's load, and repeat to about 0.1 %. Two runs with different numbers of requests; their difference leaves out start and end.
//! Not a benchmark: the kernel's share is not in it.
//!
//! ```text
//! cargo build --profile profiling -p token-sidecar
//! cargo run -p harness --example instructions -- target/profiling/token-sidecar --bound 35200 --caller-ratio 1.15
//! ```
//!
//! With `--caller-ratio`, also that of a request on behalf of a caller whose token is there, against one with the pod's own: same process, same upstream.

mod count;
mod exchange;

use clap::Parser;
use count::{Surroundings, Way, profile};
use harness::{Result, temp::TempDir};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Requests of the two runs.
const FEW: usize = 300;
const MANY: usize = 1300;

#[derive(Parser)]
struct Arguments {
    /// The binary to count in, with optimisation and symbols (`cargo build --profile profiling`).
    #[arg(value_name = "BINARY")]
    sidecar: PathBuf,
    /// Fail when a request takes more instructions than this.
    #[arg(long, value_name = "N")]
    bound: u64,
    /// Also count requests on behalf of a caller, and fail when one takes more than so many times a request with the pod's own token.
    #[arg(long, value_name = "RATIO")]
    caller_ratio: Option<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Box::pin(gate(&arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is nobody to tell; the exit code stands.
            drop(writeln!(io::stderr(), "instructions: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn gate(arguments: &Arguments) -> Result<()> {
    let sidecar = fs::canonicalize(&arguments.sidecar).map_err(|error| {
        format!(
            "no binary at {}: {error}; build it with `cargo build --profile profiling -p token-sidecar`",
            arguments.sidecar.display()
        )
    })?;
    let surroundings = Surroundings::start().await?;
    let mut dir = TempDir::new("token-sidecar-instructions")?;
    let per_request = per_request(&surroundings, &sidecar, dir.path(), Way::Plain).await?;
    writeln!(io::stdout(), "{per_request} instructions per request")?;
    if per_request > arguments.bound {
        dir.keep();
        return Err(format!(
            "{per_request} instructions per request exceed the bound of {}; `callgrind_annotate {}` says where they go: compare with the \
             last good commit, and mend what rose",
            arguments.bound,
            profile(dir.path(), MANY).display()
        )
        .into());
    }
    match arguments.caller_ratio {
        Some(ratio) => Box::pin(callers(&surroundings, &sidecar, &mut dir, ratio)).await,
        None => Ok(()),
    }
}

/// The instructions of one request: what more requests took, start and end left out.
async fn per_request(
    surroundings: &Surroundings,
    sidecar: &Path,
    dir: &Path,
    way: Way,
) -> Result<u64> {
    let few = surroundings.count(sidecar, dir, FEW, way).await?;
    let many = surroundings.count(sidecar, dir, MANY, way).await?;
    let difference = many.checked_sub(few).ok_or_else(|| {
        format!("{MANY} requests took fewer instructions ({many}) than {FEW} ({few}): the counts cannot be trusted")
    })?;
    Ok(difference / (MANY - FEW) as u64)
}

/// Requests on behalf of a caller against requests with the pod's own token.
async fn callers(
    surroundings: &Surroundings,
    sidecar: &Path,
    dir: &mut TempDir,
    ratio: f64,
) -> Result<()> {
    let mut counted = Vec::new();
    for way in [Way::Pod, Way::Caller] {
        let each = per_request(surroundings, sidecar, dir.path(), way).await?;
        writeln!(
            io::stdout(),
            "{each} instructions per request: {way:?}, with an inbound side"
        )?;
        counted.push(each as f64);
    }
    let seen = counted[1] / counted[0];
    writeln!(
        io::stdout(),
        "a caller's request takes {seen:.3} times the pod's"
    )?;
    if seen > ratio {
        dir.keep();
        return Err(format!(
            "that exceeds {ratio}; `callgrind_annotate {}` says where they go",
            profile(dir.path(), MANY).display()
        )
        .into());
    }
    Ok(())
}
