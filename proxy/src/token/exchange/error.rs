//! Why an exchange failed: a bounded code for metrics, a class for the schedule, a mend for the operator, and a sanitised line of the authority's
//! own words for the log alone. Classification only; `reply` reads the bytes.

mod fault;
mod known;

pub use fault::{CallerFault, Fault};

use crate::net::client::ClientError;
pub use known::{Known, all as all_known};
use std::{fmt, time::Duration};

/// How the schedule treats a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Likely to pass: retried within a minute.
    Transient,
    /// Somebody must change something: retried in minutes.
    Permanent,
    /// Entra knows no matching federated identity credential: shortly after it was created that passes, else it is permanent.
    Propagation,
    /// The authority asks for fewer calls.
    Throttled,
}

/// A failed exchange. `Debug` and `Display` never show the authority's text.
#[derive(Clone)]
pub struct ExchangeError {
    code: &'static str,
    class: Class,
    fault: Fault,
    /// Empty when `mend` says it too.
    cause: &'static str,
    mend: &'static str,
    oauth: Option<&'static str>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    claims: Option<Box<str>>,
    detail: Option<Box<str>>,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(oauth) = self.oauth.filter(|o| *o != self.code) {
            write!(f, "{oauth} ")?;
        }
        if self.cause.is_empty() {
            return write!(f, "{}: {}", self.code, self.mend);
        }
        write!(f, "{}: {}; {}", self.code, self.cause, self.mend)
    }
}

impl fmt::Debug for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeError")
            .field("code", &self.code)
            .field("class", &self.class)
            .field("fault", &self.fault)
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for ExchangeError {}

/// What an error reply says, as read by `reply`.
#[derive(Debug, Default)]
pub(crate) struct AuthoritySays {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// `error` (RFC 6749 section 5.2), when the body was such an error.
    pub(crate) error: Option<String>,
    /// The first AADSTS number.
    pub(crate) aadsts: Option<u64>,
    /// `suberror`.
    pub(crate) suberror: Option<String>,
    /// `claims`: a claims challenge, checked to be a JSON object.
    pub(crate) claims: Option<String>,
    /// `error_description`, raw.
    pub(crate) description: Option<String>,
}

impl ExchangeError {
    /// The exchange took longer than it may.
    pub fn timeout() -> Self {
        Self::plain(
            "timeout",
            Class::Transient,
            "the authority did not answer in time; check that it can be reached from this pod (network policy, firewall, proxy)",
        )
    }

    /// The token had expired, or was about to, when it came: the exchange took as long as the token lives.
    pub fn dead_on_arrival() -> Self {
        Self::plain(
            "dead_on_arrival",
            Class::Transient,
            "the token had expired or was about to when it came; raise the token lifetime configured at the authority, or see why it answers slowly",
        )
    }

    /// The request could not be built or sent by reason of our own configuration or a bug. `code` is bounded by the callers.
    pub(crate) fn local(code: &'static str) -> Self {
        let (known, fault) = known::local(code);
        Self {
            fault,
            cause: known.cause,
            ..Self::plain(known.code, known.class, known.mend)
        }
    }

    /// The authority answered, but not as the specification says. `code` is bounded by `reply`.
    pub(crate) fn odd_reply(code: &'static str, mend: &'static str) -> Self {
        Self::plain(code, Class::Transient, mend)
    }

    /// The authority could not be talked to.
    pub(crate) fn transport(error: &ClientError) -> Self {
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        Self {
            detail: sanitise(&chain),
            ..Self::plain(error.code(), Class::Transient, error.mend())
        }
    }

    /// The authority refused.
    pub(crate) fn refused(says: &AuthoritySays) -> Self {
        let oauth = says.error.as_deref().map(known::oauth);
        let numbered = says.aadsts.map(known::aadsts);
        let by_status = match says.status {
            429 => Some(Class::Throttled),
            503 if says.retry_after.is_some() => Some(Class::Throttled),
            408 | 500.. => Some(Class::Transient),
            _ => None,
        };
        let (known, class) = match numbered.or(oauth) {
            Some(known) => (known, by_status.unwrap_or(known.class)),
            None => {
                let known = known::plain_status(says.status, by_status);
                (known, known.class)
            }
        };
        let detail = [
            says.suberror.as_deref().map(|s| format!("suberror {s}; ")),
            says.description.clone(),
        ]
        .into_iter()
        .flatten()
        .collect::<String>();
        Self {
            code: known.code,
            class,
            fault: fault::of(says, class),
            cause: known.cause,
            mend: known.mend,
            oauth: oauth.map(|o| o.code),
            status: Some(says.status),
            retry_after: says.retry_after,
            claims: says.claims.as_deref().map(Into::into),
            detail: sanitise(&detail),
        }
    }

    /// An API that knows no OAuth errors refused. `code` is bounded by the callers, `words` are its own.
    pub(crate) fn refused_by_api(
        code: &'static str,
        class: Class,
        mend: &'static str,
        words: Option<&str>,
    ) -> Self {
        Self {
            fault: match class {
                Class::Transient | Class::Throttled => Fault::Authority,
                Class::Permanent | Class::Propagation => Fault::Pod,
            },
            detail: words.and_then(sanitise),
            ..Self::plain(code, class, mend)
        }
    }

