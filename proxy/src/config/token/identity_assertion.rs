//! `identityAssertion` (ID-JAG, a draft) -> its parameters.

use super::{
    super::{fields::Fields, parse},
    endpoint::Endpoint,
    subjects::Subjects,
};
use crate::token::params::{
    AuthorizationServerParams, IdentityAssertionParams, IdentityProviderParams,
};

pub(super) fn identity_assertion(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<IdentityAssertionParams> {
    let fields = credential.map("identityAssertion", "credentials.*.identityAssertion")?;
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
    )?;
    let endpoint = Endpoint::of(&fields, subjects);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = fields.value("subjectTokenType", parse::uri);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    Some(IdentityProviderParams {
        endpoint: endpoint.params()?,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        audience: audience?,
        resource: resource?,
        scope,
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
    )?;
    let mut endpoint = Endpoint::of(&fields, subjects);
    let issuer = endpoint.issuer.take();
    let scope = fields.value("scope", parse::scopes);
    let server = AuthorizationServerParams {
        endpoint: endpoint.params()?,
        scope,
    };
    Some((issuer?, server))
}
