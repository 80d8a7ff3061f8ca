//! Liveness: tasks that must not fall silent beat now and then; one that stops makes `/livez` fail by name.
//!
//! It is not readiness: a process that waits for a token is alive.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The list of heartbeats. Clones share it.
#[derive(Debug, Clone)]
pub struct Liveness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: Instant,
    beats: Mutex<Vec<Arc<Beat>>>,
}

#[derive(Debug)]
struct Beat {
    name: String,
    max_silence: Duration,
    /// Milliseconds after the list's epoch.
    last: AtomicU64,
}

/// A heartbeat that has been silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Whose it is.
    pub name: String,
    /// For how long it has been silent.
    pub silent_for: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

impl Liveness {
    /// An empty list: alive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch: Instant::now(),
                beats: Mutex::default(),
            }),
        }
    }

    /// Adds a heartbeat that has just beaten. From then on more than `max_silence` between beats means "not alive".
    #[must_use]
    pub fn register(&self, name: impl Into<String>, max_silence: Duration) -> Heartbeat {
        let beat = Arc::new(Beat {
            name: name.into(),
            max_silence,
            last: AtomicU64::new(self.shared.elapsed_ms()),
        });
        self.shared.lock().push(Arc::clone(&beat));
        Heartbeat {
            shared: Arc::clone(&self.shared),
            beat,
        }
    }

    /// The heartbeats that are silent for too long, by name; empty when all is well.
    #[must_use]
    pub fn silent(&self) -> Vec<Silent> {
        let now = self.shared.elapsed_ms();
        let mut silent: Vec<_> = self
            .shared
            .lock()
            .iter()
            .filter_map(|beat| {
                let silent_for =
                    Duration::from_millis(now.saturating_sub(beat.last.load(Ordering::Relaxed)));
                (silent_for > beat.max_silence).then(|| Silent {
                    name: beat.name.clone(),
                    silent_for,
                })
            })
            .collect();
        silent.sort_by(|a, b| a.name.cmp(&b.name));
        silent
    }
}

impl Shared {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Beat>>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's heartbeat. Dropping it does not take it off the list: a task that died must be missed.
#[derive(Debug)]
pub struct Heartbeat {
    shared: Arc<Shared>,
    beat: Arc<Beat>,
}

impl Heartbeat {
    /// Says "alive". Lock-free.
    pub fn beat(&self) {
        self.beat
            .last
            .store(self.shared.elapsed_ms(), Ordering::Relaxed);
    }

    /// Takes the heartbeat off the list: its task ends because it was told to.
    pub fn retire(self) {
        self.shared
            .lock()
            .retain(|other| !Arc::ptr_eq(other, &self.beat));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_named() {
        let liveness = Liveness::new();
        let lively = liveness.register("lively", Duration::from_secs(10));
        let dead = liveness.register("dead", Duration::from_secs(10));
        assert_eq!(liveness.silent(), []);
        tokio::time::advance(Duration::from_secs(6)).await;
        lively.beat();
        drop(dead);
        assert_eq!(liveness.silent(), []);
        tokio::time::advance(Duration::from_secs(6)).await;
        let expected = Silent {
            name: "dead".into(),
            silent_for: Duration::from_secs(12),
        };
        assert_eq!(liveness.silent(), [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retired_heartbeat_is_not_missed() {
        let liveness = Liveness::new();
        let beat = liveness.register("credential", Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(liveness.silent().len(), 1);
        beat.retire();
        assert_eq!(liveness.silent(), []);
    }
}
