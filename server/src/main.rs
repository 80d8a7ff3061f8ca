//! The `mcp-server` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    mcp_server::cli::main()
}
