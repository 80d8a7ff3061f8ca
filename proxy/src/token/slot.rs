//! A slot: where one credential's current token sits. The renewer writes; any number of workers read without a lock.
//!
//! This is all that the request flow sees of the token flow. Nothing here talks to an authority.

use super::exchange::error::CallerFault;
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

/// Numbers the tokens of one slot; grows with every token stored.
pub type Serial = u64;

/// The first hold-off after an upstream rejected a token: its replacement may be rejected again no sooner than that.
const HOLD_FIRST: Duration = Duration::from_secs(1);
/// The longest hold-off; and after so long without a rejection, counting starts anew.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// What a caller is told when nothing better is known.
const SOON: Duration = Duration::from_secs(1);

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
    /// When it is the caller's to mend.
    pub refusal: Option<Arc<Refusal>>,
}

/// The authority will not issue a token for this caller, who must do something about it. Nothing in here is secret from the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller must do.
    pub fault: CallerFault,
    /// The failure's bounded code.
    pub code: &'static str,
    /// The authority's claims challenge, JSON.
    pub claims: Option<String>,
}

/// What came of telling a slot that an upstream rejected its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The token was dropped (or had been replaced already); a replacement may be awaited.
    Replacing,
    /// The last replacement was rejected as well not long ago, or renewals fail at present: the token stays, the 401 should pass.
    HeldOff,
}

/// What the renewer is doing, as far as those who wait for a token care.
#[derive(Debug, Clone)]
pub enum Activity {
    /// An exchange is under way, or starts when somebody needs a token.
    Working,
    /// The last exchange failed; the next one is not before `until`.
    BackingOff {
        /// When the next exchange is planned.
        until: Instant,
        /// The failure's code.
        reason: Arc<str>,
    },
    /// The last exchange was refused for reasons that lie with the caller. Told at once to all who wait; whoever comes later may find the next
    /// exchange under way.
    Refused {
        /// The next exchange is not before.
        until: Instant,
        /// Why.
        refusal: Arc<Refusal>,
    },
    /// Nothing can be exchanged: there is no usable subject token.
    Blocked {
        /// The code.
        reason: Arc<str>,
    },
    /// The credential is gone.
    Stopped,
}

struct Current {
    injectable: Injectable,
    expires_at: Instant,
}

/// What upstreams have said about this slot's tokens.
#[derive(Default)]
struct Rejections {
    /// How many replacements in a row were themselves rejected.
    consecutive: u32,
    last_seen: Option<Instant>,
    hold_until: Option<Instant>,
    pending: Option<Rejected>,
}

/// A rejection that the renewer has not acted on yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The token that was rejected.
    pub serial: Serial,
    /// The decoded claims challenge (JSON) to send with the next exchange.
    pub claims: Option<String>,
}

/// One credential's slot.
pub struct Slot {
    name: Arc<str>,
    current: ArcSwapOption<Current>,
    serials: AtomicU64,
    activity: watch::Sender<Activity>,
    demand: Notify,
    rejections: Mutex<Rejections>,
}

// The request flow's side.
impl Slot {
    /// An empty slot for the credential of that name.
    pub fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            current: ArcSwapOption::empty(),
            serials: AtomicU64::new(0),
            activity: watch::Sender::new(Activity::Working),
            demand: Notify::new(),
            rejections: Mutex::default(),
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

    /// When the current token expires, if there is one that has not at `now`.
    pub fn expires_at(&self, now: Instant) -> Option<Instant> {
        let current = self.current.load();
        current
            .as_ref()
            .map(|c| c.expires_at)
            .filter(|at| now < *at)
    }

    /// Whether, after a failure, the next exchange is not before some moment after `now`.
    pub fn is_waiting_out(&self, now: Instant) -> bool {
        match &*self.activity.borrow() {
            Activity::BackingOff { until, .. } | Activity::Refused { until, .. } => now < *until,
            Activity::Blocked { .. } | Activity::Stopped => true,
            Activity::Working => false,
        }
    }

