//! Exchanging subject tokens for an issued token: the one seam of the token flow. `renew` decides when; an [`Exchanger`] knows how.

pub mod agent_blueprint;
pub mod bound;
mod client_auth;
pub mod client_credentials;
mod delegation;
mod endpoint;
pub mod entra;
mod entra_endpoint;
pub mod error;
pub mod google_sts;
pub mod identity_assertion;
pub mod jwt_bearer;
pub mod on_behalf_of;
pub mod reply;
mod rfc3339;
pub mod token_exchange;
pub mod wire;

pub use client_auth::inspect::{Proof, inspect};

use super::{params::GrantParams, static_secret::StaticSecret, subject::SubjectToken};
use crate::net::client::SetupError;
use async_trait::async_trait;
use bound::Binding;
use error::ExchangeError;
use sidecar_runtime::clock::Clock;
use std::{fmt, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// How an issued token may be used (`token_type`, RFC 6749 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// `Bearer`: whoever holds it may use it (RFC 6750).
    Bearer,
    /// `DPoP`: bound to a key; each use needs a proof (RFC 9449).
    DPoP,
    /// `N_A`: no access token, but another kind of token (RFC 8693 section 2.2.1): a transaction token, an assertion.
    NotAccess,
}

impl TokenType {
    /// As `token_type` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::DPoP => "DPoP",
            Self::NotAccess => "N_A",
        }
    }
}

/// What an authority issued, checked.
pub struct IssuedToken {
    /// The token: visible ASCII, never empty.
    pub token: Zeroizing<String>,
    /// What `token_type` said.
    pub token_type: TokenType,
    /// `expires_in`, from the moment the request was sent.
    pub lifetime: Duration,
    /// When the authority wants it renewed, from the same moment.
    pub refresh_in: Option<Duration>,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("token_type", &self.token_type)
            .field("lifetime", &self.lifetime)
            .field("refresh_in", &self.refresh_in)
            .finish_non_exhaustive()
    }
}

/// The subject tokens that one exchange uses, by name. All of them are present and unexpired.
#[derive(Debug, Clone, Default)]
pub struct SubjectTokens(Vec<(Arc<str>, Arc<SubjectToken>)>);

impl SubjectTokens {
    /// From pairs of name and token.
    pub const fn new(tokens: Vec<(Arc<str>, Arc<SubjectToken>)>) -> Self {
        Self(tokens)
    }

    /// The token of that name.
    ///
    /// # Errors
    /// [`ExchangeError`] when the credential was wired without it, which is a defect of this program.
    pub fn named(&self, name: &str) -> Result<&SubjectToken, ExchangeError> {
        self.0
            .iter()
            .find(|(n, _)| **n == *name)
            .map(|(_, token)| &**token)
            .ok_or_else(|| ExchangeError::local("no_subject_token"))
    }

    /// Name and token, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Arc<str>, Arc<SubjectToken>)> {
        self.0.iter()
    }
}

/// A way to get an issued token.
#[async_trait]
pub trait Exchanger: Send + Sync + 'static {
    /// Whether its request has a place for claims. Where it has none, a claims challenge is a rejection like any other.
    fn takes_claims(&self) -> bool;

    /// One attempt: no retries, no cache, no timeout of its own (the caller has one). `claims` is a claims challenge (JSON) to satisfy; never
    /// given unless [`Exchanger::takes_claims`].
    ///
    /// # Errors
    /// [`ExchangeError`], which says how to go on.
    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError>;
}

/// The exchanger of a grant, for a token that will be used as `binding` says.
///
/// # Errors
/// When the client for its authority cannot be set up (CA file, host).
pub fn build(
    grant: &GrantParams,
    binding: Binding,
    clock: Clock,
) -> Result<Arc<dyn Exchanger>, SetupError> {
    Ok(match grant {
        GrantParams::EntraClientAssertion(p) => {
            Arc::new(entra::EntraExchanger::new(p.clone(), clock)?)
        }
        GrantParams::EntraOnBehalfOf(p) => {
            Arc::new(on_behalf_of::OnBehalfOfExchanger::new(p.clone(), clock)?)
        }
        GrantParams::EntraAgentBlueprint(p) => Arc::new(
            agent_blueprint::AgentBlueprintExchanger::new(p.clone(), clock)?,
        ),
        GrantParams::GoogleSts(p) => {
            Arc::new(google_sts::GoogleStsExchanger::new(p.clone(), clock)?)
        }
        GrantParams::TokenExchange(p) => Arc::new(token_exchange::TokenExchanger::new(
            p.clone(),
            binding,
            clock,
        )?),
        GrantParams::ClientCredentials(p) => Arc::new(
            client_credentials::ClientCredentialsExchanger::new(p.clone(), binding, clock)?,
        ),
        GrantParams::JwtBearer(p) => Arc::new(jwt_bearer::JwtBearerExchanger::new(
            p.clone(),
            binding,
            clock,
        )?),
        GrantParams::IdentityAssertion(p) => Arc::new(
            identity_assertion::IdentityAssertionExchanger::new((**p).clone(), binding, clock)?,
        ),
        GrantParams::StaticSecret(p) => Arc::new(StaticSecret(p.clone())),
    })
}
