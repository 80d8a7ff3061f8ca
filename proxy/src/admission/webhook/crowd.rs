//! The webhook's connections and the bytes of reviews that they hold: how many there may be, and who has to go when there are too many.
//!
//! All of an API server's connections may come from one address, and so may a flood: a cap for each address leaves room for others, and when there
//! is none left, the connections go that are missed least, of whoever has the most. Nothing here reads or writes.

use sidecar_runtime::listener::PeerAddr;
use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// What the webhook takes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_of_one: usize,
    /// Bytes of reviews that are being read or answered.
    pub bytes: usize,
    /// Of these, from one address.
    pub bytes_of_one: usize,
    /// From a connection's beginning to its first request's header, the handshake included.
    pub first_request: Duration,
    /// Between two pieces of a review.
    pub piece: Duration,
    /// From a review's header to its last byte: the API server waits for 10 s by default, 30 s at most.
    pub review: Duration,
    /// How long a peer may leave an answer unread.
    pub answer: Duration,
}

impl Default for Limits {
    /// API servers keep some dozens of idle connections each, and have some hundreds of requests at hand at most.
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_one: 768,
            bytes: 64 << 20,
            bytes_of_one: 48 << 20,
            first_request: Duration::from_secs(5),
            piece: Duration::from_secs(2),
            review: Duration::from_secs(10),
            answer: Duration::from_secs(5),
        }
    }
}

/// A connection that has asked nothing yet may take so long before others come first.
const GRACE: Duration = Duration::from_secs(1);

/// Whose a connection is: an address, or a Unix socket's peer.
type Peer = Option<IpAddr>;

/// All connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    table: Mutex<Table>,
    /// Bytes have become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    members: HashMap<u64, Member>,
    peers: HashMap<Peer, Holding>,
    bytes: usize,
}

/// What an address has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Holding {
    connections: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    state: State,
    since: Instant,
    bytes: usize,
    gone: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was asked yet.
    New,
    /// Between requests.
    Idle,
    /// A review is being read or answered.
    Busy,
}

