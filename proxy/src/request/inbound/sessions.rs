//! Whose an MCP session is. `Mcp-Session-Id` is the workload's, and the workload sees handles: it cannot tell one caller from another, as the
//! specification asks of it (a session is bound to its user, so that whoever learns of an id gets nothing). So the inbound side remembers to whom the
//! workload gave an id, and lets nobody else use it. It makes no ids, and an id that it does not know is the workload's to judge.

use crate::token::caller::token::CallerToken;
use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName};
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Where a session's id stands, both ways.
const HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// As many sessions are remembered for certain, and at most twice as many.
const REMEMBERED: usize = 32 * 1024;

/// Half of a SHA-256: of an id, or of whom a token is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Digest([u8; 16]);

impl Digest {
    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            // With their lengths: no two lists of parts are alike.
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(half)
    }

    /// Issuer and subject. A token without a subject is about nobody else than itself.
    fn of_caller(caller: &CallerToken) -> Self {
        let issuer = caller.issuer().as_bytes();
        match &caller.subject().claims().sub {
            Some(sub) => Self::of(&[issuer, sub.as_bytes()]),
            None => Self::of(&[issuer, b"", caller.digest().as_bytes()]),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    One(Digest),
    /// The workload gave it to several, so it means something else by it.
    Everybody,
}

/// The sessions that the workload has given out. Those that were not used for the longest time are forgotten first.
pub struct Sessions {
    remembered: usize,
    known: Mutex<Known>,
}

/// Two generations: what is used moves to the newer one; when that is full, the older one goes.
#[derive(Default)]
struct Known {
    newer: HashMap<Digest, Owner>,
    older: HashMap<Digest, Owner>,
}

impl Known {
    fn find(&mut self, id: Digest, limit: usize) -> Option<Owner> {
        if let Some(owner) = self.newer.get(&id) {
            return Some(*owner);
        }
        let owner = self.older.remove(&id)?;
        self.put(id, owner, limit);
        Some(owner)
    }

    fn put(&mut self, id: Digest, owner: Owner, limit: usize) {
        if self.newer.len() >= limit && !self.newer.contains_key(&id) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, owner);
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Sessions {
    fn remembering(remembered: usize) -> Self {
        Self {
            remembered,
            known: Mutex::default(),
        }
    }

    /// Whether a request of `caller`'s may name the session that it names: none, one that nobody else has, or one that is not known here.
    pub fn admit(&self, request: &HeaderMap, caller: &CallerToken) -> bool {
        let mut named = request.get_all(HEADER).iter().peekable();
        if named.peek().is_none() {
            return true;
        }
        let caller = Owner::One(Digest::of_caller(caller));
        let mut known = self.known();
        named.all(|id| {
            let owner = known.find(Digest::of(&[id.as_bytes()]), self.remembered);
            owner.is_none_or(|owner| owner == caller || owner == Owner::Everybody)
        })
    }

    /// Remembers the session that the workload's answer gives to `caller`, if it gives one.
    pub fn note(&self, answer: &HeaderMap, caller: &CallerToken) {
        let Some(id) = answer.get(HEADER) else {
            return;
        };
        let (id, caller) = (
            Digest::of(&[id.as_bytes()]),
            Owner::One(Digest::of_caller(caller)),
        );
        let mut known = self.known();
        let owner = match known.find(id, self.remembered) {
            // Others cannot have asked for it by name.
            Some(owner) if owner != caller => Owner::Everybody,
            _ => caller,
        };
        known.put(id, owner, self.remembered);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::caller::token::tests::{caller_named, caller_of};
    use http::HeaderValue;
    use sidecar_runtime::clock::Clock;
    use std::sync::Arc;

    fn names(ids: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for id in ids {
            headers.append(HEADER, HeaderValue::from_str(id).unwrap());
        }
        headers
    }

    fn person(sub: &str, jti: &str) -> Arc<CallerToken> {
        caller_named(sub, 4_000_000_000, jti, &Clock::system())
    }

    #[test]
    fn a_session_is_for_whom_it_was_given_to_whatever_token_they_show() {
        let sessions = Sessions::default();
        let (ada, later, bob) = (person("ada", "1"), person("ada", "2"), person("bob", "1"));
        sessions.note(&names(&["s"]), &ada);
        assert!(sessions.admit(&names(&["s"]), &ada));
        assert!(sessions.admit(&names(&["s"]), &later));
        assert!(!sessions.admit(&names(&["s"]), &bob));
        assert!(!sessions.admit(&names(&["unknown", "s"]), &bob));
        assert!(sessions.admit(&names(&[]), &bob));
        assert!(sessions.admit(&names(&["unknown"]), &bob));
        // Said again in each answer, it stays whose it is.
        sessions.note(&names(&["s"]), &later);
        assert!(!sessions.admit(&names(&["s"]), &bob));
    }

    /// A `sub` is unique within its issuer alone (RFC 7519 section 4.1.2), and a token without one is about nobody else than itself.
    #[test]
    fn whose_a_session_is_goes_by_issuer_and_subject_together() {
        let of = |issuer: &str, claims: &str| {
            let claims = format!(r#""exp":4000000000,{claims}"#);
            caller_of(issuer, &claims, &Clock::system())
        };
        let (ada, jti) = (r#""sub":"ada""#, |n: u8| format!(r#""jti":"{n}""#));
        for (owner, other) in [
            (of("https://a.example", ada), of("https://b.example", ada)),
            (
                of("https://a.example", &jti(1)),
                of("https://a.example", &jti(2)),
            ),
        ] {
            let sessions = Sessions::default();
            sessions.note(&names(&["s"]), &owner);
            assert!(sessions.admit(&names(&["s"]), &owner));
            assert!(!sessions.admit(&names(&["s"]), &other));
        }
    }

    #[test]
    fn what_the_workload_gives_to_several_is_bound_to_nobody() {
        let sessions = Sessions::default();
        let people = ["ada", "bob", "eve"].map(|sub| person(sub, "1"));
        sessions.note(&names(&["constant"]), &people[0]);
        sessions.note(&names(&["constant"]), &people[1]);
        for one in &people {
            assert!(sessions.admit(&names(&["constant"]), one));
        }
    }

    #[test]
    fn the_table_is_bounded_and_what_is_used_stays() {
        let sessions = Sessions::remembering(10);
        let (ada, bob) = (person("ada", "1"), person("bob", "1"));
        sessions.note(&names(&["used"]), &ada);
        sessions.note(&names(&["unused"]), &ada);
        for n in 0..100 {
            sessions.note(&names(&[&n.to_string()]), &ada);
            assert!(!sessions.admit(&names(&["used"]), &bob), "{n}");
        }
        assert!(sessions.admit(&names(&["unused"]), &bob), "forgotten");
        let known = sessions.known();
        assert!(known.newer.len() + known.older.len() <= 20);
    }
}
