//! A subject token: the projected JWT as it was read, checked for shape and expiry. Its signature is the authorization server's business, not ours.
//!
//! Pure: no file, no clock. `file` reads it; exchangers send it.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// Larger files are no tokens.
pub const MAX_BYTES: usize = 64 * 1024;

/// A subject token. It shows its fingerprint and claims in `Debug`, never its text.
pub struct SubjectToken {
    text: Zeroizing<String>,
    claims: Claims,
    fingerprint: Fingerprint,
}

/// What the payload says, unverified: for logs, metrics and schedules, not for decisions about trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `exp` (RFC 7519 section 4.1.4), as time since the epoch.
    pub exp: Duration,
    /// `iat`, as time since the epoch.
    pub iat: Option<Duration>,
    /// `iss`.
    pub iss: Option<String>,
    /// `sub`.
    pub sub: Option<String>,
    /// `aud`, one or several.
    pub aud: Vec<String>,
    /// `may_act` (RFC 8693 section 4.4): who may act for the subject.
    pub may_act: Option<Party>,
}

impl Claims {
    /// When the token was issued, for the share of its life that is over: its `iat`; without one, or with one that lies ahead (an issuer's clock),
    /// `now`, when it is first seen. Never after `exp` of a token that is still good.
    pub fn issued_at(&self, now: Duration) -> Duration {
        self.iat.map_or(now, |iat| iat.min(now))
    }
}

/// Whom an `act` or `may_act` claim names (RFC 8693 sections 4.1 and 4.4), as far as `iss` and `sub` do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Party {
    /// `iss`.
    pub iss: Option<String>,
    /// `sub`.
    pub sub: Option<String>,
}

/// The first 8 hex digits of a content's SHA-256: enough to tell two tokens apart in a log, useless for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 4]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Why a file's content is not a usable subject token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// There is no file.
    #[error("the file does not exist (yet); is the projected volume mounted into this container?")]
    Missing,
    /// It could not be read.
    #[error("the file cannot be read; check its mode and the container's runAsUser and fsGroup")]
    Unreadable,
    /// Nothing but white space.
    #[error("the file is empty; its writer has not filled it yet")]
    Empty,
    /// More than [`MAX_BYTES`].
    #[error("the file is larger than 64 KiB, which no token is; check the configured path")]
    TooLarge,
    /// Not three base64url parts with a JSON payload that has an `exp`.
    #[error(
        "the content is not a JWT with an `exp` claim; check that the path names a projected service-account token"
    )]
    NotAJwt,
    /// `exp` has passed.
    #[error(
        "the token has expired; its writer (the kubelet) has not renewed it, or the node's clock is wrong"
    )]
    Expired,
}

impl SubjectError {
    /// The label value for metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::NotAJwt => "not_a_jwt",
            Self::Expired => "expired",
        }
    }

    /// Every value, so that label children can be resolved once.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Unreadable,
        Self::Empty,
        Self::TooLarge,
        Self::NotAJwt,
        Self::Expired,
    ];
}

impl SubjectToken {
    /// Checks a file's content at the wall-clock time `now` (since the epoch). White space around the token is not part of it.
    ///
    /// # Errors
    /// [`SubjectError`]: `Empty`, `TooLarge`, `NotAJwt` or `Expired`.
    pub fn parse(content: &[u8], now: Duration) -> Result<Self, SubjectError> {
        if content.len() > MAX_BYTES {
            return Err(SubjectError::TooLarge);
        }
        let text = content.trim_ascii();
        if text.is_empty() {
            return Err(SubjectError::Empty);
        }
        let text = std::str::from_utf8(text).map_err(|_| SubjectError::NotAJwt)?;
        let claims = claims(text).ok_or(SubjectError::NotAJwt)?;
        if claims.exp <= now {
            return Err(SubjectError::Expired);
        }
        Ok(Self {
            fingerprint: fingerprint(text.as_bytes()),
            text: Zeroizing::new(text.to_owned()),
            claims,
        })
    }

