//! What the token flow needs to know, already checked. Built by `config`; no parsing in here.

mod chain;
mod client_auth;
mod endpoint;
mod entra;
mod google;
mod grants;

pub use chain::Circle;
pub use client_auth::{
    ClientAuthentication, PrivateKeyJwtParams, SigningAlgorithm, TlsClientParams,
};
pub use endpoint::{EndpointParams, TargetParams};
pub use entra::{
    EntraAgentBlueprintParams, EntraClientAssertionParams, EntraOnBehalfOfParams, TenantParams,
};
pub use google::{GoogleStsParams, ImpersonationParams};
pub use grants::{
    ActorTokenParams, AuthorizationServerParams, ClientCredentialsParams, IdentityAssertionParams,
    IdentityProviderParams, JwtBearerParams, TokenExchangeParams,
};

use super::{
    caller::{self, cache::CacheLimits},
    exchange::TokenType,
    injection::Injection,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use url::Url;

/// All of the token flow's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenParams {
    /// Files that hold subject tokens, by name.
    pub subject_tokens: Vec<SubjectTokenParams>,
    /// Subject tokens that are what a credential got, by name; no name is among `subject_tokens`, and no credential uses its own, by whatever
    /// detour.
    pub chained_tokens: Vec<ChainedTokenParams>,
    /// The configured ways to get one issued token each.
    pub credentials: Vec<CredentialParams>,
}

/// A subject token: a projected JWT in a file that somebody (the kubelet) rotates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTokenParams {
    /// The name that credentials and metrics use.
    pub name: Arc<str>,
    /// The file. It may not exist yet.
    pub file: PathBuf,
}

/// A subject token that is the token issued to a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedTokenParams {
    /// The name that credentials use.
    pub name: Arc<str>,
    /// The credential whose token it is.
    pub credential: Arc<str>,
}

/// A credential: a configured way to get one issued token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialParams {
    /// The name that routes and metrics use.
    pub name: Arc<str>,
    /// How the token is got.
    pub grant: GrantParams,
    /// How it is put on requests.
    pub injection: Arc<Injection>,
    /// The longest that one exchange may take, connection included.
    pub exchange_timeout: Duration,
    /// What its cache may hold, when it gets a token for each caller.
    pub caller_cache: CacheLimits,
}

/// The grants. Each has its own exchanger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GrantParams {
    /// Entra: client_credentials with the subject token as client assertion (RFC 7523 section 2.2).
    EntraClientAssertion(EntraClientAssertionParams),
    /// Entra: on behalf of a caller.
    EntraOnBehalfOf(EntraOnBehalfOfParams),
    /// Entra Agent ID: the blueprint's token for its agent identity.
    EntraAgentBlueprint(EntraAgentBlueprintParams),
    /// Google's token exchange, perhaps with service account impersonation.
    GoogleSts(GoogleStsParams),
    /// Token exchange, RFC 8693.
    TokenExchange(TokenExchangeParams),
    /// Client credentials, RFC 6749 section 4.4.
    ClientCredentials(ClientCredentialsParams),
    /// A JWT as authorization grant, RFC 7523 section 2.1.
    JwtBearer(JwtBearerParams),
    /// Identity assertion JWT authorization grant (ID-JAG), draft-ietf-oauth-identity-assertion-authz-grant: two steps.
    IdentityAssertion(Box<IdentityAssertionParams>),
    /// None: a secret from a file.
    StaticSecret(StaticSecretParams),
}

/// A secret that is put on requests as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StaticSecretParams {
    /// The file that holds it. It may not exist yet.
    pub file: PathBuf,
}

impl GrantParams {
    /// Whether a token got by `other` may be served for one got by this: everything that can decide what is issued, to whom and for what, is
    /// equal. All parameters decide but those taken out in `decisive`, so that a new one does unless it is named there. Subject tokens
    /// count by their names: what is in their files changes with every rotation.
    pub fn issues_the_same(&self, other: &Self) -> bool {
        self.decisive() == other.decisive()
    }

    /// The names of the subject tokens that one exchange uses, each once.
    pub fn subject_tokens(&self) -> Vec<&Arc<str>> {
        let mut names: Vec<_> = match self {
            Self::EntraClientAssertion(p) => vec![&p.subject_token],
            Self::EntraOnBehalfOf(p) => vec![&p.client_assertion, &p.assertion],
            Self::EntraAgentBlueprint(p) => vec![&p.client_assertion],
            Self::GoogleSts(p) => vec![&p.subject_token],
            Self::TokenExchange(p) => [&p.subject_token]
                .into_iter()
                .chain(p.actor_token.iter().map(|a| &a.subject_token))
                .collect(),
            Self::ClientCredentials(_) | Self::StaticSecret(_) => Vec::new(),
            Self::JwtBearer(p) => vec![&p.assertion],
            Self::IdentityAssertion(p) => vec![&p.identity_provider.subject_token],
        };
        names.extend(
            self.endpoints()
                .into_iter()
                .filter_map(|e| e.client_authentication.subject_token()),
        );
        names.sort();
        names.dedup();
        names
    }

