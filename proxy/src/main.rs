//! The binary's entry: arguments and the exit code. No HTTP in here, and no logic: `token_sidecar::cli` has it.

use std::process::ExitCode;

// Gives memory back after a burst of connections, which the C library's allocator does not, and costs a request fewer instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    token_sidecar::cli::main()
}