    const fn plain(code: &'static str, class: Class, mend: &'static str) -> Self {
        Self {
            code,
            class,
            fault: Fault::Authority,
            cause: "",
            mend,
            oauth: None,
            status: None,
            retry_after: None,
            claims: None,
            detail: None,
        }
    }

    /// The same with the HTTP status and `Retry-After` that came along.
    pub(crate) fn at(mut self, status: u16, retry_after: Option<Duration>) -> Self {
        self.status = Some(status);
        self.retry_after = retry_after;
        self
    }

    /// The same, said to have happened in one of a grant's several steps.
    pub(crate) fn in_step(mut self, step: &str) -> Self {
        let detail = self.detail.as_deref().unwrap_or_default();
        self.detail = sanitise(&format!("{step}: {detail}"));
        self
    }

    /// The bounded code: `aadsts_700213`, `invalid_client`, `timeout`, …
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The OAuth error beside it, when [`ExchangeError::code`] is a number.
    pub const fn oauth(&self) -> Option<&'static str> {
        self.oauth
    }

    /// How to go on.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    /// The claims challenge of the error (a JSON object), for the caller: with it, a token may be issued. Never logged.
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// What it means; empty when [`ExchangeError::mend`] says that too.
    pub const fn cause(&self) -> &'static str {
        self.cause
    }

    /// What the operator should do.
    pub const fn mend(&self) -> &'static str {
        self.mend
    }

    /// The HTTP status, when there was a reply.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// What the authority asked for, uncapped.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The assertion was outside its time range: reading the file again and asking once more is worth it.
    pub fn stale_assertion(&self) -> bool {
        self.code == "aadsts_700024"
    }

    /// The authority's (or the transport's) own words, sanitised, one line: for the log and nowhere else.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// At most that much of the authority's words is logged.
const DETAIL_MAX: usize = 600;

/// One line of foreign text, safe to log: no control characters, bounded, and nothing that could be a token.
fn sanitise(text: &str) -> Option<Box<str>> {
    let line: String = text
        .chars()
        .map(|c| if is_printable(c) { c } else { ' ' })
        .collect();
    let mut words = Vec::new();
    let mut length = 0;
    for word in line.split_whitespace() {
        let word = if may_be_a_token(word) {
            "[removed]"
        } else {
            word
        };
        length += word.len() + 1;
        if length > DETAIL_MAX {
            words.push("[cut]");
            break;
        }
        words.push(word);
    }
    (!words.is_empty()).then(|| words.join(" ").into())
}

/// Neither a control character nor one of those that reorder or break lines (bidirectional marks, line separators).
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a word holds a run that looks like a JWT, a part of one, or another long secret. Names, GUIDs and URLs pass.
fn may_be_a_token(word: &str) -> bool {
    word.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.~+=".contains(c)))
        .any(|run| {
            run.contains("eyJ")
                || run
                    .split('.')
                    .any(|part| part.len() > 48 && part.bytes().any(|b| b.is_ascii_digit()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authoritys_words_are_made_harmless() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl";
        let long = "A1b2".repeat(30);
        let shown = sanitise(&format!(
            "AADSTS700213: a\r\nTrace\u{1b}[31m\u{202e}x '{jwt}' token={jwt} {long} ok"
        ))
        .unwrap();
        assert_eq!(
            &*shown,
            "AADSTS700213: a Trace [31m x [removed] [removed] [removed] ok"
        );
        assert!(sanitise(" \r\n ").is_none());
        assert!(sanitise(&"ab ".repeat(100_000)).unwrap().len() < DETAIL_MAX + 10);
        assert!(
            sanitise("id 00000003-0000-0000-c000-000000000000 https://westeurope.oic.prod-aks.azure.com/t/i/")
                .unwrap()
                .contains("prod-aks")
        );
    }

    #[test]
    fn neither_display_nor_debug_shows_the_authoritys_words() {
        let e = ExchangeError::refused(&AuthoritySays {
            status: 400,
            error: Some("weird_thing".into()),
            description: Some("secretish".into()),
            ..AuthoritySays::default()
        });
        assert_eq!(e.detail(), Some("secretish"));
        for shown in [format!("{e}"), format!("{e:?}")] {
            assert!(
                !shown.contains("secretish") && !shown.contains("weird_thing"),
                "{shown}"
            );
        }
        assert_eq!(e.code(), "other");
    }

    #[test]
    fn the_status_outweighs_the_words() {
        let says = |status, error: &str, retry| {
            ExchangeError::refused(&AuthoritySays {
                status,
                error: (!error.is_empty()).then(|| error.into()),
                retry_after: retry,
                ..AuthoritySays::default()
            })
        };
        assert_eq!(says(429, "", None).class(), Class::Throttled);
        assert_eq!(says(429, "invalid_request", None).class(), Class::Throttled);
        assert_eq!(
            says(503, "", Some(Duration::ZERO)).class(),
            Class::Throttled
        );
        assert_eq!(says(503, "", None).class(), Class::Transient);
        assert_eq!(says(500, "invalid_client", None).class(), Class::Transient);
        assert_eq!(says(400, "invalid_grant", None).class(), Class::Permanent);
        assert_eq!(
            says(400, "temporarily_unavailable", None).class(),
            Class::Transient
        );
        assert_eq!(says(302, "", None).code(), "http_3xx");
        assert_eq!(says(404, "", None).code(), "http_4xx");
    }
}
