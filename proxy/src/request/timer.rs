//! Coarse deadlines for one worker: arming one is a store, not an entry in a timer wheel, because every request arms several and
//! almost none fires. A ticker looks at all of them ten times a second and wakes the tasks whose time is up.
//!
//! Not for anything that needs to be more exact than [`TICK`]; and never shared between threads.

use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};
use tokio::{sync::Notify, time::MissedTickBehavior};

/// How exact a deadline is; it never fires early.
pub const TICK: Duration = Duration::from_millis(100);

const TICKS_PER_SECOND: u64 = 1000 / TICK.as_millis() as u64;

const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Inner {
    /// Ticks since the worker started.
    now: Cell<u64>,
    entries: RefCell<Slab<Rc<Entry>>>,
    wanted: Notify,
}

struct Entry {
    due: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// One worker's deadlines. Cheap to clone; the ticker must be spawned once ([`Timers::run`]).
#[derive(Clone, Default)]
pub struct Timers(Rc<Inner>);

impl Timers {
    /// A deadline that is not armed.
    pub fn deadline(&self) -> Deadline {
        let entry = Rc::new(Entry {
            due: Cell::new(NEVER),
            waker: RefCell::new(None),
        });
        let mut entries = self.0.entries.borrow_mut();
        if entries.is_empty() {
            self.0.wanted.notify_one();
        }
        let key = entries.insert(Rc::clone(&entry));
        drop(entries);
        Deadline {
            timers: self.clone(),
            entry,
            key,
        }
    }

    /// Ticks for as long as it is polled; sleeps while there is no deadline at all.
    pub async fn run(self) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut start = tokio::time::Instant::now();
        loop {
            if self.0.entries.borrow().is_empty() {
                self.0.wanted.notified().await;
                // Nothing ticked meanwhile: what has just been armed counts from the tick at which the clock stood still.
                let stood_at = u32::try_from(self.0.now.get()).unwrap_or(u32::MAX);
                let now = tokio::time::Instant::now();
                start = now.checked_sub(TICK * stood_at).unwrap_or(now);
            }
            interval.tick().await;
            let ticks = start.elapsed().as_millis() / TICK.as_millis();
            self.advance(u64::try_from(ticks).unwrap_or(NEVER - 1));
        }
    }

    /// Wakes every task that has a deadline, due or not: something else has changed that it should look at.
    pub fn wake_all(&self) {
        for (_, entry) in self.0.entries.borrow().iter() {
            if let Some(waker) = entry.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    fn advance(&self, now: u64) {
        self.0.now.set(now);
        // Waking only schedules: no task runs, and so no entry comes or goes, while this borrow lasts.
        for (_, entry) in self.0.entries.borrow().iter() {
            if entry.due.get() <= now
                && let Some(waker) = entry.waker.borrow_mut().take()
            {
                waker.wake();
            }
        }
    }
}

/// One deadline: armed, re-armed and disarmed with a store.
pub struct Deadline {
    timers: Timers,
    entry: Rc<Entry>,
    key: usize,
}

impl Deadline {
    /// Fires `after` from now, up to one [`TICK`] late (two, when the ticker was asleep).
    pub fn arm(&self, after: Duration) {
        let ticks = after
            .as_secs()
            .saturating_mul(TICKS_PER_SECOND)
            .saturating_add(u64::from(
                after.subsec_nanos().div_ceil(TICK.subsec_nanos()),
            ));
        // One more, since `now` may be almost a tick old.
        let now = self.timers.0.now.get();
        self.entry
            .due
            .set(now.saturating_add(ticks).saturating_add(1));
    }

    /// Never fires, until armed again.
    pub fn disarm(&self) {
        self.entry.due.set(NEVER);
    }

    /// Whether the time is up.
    pub fn is_due(&self) -> bool {
        self.entry.due.get() <= self.timers.0.now.get()
    }

    /// Whether the time is up; if not, the task is woken when it is. One task at a time.
    pub fn poll_due(&self, cx: &Context<'_>) -> bool {
        if self.is_due() {
            return true;
        }
        let mut waker = self.entry.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.timers.0.entries.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::time::Instant;

    fn local(test: impl Future<Output = ()> + 'static) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(Default::default())
            .unwrap();
        runtime.block_on(test);
    }

    async fn fires(d: &Deadline) {
        poll_fn(|cx| {
            if d.poll_due(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    #[test]
    fn fires_never_early_and_at_most_two_ticks_late() {
        local(async {
            let timers = Timers::default();
            tokio::task::spawn_local(timers.clone().run());
            for ms in [1u64, 99, 100, 101, 950, 5_000] {
                let d = timers.deadline();
                let start = Instant::now();
                d.arm(Duration::from_millis(ms));
                fires(&d).await;
                let took = start.elapsed();
                assert!(
                    took >= Duration::from_millis(ms),
                    "{ms} ms fired after {took:?}"
                );
                assert!(
                    took <= Duration::from_millis(ms) + 3 * TICK,
                    "{ms} ms fired after {took:?}"
                );
            }
        });
    }

    #[test]
    fn a_long_sleep_without_deadlines_makes_none_fire_early() {
        local(async {
            let timers = Timers::default();
            tokio::task::spawn_local(timers.clone().run());
            for idle in [0, 3_600, 60] {
                tokio::time::sleep(Duration::from_secs(idle)).await;
                let d = timers.deadline();
                let start = Instant::now();
                d.arm(Duration::from_secs(10));
                fires(&d).await;
                let took = start.elapsed();
                assert!(took >= Duration::from_secs(10), "fired after {took:?}");
                assert!(
                    took <= Duration::from_secs(10) + 3 * TICK,
                    "fired after {took:?}"
                );
            }
        });
    }

    #[test]
    fn rearming_moves_it_and_disarming_stops_it() {
        local(async {
            let timers = Timers::default();
            tokio::task::spawn_local(timers.clone().run());
            let d = timers.deadline();
            let start = Instant::now();
            d.arm(Duration::from_secs(1));
            assert!(
                tokio::time::timeout(Duration::from_millis(700), fires(&d))
                    .await
                    .is_err()
            );
            d.arm(Duration::from_secs(1));
            fires(&d).await;
            assert!(start.elapsed() >= Duration::from_millis(1700));
            d.disarm();
            assert!(
                tokio::time::timeout(Duration::from_secs(3600), fires(&d))
                    .await
                    .is_err()
            );
        });
    }

    #[test]
    fn a_dropped_deadline_leaves_nothing() {
        local(async {
            let timers = Timers::default();
            drop(timers.deadline());
            assert!(timers.0.entries.borrow().is_empty());
        });
    }
}
