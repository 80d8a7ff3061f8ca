//! What the grants at a token endpoint of RFC 6749 have in common: the endpoint, as one client of it, and what the token is for. What is asked there
//! is each grant's own, in `grants`.

use super::{AuthorityParams, ClientAuthentication};
use url::Url;

/// One token endpoint, as one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointParams {
    /// https, or http on loopback.
    pub url: Url,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// Extra form fields, in order; never one that a specification names.
    pub parameters: Vec<(String, String)>,
    /// How the authority is reached and trusted.
    pub authority: AuthorityParams,
}

impl EndpointParams {
    /// Leaves what is asked, of whom and as which client; forgets how the authority is reached, and where what proves the client lies.
    pub(super) fn forget_way(&mut self) {
        self.authority = AuthorityParams::default();
        self.client_authentication.forget_files();
    }
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TargetParams {
    /// Logical names of the target services (RFC 8693 section 2.1; several servers have it with other grants too); one form field each.
    pub audience: Vec<String>,
    /// Absolute URIs of the target services (RFC 8707); one form field each.
    pub resource: Vec<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
}
