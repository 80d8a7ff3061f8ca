//! What a caller would have to do before a call on its behalf can succeed: sign in again, satisfy claims, consent. It travels back to the caller as
//! a challenge (RFC 6750 section 3, RFC 9470 section 3); the workload sees a mark that means something to this process alone.

use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// The response header that carries a [`Reference`], from the sidecar to the workload and, when the workload relays it, back to the inbound side.
pub const MARK: &str = "token-sidecar-step-up";
/// `type` of the problem that says so to the workload.
pub const PROBLEM_TYPE: &str = "urn:token-sidecar:step-up";

const BYTES: usize = 16;

/// What is asked of a caller. It holds nothing secret: all of it is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUp {
    /// 401: come back with another token; 403: this caller may not, until somebody grants it.
    pub status: u16,
    /// `error` of the challenge: `insufficient_claims`, `interaction_required`, `insufficient_scope`, …: printable ASCII without quotes or backslashes.
    pub error: String,
    /// `scope` of the challenge, separated by spaces.
    pub scope: Option<String>,
    /// The claims that the authorization server asks for: JSON.
    pub claims: Option<String>,
}

impl StepUp {
    /// The challenge: `Bearer` with `error`, `scope` and the claims in base64, as far as they are there, behind the parameters that are given.
    /// What a challenge cannot carry is left out of it.
    pub fn challenge(&self, parameters: &[(&str, &str)]) -> String {
        use base64::engine::general_purpose::STANDARD;
        let claims = self.claims.as_ref().map(|c| STANDARD.encode(c));
        let own = [
            ("error", Some(&self.error)),
            ("scope", self.scope.as_ref()),
            ("claims", claims.as_ref()),
        ];
        let mut challenge = String::from("Bearer");
        let mut separator = ' ';
        let all = parameters.iter().copied().chain(
            own.iter()
                .filter_map(|(n, v)| Some((*n, v.as_ref()?.as_str()))),
        );
        for (name, value) in all {
            let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && !matches!(b, b'"' | b'\\');
            if !value.is_empty() && value.bytes().all(plain) {
                challenge.push(separator);
                challenge.push_str(name);
                challenge.push_str("=\"");
                challenge.push_str(value);
                challenge.push('"');
                separator = ',';
            }
        }
        challenge
    }
}

/// Stands for a [`StepUp`] beside a handle: 128 random bits, base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// A new one. `None`: there is no randomness.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; BYTES];
        rand::fill(&mut bytes).ok()?;
        Some(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Its text, for the header [`MARK`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is this one; in constant time.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), text).is_ok()
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_what_to_do_in_the_words_of_the_standards() {
        let step_up = StepUp {
            status: 401,
            error: "insufficient_claims".into(),
            scope: Some("a b".into()),
            claims: Some(r#"{"access_token":{"acrs":{"essential":true}}}"#.into()),
        };
        assert_eq!(
            step_up.challenge(&[("resource_metadata", "https://m/x")]),
            concat!(
                r#"Bearer resource_metadata="https://m/x",error="insufficient_claims",scope="a b","#,
                r#"claims="eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWV9fX0=""#
            )
        );
    }

    #[test]
    fn nothing_can_break_out_of_a_challenge() {
        let step_up = StepUp {
            status: 401,
            error: "a\", realm=\"evil".into(),
            scope: Some("x\r\nset-cookie: a".into()),
            claims: None,
        };
        assert_eq!(step_up.challenge(&[]), "Bearer");
    }

    #[test]
    fn references_differ_and_are_not_shown() {
        let (a, b) = (Reference::random().unwrap(), Reference::random().unwrap());
        assert!(a != b && a.is(a.as_str().as_bytes()) && !a.is(b.as_str().as_bytes()));
        assert!(!a.is(b"") && !a.is(&a.as_str().as_bytes()[1..]));
        assert_eq!(a.as_str().len(), 22);
        assert!(!format!("{a:?}").contains(a.as_str()));
    }
}
