//! The table behind the cache of callers' tokens: sharded, bounded in entries and bytes, with one flight at a time for each key. It knows neither
//! tokens nor time: values and instants are the caller's. `sync` gives its locks, so that a model checker can take their place.
//!
//! A flight is one exchange under way. Who enters a key is told whether to start one; nobody else is until it has landed. An entry in flight
//! is never evicted: its key would be free, and the next one to enter would start a second flight.

use super::sync::{AtomicUsize, Mutex, MutexGuard};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{PoisonError, atomic::Ordering::Relaxed},
};

/// A key: uniformly distributed bytes, as digests are.
pub type Key = [u8; 32];

/// So many entries are looked at to find one to evict.
const SAMPLE: usize = 16;
/// What an entry takes beside what its value holds: its place in the list and in the index (half-empty at worst), in bytes. Slots are counted by
/// whoever lands.
pub const ENTRY_BYTES: usize = 2 * (size_of::<(Key, usize)>() + 1) + 2 * size_of::<Key>() + 64;

/// The table. `V`: what is found under a key, cheap to clone. `T`: instants.
pub struct Table<V, T> {
    shards: Box<[Mutex<Shard<V, T>>]>,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    max_entries: AtomicUsize,
    max_bytes: AtomicUsize,
}

struct Shard<V, T> {
    index: HashMap<Key, usize, BuildHasherDefault<Digest>>,
    entries: Vec<Entry<V, T>>,
    /// Where the next search for something to evict begins.
    hand: usize,
}

struct Entry<V, T> {
    key: Key,
    value: V,
    used: T,
    /// No flight starts before.
    next: T,
    /// From here on it serves nobody.
    dead: T,
    in_flight: bool,
    bytes: usize,
}

/// What came of entering.
#[derive(Debug)]
pub struct Entered<V> {
    /// What the key stands for.
    pub value: V,
    /// Whether whoever entered must start a flight, and see to it that it lands.
    pub start: bool,
    /// How many entries had to go.
    pub evicted: usize,
}

/// How a flight ended.
#[derive(Debug, Clone, Copy)]
pub struct Landing<T> {
    /// No flight starts before.
    pub next: T,
    /// From here on the entry is worth nothing: its token has expired, or its bad news are old.
    pub dead: T,
    /// What the value holds.
    pub bytes: usize,
}

impl<V: Clone, T: Copy + Ord> Table<V, T> {
    /// An empty table of so many shards (at least one).
    pub fn new(shards: usize, max_entries: usize, max_bytes: usize) -> Self {
        Self {
            shards: (0..shards.max(1))
                .map(|_| Mutex::new(Shard::new()))
                .collect(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_entries: AtomicUsize::new(max_entries),
            max_bytes: AtomicUsize::new(max_bytes),
        }
    }

    /// Other bounds from now on; what is too much goes with the next entries.
    pub fn configure(&self, max_entries: usize, max_bytes: usize) {
        self.max_entries.store(max_entries, Relaxed);
        self.max_bytes.store(max_bytes, Relaxed);
    }

    /// What `key` stands for; a new entry of `make`'s when there is none. A flight is to be started for a new entry, and for one that is not in flight
    /// when its time has come or `force` says so. `starting` is called before anybody else can enter. `None`: every place is taken by a flight.
    pub fn enter(
        &self,
        key: &Key,
        now: T,
        force: impl Fn(&V) -> bool,
        make: impl Fn() -> V,
        starting: impl Fn(&V),
    ) -> Option<Entered<V>> {
        let mut evicted = 0;
        loop {
            let mut shard = self.shard(key);
            if let Some(entry) = shard.get(key) {
                entry.used = now;
                let start = !entry.in_flight && (now >= entry.next || force(&entry.value));
                if start {
                    entry.in_flight = true;
                    starting(&entry.value);
                }
                return Some(Entered {
                    value: entry.value.clone(),
                    start,
                    evicted,
                });
            }
            if self.reserve() {
                let value = make();
                starting(&value);
                self.bytes.fetch_add(ENTRY_BYTES, Relaxed);
                shard.insert(Entry {
                    key: *key,
                    value: value.clone(),
                    used: now,
                    next: now,
                    dead: now,
                    in_flight: true,
                    bytes: ENTRY_BYTES,
                });
                return Some(Entered {
                    value,
                    start: true,
                    evicted,
                });
            }
            drop(shard);
            if !self.evict(key, now) {
                return None;
            }
            evicted += 1;
        }
    }

    /// The flight of `key` has landed. Returns how many entries had to go, for there to be room for what it brought.
    pub fn land(&self, key: &Key, now: T, landing: Landing<T>) -> usize {
        {
            let mut shard = self.shard(key);
            let Some(entry) = shard.get(key) else {
                return 0;
            };
            let bytes = landing.bytes + ENTRY_BYTES;
            self.bytes.fetch_add(bytes, Relaxed);
            self.bytes.fetch_sub(entry.bytes, Relaxed);
            entry.bytes = bytes;
            entry.next = landing.next;
            entry.dead = landing.dead;
            entry.in_flight = false;
        }
        let mut evicted = 0;
        while self.bytes.load(Relaxed) > self.max_bytes.load(Relaxed) && self.evict(key, now) {
            evicted += 1;
        }
        evicted
    }

    /// Takes out everything that serves nobody any more. Returns how many entries that were.
    pub fn sweep(&self, now: T) -> usize {
        let mut gone = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut at = 0;
            while at < shard.entries.len() {
                if shard.entries[at].is_dead(now) {
                    self.forget(&shard.remove(at));
                    gone += 1;
                } else {
                    at += 1;
                }
            }
            shard.shrink();
        }
        gone
    }

