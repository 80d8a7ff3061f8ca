//! Problems about callers and their tokens: on the way in, when the workload's caller is to be known, and on the way out, when something is sent on a
//! caller's behalf.

use super::Problem;
use crate::token::caller::step_up::PROBLEM_TYPE;
use http::StatusCode;
use std::time::Duration;

impl Problem {
    /// 400: the caller's credentials are given in a way that is none of RFC 6750's, or in several.
    pub const fn invalid_request(detail: &'static str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "The credentials are not given as they should be",
            detail,
            "http_request_error",
        )
    }

    /// 401: the caller has given no token.
    pub const fn no_credentials() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "no_credentials",
            "An access token is needed",
            "send `Authorization: Bearer` with an access token for this resource; WWW-Authenticate says where to learn how to get one",
            "http_request_denied",
        )
    }

    /// 401: the caller's token is not accepted.
    pub const fn invalid_token(detail: &'static str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "The access token is not accepted",
            detail,
            "http_request_denied",
        )
    }

    /// 403: the caller's token is good, and not enough.
    pub const fn insufficient_scope() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "The access token lacks a scope",
            "get a token with the scopes that WWW-Authenticate names",
            "http_request_denied",
        )
    }

    /// 404: the session that the caller names is somebody else's. Said as of one that has ended, upon which clients begin a new one.
    pub const fn unknown_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_session",
            "There is no such session",
            "the session that Mcp-Session-Id names is not one of this caller's; begin a new one",
            "http_request_denied",
        )
    }

    /// 503: whether the caller's token is good cannot be told at present.
    pub const fn keys_unavailable(retry_after: Duration) -> Self {
        let mut p = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "keys_unavailable",
            "Access tokens cannot be verified at present",
            "the issuer's keys cannot be fetched; see /readyz of the sidecar for the cause",
            "proxy_internal_error",
        );
        p.retry_after = Some(retry_after);
        p
    }

    /// 401 or 403: what the caller must do first is in the challenge.
    pub const fn step_up(status: StatusCode) -> Self {
        let mut p = Self::new(
            status,
            "step_up",
            "More is needed from the caller",
            "an authorization server asks for another sign-in, consent or further claims; WWW-Authenticate names them",
            "http_request_denied",
        );
        p.kind = PROBLEM_TYPE;
        p
    }

    /// The same challenge, with the reference by which the inbound side knows it again.
    pub fn with_mark(mut self, reference: String) -> Self {
        if let Some(challenge) = &mut self.challenge {
            challenge.mark = Some(reference);
        }
        self
    }

    /// 401: nobody is named on whose behalf this route may send the request.
    pub fn no_caller() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "no_caller",
            "This route acts on behalf of callers, and the request names none",
            "pass on the credentials of the inbound request that this one belongs to, as the workload received them; or set withoutCaller on the route",
            "http_request_denied",
        )
        .with_challenge("Bearer".to_owned())
    }

    /// 401: the request's handle stands for nobody, or not any more.
    pub fn unknown_caller() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unknown_caller",
            "On whose behalf the request is made cannot be told",
            "its credentials are not those of an inbound request that lasts; a handle ends with its request and with the caller's token",
            "http_request_denied",
        )
        .with_challenge("Bearer error=\"invalid_token\"".to_owned())
    }

    /// 500: no proof can be made for a token that is worthless without.
    pub const fn no_proof() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no_proof",
            "The proof that goes with the token cannot be made",
            "the system gives no randomness, or the request's path is none that a proof can name; nothing was sent",
            "proxy_internal_error",
        )
    }
}
