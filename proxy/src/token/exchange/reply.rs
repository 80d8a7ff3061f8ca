//! Reads what a token endpoint answered: a token that is safe to inject, or an error that says why not. Strict where a wrong guess would inject
//! something wrong, lenient where real servers differ. Pure.

use super::{
    IssuedToken, TokenType,
    error::{AuthoritySays, ExchangeError},
};
use crate::net::client::Reply;
use http::{HeaderMap, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// `expires_in` is only RECOMMENDED (RFC 6749 section 5.1); without it a token is taken to live so long.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Longer lives are taken for so long: nothing issued here should outlive a month unrenewed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A claims challenge must fit into a header, in base64.
const LONGEST_CLAIMS: usize = 4096;

/// A reply as it came, body within the client's cap.
#[derive(Clone, Copy)]
pub struct RawReply<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> From<&'a Reply> for RawReply<'a> {
    fn from(reply: &'a Reply) -> Self {
        Self {
            status: reply.status,
            headers: &reply.headers,
            body: &reply.body,
        }
    }
}

/// What the token must be.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// An access token; `issued_token_type` is not part of this grant's reply (RFC 6749).
    AccessToken,
    /// RFC 8693: of the type that was requested, or, when none was, of one that can be a bearer token.
    Exchanged(Option<&'a str>),
}

/// Reads a reply. `token_type` is what can be used of what the authority may issue. `now` is the wall-clock time since the epoch, for a `Retry-After` that is a date.
///
/// # Errors
/// [`ExchangeError`]: the authority's own, or `reply_…` for a reply that is not as the specification says.
pub fn parse(
    reply: RawReply<'_>,
    expected: Expected<'_>,
    token_type: TokenType,
    now: Duration,
) -> Result<IssuedToken, ExchangeError> {
    let retry = retry_after(reply.headers, now);
    let error: ErrorBody = serde_json::from_slice(reply.body).unwrap_or_default();
    if reply.status != 200 || error.error.is_some() {
        return Err(ExchangeError::refused(&error.says(reply.status, retry)));
    }
    issued(reply.body, expected, token_type).map_err(|e| e.at(reply.status, retry))
}

fn issued(
    body: &[u8],
    expected: Expected<'_>,
    wanted: TokenType,
) -> Result<IssuedToken, ExchangeError> {
    let odd = ExchangeError::odd_reply;
    let body: TokenBody = serde_json::from_slice(body).map_err(|_| {
        odd(
            "reply_not_json",
            "the authority answered 200 with something that is no token reply (RFC 6749 section 5.1); check its URL and what proxies are in between",
        )
    })?;
    let token = body
        .access_token
        .filter(|t| !t.0.is_empty())
        .ok_or_else(|| {
            odd(
                "reply_no_access_token",
                "the authority answered 200 without an access_token; check its URL, and its log",
            )
        })?;
    let (name, wrong) = match wanted {
        TokenType::Bearer => (
            "bearer",
            "the authority issued no Bearer token (token_type is missing, N_A, DPoP or another), and only that can be injected; request an access token, unbound",
        ),
        TokenType::DPoP => (
            "dpop",
            "the authority issued no DPoP-bound token (token_type is missing, Bearer or another), though it was shown a key; turn DPoP on for this client there, or take `dpop` out of the configuration",
        ),
        TokenType::NotAccess => (
            "n_a",
            "the authority issued an access token where another kind of token was requested (token_type is not N_A); check requestedTokenType, and the authority's support for it",
        ),
    };
    if !body
        .token_type
        .as_deref()
        .is_some_and(|t| t.eq_ignore_ascii_case(name))
    {
        return Err(odd("reply_token_type", wrong));
    }
    check_issued_type(body.issued_token_type.as_deref(), expected)?;
    check_characters(&token.0)?;
    let lifetime = match body.expires_in.as_ref().filter(|v| !v.is_null()) {
        None => DEFAULT_LIFETIME,
        Some(value) => seconds(value)
            .filter(|d| !d.is_zero())
            .ok_or_else(|| {
                odd(
                    "reply_expires_in",
                    "the authority's expires_in is zero, negative or no number: such a token is useless; check the token lifetime configured there",
                )
            })?
            .min(LONGEST_LIFETIME),
    };
    Ok(IssuedToken {
        token: token.0,
        token_type: wanted,
        lifetime,
        refresh_in: body.refresh_in.as_ref().and_then(seconds),
    })
}

/// Visible ASCII (a superset of RFC 6750's b64token): no space, no control character, nothing that ends or splits a header.
pub(super) fn check_characters(token: &str) -> Result<(), ExchangeError> {
    if token.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Ok(());
    }
    Err(ExchangeError::odd_reply(
        "reply_bad_characters",
        "the access_token holds characters that no header may carry; it is not injected; check the authority",
    ))
}

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn check_issued_type(issued: Option<&str>, expected: Expected<'_>) -> Result<(), ExchangeError> {
    let fits = match (expected, issued) {
        (Expected::AccessToken, _) | (Expected::Exchanged(_), None) => true,
        (Expected::Exchanged(Some(requested)), Some(issued)) => requested == issued,
        (Expected::Exchanged(None), Some(issued)) => [ACCESS_TOKEN, JWT].contains(&issued),
    };
    if fits {
        Ok(())
    } else {
        Err(ExchangeError::odd_reply(
            "reply_issued_token_type",
            "the authority issued another type of token than requested; set requestedTokenType to the type that it issues and the upstream takes",
        ))
    }
}

