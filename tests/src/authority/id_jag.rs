//! Identity assertion JWT authorization grants (draft-ietf-oauth-identity-assertion-authz-grant): issued by the token endpoint as identity provider,
//! taken by a second endpoint, that of the resource's authorization server.

use super::{
    Shared, TokenRequest, client,
    error::Refused,
    sts::{JWT_BEARER, bearer, invalid, required, unique},
};
use crate::keys::{self, unix_now};
use serde_json::{Value, json};
use std::time::Duration;

/// `requested_token_type` and `issued_token_type`.
pub(super) const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id-jag";
/// The JWT's `typ`.
const TYP: &str = "oauth-id-jag+jwt";
const LIFETIME: Duration = Duration::from_secs(300);

/// As the identity provider: an assertion about the subject, for the resource's authorization server and its client.
pub(super) fn issue(
    shared: &Shared,
    request: &TokenRequest,
    subject: &Value,
) -> Result<Value, Refused> {
    if required(request, "audience")? != shared.resource_issuer() {
        return Err(Refused::OAuth(
            "invalid_target",
            400,
            "audience is no authorization server that is known here".into(),
        ));
    }
    let mut claims = json!({
        "iss": shared.sts_issuer(),
        "sub": subject["sub"],
        "aud": shared.resource_issuer(),
        "client_id": shared.options().resource_client.id(),
    });
    if let Some(scope) = unique(request, "scope")? {
        claims["scope"] = scope.into();
    }
    if let Some(resource) = unique(request, "resource")? {
        claims["resource"] = resource.into();
    }
    let token = shared.access.sign(TYP, claims, LIFETIME);
    Ok(json!({
        "access_token": token,
        "issued_token_type": TOKEN_TYPE,
        "token_type": "N_A",
        "expires_in": LIFETIME.as_secs(),
    }))
}

/// As the resource's authorization server: an access token for an ID-JAG, once.
pub(super) fn redeem(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let resource_client = shared.options().resource_client.clone();
    let client = client::authenticate(shared, request, &resource_client)?;
    if required(request, "grant_type")? != JWT_BEARER {
        return Err(Refused::OAuth(
            "unsupported_grant_type",
            400,
            "only an ID-JAG is taken here".into(),
        ));
    }
    let assertion = required(request, "assertion")?;
    let refused = |why: &str| Refused::OAuth("invalid_grant", 400, format!("assertion: {why}"));
    let header = jsonwebtoken::decode_header(&assertion).map_err(|_| refused("no JWT"))?;
    if header.typ.as_deref() != Some(TYP) {
        return Err(refused("its typ is not that of an ID-JAG"));
    }
    let claims = keys::verify(&assertion, &shared.access.jwks())
        .map_err(|_| refused("it does not verify"))?;
    if claims["iss"] != shared.sts_issuer() || claims["aud"] != shared.resource_issuer() {
        return Err(refused("a foreign issuer or audience"));
    }
    if claims["exp"].as_f64().unwrap_or(0.0) <= unix_now().as_secs_f64() {
        return Err(refused("it has expired"));
    }
    if client.is_none() || claims["client_id"].as_str() != client.as_deref() {
        return Err(refused("it was made for another client"));
    }
    if !claims["jti"]
        .as_str()
        .is_some_and(|jti| shared.first_use(jti))
    {
        return Err(refused("it was used before"));
    }
    let granted = &claims["scope"];
    let scope = match unique(request, "scope")? {
        Some(asked) if granted.as_str() != Some(&asked) => {
            return Err(invalid("scope is not the assertion's"));
        }
        _ => granted.clone(),
    };
    let audience = match &claims["resource"] {
        Value::Null => json!(shared.options().resources),
        resource => resource.clone(),
    };
    let issued = json!({
        "iss": shared.resource_issuer(),
        "aud": audience,
        "sub": claims["sub"],
        "client_id": client,
        "scope": scope,
    });
    Ok(bearer(shared, request, &assertion, issued))
}