    /// Until when the last exchange's refusal, if it was one for reasons that lie with the caller, was to be remembered.
    pub fn refused_until(&self) -> Option<Instant> {
        match &*self.activity.borrow() {
            Activity::Refused { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// As [`Slot::load`], but when an exchange is under way or about to start, waits for its end, at the longest until `deadline`.
    /// Wakes the renewer when there is no token.
    ///
    /// # Errors
    /// [`Unavailable`] at once when the renewer is backing off after a failure, else at the deadline.
    pub async fn wait(&self, deadline: Instant) -> Result<Injectable, Unavailable> {
        self.await_newer(None, deadline).await
    }

    /// An upstream answered 401 to the token `serial`: drop it (once, however many tell) and wake the renewer. `claims` is the decoded
    /// claims challenge (JSON), when the upstream sent one.
    pub fn reject(&self, serial: Serial, claims: Option<&str>) -> Rejection {
        let now = Instant::now();
        let mut rejections = self.rejections();
        let current = self.current.load();
        let Some(rejected) = current.as_ref().filter(|c| c.injectable.serial == serial) else {
            return Rejection::Replacing;
        };
        // A token that cannot be replaced now is better than none: other upstreams may still take it.
        let failing = self.is_waiting_out(now);
        let quiet = rejections
            .last_seen
            .is_none_or(|seen| now.saturating_duration_since(seen) >= HOLD_MAX);
        rejections.last_seen = Some(now);
        if quiet {
            rejections.consecutive = 0;
            rejections.hold_until = None;
        }
        if failing || rejections.hold_until.is_some_and(|until| now < until) {
            return Rejection::HeldOff;
        }
        let hold = HOLD_FIRST
            .saturating_mul(
                1_u32
                    .checked_shl(rejections.consecutive)
                    .unwrap_or(u32::MAX),
            )
            .min(HOLD_MAX);
        rejections.consecutive = rejections.consecutive.saturating_add(1);
        rejections.hold_until = now.checked_add(hold);
        rejections.pending = Some(Rejected {
            serial,
            claims: claims.map(str::to_owned),
        });
        // Only this token is dropped: the renewer may just have stored another.
        self.current
            .compare_and_swap(rejected, None::<Arc<Current>>);
        drop(rejections);
        self.demand.notify_one();
        Rejection::Replacing
    }

    /// As [`Slot::replaced`], but says why there is none.
    ///
    /// # Errors
    /// As [`Slot::wait`].
    pub async fn replacement(
        &self,
        serial: Serial,
        deadline: Instant,
    ) -> Result<Injectable, Unavailable> {
        self.await_newer(Some(serial), deadline).await
    }

    /// Waits for a token newer than `serial`, at the longest until `deadline`. `None` when the renewal failed or took too long.
    pub async fn replaced(&self, serial: Serial, deadline: Instant) -> Option<Injectable> {
        self.await_newer(Some(serial), deadline).await.ok()
    }

    async fn await_newer(
        &self,
        than: Option<Serial>,
        deadline: Instant,
    ) -> Result<Injectable, Unavailable> {
        let mut activity = self.activity.subscribe();
        loop {
            // Seen before the token is looked at, so that a token stored in between is not missed.
            let doing = activity.borrow_and_update().clone();
            let now = Instant::now();
            if let Some(found) = self.load(now)
                && than.is_none_or(|serial| found.serial > serial)
            {
                return Ok(found);
            }
            self.demand.notify_one();
            match doing {
                Activity::BackingOff { until, reason } if now < until => {
                    return Err(Unavailable {
                        retry_after: until - now,
                        reason,
                        refusal: None,
                    });
                }
                Activity::Refused { until, refusal } => {
                    return Err(Unavailable {
                        retry_after: until.saturating_duration_since(now).max(SOON),
                        reason: refusal.code.into(),
                        refusal: Some(refusal),
                    });
                }
                Activity::Blocked { reason } => {
                    return Err(Unavailable {
                        retry_after: SOON,
                        reason,
                        refusal: None,
                    });
                }
                Activity::Stopped => return Err(Self::unavailable("credential_removed")),
                Activity::BackingOff { .. } | Activity::Working => {}
            }
            match timeout_at(deadline, activity.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Self::unavailable("credential_removed")),
                Err(_) => return Err(Self::unavailable("not_yet_issued")),
            }
        }
    }

    fn unavailable(reason: &str) -> Unavailable {
        Unavailable {
            retry_after: SOON,
            reason: reason.into(),
            refusal: None,
        }
    }
}

// The renewer's side.
impl Slot {
    /// Puts a token in, and wakes all who wait. `header` is what is injected; it is marked sensitive here, whatever it was.
    pub fn store(&self, mut header: HeaderValue, expires_at: Instant) -> Serial {
        header.set_sensitive(true);
        // The first copy of a header value allocates its shared count; that is done here and not for the first request.
        drop(header.clone());
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(Some(Arc::new(Current {
            injectable: Injectable { header, serial },
            expires_at,
        })));
        self.activity.send_replace(Activity::Working);
        serial
    }

    /// Says what the renewer is doing. `Working` wakes nobody: there is nothing new for those who wait.
    pub fn publish(&self, activity: Activity) {
        let news = !matches!(activity, Activity::Working);
        self.activity.send_if_modified(|current| {
            *current = activity;
            news
        });
    }

    /// Waits until somebody needs a token and finds none, or a token was rejected. May be woken for nothing.
    pub async fn demanded(&self) {
        self.demand.notified().await;
    }

    /// The rejection that has not been acted on yet, if any.
    pub fn take_rejected(&self) -> Option<Rejected> {
        self.rejections().pending.take()
    }

    /// Whether there is such a rejection.
    pub fn is_rejected(&self) -> bool {
        self.rejections().pending.is_some()
    }

    /// Of the token stored last; zero when there was none.
    pub fn last_serial(&self) -> Serial {
        self.serials.load(Ordering::Relaxed)
    }

    fn rejections(&self) -> MutexGuard<'_, Rejections> {
        self.rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