/// A secret string that is wiped when dropped and never shown.
struct SecretText(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|s| Self(Zeroizing::new(s)))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: Option<SecretText>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    refresh_in: Option<Value>,
    issued_token_type: Option<String>,
}

/// Every field is optional and of any type: a terse or odd error must not hide that there was one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    error: Option<Value>,
    error_description: Option<Value>,
    error_codes: Option<Value>,
    suberror: Option<Value>,
    claims: Option<Value>,
}

impl ErrorBody {
    fn says(self, status: u16, retry_after: Option<Duration>) -> AuthoritySays {
        let description = text(self.error_description);
        let listed = match &self.error_codes {
            Some(Value::Array(codes)) => codes.first().and_then(whole_number),
            Some(one) => whole_number(one),
            None => None,
        };
        AuthoritySays {
            status,
            retry_after,
            aadsts: listed.or_else(|| description.as_deref().and_then(aadsts_in)),
            error: self.error.map(|e| match e {
                Value::String(s) => s,
                // Some servers nest an object here: an error all the same.
                _ => "other".to_owned(),
            }),
            suberror: text(self.suberror),
            claims: claims(self.claims),
            description,
        }
    }
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(s)) => Some(s),
        _ => None,
    }
}

/// A claims challenge goes on to others: only a JSON object of a decent size does. Entra writes it as a string that holds JSON.
fn claims(value: Option<Value>) -> Option<String> {
    let challenge = match value? {
        Value::String(s) if s.len() <= LONGEST_CLAIMS => serde_json::from_str(&s).ok()?,
        other => other,
    };
    match challenge {
        Value::Object(_) => Some(challenge.to_string()).filter(|s| s.len() <= LONGEST_CLAIMS),
        _ => None,
    }
}

/// `AADSTS50013: …` at the beginning of a description, for replies without `error_codes`.
fn aadsts_in(description: &str) -> Option<u64> {
    let digits = description.trim_start().strip_prefix("AADSTS")?;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// Seconds, as a number or (Entra's older endpoints, and others) a string with a number. `None` for what is negative or no number.
fn seconds(value: &Value) -> Option<Duration> {
    let number = match value {
        Value::Number(n) => n.as_f64()?,
        Value::String(s) => s.trim().parse().ok()?,
        _ => return None,
    };
    // The upper bound keeps the conversion from overflowing; callers cap far below it.
    (number >= 0.0).then(|| Duration::from_secs_f64(number.min(1e12)))
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 section 10.2.3). A date that has passed means now.
pub(super) fn retry_after(headers: &HeaderMap, now: Duration) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::MAX);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(now))
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
