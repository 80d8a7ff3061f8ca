//! Draining: one side tells all watchers that it begins and waits until their guards are gone.
//!
//! Works across threads and runtimes; asking whether it has begun costs one relaxed load.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// A pair: the trigger that begins the drain, and the watch that work in flight holds clones of.
#[must_use]
pub fn drain() -> (DrainTrigger, DrainWatch) {
    let state = Arc::new(State::default());
    let watch = DrainWatch {
        state: Arc::clone(&state),
    };
    (DrainTrigger { state }, watch)
}

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    began: Notify,
    in_flight: AtomicUsize,
    idle: Notify,
}

/// Begins the drain. Dropping it does so too: whoever owned the decision is gone, and work must not go on for ever.
#[derive(Debug)]
pub struct DrainTrigger {
    state: Arc<State>,
}

impl DrainTrigger {
    /// Begins the drain: watchers are told at once. The value returned waits for the guards.
    #[must_use = "await `drained()` to let work in flight finish"]
    pub fn drain(self) -> Drained {
        Drained {
            state: Arc::clone(&self.state),
        }
    }
}

impl Drop for DrainTrigger {
    fn drop(&mut self) {
        self.state.draining.store(true, Ordering::Release);
        self.state.began.notify_waiters();
    }
}

/// A drain that has begun.
#[derive(Debug)]
pub struct Drained {
    state: Arc<State>,
}

impl Drained {
    /// Resolves when no guard is held. Has no deadline of its own; safe to cancel and to call again.
    pub async fn drained(&self) {
        loop {
            // Created before the check, so that a guard dropped in between is not missed.
            let idle = self.state.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// How many guards are held now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Acquire)
    }
}

/// Tells work in flight that it should come to its end.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    state: Arc<State>,
}

impl DrainWatch {
    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Relaxed)
    }

    /// Resolves when the drain begins, at once when it has begun already. Safe to cancel.
    pub async fn draining(&mut self) {
        loop {
            let began = self.state.began.notified();
            if self.state.draining.load(Ordering::Acquire) {
                return;
            }
            began.await;
        }
    }

    /// Counts as work in flight until the guard is dropped. One for a connection or a task, not for each request.
    #[must_use]
    pub fn guard(&self) -> DrainGuard {
        self.state.in_flight.fetch_add(1, Ordering::AcqRel);
        DrainGuard {
            state: Arc::clone(&self.state),
        }
    }
}

/// Work in flight; see [`DrainWatch::guard`].
#[derive(Debug)]
pub struct DrainGuard {
    state: Arc<State>,
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.state.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const NOT_YET: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn waits_for_every_guard() {
        let (trigger, watch) = drain();
        let (first, second) = (watch.guard(), watch.clone().guard());
        let drained = trigger.drain();
        assert_eq!(drained.in_flight(), 2);
        assert!(timeout(NOT_YET, drained.drained()).await.is_err());
        drop(first);
        assert!(timeout(NOT_YET, drained.drained()).await.is_err());
        drop(second);
        timeout(NOT_YET, drained.drained()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn tells_early_and_late_watchers() {
        let (trigger, watch) = drain();
        let mut early = watch.clone();
        assert!(!watch.is_draining());
        assert!(timeout(NOT_YET, early.draining()).await.is_err());
        let waiter = crate::spawn("waiter", async move { early.draining().await });
        tokio::task::yield_now().await;
        let drained = trigger.drain();
        timeout(NOT_YET, waiter).await.unwrap().unwrap();
        assert!(watch.is_draining());
        timeout(NOT_YET, watch.clone().draining()).await.unwrap();
        timeout(NOT_YET, drained.drained()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_trigger_drains() {
        let (trigger, mut watch) = drain();
        drop(trigger);
        timeout(NOT_YET, watch.draining()).await.unwrap();
    }

    #[test]
    fn works_across_threads_and_runtimes() {
        let (trigger, mut watch) = drain();
        let guard = watch.guard();
        let worker = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async move {
                    watch.draining().await;
                    drop(guard);
                });
        });
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let drained = trigger.drain();
                timeout(Duration::from_secs(60), drained.drained())
                    .await
                    .unwrap();
            });
        worker.join().unwrap();
    }
}