    /// Every value. Locks one shard after the other.
    pub fn values(&self) -> Vec<V> {
        self.shards
            .iter()
            .flat_map(|shard| {
                let shard = lock(shard);
                shard
                    .entries
                    .iter()
                    .map(|e| e.value.clone())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Takes a place, if one is free.
    fn reserve(&self) -> bool {
        let max = self.max_entries.load(Relaxed);
        self.entries
            .fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1))
            .is_ok()
    }

    /// Makes room for one more: in the shard of `key` first, which needs it, then in the others. False when there is nothing but flights.
    fn evict(&self, key: &Key, now: T) -> bool {
        let first = self.shard_of(key);
        for shard in self
            .shards
            .iter()
            .cycle()
            .skip(first)
            .take(self.shards.len())
        {
            let mut shard = lock(shard);
            if let Some(at) = shard.victim(now) {
                self.forget(&shard.remove(at));
                return true;
            }
        }
        false
    }

    fn forget(&self, entry: &Entry<V, T>) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(entry.bytes, Relaxed);
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<V, T>> {
        lock(&self.shards[self.shard_of(key)])
    }

    fn shard_of(&self, key: &Key) -> usize {
        // Not the bytes that the index hashes.
        usize::from(key[31]) % self.shards.len()
    }
}

impl<V, T: Copy + Ord> Shard<V, T> {
    fn new() -> Self {
        Self {
            index: HashMap::default(),
            entries: Vec::new(),
            hand: 0,
        }
    }

    fn get(&mut self, key: &Key) -> Option<&mut Entry<V, T>> {
        let at = *self.index.get(key)?;
        self.entries.get_mut(at)
    }

    fn insert(&mut self, entry: Entry<V, T>) {
        self.index.insert(entry.key, self.entries.len());
        self.entries.push(entry);
    }

    fn remove(&mut self, at: usize) -> Entry<V, T> {
        let entry = self.entries.swap_remove(at);
        self.index.remove(&entry.key);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.key, at);
        }
        entry
    }

    /// One that is dead, else the least recently used: of a sample, further on each time; of all when those are in flight.
    fn victim(&mut self, now: T) -> Option<usize> {
        let count = self.entries.len();
        let mut best: Option<usize> = None;
        for step in 0..count {
            if step >= SAMPLE && best.is_some() {
                break;
            }
            let at = (self.hand + step) % count;
            let entry = &self.entries[at];
            if entry.in_flight {
                continue;
            }
            if entry.is_dead(now) {
                best = Some(at);
                break;
            }
            if best.is_none_or(|b| entry.used < self.entries[b].used) {
                best = Some(at);
            }
        }
        self.hand = self.hand.wrapping_add(SAMPLE) % count.max(1);
        best
    }

    /// Gives memory back after a crowd has left.
    fn shrink(&mut self) {
        if self.entries.capacity() > 4 * self.entries.len() + SAMPLE {
            self.entries.shrink_to(2 * self.entries.len());
            self.index.shrink_to(2 * self.entries.len());
        }
    }
}

impl<V, T: Copy + Ord> Entry<V, T> {
    fn is_dead(&self, now: T) -> bool {
        !self.in_flight && now >= self.dead
    }
}

fn lock<S>(shard: &Mutex<S>) -> MutexGuard<'_, S> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first bytes of a digest are as good a hash as any.
#[derive(Default)]
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}
