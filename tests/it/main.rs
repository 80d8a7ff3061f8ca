//! The flows over real sockets, against the harness.

// `cfg(test)`, so that clippy knows that helpers may unwrap too.
#[cfg(test)]
mod harness_itself;
