//! Tokens of callers: what a person (or a program) sent to the workload, and what is got in exchange for it. A credential that names the subject
//! token [`NAME`] has no token of its own; it gets one for each caller.

pub mod breaker;
pub mod cache;
pub mod doubt;
pub mod flight;
pub mod handle;
pub mod key;
pub mod running;
pub mod step_up;
mod sync;
pub mod table;
// Not in `table` itself, which a model checker compiles too.
#[cfg(test)]
#[path = "caller/table_tests.rs"]
mod table_tests;
pub mod token;

/// The reserved name of the caller's token among a credential's subject tokens.
pub const NAME: &str = "caller";
