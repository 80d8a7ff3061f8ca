//! One flight at a time for each key of the table behind the cache of callers' tokens, in every interleaving of its threads: the module itself,
//! compiled against the model checker's locks and atomics instead of the standard library's.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
}
#[path = "../src/token/caller/table.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a part of it is model-checked, and it is no module of this crate"
)]
mod table;

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};
use table::{Key, Landing, Table};

const fn key(n: u8) -> Key {
    let mut key = [0; 32];
    key[0] = n;
    key[31] = n;
    key
}

/// A table, and how many flights of each of two keys are in the air, and began.
struct World {
    table: Table<u8, u64>,
    air: [AtomicUsize; 2],
    begun: [AtomicUsize; 2],
}

impl World {
    fn new(shards: usize, max: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Table::new(shards, max, 1 << 20),
            air: [AtomicUsize::new(0), AtomicUsize::new(0)],
            begun: [AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    /// Enters; whoever is told to start flies and lands. Nothing flies again before 10. True when there was a place.
    fn request(&self, n: u8, now: u64, force: bool) -> bool {
        let Some(entered) = self.table.enter(&key(n), now, |_| force, || n, |_| {}) else {
            return false;
        };
        assert_eq!(entered.value, n, "another key's value");
        if entered.start {
            let at = usize::from(n);
            self.begun[at].fetch_add(1, SeqCst);
            assert_eq!(
                self.air[at].fetch_add(1, SeqCst),
                0,
                "two flights of one key"
            );
            thread::yield_now();
            self.air[at].fetch_sub(1, SeqCst);
            let landing = Landing {
                next: 10,
                dead: 20,
                bytes: 1,
            };
            self.table.land(&key(n), now, landing);
        }
        true
    }

    fn begun(&self, n: usize) -> usize {
        self.begun[n].load(SeqCst)
    }

    fn check(&self, max: usize) {
        assert_eq!(self.table.len(), self.table.values().len());
        assert!(self.table.len() <= max);
        assert_eq!(self.table.is_empty(), self.table.bytes() == 0);
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Enough to find every known kind of race, and few enough to take seconds.
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn all(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn first_calls_at_once_are_one_flight() {
    model(|| {
        let world = World::new(1, 2);
        let threads = (0..2).map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || assert!(world.request(0, 0, false)))
        });
        let threads = threads.collect();
        assert!(world.request(0, 0, false));
        all(threads);
        assert_eq!(world.begun(0), 1);
        world.check(2);
    });
}

#[test]
fn rejections_at_once_are_one_flight_at_a_time() {
    model(|| {
        let world = World::new(1, 2);
        assert!(world.request(0, 0, false));
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || assert!(other.request(0, 1, true)));
        assert!(world.request(0, 1, true));
        all(vec![thread]);
        // A rejection that comes when the replacement has landed asks for another; whether it is of the old token is the slot's to say.
        assert!((2..=3).contains(&world.begun(0)));
        world.check(2);
    });
}

#[test]
fn a_full_table_evicts_no_flight_and_counts_right() {
    model(|| {
        let world = World::new(2, 1);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || {
            other.request(0, 0, false);
        });
        world.request(1, 0, false);
        world.request(0, 0, false);
        all(vec![thread]);
        world.check(1);
    });
}

#[test]
fn sweeping_while_others_enter_loses_no_flight() {
    model(|| {
        let world = World::new(1, 2);
        assert!(world.request(0, 0, false));
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || {
            other.table.sweep(30);
        });
        // Its time has come: a flight, of the old entry or of a new one.
        assert!(world.request(0, 30, false));
        all(vec![thread]);
        assert_eq!(world.begun(0), 2);
        world.check(2);
    });
}
