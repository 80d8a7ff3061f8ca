//! The cache of one credential's tokens for callers: a slot for each caller's token, found by its key. Requests find or make the slot here; whether that
//! starts an exchange, and that it starts one only, is `table`'s to say; `flight` runs it on the token flow's thread.
//!
//! Nothing here runs by itself: a token is renewed when somebody uses it after its time, and serves meanwhile. Who is away costs memory alone.

use super::{
    key::Keys,
    table::{Entered, Key, Landing, Table},
    token::CallerToken,
};
use crate::{
    metrics::token::CallerCacheMetrics,
    token::{
        params::GrantParams,
        schedule,
        slot::{Activity, Rejection, Serial, Slot},
    },
};
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

/// More than workers, so that they seldom meet.
const SHARDS: usize = 16;
/// With fewer entries than that for each, there are fewer shards.
const SHARD_ENTRIES: usize = 64;
/// What a slot takes beside its token's text: itself, its channel's shared part, its counts. Measured (`examples/caller_cache.rs`), rounded up.
pub(super) const SLOT_BYTES: usize = 1024;

/// What a cache of callers' tokens may hold, and how much it may ask of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Callers' tokens for which something is kept.
    pub max_entries: usize,
    /// Memory, in bytes, that they take.
    pub max_bytes: usize,
    /// Exchanges under way at once.
    pub max_exchanges: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            max_entries: 20_000,
            max_bytes: 64 * 1024 * 1024,
            max_exchanges: 128,
        }
    }
}

/// One credential's cache. Requests of all workers share it.
pub struct CallerCache {
    name: Arc<str>,
    keys: Keys,
    pub(super) table: Table<Arc<Slot>, Instant>,
    flights: UnboundedSender<Flight>,
    closed: AtomicBool,
    pub(super) metrics: CallerCacheMetrics,
}

/// One caller's place in a cache, for the time of a request.
pub struct Place {
    caller: Arc<CallerToken>,
    key: Key,
    slot: Arc<Slot>,
}

/// Every place of a cache is taken by an exchange that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all places of the cache are taken by exchanges under way")]
pub struct CacheFull;

