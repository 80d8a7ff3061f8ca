//! Parameters of Entra's grants. The client-assertion grant that most pods use stands first.

use super::AuthorityParams;
use crate::net::token_proxy::TokenProxyParams;
use std::sync::Arc;
use url::Url;

/// Where Entra's grants ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantParams {
    /// `https://login.microsoftonline.com` or another cloud's; never a path; https, or http on loopback.
    pub authority_host: Url,
    /// Tenant id or domain.
    pub tenant_id: String,
    /// AKS identity bindings: where the cluster's token proxy is, which is asked instead of the authority.
    pub identity_binding: Option<TokenProxyParams>,
    /// How the authority is reached and trusted.
    pub authority: AuthorityParams,
}

impl TenantParams {
    /// What is asked: the token proxy of an identity binding, in the authority's place.
    pub fn asked(&self) -> &Url {
        self.identity_binding
            .as_ref()
            .map_or(&self.authority_host, |proxy| &proxy.url)
    }

    /// Leaves whom is asked; forgets how the authority is reached.
    pub(super) fn forget_way(&mut self) {
        self.authority = AuthorityParams::default();
    }
}

/// Parameters of Entra's client-assertion request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntraClientAssertionParams {
    /// Where it asks.
    pub tenant: TenantParams,
    /// Application (client) id of the app registration or managed identity.
    pub client_id: String,
    /// One resource's scope, ending in `/.default`.
    pub scope: String,
    /// Name of the subject token that is sent as the assertion.
    pub subject_token: Arc<str>,
}

/// Parameters of Entra's on-behalf-of request: a caller's token for this client is exchanged for one for the scope's resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntraOnBehalfOfParams {
    /// Where it asks.
    pub tenant: TenantParams,
    /// Application (client) id of the app registration that the caller's token was made for. A managed identity has none.
    pub client_id: String,
    /// Scopes of one resource: `/.default`, or delegated ones; separated by spaces.
    pub scope: String,
    /// Name of the subject token that proves the client (`client_assertion`).
    pub client_assertion: Arc<str>,
    /// Name of the subject token on whose behalf (`assertion`).
    pub assertion: Arc<str>,
}

/// Parameters of the first step of Entra Agent ID: the blueprint gets the token that its agent identity signs in with. That token is good for
/// nothing else, and is never put on a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntraAgentBlueprintParams {
    /// Where it asks: in the tenant of the agent identity.
    pub tenant: TenantParams,
    /// Application (client) id of the agent identity blueprint.
    pub client_id: String,
    /// `fmi_path`: client id of the agent identity.
    pub agent_identity: String,
    /// Name of the subject token that proves the blueprint (`client_assertion`).
    pub client_assertion: Arc<str>,
}

#[cfg(test)]
#[path = "decisive_tests.rs"]
mod tests;
