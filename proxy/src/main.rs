//! The binary's entry: arguments and the exit code. No HTTP in here, and no logic: `token_sidecar::cli` has it.

use std::process::ExitCode;

fn main() -> ExitCode {
    token_sidecar::cli::main()
}