    /// The token endpoints of RFC 6749 that one exchange asks, in order. Entra's and Google's are not of this kind.
    pub fn endpoints(&self) -> Vec<&EndpointParams> {
        match self {
            Self::TokenExchange(p) => vec![&p.endpoint],
            Self::ClientCredentials(p) => vec![&p.endpoint],
            Self::JwtBearer(p) => vec![&p.endpoint],
            Self::IdentityAssertion(p) => vec![
                &p.identity_provider.endpoint,
                &p.authorization_server.endpoint,
            ],
            Self::EntraClientAssertion(_)
            | Self::EntraOnBehalfOf(_)
            | Self::EntraAgentBlueprint(_)
            | Self::GoogleSts(_)
            | Self::StaticSecret(_) => Vec::new(),
        }
    }

    /// Whether it gets a token for each caller, with the caller's own: then there is no token before a caller comes.
    pub fn is_for_callers(&self) -> bool {
        self.subject_tokens()
            .iter()
            .any(|name| ***name == *caller::NAME)
    }

    /// The types of token that it can bring.
    pub const fn token_types(&self) -> &'static [TokenType] {
        match self {
            Self::TokenExchange(_) => &[TokenType::Bearer, TokenType::DPoP, TokenType::NotAccess],
            Self::ClientCredentials(_) | Self::JwtBearer(_) | Self::IdentityAssertion(_) => {
                &[TokenType::Bearer, TokenType::DPoP]
            }
            Self::EntraClientAssertion(_)
            | Self::EntraOnBehalfOf(_)
            | Self::EntraAgentBlueprint(_)
            | Self::GoogleSts(_)
            | Self::StaticSecret(_) => &[TokenType::Bearer],
        }
    }

    /// The authorization server that is asked (the first, when there are several), if one is: what works or fails as one.
    pub fn authority(&self) -> Option<&Url> {
        Some(match self {
            Self::EntraClientAssertion(p) => p.tenant.asked(),
            Self::EntraOnBehalfOf(p) => p.tenant.asked(),
            Self::EntraAgentBlueprint(p) => p.tenant.asked(),
            Self::GoogleSts(p) => &p.token_endpoint,
            Self::TokenExchange(p) => &p.endpoint.url,
            Self::ClientCredentials(p) => &p.endpoint.url,
            Self::JwtBearer(p) => &p.endpoint.url,
            Self::IdentityAssertion(p) => &p.identity_provider.endpoint.url,
            Self::StaticSecret(_) => return None,
        })
    }

    /// The tenant of an Entra grant, the client, and the name of the subject token that proves it.
    pub fn tenant(&self) -> Option<(&TenantParams, &str, &Arc<str>)> {
        match self {
            Self::EntraClientAssertion(p) => Some((&p.tenant, &p.client_id, &p.subject_token)),
            Self::EntraOnBehalfOf(p) => Some((&p.tenant, &p.client_id, &p.client_assertion)),
            Self::EntraAgentBlueprint(p) => Some((&p.tenant, &p.client_id, &p.client_assertion)),
            _ => None,
        }
    }

    /// Whether its token may be put on requests at all. One that may not is only ever the subject token of another credential.
    pub const fn injectable(&self) -> bool {
        !matches!(self, Self::EntraAgentBlueprint(_))
    }

    /// Without what only says how the authority is reached and trusted, and where the secret that proves the client lies.
    pub(crate) fn decisive(&self) -> Self {
        let mut grant = self.clone();
        match &mut grant {
            Self::EntraClientAssertion(p) => p.tenant.forget_way(),
            Self::EntraOnBehalfOf(p) => p.tenant.forget_way(),
            Self::EntraAgentBlueprint(p) => p.tenant.forget_way(),
            Self::GoogleSts(p) => {
                p.authority = AuthorityParams::default();
                if let Some(impersonation) = &mut p.impersonation {
                    impersonation.authority = AuthorityParams::default();
                }
            }
            Self::TokenExchange(p) => p.endpoint.forget_way(),
            Self::ClientCredentials(p) => p.endpoint.forget_way(),
            Self::JwtBearer(p) => p.endpoint.forget_way(),
            Self::IdentityAssertion(p) => {
                p.identity_provider.endpoint.forget_way();
                p.authorization_server.endpoint.forget_way();
            }
            Self::StaticSecret(_) => {}
        }
        grant
    }
}

/// How an authority is reached and trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AuthorityParams {
    /// PEM file with roots to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy to use for this authority, decided from `HTTPS_PROXY` and `NO_PROXY` by `config`.
    pub proxy: Option<Url>,
}

#[cfg(test)]
#[path = "params_tests.rs"]
pub(crate) mod tests;
