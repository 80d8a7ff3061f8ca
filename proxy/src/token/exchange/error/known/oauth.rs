//! The errors of OAuth's token endpoints (RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 9449, OpenID Connect Core section 3.1.2.6, and those that servers add),
//! and statuses that come without one. A table.

use super::{
    Class::{Permanent, Throttled, Transient},
    Known, known,
};

/// What passes by itself.
pub(super) const BUSY: (&str, &str) = (
    "the authority is busy or throttles",
    "nothing at once: it is asked again later; if it goes on, see how many ask, and how often",
);
const SIGN_IN: (&str, &str) = (
    "the authority wants a person to sign in, which a workload cannot",
    "check its policies for this client; a caller must sign in again and send a new token",
);

/// An error that is not in the table.
pub(super) const OTHER: Known = known(
    "other",
    Permanent,
    "the authority answered an error of its own",
    "the log, and what check prints, have its words",
);

/// The errors that are known.
pub(super) const ERRORS: &[Known] = &[
    known(
        "invalid_request",
        Permanent,
        "the authority finds the request malformed or the subject token unacceptable",
        "check the credential's parameters, and issuer, audience and type of the subject token",
    ),
    known(
        "invalid_client",
        Permanent,
        "the authority does not accept the client",
        "check clientId and clientAuthentication: the method that is registered there, the current secret, key or certificate, or issuer, subject and audience of the assertion",
    ),
    known(
        "invalid_grant",
        Permanent,
        "the authority does not accept the subject token",
        "check its issuer, audience, type and time",
    ),
    known(
        "invalid_token",
        Permanent,
        "the authority does not accept the subject token",
        "check its issuer, audience, type and time",
    ),
    known(
        "unauthorized_client",
        Permanent,
        "the client may not use this grant",
        "allow it for this client at the authority (Keycloak: service accounts, standard token exchange or JWT authorization grant in the client's capability settings)",
    ),
    known(
        "unsupported_grant_type",
        Permanent,
        "the authority does not serve this grant at this endpoint",
        "check tokenEndpoint, and whether the grant is enabled there",
    ),
    known(
        "unsupported_token_type",
        Permanent,
        "the authority does not take or issue this token type",
        "check subjectTokenType and requestedTokenType",
    ),
    known(
        "invalid_scope",
        Permanent,
        "the authority does not grant this scope",
        "fix `scope`, or give the client this scope there",
    ),
    known(
        "invalid_target",
        Permanent,
        "the authority does not issue for this audience or resource",
        "fix `audience` and `resource`, or allow them for this client there",
    ),
    known(
        "invalid_resource",
        Permanent,
        "the authority does not know this resource",
        "fix `scope` or `resource`",
    ),
    known(
        "invalid_tenant",
        Permanent,
        "the authority does not know this tenant",
        "check tenantId and authorityHost",
    ),
    known(
        "access_denied",
        Permanent,
        "the authority denies access",
        "check the client's permissions there (Keycloak: is the client in the subject token's audience)",
    ),
    known("interaction_required", Permanent, SIGN_IN.0, SIGN_IN.1),
    known("login_required", Permanent, SIGN_IN.0, SIGN_IN.1),
    known(
        "insufficient_user_authentication",
        Permanent,
        SIGN_IN.0,
        SIGN_IN.1,
    ),
    known(
        "consent_required",
        Permanent,
        "consent is missing",
        "an administrator must grant the application its permissions",
    ),
    known(
        "invalid_dpop_proof",
        Permanent,
        "the authority does not accept the proof of the key (DPoP)",
        "check this node's clock, and that tokenEndpoint is the URL by which the authority knows itself",
    ),
    known(
        "use_dpop_nonce",
        Transient,
        "the authority refuses the nonce that it gave itself (DPoP)",
        "see whether several servers behind tokenEndpoint share their nonces",
    ),
    known("temporarily_unavailable", Transient, BUSY.0, BUSY.1),
    known("server_error", Transient, BUSY.0, BUSY.1),
    known("slow_down", Throttled, BUSY.0, BUSY.1),
];

/// Replies without an OAuth error in them, by status.
pub(super) const STATUSES: &[Known] = &[
    known("http_429", Throttled, BUSY.0, BUSY.1),
    known(
        "http_3xx",
        Permanent,
        "the authority answered with a redirect, which is never followed",
        "check the authority's URL (tokenEndpoint, authorityHost), and what is in between",
    ),
    known(
        "http_4xx",
        Permanent,
        "what answered is no token endpoint, or a proxy in between refuses",
        "check the authority's URL (tokenEndpoint, authorityHost) and the proxy",
    ),
    known(
        "http_5xx",
        Transient,
        "the authority, or a proxy in between, is failing",
        "see how it fares: it is asked again",
    ),
    known(
        "http_other",
        Permanent,
        "the authority answered with an unexpected status and without an OAuth error",
        "check the authority's URL (tokenEndpoint, authorityHost)",
    ),
];
