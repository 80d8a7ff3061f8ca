//! What is known about the errors of exchanges, by code: the class, what it means, and what the operator should do. Tables and their look-up; the same
//! words stand in logs, in /readyz, in what `check` prints and in the guide.

mod aadsts;
mod local;
mod oauth;

use super::{Class, Fault};

/// One known error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The bounded code: `aadsts_700213`, `invalid_client`, `client_key_unusable`, …
    pub code: &'static str,
    /// How the schedule treats it.
    pub class: Class,
    /// What it means.
    pub cause: &'static str,
    /// What to do about it.
    pub mend: &'static str,
}

const fn known(code: &'static str, class: Class, cause: &'static str, mend: &'static str) -> Known {
    Known {
        code,
        class,
        cause,
        mend,
    }
}

/// Every code that an authority's refusal, or what lacks on our own side, can have, in the order of the tables: Entra's numbers, OAuth's errors, statuses
/// without an error, our own.
pub fn all() -> impl Iterator<Item = &'static Known> {
    aadsts::NUMBERS
        .iter()
        .map(|(_, known)| known)
        .chain([&aadsts::OTHER])
        .chain(oauth::ERRORS)
        .chain([&oauth::OTHER])
        .chain(oauth::STATUSES)
        .chain(local::OWN.iter().map(|(known, _)| known))
}

/// Entra's number, when it is known. Others share one code: a number of the authority's must not make a metric grow.
pub(super) fn aadsts(number: u64) -> Known {
    aadsts::NUMBERS
        .iter()
        .find(|(n, _)| *n == number)
        .map_or(aadsts::OTHER, |(_, known)| *known)
}

/// The OAuth error (RFC 6749 section 5.2, RFC 8693 section 2.2.2, and those that servers add), when it is known.
pub(super) fn oauth(error: &str) -> Known {
    oauth::ERRORS
        .iter()
        .find(|known| known.code == error)
        .copied()
        .unwrap_or(oauth::OTHER)
}

/// A failure on our own side, and whose fault it is.
pub(super) fn local(code: &'static str) -> (Known, Fault) {
    local::OWN
        .iter()
        .find(|(known, _)| known.code == code)
        .copied()
        .unwrap_or((
            Known {
                code,
                ..local::DEFECT
            },
            Fault::Pod,
        ))
}

/// A reply without an OAuth error in it. `class` is what the status says by itself.
pub(super) fn plain_status(status: u16, class: Option<Class>) -> Known {
    let code = match status {
        429 => "http_429",
        300..=399 => "http_3xx",
        401 | 403 | 404 => "http_4xx",
        500.. => "http_5xx",
        _ => "http_other",
    };
    let found = oauth::STATUSES.iter().find(|known| known.code == code);
    let found = found.copied().unwrap_or(oauth::OTHER);
    Known {
        class: match found.code {
            // A redirect, and a page that is no token endpoint's, do not pass by themselves.
            "http_3xx" | "http_4xx" => found.class,
            _ => class.unwrap_or(found.class),
        },
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_every_one_says_what_and_what_to_do() {
        let mut seen = HashSet::new();
        for known in all() {
            assert!(seen.insert(known.code), "{} is there twice", known.code);
            for text in [known.cause, known.mend] {
                assert!(text.len() > 10 && !text.ends_with(['.', ';']), "{text}");
            }
            assert!(!known.cause.contains(';'), "{}", known.cause);
        }
        for (number, known) in aadsts::NUMBERS {
            assert_eq!(known.code, format!("aadsts_{number}"));
        }
    }

    #[test]
    fn what_is_not_known_shares_a_code() {
        assert_eq!(aadsts(4_711).code, "aadsts_other");
        assert_eq!(oauth("surprise").code, "other");
        let (known, fault) = local("header");
        assert_eq!(
            (known.code, known.class, fault),
            ("header", Class::Permanent, Fault::Pod)
        );
        for (status, by_status, code, class) in [
            (429, Some(Class::Throttled), "http_429", Class::Throttled),
            (302, None, "http_3xx", Class::Permanent),
            (404, None, "http_4xx", Class::Permanent),
            (502, Some(Class::Transient), "http_5xx", Class::Transient),
            (503, Some(Class::Throttled), "http_5xx", Class::Throttled),
            (418, None, "http_other", Class::Permanent),
            (408, Some(Class::Transient), "http_other", Class::Transient),
        ] {
            let known = plain_status(status, by_status);
            assert_eq!((known.code, known.class), (code, class), "{status}");
        }
    }
}
