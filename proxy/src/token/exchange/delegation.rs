//! Delegation (RFC 8693 sections 4.1 and 4.4): who may act, and who acts. Reads claims without verifying them: it only refuses, early and in clear
//! words, what the authorization server or the upstream should refuse anyway; it never allows.

use super::error::ExchangeError;
use crate::token::subject::{Party, SubjectToken};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Whether the subject token lets the holder of the actor token act. A token without `may_act` leaves that to the authorization server, and so does an
/// actor token of which nothing is known (an opaque one).
///
/// # Errors
/// [`ExchangeError`] `may_act_other`.
pub(super) fn check_may_act(
    subject: &SubjectToken,
    actor: &SubjectToken,
) -> Result<(), ExchangeError> {
    let known = actor.claims().sub.is_some() || actor.claims().iss.is_some();
    match &subject.claims().may_act {
        Some(party) if known && !names(party, actor) => Err(ExchangeError::local("may_act_other")),
        _ => Ok(()),
    }
}

/// Whether an issued JWT says that the actor acts. Only the outermost `act` does: those nested in it are history (RFC 8693 section 4.1).
///
/// # Errors
/// [`ExchangeError`] `act_missing` or `act_other`.
pub(super) fn check_act(issued: &str, actor: &SubjectToken) -> Result<(), ExchangeError> {
    #[derive(Deserialize)]
    struct Issued {
        act: Party,
    }
    let act = issued
        .split('.')
        .nth(1)
        .and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok())
        .and_then(|payload| serde_json::from_slice::<Issued>(&payload).ok())
        .map(|issued| issued.act)
        .filter(|act| act.sub.is_some())
        .ok_or_else(|| ExchangeError::local("act_missing"))?;
    if names(&act, actor) {
        Ok(())
    } else {
        Err(ExchangeError::local("act_other"))
    }
}

/// Whether all that a claim says of a party is true of the token's subject. Members other than `iss` and `sub` are not ours to judge.
fn names(party: &Party, token: &SubjectToken) -> bool {
    let fits = |said: &Option<String>, own: &Option<String>| {
        said.as_ref().is_none_or(|said| Some(said) == own.as_ref())
    };
    fits(&party.sub, &token.claims().sub) && fits(&party.iss, &token.claims().iss)
}

#[cfg(test)]
#[path = "delegation_tests.rs"]
mod tests;
