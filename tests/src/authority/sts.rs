//! A token endpoint for RFC 8693; its further grants are in `grants`, ID-JAGs in `id_jag`, client authentication in `client`.

use super::{Shared, TokenRequest, client, error::Refused, grants, id_jag};
use crate::keys::{self, unix_now};
use serde_json::{Value, json};
use url::Url;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The grant type of RFC 7523 section 2.1.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Judges a request and issues a token.
pub(super) fn exchange(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let sts_client = shared.options().sts_client.clone();
    let client = client::authenticate(shared, request, &sts_client)?;
    match required(request, "grant_type")?.as_str() {
        TOKEN_EXCHANGE => token_exchange(shared, request, client),
        "client_credentials" => grants::client_credentials(shared, request, client),
        JWT_BEARER => grants::jwt_bearer(shared, request, client),
        _ => Err(Refused::OAuth(
            "unsupported_grant_type",
            400,
            "no such grant here".into(),
        )),
    }
}

/// A field that may be there once.
pub(super) fn unique(request: &TokenRequest, name: &str) -> Result<Option<String>, Refused> {
    match request.fields(name).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).to_owned())),
        _ => Err(invalid(format!("{name} is repeated"))),
    }
}

/// A field that must be there once.
pub(super) fn required(request: &TokenRequest, name: &str) -> Result<String, Refused> {
    unique(request, name)?
        .filter(|v| !v.is_empty())
        .ok_or_else(|| invalid(format!("{name} is missing")))
}

fn token_exchange(
    shared: &Shared,
    request: &TokenRequest,
    client: Option<String>,
) -> Result<Value, Refused> {
    let options = shared.options().clone();
    let unique = |name: &str| unique(request, name);
    let required = |name: &str| required(request, name);
    let subject_token = required("subject_token")?;
    let subject = cluster_token(
        shared,
        "subject",
        &subject_token,
        &required("subject_token_type")?,
        &options.sts_subject_audiences,
    )?;
    let actor = match (unique("actor_token")?, unique("actor_token_type")?) {
        (None, None) => None,
        (Some(token), Some(kind)) => Some(cluster_token(
            shared,
            "actor",
            &token,
            &kind,
            &options.sts_subject_audiences,
        )?),
        _ => return Err(invalid("actor_token and actor_token_type go together")),
    };
    if let Some(actor) = &actor {
        may_act(&subject, actor)?;
    }
    let requested = unique("requested_token_type")?;
    if requested.as_deref() == Some(id_jag::TOKEN_TYPE) {
        return id_jag::issue(shared, request, &subject);
    }
    let issued_type = match requested.as_deref() {
        None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
        Some(JWT) => JWT,
        Some(other) => {
            return Err(invalid(format!(
                "requested_token_type {other} is not supported"
            )));
        }
    };
    let mut claims = asked_for(shared, request)?;
    claims["sub"] = subject["sub"].clone();
    claims["client_id"] = json!(client);
    if let Some(actor) = actor {
        claims["act"] = json!({ "sub": actor["sub"], "iss": actor["iss"] });
    }
    let mut reply = bearer(shared, request, &subject_token, claims);
    reply["issued_token_type"] = issued_type.into();
    Ok(reply)
}

/// `aud` and `scope` of the token that is asked for, from what this endpoint knows.
pub(super) fn asked_for(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let options = shared.options().clone();
    let mut audience = Vec::new();
    for resource in request.fields("resource") {
        let url = Url::parse(resource).map_err(|_| invalid("resource is not an absolute URI"))?;
        if url.fragment().is_some() {
            return Err(invalid("resource has a fragment"));
        }
        audience.push(resource);
    }
    audience.extend(request.fields("audience"));
    for one in &audience {
        if !options.resources.iter().any(|known| known == one) {
            return Err(Refused::OAuth(
                "invalid_target",
                400,
                format!("{one} is not known here"),
            ));
        }
    }
    let scope = unique(request, "scope")?;
    for one in scope.iter().flat_map(|scope| scope.split(' ')) {
        if !options.sts_scopes.iter().any(|known| known == one) {
            return Err(Refused::OAuth(
                "invalid_scope",
                400,
                format!("{one} is not granted here"),
            ));
        }
    }
    let mut claims = json!({ "aud": audience });
    if audience.is_empty() {
        claims["aud"] = json!(options.resources);
    }
    if let Some(scope) = &scope {
        claims["scope"] = scope.as_str().into();
    }
    Ok(claims)
}

/// Issues a bearer token: the reply of RFC 6749 section 5.1.
pub(super) fn bearer(
    shared: &Shared,
    request: &TokenRequest,
    subject_token: &str,
    claims: Value,
) -> Value {
    let (token, lifetime) = shared.issue(request, subject_token, claims);
    let mut reply = json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
    });
    if let Some(refresh_in) = shared.options().refresh_in {
        reply["refresh_in"] = refresh_in.as_secs().into();
    }
    reply
}

/// A subject that names who may act is believed (RFC 8693 section 4.4).
fn may_act(subject: &Value, actor: &Value) -> Result<(), Refused> {
    let wanted = &subject["may_act"];
    let differs = |claim: &str| !wanted[claim].is_null() && wanted[claim] != actor[claim];
    if differs("sub") || differs("iss") {
        return Err(invalid("the actor may not act for this subject"));
    }
    Ok(())
}

pub(super) fn invalid(text: impl Into<String>) -> Refused {
    Refused::OAuth("invalid_request", 400, text.into())
}

pub(super) fn cluster_token(
    shared: &Shared,
    role: &str,
    token: &str,
    kind: &str,
    audiences: &[String],
) -> Result<Value, Refused> {
    if ![JWT, ID_TOKEN].contains(&kind) {
        return Err(invalid(format!(
            "{role}_token_type {kind} is not supported"
        )));
    }
    let claims = keys::verify(token, &shared.issuer.jwks())
        .map_err(|_| invalid(format!("{role}_token does not verify")))?;
    let now = unix_now().as_secs_f64();
    if now < claims["nbf"].as_f64().unwrap_or(f64::MAX)
        || now >= claims["exp"].as_f64().unwrap_or(0.0)
    {
        return Err(invalid(format!("{role}_token is expired or not yet valid")));
    }
    if claims["iss"] != shared.issuer.url() {
        return Err(invalid(format!("{role}_token has a foreign issuer")));
    }
    let listed = match &claims["aud"] {
        Value::String(one) => audiences.contains(one),
        Value::Array(many) => many
            .iter()
            .filter_map(Value::as_str)
            .any(|one| audiences.iter().any(|known| known == one)),
        _ => false,
    };
    if listed {
        Ok(claims)
    } else {
        Err(invalid(format!(
            "{role}_token was made for another audience"
        )))
    }
}
