//! `parameters`: further form fields, none of which a specification defines.

use super::super::fields::{Fields, shown};

/// Form fields that token exchange and client authentication define (RFC 8693 section 2.1, RFC 6749 section 2.3, RFC 7521 section 4.2), and
/// `claims`, which answer an upstream's challenge and are nothing to configure (OpenID Connect Core section 5.5).
const RESERVED: &[&str] = &[
    "grant_type",
    "resource",
    "audience",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "claims",
];

pub(super) fn parameters(exchange: &Fields<'_>) -> Option<Vec<(String, String)>> {
    let mut read = Some(Vec::new());
    for entry in exchange.named("parameters")? {
        let path = format!("{}.{}", exchange.join("parameters"), shown(&entry.key));
        let reserved = RESERVED.contains(&entry.key.as_str());
        if reserved {
            let message = if entry.key == "claims" {
                "answers an upstream's challenge and is nothing to configure; leave it out"
            } else {
                "a parameter that token exchange or client authentication defines; use the key of its own"
            };
            exchange
                .context
                .problems
                .error(entry.key_at, &path, message);
        }
        let value = exchange
            .context
            .scalar(&entry.node, &path, |t| Ok(t.to_owned()));
        match (value, &mut read) {
            (Some(value), Some(read)) if !reserved => read.push((entry.key.clone(), value)),
            _ => read = None,
        }
    }
    read
}
