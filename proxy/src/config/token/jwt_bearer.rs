//! `jwtBearer` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    client_auth::{At, client_authentication},
    form::parameters,
    subjects::Subjects,
};
use crate::token::params::JwtBearerParams;

pub(super) fn jwt_bearer(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<JwtBearerParams> {
    let fields = credential.map("jwtBearer", "credentials.*.jwtBearer", EMPTY)?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let issuer = fields.value("issuer", parse::uri);
    let assertion = subjects.named(&fields, "assertion");
    let audience = fields.list("audience", parse::text);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let at = At {
        token_endpoint: token_endpoint.as_ref(),
        issuer: issuer.as_deref(),
    };
    let client_authentication = client_authentication(&fields, subjects, at);
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    Some(JwtBearerParams {
        token_endpoint: token_endpoint?,
        assertion: assertion?,
        audience: audience?,
        resource: resource?,
        scope,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    })
}
