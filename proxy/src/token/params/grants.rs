//! Parameters of the grants that talk to a token endpoint of RFC 6749. Entra's own are beside them in `params`.

use super::{AuthorityParams, ClientAuthentication};
use std::sync::Arc;
use url::Url;

/// Parameters of an RFC 8693 request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenExchangeParams {
    /// https, or http on loopback.
    pub token_endpoint: Url,
    /// Name of the subject token.
    pub subject_token: Arc<str>,
    /// `subject_token_type`, a URI.
    pub subject_token_type: String,
    /// `requested_token_type`; left out of the request when `None`.
    pub requested_token_type: Option<String>,
    /// Logical names of the target services; one form field each.
    pub audience: Vec<String>,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
    /// Who acts (delegation): name of a subject token and its type URI.
    pub actor_token: Option<ActorTokenParams>,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that the specification names.
    pub parameters: Vec<(String, String)>,
    /// How the authority is reached and trusted.
    pub authority: AuthorityParams,
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
    /// https, or http on loopback.
    pub token_endpoint: Url,
    /// `audience`, one form field each: no specification has it here, several servers do.
    pub audience: Vec<String>,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that a specification names.
    pub parameters: Vec<(String, String)>,
    /// How the authority is reached and trusted.
    pub authority: AuthorityParams,
}

/// Parameters of a request with a JWT as authorization grant (RFC 7523 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwtBearerParams {
    /// https, or http on loopback.
    pub token_endpoint: Url,
    /// Name of the subject token that is sent as `assertion`.
    pub assertion: Arc<str>,
    /// `audience`, one form field each: no specification has it here, several servers do.
    pub audience: Vec<String>,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that a specification names.
    pub parameters: Vec<(String, String)>,
    /// How the authority is reached and trusted.
    pub authority: AuthorityParams,
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
    /// https, or http on loopback.
    pub token_endpoint: Url,
    /// Name of the subject token.
    pub subject_token: Arc<str>,
    /// `subject_token_type`, a URI.
    pub subject_token_type: String,
    /// `audience`: the issuer identifier of the authorization server of the second step.
    pub audience: String,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that a specification names.
    pub parameters: Vec<(String, String)>,
    /// How the identity provider is reached and trusted.
    pub authority: AuthorityParams,
}

/// The second step of [`IdentityAssertionParams`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthorizationServerParams {
    /// https, or http on loopback.
    pub token_endpoint: Url,
    /// Space-separated scopes; without them those of the ID-JAG.
    pub scope: Option<String>,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that a specification names.
    pub parameters: Vec<(String, String)>,
    /// How the authorization server is reached and trusted.
    pub authority: AuthorityParams,
}
