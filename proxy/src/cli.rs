//! Arguments, environment and exit codes of the `token-sidecar` binary. No HTTP in here.

use std::process::ExitCode;

/// Runs the sidecar from the process's own arguments and environment until it is told to stop.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
