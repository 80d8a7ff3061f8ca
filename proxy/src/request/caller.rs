//! Requests on behalf of a caller: the handle that the workload passes on stands for the caller's token, and what was issued for that goes to the upstream.
//! Fails closed: without a good handle there is no identity, unless the route names one for requests that carry none at all.

use super::{
    access::{CredentialHandle, Grant},
    respond::Problem,
};
use crate::token::{
    caller::{
        cache::{CallerCache, Place},
        handle::{HandleError, Handles},
        step_up::StepUp,
        token::CallerToken,
    },
    dpop::Prover,
    exchange::error::CallerFault,
    injection::Injection,
    slot::{Injectable, Refusal, Rejection, Slot, Unavailable},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use prometheus::IntCounter;
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How the requests of a route get a credential each, by their callers.
#[derive(Clone)]
pub struct CallerAccess {
    /// What was issued for whom.
    pub cache: Arc<CallerCache>,
    /// How it is put on requests.
    pub injection: Arc<Injection>,
    /// Makes the proofs that go with it, when it is bound by DPoP.
    pub prover: Option<Arc<Prover>>,
    /// `token_unavailable_total` of the credential.
    pub unavailable: IntCounter,
    /// What handles stand for.
    pub handles: Arc<Handles>,
    /// Which field carries them: `Authorization` behind `Bearer `, any other as it is.
    pub header: HeaderName,
    /// The credential of requests that carry no handle.
    pub without: Option<CredentialHandle>,
}

impl CallerAccess {
    /// The credential of one request.
    ///
    /// # Errors
    /// The answer to give instead: 401 when there is no handle (and no other credential for that case), or one that stands for nobody here.
    pub fn admit(&self, parts: &Parts) -> Result<Grant<'_>, Problem> {
        let nobody = |problem| self.without.as_ref().map(Grant::Slot).ok_or(problem);
        let handle = match handle(&parts.headers, &self.header) {
            Presented::Nothing => return nobody(Problem::no_caller()),
            Presented::Several => return Err(Problem::unknown_caller()),
            Presented::One(value) => value,
        };
        let bytes = bearer(handle, &self.header);
        match bytes.map(|bytes| self.handles.resolve(bytes)) {
            Some(Ok(caller)) => self.on_behalf_of(caller, handle),
            // No handle of anybody's: what clients put there for want of something better.
            None | Some(Err(HandleError::Malformed)) if is_placeholder(handle, &self.header) => {
                nobody(Problem::unknown_caller())
            }
            // There was a caller. The pod's own identity in their place would be another's.
            None | Some(Err(_)) => Err(Problem::unknown_caller()),
        }
    }

    fn on_behalf_of(
        &self,
        caller: Arc<CallerToken>,
        handle: &HeaderValue,
    ) -> Result<Grant<'_>, Problem> {
        let place = self.cache.place(caller).map_err(|_| self.full())?;
        Ok(Grant::Caller(CallerGrant {
            access: self,
            handle: handle.clone(),
            place: RefCell::new(place),
            looked: Cell::new(false),
            moved: Cell::new(false),
        }))
    }

    fn full(&self) -> Problem {
        self.unavailable.inc();
        Problem::no_token(
            format!(
                "credential {}: more callers at once than callerCache.maxEntries; raise it, or see why the authority answers slowly",
                self.cache.name()
            ),
            Duration::from_secs(1),
        )
    }
}

/// What stands in the place of a handle.
enum Presented<'h> {
    Nothing,
    One(&'h HeaderValue),
    Several,
}

fn handle<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Presented<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(one), None) => Presented::One(one),
        _ => Presented::Several,
    }
}

/// The handle itself. `Bearer` is compared without regard to case (RFC 9110 section 11.1).
fn bearer<'h>(value: &'h HeaderValue, name: &HeaderName) -> Option<&'h [u8]> {
    const SCHEME: &[u8] = b"bearer ";
    if *name != header::AUTHORIZATION {
        return Some(value.as_bytes());
    }
    let (scheme, handle) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| handle.trim_ascii())
}

/// Whether what is no handle speaks of no caller at all. What is as long as a handle may: one that was mangled on its way, or a real token, of
/// whatever scheme. In a field that is there for handles, anything does.
fn is_placeholder(value: &HeaderValue, name: &HeaderName) -> bool {
    let text = bearer(value, name).unwrap_or(value.as_bytes());
    text.is_empty() || *name == header::AUTHORIZATION && text.len() < Handles::CHARS
}