    /// A token that was issued to one of our own credentials. It may be opaque: nothing is read from it, and all that is known of it is until when
    /// it is used (time since the epoch).
    pub fn issued(text: Zeroizing<String>, until: Duration) -> Self {
        Self {
            fingerprint: fingerprint(text.as_bytes()),
            text,
            claims: Claims {
                exp: until,
                iat: None,
                iss: None,
                sub: None,
                aud: Vec::new(),
                may_act: None,
            },
        }
    }

    /// The token itself: to be sent to an authorization server and nowhere else.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The unverified claims.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What logs call this token by.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectToken")
            .field("fingerprint", &format_args!("{}", self.fingerprint))
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

fn fingerprint(text: &[u8]) -> Fingerprint {
    let mut first = [0; 4];
    for (to, from) in first
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, text).as_ref())
    {
        *to = *from;
    }
    Fingerprint(first)
}

#[derive(Deserialize)]
struct Payload {
    exp: f64,
    iat: Option<f64>,
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    may_act: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

fn claims(text: &str) -> Option<Claims> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.is_empty() {
        return None;
    }
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&decode(header)?).ok()?;
    decode(signature)?;
    let payload: Payload = serde_json::from_slice(&decode(payload)?).ok()?;
    Some(Claims {
        exp: numeric_date(payload.exp)?,
        iat: payload.iat.and_then(numeric_date),
        iss: payload.iss,
        sub: payload.sub,
        aud: match payload.aud {
            None => Vec::new(),
            Some(Audience::One(one)) => vec![one],
            Some(Audience::Many(many)) => many,
        },
        // One of another shape is the authorization server's to judge.
        may_act: payload
            .may_act
            .and_then(|claim| serde_json::from_value(claim).ok()),
    })
}

fn decode(part: &str) -> Option<Zeroizing<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(part).ok().map(Zeroizing::new)
}

