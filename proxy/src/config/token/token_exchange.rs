//! `tokenExchange` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    endpoint::{Endpoint, target},
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
    let fields = credential.map("tokenExchange", "credentials.*.tokenExchange")?;
    let endpoint = Endpoint::of(&fields, subjects);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = match fields.node("subjectTokenType") {
        Some(_) => fields.value("subjectTokenType", parse::uri),
        // A projected token is just a JWT; what a caller presents is an access token.
        None if subject_token.as_deref() == Some(caller::NAME) => Some(ACCESS_TOKEN.to_owned()),
        None => Some(JWT.to_owned()),
    };
    let requested_token_type = fields.value("requestedTokenType", parse::uri);
    let target = target(&fields);
    let actor_token = match fields.node("actorToken") {
        None => Some(None),
        Some(_) => actor_token(&fields, subjects).map(Some),
    };
    Some(TokenExchangeParams {
        endpoint: endpoint.params()?,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        requested_token_type,
        target: target?,
        actor_token: actor_token?,
    })
}

fn actor_token(exchange: &Fields<'_>, subjects: &Subjects<'_>) -> Option<ActorTokenParams> {
    let fields = exchange.map("actorToken", "credentials.*.tokenExchange.actorToken")?;
    let subject_token = subjects.named(&fields, "subjectToken");
    let token_type = fields.value("tokenType", parse::uri);
    let require_act = fields.value("requireAct", parse::boolean);
    Some(ActorTokenParams {
        subject_token: subject_token?,
        token_type: token_type?,
        require_act: require_act?,
    })
}
