//! What a request is sent with: how a route comes by the credential of each of its requests, and that credential for the time of one request.
//! Knows slots, not how they are filled.

use super::{
    caller::{CallerAccess, CallerGrant},
    inbound::{HandleGrant, Inbound},
    respond::Problem,
};
use crate::token::{
    dpop::Prover,
    injection::Injection,
    slot::{Injectable, Rejection, Slot},
};
use http::{HeaderMap, HeaderValue, request::Parts};
use prometheus::IntCounter;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A configured credential, as the request flow sees it.
#[derive(Clone)]
pub struct CredentialHandle {
    /// Where the credential's token sits.
    pub slot: Arc<Slot>,
    /// How it is put on requests.
    pub injection: Arc<Injection>,
    /// Makes the proofs that go with it, when it is bound by DPoP.
    pub prover: Option<Arc<Prover>>,
    /// `token_unavailable_total` of the credential.
    pub unavailable: IntCounter,
}

/// How the requests of a route get their credential.
#[derive(Clone)]
pub enum Access {
    /// All of them the same: the pod's own.
    Credential(CredentialHandle),
    /// Each its caller's.
    Caller(Box<CallerAccess>),
    /// A handle each, towards the workload.
    Inbound(Arc<Inbound>),
}

impl Access {
    /// The credential of one request, chosen before anything is stripped from its headers.
    ///
    /// # Errors
    /// The answer to give instead: nothing leaves.
    pub async fn admit(&self, parts: &mut Parts) -> Result<Grant<'_>, Problem> {
        match self {
            Self::Credential(handle) => Ok(Grant::Slot(handle)),
            Self::Caller(access) => access.admit(parts),
            // Apart, so that requests of the workload do not carry its state.
            Self::Inbound(inbound) => Box::pin(inbound.admit(parts)).await,
        }
    }

    /// The inbound side, when it is that.
    pub fn inbound(&self) -> Option<&Arc<Inbound>> {
        match self {
            Self::Inbound(inbound) => Some(inbound),
            Self::Credential(_) | Self::Caller(_) => None,
        }
    }
}

/// One request's credential.
pub enum Grant<'a> {
    /// What its slot holds when the request is sent.
    Slot(&'a CredentialHandle),
    /// What was issued for its caller.
    Caller(CallerGrant<'a>),
    /// A handle that stands for the caller's token.
    Handle(HandleGrant<'a>),
    /// None: a probe of the workload.
    Nothing,
}

impl Grant<'_> {
    /// A token now, or after waiting at most `wait` for an exchange that is under way.
    ///
    /// # Errors
    /// The answer to give instead.
    pub async fn token(&self, now: Instant, wait: Duration) -> Result<Injectable, Problem> {
        let handle = match self {
            Self::Slot(handle) => handle,
            // Apart, so that other requests do not carry its state.
            Self::Caller(grant) => return Box::pin(grant.token(now, wait)).await,
            Self::Handle(handle) => return Ok(handle.injectable().clone()),
            Self::Nothing => {
                return Ok(Injectable {
                    header: HeaderValue::from_static(""),
                    serial: 0,
                });
            }
        };
        if let Some(token) = handle.slot.load(now) {
            return Ok(token);
        }
        handle.slot.wait(now + wait).await.map_err(|unavailable| {
            handle.unavailable.inc();
            let detail = format!(
                "credential {}: {}; see /readyz of the sidecar for the cause",
                handle.slot.name(),
                unavailable.reason
            );
            Problem::no_token(detail, unavailable.retry_after)
        })
    }

    /// An upstream answered 401 to this token; see [`Slot::reject`]. What was not issued cannot be replaced.
    pub fn reject(&self, token: &Injectable, claims: Option<&str>) -> Rejection {
        match self {
            Self::Slot(handle) => handle.slot.reject(token.serial, claims),
            Self::Caller(grant) => grant.reject(token, claims),
            Self::Handle(_) | Self::Nothing => Rejection::HeldOff,
        }
    }

    /// The token that replaces the rejected one; see [`Slot::replaced`].
    ///
    /// # Errors
    /// The answer to give in the place of the upstream's, if that should not pass.
    pub async fn replaced(
        &self,
        token: &Injectable,
        deadline: Instant,
    ) -> Result<Injectable, Option<Problem>> {
        match self {
            Self::Slot(handle) => handle
                .slot
                .replaced(token.serial, deadline)
                .await
                .ok_or(None),
            Self::Caller(grant) => Box::pin(grant.replaced(token, deadline)).await,
            Self::Handle(_) | Self::Nothing => Err(None),
        }
    }

    /// What makes the proof that must go with the token, if one must.
    pub fn prover(&self) -> Option<&Prover> {
        match self {
            Self::Slot(handle) => handle.prover.as_deref(),
            Self::Caller(grant) => grant.prover(),
            Self::Handle(_) | Self::Nothing => None,
        }
    }

    /// Puts the token on a request whose headers are stripped already.
    pub fn inject(&self, headers: &mut HeaderMap, token: &Injectable) {
        let injection = match self {
            Self::Slot(handle) => &*handle.injection,
            Self::Caller(grant) => grant.injection(),
            Self::Handle(handle) => return handle.inject(headers),
            Self::Nothing => return,
        };
        super::inject::credential(headers, injection, token);
    }
}
