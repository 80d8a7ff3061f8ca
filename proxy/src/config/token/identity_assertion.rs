//! `identityAssertion` (ID-JAG, a draft) -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    client_auth::{At, client_authentication},
    form::parameters,
    subjects::Subjects,
};
use crate::token::params::{
    AuthorizationServerParams, IdentityAssertionParams, IdentityProviderParams,
};

pub(super) fn identity_assertion(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<IdentityAssertionParams> {
    let fields = credential.map(
        "identityAssertion",
        "credentials.*.identityAssertion",
        EMPTY,
    )?;
    let second = authorization_server(&fields, subjects);
    let audience = second.as_ref().map(|(issuer, _)| issuer.clone());
    let first = identity_provider(&fields, subjects, audience);
    Some(IdentityAssertionParams {
        identity_provider: first?,
        authorization_server: second?.1,
    })
}

fn identity_provider(
    grant: &Fields<'_>,
    subjects: &Subjects<'_>,
    audience: Option<String>,
) -> Option<IdentityProviderParams> {
    let fields = grant.map(
        "identityProvider",
        "credentials.*.identityAssertion.identityProvider",
        EMPTY,
    )?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let issuer = fields.value("issuer", parse::uri);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = fields.value("subjectTokenType", parse::uri);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let at = At {
        token_endpoint: token_endpoint.as_ref(),
        issuer: issuer.as_deref(),
    };
    let client_authentication = client_authentication(&fields, subjects, at);
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    Some(IdentityProviderParams {
        token_endpoint: token_endpoint?,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        audience: audience?,
        resource: resource?,
        scope,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    })
}

/// Its issuer identifier, and the parameters of the second step.
fn authorization_server(
    grant: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<(String, AuthorizationServerParams)> {
    let fields = grant.map(
        "authorizationServer",
        "credentials.*.identityAssertion.authorizationServer",
        EMPTY,
    )?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let issuer = fields.value("issuer", parse::uri);
    let scope = fields.value("scope", parse::scopes);
    let at = At {
        token_endpoint: token_endpoint.as_ref(),
        issuer: issuer.as_deref(),
    };
    let client_authentication = client_authentication(&fields, subjects, at);
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    let server = AuthorizationServerParams {
        token_endpoint: token_endpoint?,
        scope,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    };
    Some((issuer?, server))
}
