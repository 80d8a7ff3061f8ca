//! The `mcp-server` binary: arguments and the exit code.

fn main() {}
