//! Parameters of the grants that talk to a token endpoint of RFC 6749. Entra's own are beside them in `params`.

use super::{EndpointParams, TargetParams};
use std::sync::Arc;

/// Parameters of an RFC 8693 request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenExchangeParams {
    /// Where it goes.
    pub endpoint: EndpointParams,
    /// Name of the subject token.
    pub subject_token: Arc<str>,
    /// `subject_token_type`, a URI.
    pub subject_token_type: String,
    /// `requested_token_type`; left out of the request when `None`.
    pub requested_token_type: Option<String>,
    /// What the token is for.
    pub target: TargetParams,
    /// Who acts (delegation): name of a subject token and its type URI.
    pub actor_token: Option<ActorTokenParams>,
}

/// The actor token of a delegation (RFC 8693 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActorTokenParams {
    /// Name of the subject token whose content is sent as `actor_token`.
    pub subject_token: Arc<str>,
    /// `actor_token_type`, a URI.
    pub token_type: String,
    /// The issued token is a JWT (the authorization server documents that) whose outermost `act` names the actor, or it is refused.
    pub require_act: bool,
}

/// Parameters of a client credentials request (RFC 6749 section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCredentialsParams {
    /// Where it goes.
    pub endpoint: EndpointParams,
    /// What the token is for.
    pub target: TargetParams,
}

/// Parameters of a request with a JWT as authorization grant (RFC 7523 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwtBearerParams {
    /// Where it goes.
    pub endpoint: EndpointParams,
    /// Name of the subject token that is sent as `assertion`.
    pub assertion: Arc<str>,
    /// What the token is for.
    pub target: TargetParams,
}

/// Parameters of the identity assertion JWT authorization grant (draft-ietf-oauth-identity-assertion-authz-grant): the user's identity provider
/// vouches for the user at another domain's authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityAssertionParams {
    /// The first step: token exchange for an ID-JAG.
    pub identity_provider: IdentityProviderParams,
    /// The second step: the ID-JAG as authorization grant.
    pub authorization_server: AuthorizationServerParams,
}

/// The first step of [`IdentityAssertionParams`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityProviderParams {
    /// The identity provider's.
    pub endpoint: EndpointParams,
    /// Name of the subject token.
    pub subject_token: Arc<str>,
    /// `subject_token_type`, a URI.
    pub subject_token_type: String,
    /// `audience`, exactly one: the issuer identifier of the authorization server of the second step.
    pub audience: String,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
}

/// The second step of [`IdentityAssertionParams`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthorizationServerParams {
    /// The authorization server's.
    pub endpoint: EndpointParams,
    /// Space-separated scopes; without them those of the ID-JAG.
    pub scope: Option<String>,
}