/// One request's place among the callers' tokens.
pub struct CallerGrant<'a> {
    access: &'a CallerAccess,
    /// To remember beside it what its caller would have to do.
    handle: HeaderValue,
    place: RefCell<Place>,
    /// Whether the place was looked at before: by then its token may have expired.
    looked: Cell<bool>,
    /// Whether a rejection led to another slot than that of the token that was rejected.
    moved: Cell<bool>,
}

impl CallerGrant<'_> {
    /// A token now, or after waiting at most `wait` for an exchange that is under way.
    ///
    /// # Errors
    /// The answer to give instead: 401 or 403 when it is the caller's to mend, else 503.
    pub async fn token(&self, now: Instant, wait: Duration) -> Result<Injectable, Problem> {
        if let Some(token) = self.place.borrow().slot().load(now) {
            self.looked.set(true);
            return Ok(token);
        }
        if self.looked.replace(true) {
            self.access
                .cache
                .demand(&mut self.place.borrow_mut())
                .map_err(|_| self.access.full())?;
        }
        self.slot()
            .wait(now + wait)
            .await
            .map_err(|unavailable| self.problem(&unavailable))
    }

    /// An upstream answered 401 to this token.
    pub fn reject(&self, token: &Injectable, claims: Option<&str>) -> Rejection {
        let before = self.slot();
        let mut place = self.place.borrow_mut();
        let told = self.access.cache.reject(&mut place, token.serial, claims);
        self.moved.set(!Arc::ptr_eq(&before, place.slot()));
        told
    }

    /// The token that replaces the rejected one.
    ///
    /// # Errors
    /// The answer to give instead of the upstream's, when the caller must do something first; `None`: the upstream's passes.
    pub async fn replaced(
        &self,
        token: &Injectable,
        deadline: Instant,
    ) -> Result<Injectable, Option<Problem>> {
        let slot = self.slot();
        let newer = if self.moved.get() {
            slot.wait(deadline).await
        } else {
            slot.replacement(token.serial, deadline).await
        };
        newer.map_err(|unavailable| {
            unavailable
                .refusal
                .is_some()
                .then(|| self.problem(&unavailable))
        })
    }

    /// How the token is put on the request.
    pub fn injection(&self) -> &Injection {
        &self.access.injection
    }

    /// What makes the proof that must go with the token, if one must.
    pub fn prover(&self) -> Option<&Prover> {
        self.access.prover.as_deref()
    }

    fn slot(&self) -> Arc<Slot> {
        Arc::clone(self.place.borrow().slot())
    }

    fn problem(&self, unavailable: &Unavailable) -> Problem {
        if let Some(refusal) = &unavailable.refusal {
            return self.step_up(refusal);
        }
        self.access.unavailable.inc();
        let detail = format!(
            "credential {}: {}; see /readyz and the log of the sidecar for the cause",
            self.access.cache.name(),
            unavailable.reason
        );
        Problem::no_token(detail, unavailable.retry_after)
    }

    /// What the caller must do, as a challenge to the workload, which may relay it; and, when the handle still stands for the caller, under a
    /// reference by which the inbound side knows it again.
    fn step_up(&self, refusal: &Refusal) -> Problem {
        let step_up = asked(refusal);
        let status = StatusCode::from_u16(step_up.status).unwrap_or(StatusCode::UNAUTHORIZED);
        let problem = Problem::step_up(status).with_challenge(step_up.challenge(&[]));
        let reference = bearer(&self.handle, &self.access.header)
            .and_then(|handle| self.access.handles.remember(handle, step_up).ok());
        match reference {
            Some(reference) => problem.with_mark(reference.as_str().to_owned()),
            None => problem,
        }
    }
}

/// A refusal in the words of RFC 6750 section 3.1 and of those who extended it.
fn asked(refusal: &Refusal) -> StepUp {
    let (status, error) = match refusal.fault {
        CallerFault::Token => (401, "invalid_token"),
        CallerFault::Interaction if refusal.claims.is_some() => (401, "insufficient_claims"),
        CallerFault::Interaction => (401, "interaction_required"),
        CallerFault::Consent => (403, "consent_required"),
        CallerFault::Denied => (403, "access_denied"),
    };
    StepUp {
        status,
        error: error.to_owned(),
        scope: None,
        claims: refusal.claims.clone(),
    }
}
