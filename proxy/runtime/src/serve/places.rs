//! The places of a server that is full: which connection ends, so that another can be served. Silence and slowness cost the one who is silent or slow,
//! and not a probe that waits behind.
//!
//! A request at hand is never cut off. The webhook, which counts bytes as well, has its own (`admission::webhook::crowd`).

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::listener::PeerAddr;

/// A connection on which bytes have moved within this time is left alone: its peer is asking or reading.
const QUIET: Duration = Duration::from_millis(250);

/// The connections that there are. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    members: HashMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    /// A Unix socket's peers count as one.
    peer: Option<IpAddr>,
    pulse: Arc<Pulse>,
    gone: Arc<Notify>,
}

/// When bytes have last moved on a connection, and whether a request is at hand.
#[derive(Debug)]
pub(super) struct Pulse {
    last: Mutex<Instant>,
    at_hand: AtomicBool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            at_hand: AtomicBool::new(false),
        }
    }

    /// Bytes have moved.
    pub(super) fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is at hand until what this gives is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> AtHand {
        self.at_hand.store(true, Relaxed);
        AtHand(Arc::clone(self))
    }
}

/// See [`Pulse::begin`].
#[derive(Debug)]
pub(super) struct AtHand(Arc<Pulse>);

impl Drop for AtHand {
    fn drop(&mut self) {
        self.0.beat();
        self.0.at_hand.store(false, Relaxed);
    }
}

impl Places {
    /// Counts a connection in.
    pub(super) fn take(&self, peer: PeerAddr, pulse: Arc<Pulse>) -> Place {
        let peer = match peer {
            PeerAddr::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddr::Unix { .. } => None,
        };
        let gone = Arc::new(Notify::new());
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        let member = Member {
            peer,
            pulse,
            gone: Arc::clone(&gone),
        };
        table.members.insert(id, member);
        Place {
            places: self.clone(),
            id,
            gone,
        }
    }

    /// Ends a connection that is quiet and has no request at hand, if there is one: of whoever has the most, the one that has been quiet for longest.
    pub(super) fn make_room(&self) {
        let now = Instant::now();
        let mut table = self.lock();
        let mut of_peers: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for member in table.members.values() {
            *of_peers.entry(member.peer).or_default() += 1;
        }
        let goes = table
            .members
            .iter()
            .filter(|(_, m)| !m.pulse.at_hand.load(Relaxed))
            .map(|(id, m)| (*id, m.peer, m.pulse.last()))
            .filter(|(_, _, last)| now.duration_since(*last) >= QUIET)
            .max_by_key(|(id, peer, last)| (of_peers.get(peer).copied(), Reverse((*last, *id))));
        if let Some((id, ..)) = goes
            && let Some(member) = table.members.remove(&id)
        {
            member.gone.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    id: u64,
    gone: Arc<Notify>,
}

impl Place {
    /// Resolves when the connection has to end for another's sake. Safe to cancel.
    pub(super) async fn evicted(&self) {
        self.gone.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().members.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    fn take(places: &Places, last: u8) -> (Place, Arc<Pulse>) {
        let pulse = Arc::new(Pulse::new());
        let peer = PeerAddr::Tcp(([10, 0, 0, last], 1).into());
        (places.take(peer, Arc::clone(&pulse)), pulse)
    }

    async fn has_to_go(place: &Place) -> bool {
        timeout(Duration::ZERO, place.evicted()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_most_gives_the_one_that_is_quiet_for_longest() {
        let places = Places::default();
        let (alone, _) = take(&places, 1);
        advance(QUIET).await;
        let (asking, asked) = take(&places, 2);
        let at_hand = asked.begin();
        let (moving, moved) = take(&places, 2);
        let (first, _) = take(&places, 2);
        advance(Duration::from_millis(1)).await;
        let (second, _) = take(&places, 2);
        advance(QUIET).await;
        moved.beat();
        places.make_room();
        assert!(has_to_go(&first).await);
        for other in [&alone, &asking, &moving, &second] {
            assert!(!has_to_go(other).await);
        }
        places.make_room();
        assert!(has_to_go(&second).await);
        // Nobody else of theirs may go now.
        places.make_room();
        assert!(has_to_go(&alone).await);
        drop(at_hand);
        places.make_room();
        assert!(!has_to_go(&asking).await, "it has its answer to read");
        advance(QUIET).await;
        places.make_room();
        places.make_room();
        assert!(has_to_go(&asking).await && has_to_go(&moving).await);
        assert!(places.lock().members.is_empty());
    }
}
