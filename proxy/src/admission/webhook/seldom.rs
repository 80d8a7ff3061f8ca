//! Lines of the log that strangers can cause: one a second, and how many were left out before it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// When the last line was written, and how many were left out since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether a line may be written now; then how many were left out before it.
    pub(super) fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|l| l.elapsed() < PAUSE) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_second() {
        let seldom = Seldom::default();
        assert_eq!([(); 4].map(|()| seldom.now()), [Some(0), None, None, None]);
        tokio::time::advance(PAUSE).await;
        assert_eq!([(); 2].map(|()| seldom.now()), [Some(3), None]);
    }
}
