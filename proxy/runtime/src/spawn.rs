//! Tasks with a name: the only place that spawns, so that every log line of a task says whose it is.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Spawns `future` on the current tokio runtime inside a span `task{task=name}`.
///
/// Needs a tokio runtime around it, as `tokio::spawn` does.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    tokio::spawn(future.instrument(tracing::info_span!("task", task = name)))
}

/// As [`spawn`], for futures that stay on this thread: needs a `LocalRuntime` or a `LocalSet` around it.
pub fn spawn_local<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(future.instrument(tracing::info_span!("task", task = name)))
}
