//! The keys that every grant at a token endpoint of RFC 6749 has: the endpoint, the client that asks there, and what the token is for. What is a
//! grant's own is read in the file of that grant.

use super::{
    super::{fields::Fields, parse},
    authority,
    client_auth::{At, client_authentication},
    form::parameters,
    subjects::Subjects,
};
use crate::token::params::{AuthorityParams, ClientAuthentication, EndpointParams, TargetParams};
use url::Url;

/// A token endpoint as far as it could be read; what is missing has been reported.
pub(super) struct Endpoint {
    /// The issuer identifier of its authorization server, where one was given.
    pub(super) issuer: Option<String>,
    pub(super) client_authentication: Option<ClientAuthentication>,
    url: Option<Url>,
    parameters: Option<Vec<(String, String)>>,
    authority: Option<AuthorityParams>,
}

impl Endpoint {
    /// Reads `tokenEndpoint`, `issuer`, `clientAuthentication`, `parameters` and `caFile` of a grant.
    pub(super) fn of(grant: &Fields<'_>, subjects: &Subjects<'_>) -> Self {
        let url = grant.value("tokenEndpoint", parse::token_endpoint);
        let issuer = grant.value("issuer", parse::uri);
        let at = At {
            token_endpoint: url.as_ref(),
            issuer: issuer.as_deref(),
        };
        Self {
            client_authentication: client_authentication(grant, subjects, at),
            parameters: parameters(grant),
            authority: authority(grant, url.as_ref()),
            issuer,
            url,
        }
    }

    /// `None`: something is missing.
    pub(super) fn params(self) -> Option<EndpointParams> {
        Some(EndpointParams {
            url: self.url?,
            client_authentication: self.client_authentication?,
            parameters: self.parameters?,
            authority: self.authority?,
        })
    }
}

/// Reads `audience`, `resource` and `scope` of a grant.
pub(super) fn target(grant: &Fields<'_>) -> Option<TargetParams> {
    let audience = grant.list("audience", parse::text);
    let resource = grant.list("resource", parse::resource);
    let scope = grant.value("scope", parse::scopes);
    Some(TargetParams {
        audience: audience?,
        resource: resource?,
        scope,
    })
}
