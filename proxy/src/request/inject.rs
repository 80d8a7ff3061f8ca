//! Puts the credential on a request, after everything that could collide with it was stripped. Exactly one such field leaves, and it is ours.

use crate::token::{injection::Injection, slot::Injectable};
use http::{HeaderMap, HeaderValue, header};

/// Sets the credential's field, replacing whatever is there. The value was built once, when the token was issued: this clones a reference.
pub fn credential(headers: &mut HeaderMap, injection: &Injection, token: &Injectable) {
    headers.insert(&injection.header, token.header.clone());
}

/// Adds this hop to `Via` (RFC 9110 section 7.6.3).
pub fn via(headers: &mut HeaderMap, via: &HeaderValue) {
    headers.append(header::VIA, via.clone());
}

/// Whether the request has been here before: its `Via` names this very process.
pub fn is_loop(headers: &HeaderMap, via: &HeaderValue) -> bool {
    headers
        .get_all(header::VIA)
        .iter()
        .any(|v| v.as_bytes().windows(via.len()).any(|w| w == via.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_authorization_leaves_and_it_is_sensitive() {
        let mut header = HeaderValue::from_static("Bearer ours");
        header.set_sensitive(true);
        let token = Injectable { header, serial: 1 };
        let mut m = HeaderMap::new();
        m.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        m.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        credential(&mut m, &Injection::default(), &token);
        let all: Vec<_> = m.get_all(header::AUTHORIZATION).iter().collect();
        assert_eq!(all, ["Bearer ours"]);
        assert!(all[0].is_sensitive());
        assert!(!format!("{m:?}{token:?}").contains("ours"));
    }

    #[test]
    fn a_loop_is_seen_in_any_via() {
        let us = HeaderValue::from_static("1.1 token-sidecar-0a1b");
        let mut m = HeaderMap::new();
        assert!(!is_loop(&m, &us));
        m.append(
            header::VIA,
            HeaderValue::from_static("1.1 token-sidecar-ffff"),
        );
        assert!(!is_loop(&m, &us));
        m.append(
            header::VIA,
            HeaderValue::from_static("1.0 x, 1.1 token-sidecar-0a1b, 1.1 y"),
        );
        assert!(is_loop(&m, &us));
    }
}
