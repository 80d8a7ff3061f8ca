//! `tokenExchange` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    client_auth::client_authentication,
    form::parameters,
    subjects::Subjects,
};
use crate::token::params::{ActorTokenParams, TokenExchangeParams};

pub(super) fn token_exchange(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<TokenExchangeParams> {
    let fields = credential.map("tokenExchange", "credentials.*.tokenExchange", EMPTY)?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = fields.value("subjectTokenType", parse::uri);
    let requested_token_type = fields.value("requestedTokenType", parse::uri);
    let audience = fields.list("audience", parse::text);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let actor_token = match fields.node("actorToken") {
        None => Some(None),
        Some(_) => actor_token(&fields, subjects).map(Some),
    };
    let client_authentication = client_authentication(&fields, subjects);
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    Some(TokenExchangeParams {
        token_endpoint: token_endpoint?,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        requested_token_type,
        audience: audience?,
        resource: resource?,
        scope,
        actor_token: actor_token?,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    })
}

fn actor_token(exchange: &Fields<'_>, subjects: &Subjects<'_>) -> Option<ActorTokenParams> {
    let fields = exchange.map(
        "actorToken",
        "credentials.*.tokenExchange.actorToken",
        EMPTY,
    )?;
    let subject_token = subjects.named(&fields, "subjectToken");
    let token_type = fields.value("tokenType", parse::uri);
    Some(ActorTokenParams {
        subject_token: subject_token?,
        token_type: token_type?,
    })
}
