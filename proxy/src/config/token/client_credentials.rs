//! `clientCredentials` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    client_auth::{At, client_authentication},
    form::parameters,
    subjects::Subjects,
};
use crate::token::params::{ClientAuthentication, ClientCredentialsParams};

pub(super) fn client_credentials(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<ClientCredentialsParams> {
    let fields = credential.map(
        "clientCredentials",
        "credentials.*.clientCredentials",
        EMPTY,
    )?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let issuer = fields.value("issuer", parse::uri);
    let audience = fields.list("audience", parse::text);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let at = At {
        token_endpoint: token_endpoint.as_ref(),
        issuer: issuer.as_deref(),
    };
    let client_authentication = client_authentication(&fields, subjects, at);
    if let Some(ClientAuthentication::None { .. }) = client_authentication {
        // RFC 6749 section 4.4: for confidential clients alone.
        fields.error(
            "clientAuthentication",
            "missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        );
    }
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    Some(ClientCredentialsParams {
        token_endpoint: token_endpoint?,
        audience: audience?,
        resource: resource?,
        scope,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    })
}