/// A NumericDate (RFC 7519 section 2) may have a fraction. What lies before 1970 is as good as 1970.
fn numeric_date(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An unsigned JWT that expires at `exp` (seconds since the epoch) and differs from others by `id`.
    pub(crate) fn jwt(exp: u64, id: &str) -> String {
        jwt_of(&format!(
            r#"{{"exp":{exp},"iat":1,"iss":"https://i/","sub":"system:serviceaccount:ns:sa","aud":["api://AzureADTokenExchange"],"jti":"{id}"}}"#
        ))
    }

    fn jwt_of(payload: &str) -> String {
        let part = |s: &str| URL_SAFE_NO_PAD.encode(s);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256"}"#),
            part(payload),
            part("signature")
        )
    }

    /// As [`jwt`], with claims of the caller's choice: the inside of a JSON object.
    pub(crate) fn jwt_with(claims: &str) -> String {
        jwt_of(&format!("{{{claims}}}"))
    }

    fn parse(content: &str) -> Result<SubjectToken, SubjectError> {
        SubjectToken::parse(content.as_bytes(), Duration::from_secs(1000))
    }

    #[test]
    fn it_was_issued_when_it_says_but_never_ahead_of_now() {
        let issued = |claims: &str| {
            let token = parse(&jwt_with(claims)).unwrap();
            token
                .claims()
                .issued_at(Duration::from_secs(1000))
                .as_secs()
        };
        assert_eq!(issued(r#""exp":2000,"iat":400"#), 400);
        assert_eq!(issued(r#""exp":2000,"iat":1500"#), 1000);
        assert_eq!(issued(r#""exp":2000"#), 1000);
    }

    #[test]
    fn a_projected_token_is_read_with_its_white_space_trimmed() {
        let text = jwt(2000, "a");
        let token = parse(&format!("\n {text}\n")).unwrap();
        assert_eq!(token.expose(), text);
        assert_eq!(token.claims().exp, Duration::from_secs(2000));
        assert_eq!(
            token.claims().sub.as_deref(),
            Some("system:serviceaccount:ns:sa")
        );
        assert_eq!(token.claims().aud, ["api://AzureADTokenExchange"]);
        let one = parse(&jwt_of(r#"{"exp":2000.5,"aud":"x"}"#)).unwrap();
        assert_eq!(one.claims().aud, ["x"]);
        assert_eq!(one.claims().exp, Duration::from_millis(2_000_500));
    }

    #[test]
    fn what_is_no_usable_token_is_refused_with_its_reason() {
        let cases = [
            (String::new(), "empty"),
            (" \n\t".into(), "empty"),
            ("garbage".into(), "not_a_jwt"),
            ("a.b".into(), "not_a_jwt"),
            ("a.b.c.d".into(), "not_a_jwt"),
            (format!("{}.x", jwt(2000, "a")), "not_a_jwt"),
            (jwt(2000, "a").replace('.', ".+"), "not_a_jwt"),
            (
                format!("{} {}", jwt(2000, "a"), jwt(2000, "b")),
                "not_a_jwt",
            ),
            (jwt_of("[]"), "not_a_jwt"),
            (jwt_of("{}"), "not_a_jwt"),
            (jwt_of(r#"{"exp":"soon"}"#), "not_a_jwt"),
            (jwt_of(r#"{"exp":1e300}"#), "not_a_jwt"),
            (jwt_of(r#"{"exp":-5}"#), "expired"),
            (jwt(1000, "a"), "expired"),
            (
                format!("{}{}", jwt(2000, "a"), " ".repeat(MAX_BYTES)),
                "too_large",
            ),
        ];
        for (content, reason) in cases {
            assert_eq!(
                parse(&content).unwrap_err().reason(),
                reason,
                "{:.60}",
                content
            );
        }
        assert_eq!(
            SubjectToken::parse(b"\xff\xfe", Duration::ZERO).unwrap_err(),
            SubjectError::NotAJwt
        );
    }

    #[test]
    fn an_issued_token_is_taken_as_it_is() {
        let token = SubjectToken::issued(
            Zeroizing::new("ya29.opaque".to_owned()),
            Duration::from_secs(2000),
        );
        assert_eq!(token.expose(), "ya29.opaque");
        assert_eq!(token.claims().exp, Duration::from_secs(2000));
        assert_eq!(token.claims().iss, None);
        assert!(!format!("{token:?}").contains("opaque"));
    }

    #[test]
    fn who_may_act_is_read_as_far_as_it_can_be() {
        let may_act = |claim: &str| {
            let token = parse(&jwt_with(&format!(r#""exp":2000,"may_act":{claim}"#))).unwrap();
            token.claims().may_act.clone()
        };
        let party = |iss: Option<&str>, sub: Option<&str>| {
            Some(Party {
                iss: iss.map(str::to_owned),
                sub: sub.map(str::to_owned),
            })
        };
        assert_eq!(may_act(r#"{"sub":"a","x":1}"#), party(None, Some("a")));
        assert_eq!(
            may_act(r#"{"sub":"a","iss":"i"}"#),
            party(Some("i"), Some("a"))
        );
        for other in ["null", "[]", r#""a""#, r#"{"sub":1}"#] {
            assert_eq!(may_act(other), None, "{other}");
        }
        assert_eq!(parse(&jwt(2000, "a")).unwrap().claims().may_act, None);
    }

    #[test]
    fn debug_shows_a_fingerprint_and_not_the_token() {
        let text = jwt(2000, "a");
        let token = parse(&text).unwrap();
        let shown = format!("{token:?}");
        for part in text.split('.') {
            assert!(!shown.contains(part), "{shown}");
        }
        assert_eq!(token.fingerprint().to_string().len(), 8);
        assert_ne!(
            token.fingerprint(),
            parse(&jwt(2000, "b")).unwrap().fingerprint()
        );
        // SHA-256("abc") begins with ba7816bf (FIPS 180-4, example).
        assert_eq!(fingerprint(b"abc").to_string(), "ba7816bf");
    }
}
