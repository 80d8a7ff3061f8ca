//! Waiting on conditions: always bounded, the bound so generous that only a real fault reaches it.

use std::{fmt, future::Future, time::Duration};

/// The bound of every wait that names none. No test may rely on reaching it, and none on staying far below it.
pub const LONG: Duration = Duration::from_secs(120);

/// A condition did not come true in time.
#[derive(Debug, Clone)]
pub struct TimedOut {
    what: String,
    bound: Duration,
}

impl TimedOut {
    /// `what` did not happen within `bound`.
    pub fn new(what: &str, bound: Duration) -> Self {
        Self {
            what: what.to_owned(),
            bound,
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waited {:?} in vain for: {}", self.bound, self.what)
    }
}

impl std::error::Error for TimedOut {}

/// Polls `condition` until it gives a value.
///
/// # Errors
/// [`TimedOut`] naming `what` after [`LONG`].
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> Result<T, TimedOut>
where
    F: Future<Output = Option<T>>,
{
    within(LONG, what, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Polls `condition` until it is true.
///
/// # Errors
/// [`TimedOut`] naming `what` after [`LONG`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), TimedOut> {
    eventually(what, || std::future::ready(condition().then_some(()))).await
}

/// Awaits `future`, at the longest for `bound`.
///
/// # Errors
/// [`TimedOut`] naming `what`.
pub async fn within<F: Future>(
    bound: Duration,
    what: &str,
    future: F,
) -> Result<F::Output, TimedOut> {
    tokio::time::timeout(bound, future)
        .await
        .map_err(|_| TimedOut::new(what, bound))
}