impl Crowd {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                table: Mutex::default(),
                freed: Notify::new(),
            }),
        }
    }

    /// A place for a new connection. Somebody else's ends for it when there is none.
    pub(super) fn admit(&self, peer: PeerAddr) -> Arc<Place> {
        let peer = match peer {
            PeerAddr::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddr::Unix { .. } => None,
        };
        let limits = &self.shared.limits;
        let mut table = self.shared.lock();
        let of_peer = table.holding(peer).connections;
        if of_peer >= limits.connections_of_one {
            table.evict(Some(peer));
        } else if table.members.len() >= limits.connections {
            table.evict(None);
        }
        let id = table.next;
        table.next += 1;
        let gone = Arc::new(Notify::new());
        let member = Member {
            peer,
            state: State::New,
            since: Instant::now(),
            bytes: 0,
            gone: Arc::clone(&gone),
        };
        table.members.insert(id, member);
        table.peers.entry(peer).or_default().connections += 1;
        drop(table);
        self.shared.freed.notify_waiters();
        Arc::new(Place {
            shared: Arc::clone(&self.shared),
            id,
            gone,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn holding(&self, peer: Peer) -> Holding {
        self.peers.get(&peer).copied().unwrap_or_default()
    }

    /// Ends the connection that is missed least: one that has asked nothing for some time, then an idle one, then any; of whoever has the most;
    /// the oldest. `of`: of this address.
    fn evict(&mut self, of: Option<Peer>) {
        let now = Instant::now();
        let least = self
            .members
            .iter()
            .filter(|(_, m)| of.is_none_or(|of| of == m.peer))
            .max_by_key(|(id, m)| {
                let missed_little = match m.state {
                    State::New if now.duration_since(m.since) >= GRACE => 2,
                    State::Idle => 1,
                    State::New | State::Busy => 0,
                };
                (
                    missed_little,
                    self.holding(m.peer).connections,
                    Reverse((m.since, **id)),
                )
            })
            .map(|(id, _)| *id);
        if let Some(id) = least {
            self.end(id);
        }
    }

    /// Ends the review that has been read for longest, if that is long. `of`: of this address; `but`: not that one.
    fn evict_slowest(&mut self, of: Option<Peer>, but: u64, long: Duration) -> bool {
        let now = Instant::now();
        let slowest = self
            .members
            .iter()
            .filter(|(id, m)| **id != but && m.bytes > 0 && of.is_none_or(|of| of == m.peer))
            .min_by_key(|(_, m)| m.since)
            .filter(|(_, m)| now.duration_since(m.since) >= long)
            .map(|(id, _)| *id);
        slowest.inspect(|id| self.end(*id)).is_some()
    }

    fn end(&mut self, id: u64) {
        if let Some(gone) = self.remove(id) {
            gone.notify_one();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Notify>> {
        self.release(id);
        let member = self.members.remove(&id)?;
        if let Some(holding) = self.peers.get_mut(&member.peer) {
            holding.connections -= 1;
            if *holding == Holding::default() {
                self.peers.remove(&member.peer);
            }
        }
        Some(member.gone)
    }

    fn release(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let bytes = std::mem::take(&mut member.bytes);
        self.bytes -= bytes;
        if let Some(holding) = self.peers.get_mut(&member.peer) {
            holding.bytes -= bytes;
        }
    }

    fn set(&mut self, id: u64, state: State) {
        if let Some(member) = self.members.get_mut(&id) {
            member.state = state;
            member.since = Instant::now();
        }
    }
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
    gone: Arc<Notify>,
}

impl Place {
    /// Resolves when the connection has to end for another's sake. Safe to cancel.
    pub(super) async fn evicted(&self) {
        self.gone.notified().await;
    }

    /// Whether nothing was asked yet.
    pub(super) fn is_new(&self) -> bool {
        let table = self.shared.lock();
        table
            .members
            .get(&self.id)
            .is_some_and(|m| m.state == State::New)
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.shared.lock().set(self.id, State::Busy);
        Turn {
            place: Arc::clone(self),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().remove(self.id);
        self.shared.freed.notify_waiters();
    }
}

/// The connection was ended for another's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// A request at hand, until its answer is written; dropping it gives back the bytes that it holds.
#[derive(Debug)]
pub(super) struct Turn {
    place: Arc<Place>,
}

impl Turn {
    /// Takes room for so many more bytes, now that they have come. Where there is none, the review goes that has been read for longest, and long
    /// enough; till then, this waits. The caller has a limit.
    pub(super) async fn hold(&mut self, bytes: usize) -> Result<(), Gone> {
        let shared = Arc::clone(&self.place.shared);
        loop {
            // Before the look, so that what is freed in between is not missed.
            let mut freed = std::pin::pin!(shared.freed.notified());
            freed.as_mut().enable();
            if self.try_hold(bytes)? {
                return Ok(());
            }
            // Somebody may have become slow meanwhile.
            drop(timeout(shared.limits.piece, freed).await);
        }
    }

    fn try_hold(&self, bytes: usize) -> Result<bool, Gone> {
        let shared = &*self.place.shared;
        let (limits, id) = (&shared.limits, self.place.id);
        let mut table = shared.lock();
        loop {
            let peer = table.members.get(&id).ok_or(Gone)?.peer;
            let of_peer = table.holding(peer).bytes + bytes > limits.bytes_of_one;
            let of_all = table.bytes + bytes > limits.bytes;
            if !of_peer && !of_all {
                table.bytes += bytes;
                table.peers.entry(peer).or_default().bytes += bytes;
                if let Some(member) = table.members.get_mut(&id) {
                    member.bytes += bytes;
                }
                return Ok(true);
            }
            if !table.evict_slowest(of_peer.then_some(peer), id, limits.piece) {
                return Ok(false);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut table = self.place.shared.lock();
        table.release(self.place.id);
        table.set(self.place.id, State::Idle);
        drop(table);
        self.place.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const LIMITS: fn() -> Limits = || Limits {
        connections: 4,
        connections_of_one: 3,
        bytes: 100,
        bytes_of_one: 80,
        ..Limits::default()
    };

    fn from(last: u8) -> PeerAddr {
        PeerAddr::Tcp(([10, 0, 0, last], 1).into())
    }

    async fn has_to_go(place: &Place) -> bool {
        timeout(Duration::ZERO, place.evicted()).await.is_ok()
    }

    fn counted(crowd: &Crowd) -> (usize, usize, usize) {
        let table = crowd.shared.lock();
        let of_peers: Holding = table
            .peers
            .values()
            .fold(Holding::default(), |a, b| Holding {
                connections: a.connections + b.connections,
                bytes: a.bytes + b.bytes,
            });
        assert_eq!(
            (of_peers.connections, of_peers.bytes),
            (table.members.len(), table.bytes)
        );
        (table.members.len(), table.peers.len(), table.bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_nothing_goes_first_and_then_who_idles_longest() {
        let crowd = Crowd::new(LIMITS());
        let busy = crowd.admit(from(1));
        let turn = busy.begin();
        let idle = crowd.admit(from(2));
        drop(idle.begin());
        advance(Duration::from_secs(1)).await;
        let later = crowd.admit(from(3));
        drop(later.begin());
        let silent = crowd.admit(from(4));
        advance(GRACE).await;
        let first = crowd.admit(from(5));
        assert!(has_to_go(&silent).await);
        let second = crowd.admit(from(6));
        assert!(has_to_go(&idle).await);
        assert!(!has_to_go(&busy).await && !has_to_go(&later).await);
        assert_eq!(counted(&crowd), (4, 4, 0));
        drop((turn, silent, idle, later, first, second, busy));
        assert_eq!(counted(&crowd), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_the_most_makes_room() {
        let crowd = Crowd::new(LIMITS());
        let api_server = crowd.admit(from(1));
        drop(api_server.begin());
        advance(Duration::from_secs(60)).await;
        let mut flood: Vec<Arc<Place>> = (0..3).map(|_| crowd.admit(from(2))).collect();
        flood.iter().for_each(|p| drop(p.begin()));
        // One of its own goes for the fourth of one address, and for the first of a third.
        flood.push(crowd.admit(from(2)));
        assert!(has_to_go(&flood[0]).await);
        let other = crowd.admit(from(3));
        assert!(has_to_go(&flood[1]).await);
        assert!(!has_to_go(&api_server).await && !has_to_go(&other).await);
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_taken_as_bytes_come_and_given_back() {
        let crowd = Crowd::new(LIMITS());
        let (one, two) = (crowd.admit(from(1)), crowd.admit(from(2)));
        let mut first = one.begin();
        first.hold(30).await.unwrap();
        first.hold(50).await.unwrap();
        let mut second = two.begin();
        second.hold(20).await.unwrap();
        assert_eq!(counted(&crowd), (2, 2, 100));
        drop(first);
        assert_eq!(counted(&crowd), (2, 2, 20));
        second.hold(60).await.unwrap();
        drop((second, two, one));
        assert_eq!(counted(&crowd), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_review_makes_room_for_others_and_a_quick_one_is_waited_for() {
        let crowd = Crowd::new(LIMITS());
        let (slow, quick) = (crowd.admit(from(1)), crowd.admit(from(2)));
        let mut slow_turn = slow.begin();
        slow_turn.hold(80).await.unwrap();
        let began = Instant::now();
        let mut turn = quick.begin();
        turn.hold(50).await.unwrap();
        // Not before it is slow.
        assert_eq!(began.elapsed(), LIMITS().piece);
        assert!(has_to_go(&slow).await);
        assert_eq!(slow_turn.hold(1).await, Err(Gone));
        drop(turn);
        // One that ends meanwhile is waited for.
        let mut turn = quick.begin();
        turn.hold(80).await.unwrap();
        let third = crowd.admit(from(3));
        let mut waiting = third.begin();
        let (held, ()) = tokio::join!(waiting.hold(50), async {
            sleep(Duration::from_millis(1)).await;
            drop(turn);
        });
        assert_eq!((held, has_to_go(&quick).await), (Ok(()), false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_all_room() {
        let crowd = Crowd::new(LIMITS());
        let (one, two) = (crowd.admit(from(1)), crowd.admit(from(1)));
        let (mut first, mut second) = (one.begin(), two.begin());
        first.hold(80).await.unwrap();
        let blocked = timeout(Duration::from_millis(1), second.hold(1)).await;
        assert!(blocked.is_err());
        let other = crowd.admit(from(2));
        other.begin().hold(20).await.unwrap();
    }
}
