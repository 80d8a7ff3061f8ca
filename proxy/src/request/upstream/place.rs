//! A place for one more connection when as many as allowed are open: an idle one gives up its own, or one waits. Who can use any connection that
//! becomes free does not come here.

use super::Upstream;

impl Upstream {
    /// Resolves when there is a place for one more connection; whoever goes on without waiting gets it.
    pub(super) async fn place(&self) {
        while self.open.get() >= self.setup.params.max_connections {
            if self.evict() {
                continue;
            }
            let _waiting = Placeless::new(self);
            self.vacated.notified().await;
        }
    }

    /// Closes the connection that has been idle for longest. Whether its place is free at once: one that is shared ends by a task of its own.
    fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        // Dropped after the borrow: a connection's end comes back here.
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        if oldest.is_some() {
            return true;
        }
        let mut multiplexed = self.multiplexed.borrow_mut();
        let unused = multiplexed.iter().position(|c| c.streams() == 0);
        let unused = unused.map(|at| multiplexed.remove(at));
        drop(multiplexed);
        drop(unused);
        false
    }

    /// A connection or a place became free.
    pub(super) fn free(&self) {
        if self.placeless.get() > 0 {
            self.vacated.notify_one();
        }
        self.freed.notify_one();
    }
}

/// One who waits for a place.
struct Placeless<'a>(&'a Upstream);

impl<'a> Placeless<'a> {
    fn new(upstream: &'a Upstream) -> Self {
        upstream.placeless.set(upstream.placeless.get() + 1);
        Self(upstream)
    }
}

impl Drop for Placeless<'_> {
    fn drop(&mut self) {
        self.0.placeless.set(self.0.placeless.get() - 1);
    }
}
