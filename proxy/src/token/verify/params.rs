//! What verifying callers' tokens needs to know, already checked. Built by `config`; no parsing in here.

use super::jwk::Algorithm;
use crate::token::params::AuthorityParams;
use std::{sync::Arc, time::Duration};
use url::Url;

/// Which tokens of callers are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyParams {
    /// Who may have issued them. Never empty; no two have the same `iss`.
    pub issuers: Vec<IssuerParams>,
    /// Scopes that every token must have.
    pub required_scopes: Vec<String>,
    /// Claims that every token must have.
    pub required_claims: Vec<RequiredClaim>,
    /// How far ahead of this pod's clock an issuer's may be (`nbf`). `exp` gets no leeway: what is done with a token must end before it does.
    pub leeway: Duration,
    /// How keys are got.
    pub keys: KeysParams,
    /// How many verified tokens are remembered.
    pub max_seen: usize,
}

/// An issuer (authorization server) whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerParams {
    /// `iss`, compared exactly.
    pub issuer: Arc<str>,
    /// Where its keys are.
    pub keys: KeysAt,
    /// A token must name one of these as its audience. Never empty.
    pub audiences: Vec<String>,
    /// Signature algorithms that are accepted. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The `typ` that a token's header must have (`at+jwt`: RFC 9068 section 4); without it, anything that says to be no other kind of token.
    pub typ: Option<String>,
    /// How it is reached and trusted.
    pub authority: AuthorityParams,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAt {
    /// There.
    Uri(Url),
    /// Where the metadata of the issuer, which is this URL, says (OpenID Connect Discovery section 4, RFC 8414 section 3).
    Metadata(Url),
}

/// A claim that must be there and have one of these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredClaim {
    /// The claim's name.
    pub name: String,
    /// One of these must be its value, or one of its values when it is a list. Numbers and booleans as JSON writes them.
    pub values: Vec<String>,
}

/// How issuers' keys are got and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysParams {
    /// Between two fetches.
    pub refresh: Duration,
    /// A token with an unknown key causes a fetch, but not so soon after the one before.
    pub cooldown: Duration,
    /// Keys are used for so long after they were last fetched, when the issuer cannot be reached.
    pub max_stale: Duration,
    /// The longest that one fetch may take, connections included.
    pub timeout: Duration,
}
