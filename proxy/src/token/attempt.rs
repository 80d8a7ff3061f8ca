//! One exchange as all who ask for tokens make it: in bounded time, for a token that lives long enough to be worth having, ready for a slot. When it is
//! made, with which subject tokens, and what becomes of a failure is theirs: `renew` for the pod's own, `caller::flight` for callers', the doctor for a look.

use super::{
    exchange::{Exchanger, IssuedToken, SubjectTokens, error::ExchangeError},
    injection::Injection,
    schedule,
};
use http::HeaderValue;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Authorities stamp whole seconds and clocks differ a little: a token is not used in the last moment of its life.
const SKEW: Duration = Duration::from_secs(1);

/// A token that can be stored.
pub(crate) struct Fresh {
    pub(crate) issued: IssuedToken,
    /// What carries it on requests; empty for one that never is on any.
    pub(crate) header: HeaderValue,
    /// Where its life begins: the authority cannot have issued it earlier.
    pub(super) sent_at: Instant,
}

impl Fresh {
    /// One exchange, which takes no longer than `limit`. Without an injection the token is for no request.
    ///
    /// # Errors
    /// The exchange's own, that it took too long, or that the token could be used for no time worth mentioning, or not be put on a request.
    pub(crate) async fn get(
        exchanger: &dyn Exchanger,
        limit: Duration,
        tokens: &SubjectTokens,
        claims: Option<&str>,
        injection: Option<&Injection>,
    ) -> Result<Self, ExchangeError> {
        let sent_at = Instant::now();
        let issued = timeout(limit, exchanger.exchange(tokens, claims))
            .await
            .unwrap_or_else(|_| Err(ExchangeError::timeout()))?;
        let mut fresh = Self {
            issued,
            header: HeaderValue::from_static(""),
            sent_at,
        };
        // Planned renewals keep a distance: one that lives no longer than that is dead before the next can come.
        let left = fresh
            .usable_until()
            .saturating_duration_since(Instant::now());
        if left < schedule::FLOOR {
            return Err(ExchangeError::dead_on_arrival());
        }
        if let Some(injection) = injection {
            fresh.header = injection.value(&fresh.issued)?;
        }
        Ok(fresh)
    }

    /// Until when the token is used.
    pub(crate) fn usable_until(&self) -> Instant {
        let usable = self.issued.lifetime - SKEW.min(self.issued.lifetime / 10);
        self.after(usable)
    }

    /// How long after the sending to get the next one, and when that is: an exchange that took long may have passed it already.
    pub(super) fn renewal(&self, seed: u64) -> (Duration, Instant) {
        let after = schedule::renew_after(self.issued.lifetime, self.issued.refresh_in, seed);
        let due = self.after(after).max(Instant::now() + schedule::FLOOR);
        (after, due)
    }

    /// So long after the sending; a time that cannot be reckoned with is none.
    fn after(&self, time: Duration) -> Instant {
        self.sent_at.checked_add(time).unwrap_or(self.sent_at)
    }
}
