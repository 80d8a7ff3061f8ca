//! What a renewer remembers from one attempt to the next. No I/O, no sleeping.

use crate::token::{
    exchange::error::{Class, ExchangeError},
    slot::Serial,
    subject::Fingerprint,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Wakes other than the clock's do not make exchanges follow each other faster than that.
pub(super) const WAKE_FLOOR: Duration = Duration::from_secs(1);
/// So many exchanges in a row carry the same claims; some authorities answer claims that they cannot read with 500.
pub(super) const CLAIMS_TRIES: u32 = 3;

/// Where a renewer stands between two attempts.
pub(super) enum Phase {
    /// The last exchange succeeded, or none was tried yet.
    Healthy,
    /// The last exchange failed.
    Failing {
        count: u32,
        error: ExchangeError,
        /// The authority's own word; a rotation does not overrule it.
        obey_until: Instant,
        tried: Vec<Fingerprint>,
    },
    /// There was nothing to exchange. Failures counted before are kept.
    Blocked { count: u32, reason: Blocked },
}

/// What a renewer remembers.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) started: Instant,
    pub(super) due: Instant,
    pub(super) last_attempt: Option<Instant>,
    pub(super) expires_at: Option<Instant>,
    /// How that token came.
    pub(super) issued: Option<Issued>,
    pub(super) expiry_told: bool,
    /// Of the token stored last.
    pub(super) serial: Option<Serial>,
    pub(super) claims: Option<Claims>,
    pub(super) attempts: u64,
    /// Since when there has been no success.
    pub(super) failing_since: Option<Instant>,
}

/// How a token came, as the metrics show it.
pub(super) struct Issued {
    pub(super) took: Duration,
    /// Since the epoch.
    pub(super) at: Duration,
}

/// A claims challenge that the next exchange answers. An upstream wrote it: it may be nonsense, and must not stand in the way for long.
pub(super) struct Claims {
    pub(super) json: String,
    /// How many exchanges have carried it.
    pub(super) sent: u32,
}

impl State {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Healthy,
            started: now,
            due: now,
            last_attempt: None,
            expires_at: None,
            issued: None,
            expiry_told: false,
            serial: None,
            claims: None,
            attempts: 0,
            failing_since: None,
        }
    }

    /// Something failed: since when that has been so.
    pub(super) fn failing(&mut self, now: Instant) -> Instant {
        *self.failing_since.get_or_insert(now)
    }

    /// Forgets the claims that a failed exchange carried when they may be what was refused, or have been carried often enough. True when it is
    /// worth trying without them at once.
    pub(super) fn forget_claims(&mut self, class: Class) -> bool {
        let Some(claims) = &self.claims else {
            return false;
        };
        let refused = !matches!(class, Class::Transient | Class::Throttled);
        if refused || claims.sent >= CLAIMS_TRIES {
            self.claims = None;
        }
        refused
    }

    /// Plans the next attempt as soon as the floor and `not_before` allow; true when that is now.
    pub(super) fn move_up(&mut self, not_before: Instant, now: Instant) -> bool {
        let floor = self.last_attempt.map_or(now, |at| at + WAKE_FLOOR);
        self.due = self.due.min(floor.max(not_before));
        now >= self.due
    }
}

impl Phase {
    /// What is in the way, one of a fixed set; `None` when nothing is.
    pub(super) const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Healthy => None,
            Self::Failing { error, .. } => Some(error.code()),
            Self::Blocked { reason, .. } => Some(reason.code),
        }
    }

    pub(super) const fn failures(&self) -> u32 {
        match self {
            Self::Healthy => 0,
            Self::Failing { count, .. } | Self::Blocked { count, .. } => *count,
        }
    }
}

/// Why nothing can be exchanged.
#[derive(Debug, Clone)]
pub(super) struct Blocked {
    pub(super) subject: Arc<str>,
    /// The credential whose token the subject token is.
    pub(super) credential: Option<Arc<str>>,
    pub(super) code: &'static str,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            credential,
            code,
        } = self;
        match credential {
            Some(parent) => write!(
                f,
                "waiting for the token of credential `{parent}` (subject token `{subject}`), which has none now; see there"
            ),
            None => write!(f, "waiting for a usable subject token `{subject}` ({code})"),
        }
    }
}
