//! Why an exchange failed: a bounded code for metrics, a class for the schedule, a mend for the operator, and a sanitised line of the authority's
//! own words for the log alone. Classification only; `reply` reads the bytes.

use crate::net::client::ClientError;
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
    mend: &'static str,
    oauth: Option<&'static str>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    detail: Option<Box<str>>,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(oauth) = self.oauth.filter(|o| *o != self.code) {
            write!(f, "{oauth} ")?;
        }
        write!(f, "{}: {}", self.code, self.mend)
    }
}

impl fmt::Debug for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeError")
            .field("code", &self.code)
            .field("class", &self.class)
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

    /// The request could not be built or sent by reason of our own configuration or a bug. `code` is bounded by the callers.
    pub(crate) fn local(code: &'static str) -> Self {
        let mend = match code {
            "client_secret_unreadable" => {
                "the client secret's file cannot be read or is empty; check that it is mounted and readable, and the configured path"
            }
            "no_subject_token" => "a subject token that the credential names is not there",
            _ => "the request could not be built; check tenantId, clientId and authorityHost",
        };
        Self::plain(code, Class::Permanent, mend)
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
        let oauth = says.error.as_deref().map(known_oauth);
        let known = says.aadsts.map(known_aadsts);
        let by_status = match says.status {
            429 => Some(Class::Throttled),
            503 if says.retry_after.is_some() => Some(Class::Throttled),
            408 | 500.. => Some(Class::Transient),
            _ => None,
        };
        let (code, class, mend) = match (known, oauth) {
            (Some(known), _) => (known.code, by_status.unwrap_or(known.class), known.mend),
            (None, Some(oauth)) => (oauth.code, by_status.unwrap_or(oauth.class), oauth.mend),
            (None, None) => plain_status(says.status, by_status),
        };
        let detail = [
            says.suberror.as_deref().map(|s| format!("suberror {s}; ")),
            says.description.clone(),
        ]
        .into_iter()
        .flatten()
        .collect::<String>();
        Self {
            code,
            class,
            mend,
            oauth: oauth.map(|o| o.code),
            status: Some(says.status),
            retry_after: says.retry_after,
            detail: sanitise(&detail),
        }
    }

    const fn plain(code: &'static str, class: Class, mend: &'static str) -> Self {
        Self {
            code,
            class,
            mend,
            oauth: None,
            status: None,
            retry_after: None,
            detail: None,
        }
    }

    /// The same with the HTTP status and `Retry-After` that came along.
    pub(crate) fn at(mut self, status: u16, retry_after: Option<Duration>) -> Self {
        self.status = Some(status);
        self.retry_after = retry_after;
        self
    }

    /// The bounded code: `aadsts_700213`, `invalid_client`, `timeout`, …
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// How to go on.
    pub const fn class(&self) -> Class {
        self.class
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

#[derive(Clone, Copy)]
struct Known {
    code: &'static str,
    class: Class,
    mend: &'static str,
}

const fn known(code: &'static str, class: Class, mend: &'static str) -> Known {
    Known { code, class, mend }
}

const SECRET_FLOW: &str = "the authority expects a client secret; give the application a federated identity credential for this service account instead";
const ENTRA_ASSERTION: &str = "the subject token is not one that this tenant accepts as a federated assertion; use the projected service-account token, or ask the tenant's administrator about its federation policy";
const USER_ASSERTION: &str = "the assertion's signature, audience or time is not accepted; check whose token the subject token file holds, and its audience";
const BUSY: &str = "the authority is busy or throttles; it is asked again later";
const SCOPE: &str = "fix `scope`: one resource that exists in the tenant, ending in /.default";

/// The AADSTS numbers whose meaning is known. Others share one code: a number of the authority's must not make a metric grow.
fn known_aadsts(number: u64) -> Known {
    use Class::{Permanent, Propagation, Throttled, Transient};
    match number {
        70021 => known(
            "aadsts_70021",
            Propagation,
            "no federated identity credential matches; its issuer (a trailing / counts), subject (system:serviceaccount:<namespace>:<name>) and audience must equal the token's; a new one takes minutes to work",
        ),
        700_211 => known(
            "aadsts_700211",
            Propagation,
            "no federated identity credential has this issuer; set it to the cluster's OIDC issuer URL exactly (a trailing / counts); a new one takes minutes to work",
        ),
        700_212 => known(
            "aadsts_700212",
            Propagation,
            "no federated identity credential has this audience; the projected token and the credential must both say api://AzureADTokenExchange; a new one takes minutes to work",
        ),
        700_213 => known(
            "aadsts_700213",
            Propagation,
            "no federated identity credential has this subject; set it to system:serviceaccount:<namespace>:<service account> of this pod; a new one takes minutes to work",
        ),
        7_002_138 => known(
            "aadsts_7002138",
            Propagation,
            "the federated identity credential differs from the token in upper and lower case only; make them equal",
        ),
        70025 => known(
            "aadsts_70025",
            Permanent,
            "the application has no federated identity credential; create one for this service account",
        ),
        700_024 => known(
            "aadsts_700024",
            Transient,
            "the assertion is outside its time range; check the node's clock and that the kubelet still rotates the token file",
        ),
        700_016 => known(
            "aadsts_700016",
            Permanent,
            "the application is not in this tenant; check clientId and tenantId (AZURE_CLIENT_ID, AZURE_TENANT_ID)",
        ),
        700_011 => known(
            "aadsts_700011",
            Permanent,
            "the application is not in this tenant; check clientId and tenantId (AZURE_CLIENT_ID, AZURE_TENANT_ID)",
        ),
        90002 => known(
            "aadsts_90002",
            Permanent,
            "there is no such tenant in this cloud; check tenantId and authorityHost (AZURE_TENANT_ID, AZURE_AUTHORITY_HOST)",
        ),
        9_001_023 => known(
            "aadsts_9001023",
            Permanent,
            "this grant needs a tenant of its own; set tenantId to the tenant's id instead of common or consumers",
        ),
        900_144 => known(
            "aadsts_900144",
            Permanent,
            "a parameter is missing from the request; check clientId and scope",
        ),
        90023 => known(
            "aadsts_90023",
            Permanent,
            "the request is malformed; check clientId, tenantId and scope",
        ),
        9_002_313 => known(
            "aadsts_9002313",
            Permanent,
            "the request is malformed; check clientId, tenantId and scope",
        ),
        500_011 => known(
            "aadsts_500011",
            Permanent,
            "the scope's resource is not known in the tenant; check `scope`, or have the resource's application consented to",
        ),
        50001 => known(
            "aadsts_50001",
            Permanent,
            "the scope's resource is disabled or unknown; check `scope`",
        ),
        650_057 => known(
            "aadsts_650057",
            Permanent,
            "the resource is not among the application's required permissions; add it, or fix `scope`",
        ),
        70011 => known("aadsts_70011", Permanent, SCOPE),
        28002 => known("aadsts_28002", Permanent, SCOPE),
        700_022 => known("aadsts_700022", Permanent, SCOPE),
        700_027 => known(
            "aadsts_700027",
            Permanent,
            "the assertion's signature is not accepted; check that the federated identity credential's issuer is this cluster's",
        ),
        7_000_215 => known("aadsts_7000215", Permanent, SECRET_FLOW),
        7_000_222 => known("aadsts_7000222", Permanent, SECRET_FLOW),
        7_000_218 => known("aadsts_7000218", Permanent, SECRET_FLOW),
        700_222 => known("aadsts_700222", Permanent, ENTRA_ASSERTION),
        700_223 => known("aadsts_700223", Permanent, ENTRA_ASSERTION),
        700_229 => known("aadsts_700229", Permanent, ENTRA_ASSERTION),
        700_238 => known("aadsts_700238", Permanent, ENTRA_ASSERTION),
        90061 => known(
            "aadsts_90061",
            Permanent,
            "the authority cannot read the cluster issuer's keys; its discovery document must be public (az aks update reconciles it)",
        ),
        50013 => known("aadsts_50013", Permanent, USER_ASSERTION),
        500_131 => known("aadsts_500131", Permanent, USER_ASSERTION),
        500_133 => known("aadsts_500133", Permanent, USER_ASSERTION),
        82001 => known(
            "aadsts_82001",
            Permanent,
            "Entra does not serve RFC 8693 token exchange; use entraClientAssertion for it",
        ),
        65001 => known(
            "aadsts_65001",
            Permanent,
            "consent is missing; an administrator must grant the application its permissions",
        ),
        50105 => known(
            "aadsts_50105",
            Permanent,
            "the application is not assigned to the resource; assign it an app role",
        ),
        53000 => known(
            "aadsts_53000",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        50005 => known(
            "aadsts_50005",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        53003 => known(
            "aadsts_53003",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        530_035 => known(
            "aadsts_530035",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        70043 => known(
            "aadsts_70043",
            Permanent,
            "the sign-in is too old for the tenant's policy; the user must sign in again",
        ),
        900_382 => known(
            "aadsts_900382",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        90038 => known(
            "aadsts_90038",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        900_439 => known(
            "aadsts_900439",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        7_000_112 => known(
            "aadsts_7000112",
            Permanent,
            "the application is disabled; enable it or use another",
        ),
        70001 => known(
            "aadsts_70001",
            Permanent,
            "the application is disabled or unknown; check clientId",
        ),
        50196 => known(
            "aadsts_50196",
            Throttled,
            "the authority sees a request loop of this application; look for other replicas that ask too often",
        ),
        90055 => known("aadsts_90055", Throttled, BUSY),
        90006 => known("aadsts_90006", Transient, BUSY),
        90012 => known("aadsts_90012", Transient, BUSY),
        90024 => known("aadsts_90024", Transient, BUSY),
        90033 => known("aadsts_90033", Transient, BUSY),
        50033 => known("aadsts_50033", Transient, BUSY),
        _ => known(
            "aadsts_other",
            Permanent,
            "look the authority's error number up (https://login.microsoftonline.com/error); the log has its words",
        ),
    }
}

/// The OAuth error codes (RFC 6749 section 5.2, RFC 8693 section 2.2.2, and those that servers add).
fn known_oauth(error: &str) -> Known {
    use Class::{Permanent, Throttled, Transient};
    match error {
        "invalid_request" => known(
            "invalid_request",
            Permanent,
            "the authority finds the request malformed or the subject token unacceptable; check the credential's parameters and the subject token's audience",
        ),
        "invalid_client" => known(
            "invalid_client",
            Permanent,
            "the authority does not accept the client; check clientId and the client authentication",
        ),
        "invalid_grant" => known(
            "invalid_grant",
            Permanent,
            "the authority does not accept the subject token; check its issuer, audience and type",
        ),
        "unauthorized_client" => known(
            "unauthorized_client",
            Permanent,
            "the client may not use this grant; allow it at the authority",
        ),
        "unsupported_grant_type" => known(
            "unsupported_grant_type",
            Permanent,
            "the authority does not serve this grant at this endpoint; check tokenEndpoint",
        ),
        "unsupported_token_type" => known(
            "unsupported_token_type",
            Permanent,
            "the authority does not take or issue this token type; check subjectTokenType and requestedTokenType",
        ),
        "invalid_scope" => known(
            "invalid_scope",
            Permanent,
            "the authority does not grant this scope; check `scope`",
        ),
        "invalid_target" => known(
            "invalid_target",
            Permanent,
            "the authority does not issue for this audience or resource; check `audience` and `resource`",
        ),
        "invalid_resource" => known(
            "invalid_resource",
            Permanent,
            "the authority does not know this resource; check `scope` or `resource`",
        ),
        "invalid_tenant" => known(
            "invalid_tenant",
            Permanent,
            "the authority does not know this tenant; check tenantId",
        ),
        "access_denied" => known(
            "access_denied",
            Permanent,
            "the authority denies access; check the client's permissions there",
        ),
        "interaction_required" => known(
            "interaction_required",
            Permanent,
            "the authority wants a person to sign in, which a workload cannot; check its policies",
        ),
        "consent_required" => known(
            "consent_required",
            Permanent,
            "consent is missing; an administrator must grant it",
        ),
        "temporarily_unavailable" => known("temporarily_unavailable", Transient, BUSY),
        "server_error" => known("server_error", Transient, BUSY),
        "slow_down" => known("slow_down", Throttled, BUSY),
        _ => known(
            "other",
            Permanent,
            "the authority answered an error of its own; the log has its words",
        ),
    }
}

/// For a reply without an OAuth error in it.
fn plain_status(status: u16, class: Option<Class>) -> (&'static str, Class, &'static str) {
    let by_status = |otherwise| class.unwrap_or(otherwise);
    match status {
        429 => ("http_429", by_status(Class::Throttled), BUSY),
        300..=399 => (
            "http_3xx",
            Class::Permanent,
            "the authority answered with a redirect, which is never followed; check the authority's URL",
        ),
        401 | 403 | 404 => (
            "http_4xx",
            Class::Permanent,
            "what answered is no token endpoint, or a proxy in between refuses; check the authority's URL and the proxy",
        ),
        500.. => (
            "http_5xx",
            by_status(Class::Transient),
            "the authority, or a proxy in between, is failing; it is asked again",
        ),
        _ => (
            "http_other",
            by_status(Class::Permanent),
            "the authority answered with an unexpected status and without an OAuth error; check the authority's URL",
        ),
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