impl Place {
    /// Where this caller's token sits.
    pub const fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl CallerCache {
    /// An empty cache for what `grant` gets. What is to be exchanged goes to `flights`.
    pub(super) fn new(
        name: Arc<str>,
        grant: &GrantParams,
        limits: CacheLimits,
        flights: UnboundedSender<Flight>,
        metrics: CallerCacheMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            keys: Keys::new(grant),
            // A small one evicts better in one piece.
            table: Table::new(
                SHARDS.min(limits.max_entries / SHARD_ENTRIES),
                limits.max_entries,
                limits.max_bytes,
            ),
            flights,
            closed: AtomicBool::new(false),
            metrics,
        })
    }

    /// The credential's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The place of a caller. When nothing is known for it, or what is known should be renewed, that starts an exchange; await it in the slot.
    ///
    /// # Errors
    /// [`CacheFull`].
    pub fn place(self: &Arc<Self>, caller: Arc<CallerToken>) -> Result<Place, CacheFull> {
        let key = self.keys.of_token(&caller);
        let now = Instant::now();
        let slot = self.enter(&key, &caller, now, None)?;
        self.metrics.looked_up(slot.expires_at(now).is_some());
        Ok(Place { caller, key, slot })
    }

    /// Looks again, later: the place has no valid token any more. It may have got another slot meanwhile.
    ///
    /// # Errors
    /// [`CacheFull`].
    pub fn demand(self: &Arc<Self>, place: &mut Place) -> Result<(), CacheFull> {
        let own = Arc::clone(&place.slot);
        place.slot = self.enter(&place.key, &place.caller, Instant::now(), Some(own))?;
        Ok(())
    }

    /// An upstream answered 401 to the token `serial` of the place's slot: it is dropped once, and one exchange started, however many tell.
    pub fn reject(
        self: &Arc<Self>,
        place: &mut Place,
        serial: Serial,
        claims: Option<&str>,
    ) -> Rejection {
        if place.slot.reject(serial, claims) == Rejection::HeldOff {
            return Rejection::HeldOff;
        }
        match self.demand(place) {
            Ok(()) => Rejection::Replacing,
            Err(CacheFull) => Rejection::HeldOff,
        }
    }

    /// Nothing more comes of it: the credential is gone, or gets other tokens now. Whoever waits is told.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        for slot in self.table.values() {
            slot.publish(Activity::Stopped);
        }
    }

    fn enter(
        self: &Arc<Self>,
        key: &Key,
        caller: &Arc<CallerToken>,
        now: Instant,
        own: Option<Arc<Slot>>,
    ) -> Result<Arc<Slot>, CacheFull> {
        // A token that was rejected, or lived less long than it was to be renewed in, does not wait for that time.
        let force = |slot: &Arc<Slot>| slot.expires_at(now).is_none() && !slot.is_waiting_out(now);
        let make = || {
            own.clone()
                .unwrap_or_else(|| Slot::new(Arc::clone(&self.name)))
        };
        // Before anybody else can see it: who waits must not be told the news of the flight before.
        let refused = Cell::new(None);
        let starting = |slot: &Arc<Slot>| {
            refused.set(slot.refused_until());
            slot.publish(Activity::Working);
        };
        let Entered {
            value: slot,
            start,
            evicted,
        } = self
            .table
            .enter(key, now, force, make, starting)
            .ok_or(CacheFull)?;
        self.metrics.evicted(evicted);
        if start {
            let flight = Flight {
                cache: Arc::clone(self),
                key: *key,
                slot: Arc::clone(&slot),
                caller: Arc::clone(caller),
                not_before: refused.get().map(|until| until + schedule::FLOOR),
                landed: false,
            };
            // Whom nobody receives lands on being dropped.
            drop(self.flights.send(flight));
        }
        Ok(slot)
    }
}

/// An exchange that is to be made, or is under way. It lands, whatever happens.
pub(super) struct Flight {
    cache: Arc<CallerCache>,
    key: Key,
    pub(super) slot: Arc<Slot>,
    pub(super) caller: Arc<CallerToken>,
    /// When the one before was refused, however briefly that is remembered: one caller who asks again and again must not have the authority
    /// throttle all of them.
    pub(super) not_before: Option<Instant>,
    landed: bool,
}

impl Flight {
    /// What the breaker counts callers by.
    pub(super) fn who(&self) -> u64 {
        self.caller.person()
    }

    /// It is over; the slot has been told. `next`: no exchange before. `token_bytes`: the length of what was stored.
    pub(super) fn land(mut self, next: Instant, token_bytes: usize) {
        self.touch_down(next, token_bytes);
    }

    fn touch_down(&mut self, next: Instant, token_bytes: usize) {
        let now = Instant::now();
        let landing = Landing {
            next,
            // Without a token it is worth as much as the bad news that it holds.
            dead: self.slot.expires_at(now).unwrap_or(next),
            bytes: SLOT_BYTES + token_bytes,
        };
        let evicted = self.cache.table.land(&self.key, now, landing);
        self.cache.metrics.evicted(evicted);
        self.landed = true;
        if self.cache.closed.load(SeqCst) {
            self.slot.publish(Activity::Stopped);
        } else if self.slot.is_rejected() && self.slot.expires_at(now).is_none() {
            // Its token was rejected before this flight had landed, when none could start: those who wait must not wait for nobody. The next flight takes
            // the rejection with it, so this ends.
            let own = Some(Arc::clone(&self.slot));
            drop(self.cache.enter(&self.key, &self.caller, now, own));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.slot.publish(Activity::Stopped);
            self.touch_down(Instant::now(), 0);
        }
    }
}
