//! Handles: what the workload is given in the place of a caller's token. A handle is 256 random bits that mean something to this process alone, while
//! the inbound request that it was made for lasts and a grace longer, and never longer than the token. The table is bounded and forgets by itself.
//!
//! It neither verifies tokens nor exchanges them, and nobody can ask it which handles there are.

use super::{
    step_up::{Reference, StepUp},
    token::CallerToken,
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use prometheus::IntGauge;
use std::{
    collections::{HashMap, VecDeque, hash_map},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a handle before it is encoded.
const BYTES: usize = 32;
/// Workers mint side by side: each shard has a lock of its own.
const SHARDS: usize = 16;
/// A workload whose calls are refused again and again leaves no more than this behind.
const STEP_UPS: usize = 8;

/// Where an entry is looked for: the first 64 bits of a handle. Finding one takes a time that may tell about these; the other 192 bits are
/// compared in constant time.
type Locator = u64;

/// The table of handles of one process.
pub struct Handles {
    shards: [Mutex<Shard>; SHARDS],
    size: AtomicUsize,
    max: AtomicUsize,
    /// In milliseconds.
    grace: AtomicU64,
    gauge: IntGauge,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Locator, Entry>,
    /// Entries whose request has ended, with the time they end themselves; in that order, as long as the grace stays the same.
    lapsing: VecDeque<(Instant, Locator)>,
}

struct Entry {
    bytes: Zeroizing<[u8; BYTES]>,
    token: Arc<CallerToken>,
    /// `None`: its request lasts.
    lapses: Option<Instant>,
    step_ups: Vec<(Reference, Arc<StepUp>)>,
}

/// Why a handle stands for no token. Callers of the sidecar are told none of this: it is for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It does not look like one.
    #[error("not a handle")]
    Malformed,
    /// It was never given out here, or its time was up long ago.
    #[error("no such handle")]
    Unknown,
    /// Its request has ended and the grace is over, or its token has expired.
    #[error("the handle has lapsed")]
    Lapsed,
}

impl Handles {
    /// Characters of a handle: base64url without padding.
    pub const CHARS: usize = BYTES.div_ceil(3) * 4 - 1;

    /// An empty table of at most `max` handles that outlive their request by `grace`. `gauge` shows how many there are.
    pub fn new(max: usize, grace: Duration, gauge: IntGauge) -> Arc<Self> {
        let handles = Self {
            shards: Default::default(),
            size: AtomicUsize::new(0),
            max: AtomicUsize::new(0),
            grace: AtomicU64::new(0),
            gauge,
        };
        handles.configure(max, grace);
        Arc::new(handles)
    }

    /// Other limits from now on. Handles that are given out keep theirs.
    pub fn configure(&self, max: usize, grace: Duration) {
        self.max.store(max, Relaxed);
        self.grace.store(
            u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }

    /// A handle for one request of `token`'s bearer. `None`: the table is full, or there is no randomness; nothing may be forwarded then.
    pub fn mint(self: &Arc<Self>, token: Arc<CallerToken>) -> Option<MintedHandle> {
        if !self.take_place() && !self.make_place() {
            return None;
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        loop {
            if rand::fill(&mut *bytes).is_err() {
                self.give_back(1);
                return None;
            }
            let locator = locator(&bytes);
            let mut shard = self.shard(locator);
            // One in 2^64, and yet: two entries at one place would be one caller's token answered to another.
            if let hash_map::Entry::Vacant(place) = shard.entries.entry(locator) {
                place.insert(Entry {
                    bytes: bytes.clone(),
                    token,
                    lapses: None,
                    step_ups: Vec::new(),
                });
                drop(shard);
                return Some(MintedHandle {
                    handles: Arc::clone(self),
                    bytes,
                });
            }
        }
    }

    /// The token that a handle stands for, now.
    ///
    /// # Errors
    /// [`HandleError`]; the answer to each is the same.
    pub fn resolve(&self, handle: &[u8]) -> Result<Arc<CallerToken>, HandleError> {
        self.with(handle, |entry| Arc::clone(&entry.token))
    }

    /// Remembers, beside a handle, what its caller would have to do before a call that was refused can succeed. The reference stands for it,
    /// and means something only in the answer to the request that the handle was made for ([`MintedHandle::step_up`]).
    ///
    /// # Errors
    /// [`HandleError`], also when there is no randomness.
    pub fn remember(&self, handle: &[u8], step_up: StepUp) -> Result<Reference, HandleError> {
        let reference = Reference::random().ok_or(HandleError::Unknown)?;
        self.with(handle, |entry| {
            // A workload that calls again and again is refused in the same words.
            if let Some((known, _)) = entry.step_ups.iter().find(|(_, s)| **s == step_up) {
                return known.clone();
            }
            if entry.step_ups.len() == STEP_UPS {
                entry.step_ups.remove(0);
            }
            entry.step_ups.push((reference.clone(), Arc::new(step_up)));
            reference
        })
    }

    /// Forgets the handles whose time is up. Called now and then, so that a table nobody mints from is emptied too.
    pub fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut gone = 0;
            while let Some((until, locator)) = shard.lapsing.front().copied() {
                if now < until {
                    break;
                }
                shard.lapsing.pop_front();
                gone += usize::from(shard.entries.remove(&locator).is_some());
            }
            drop(shard);
            self.give_back(gone);
        }
    }

    /// How many handles there are, lapsed ones that were not swept yet included.
    pub fn len(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(
        &self,
        handle: &[u8],
        found: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T, HandleError> {
        if handle.len() != Self::CHARS {
            return Err(HandleError::Malformed);
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        let decoded = URL_SAFE_NO_PAD.decode_slice(handle, &mut *bytes);
        if decoded != Ok(BYTES) {
            return Err(HandleError::Malformed);
        }
        let locator = locator(&bytes);
        let mut shard = self.shard(locator);
        let entry = shard
            .entries
            .get_mut(&locator)
            .filter(|e| verify_slices_are_equal(&*e.bytes, &*bytes).is_ok())
            .ok_or(HandleError::Unknown)?;
        let now = Instant::now();
        if entry.lapses.is_some_and(|until| until <= now) || !entry.token.is_valid(now) {
            return Err(HandleError::Lapsed);
        }
        Ok(found(entry))
    }

    fn shard(&self, locator: Locator) -> MutexGuard<'_, Shard> {
        // The map below hashes the locator; its low bits are as random as any.
        self.shards[(locator % SHARDS as u64) as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_place(&self) -> bool {
        let max = self.max.load(Relaxed);
        let taken = self
            .size
            .fetch_update(AcqRel, Relaxed, |n| (n < max).then_some(n + 1))
            .is_ok();
        if taken {
            self.gauge.inc();
        }
        taken
    }

    /// Takes a place in a full table: one that has lapsed, else that of the handle that lapses next. Requests come before graces: else one caller
    /// with many short requests would shut out all others for as long as a grace.
    fn make_place(&self) -> bool {
        self.sweep(Instant::now());
        // Others may be quicker to take what is freed here.
        (0..SHARDS).any(|_| self.take_place() || self.cut_a_grace() && self.take_place())
    }

    /// Ends the handle that would be the next to lapse. False: all requests last.
    fn cut_a_grace(&self) -> bool {
        let lock = |s: usize| {
            self.shards[s]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let next = (0..SHARDS)
            .filter_map(|s| Some((lock(s).lapsing.front()?.0, s)))
            .min();
        let Some((_, shard)) = next else {
            return false;
        };
        let mut shard = lock(shard);
        let cut = shard.lapsing.pop_front();
        let gone = cut.and_then(|(_, locator)| shard.entries.remove(&locator));
        drop(shard);
        self.give_back(usize::from(gone.is_some()));
        true
    }

    fn give_back(&self, places: usize) {
        self.size.fetch_sub(places, AcqRel);
        self.gauge.sub(i64::try_from(places).unwrap_or(i64::MAX));
    }

    /// The request of a handle has ended.
    fn lapse(&self, locator: Locator) {
        let grace = Duration::from_millis(self.grace.load(Relaxed));
        let now = Instant::now();
        let mut shard = self.shard(locator);
        let Some(entry) = shard.entries.get_mut(&locator) else {
            return;
        };
        let until = now
            .checked_add(grace)
            .unwrap_or(entry.token.expires_at())
            .min(entry.token.expires_at());
        if until <= now {
            shard.entries.remove(&locator);
            drop(shard);
            return self.give_back(1);
        }
        entry.lapses = Some(until);
        // Nearly always the last; a token that ends within the grace, or a grace made shorter, comes before some.
        let at = shard.lapsing.partition_point(|(other, _)| *other <= until);
        shard.lapsing.insert(at, (until, locator));
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A handle as the inbound side holds it, for as long as its request lasts: until the response's last byte, or the end of what it was upgraded to.
/// Dropping it begins the grace.
pub struct MintedHandle {
    handles: Arc<Handles>,
    bytes: Zeroizing<[u8; BYTES]>,
}

impl MintedHandle {
    /// The handle behind `prefix` as a field's value, marked sensitive. `None`: the prefix has characters that no header may carry.
    pub fn value(&self, prefix: &str) -> Option<HeaderValue> {
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + Handles::CHARS));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(self.bytes.as_slice(), &mut text);
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What the reference stands for, if it was given for this very handle.
    pub fn step_up(&self, reference: &[u8]) -> Option<Arc<StepUp>> {
        let shard = self.handles.shard(locator(&self.bytes));
        let entry = shard.entries.get(&locator(&self.bytes))?;
        entry
            .step_ups
            .iter()
            .find(|(known, _)| known.is(reference))
            .map(|(_, step_up)| Arc::clone(step_up))
    }
}

impl fmt::Debug for MintedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedHandle").finish_non_exhaustive()
    }
}

impl Drop for MintedHandle {
    fn drop(&mut self) {
        self.handles.lapse(locator(&self.bytes));
        self.bytes.zeroize();
    }
}

fn locator(bytes: &[u8; BYTES]) -> Locator {
    bytes
        .iter()
        .take(size_of::<Locator>())
        .fold(0, |all, byte| all << 8 | Locator::from(*byte))
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
