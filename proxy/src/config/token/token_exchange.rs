//! `tokenExchange` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    client_auth::{At, client_authentication},
    form::parameters,
    subjects::Subjects,
};
use crate::token::{
    caller,
    params::{ActorTokenParams, TokenExchangeParams},
};

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) fn token_exchange(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<TokenExchangeParams> {
    let fields = credential.map("tokenExchange", "credentials.*.tokenExchange", EMPTY)?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = match fields.node("subjectTokenType") {
        Some(_) => fields.value("subjectTokenType", parse::uri),
        // A projected token is just a JWT; what a caller presents is an access token.
        None if subject_token.as_deref() == Some(caller::NAME) => Some(ACCESS_TOKEN.to_owned()),
        None => Some(JWT.to_owned()),
    };
    let requested_token_type = fields.value("requestedTokenType", parse::uri);
    let audience = fields.list("audience", parse::text);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let actor_token = match fields.node("actorToken") {
        None => Some(None),
        Some(_) => actor_token(&fields, subjects).map(Some),
    };
    let issuer = fields.value("issuer", parse::uri);
    let at = At {
        token_endpoint: token_endpoint.as_ref(),
        issuer: issuer.as_deref(),
    };
    let client_authentication = client_authentication(&fields, subjects, at);
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
    let require_act = fields.value("requireAct", parse::boolean);
    Some(ActorTokenParams {
        subject_token: subject_token?,
        token_type: token_type?,
        require_act: require_act?,
    })
}
