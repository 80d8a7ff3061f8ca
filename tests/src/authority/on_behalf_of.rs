//! Entra's on-behalf-of grant: the client is proven first, then the user's assertion, then what policies say of the two. Refusals have the
//! bodies of `tests/samples/entra-errors/on-behalf-of.jsonl`.

use super::{
    Shared, TokenRequest,
    entra::{self, Client},
    error::Refused,
    options::Options,
};
use crate::keys::{self, unix_now};
use serde_json::{Value, json};

/// Judges a request whose client is proven, and issues a token.
pub(super) fn exchange(
    shared: &Shared,
    request: &TokenRequest,
    options: &Options,
    client: &Client<'_>,
) -> Result<Value, Refused> {
    if entra::required(request, "requested_token_use")? != "on_behalf_of" {
        return Err(Refused::aadsts(
            9002313,
            "Invalid request. Request is malformed or invalid.",
        ));
    }
    let assertion = entra::required(request, "assertion")?;
    let (resource, scopes) = delegated(entra::required(request, "scope")?, options)?;
    let user = user(shared, options, client, assertion)?;
    policies(request, options, &user)?;
    let oid = user["oid"].as_str().unwrap_or_default();
    let mut claims = json!({
        "aud": resource,
        "appid": client.id,
        "azp": client.id,
        "oid": oid,
        "sub": oid,
        "tid": options.tenant,
        "scp": scopes.join(" "),
        "idtyp": "user",
        "ver": "2.0",
    });
    if let Some(challenged) = entra::claims(request)? {
        claims["requested_claims"] = challenged.into();
    }
    let (token, lifetime) = shared.issue(request, assertion, claims);
    Ok(json!({
        "token_type": "Bearer",
        "scope": scopes.iter().map(|s| format!("{resource}/{s}")).collect::<Vec<_>>().join(" "),
        "expires_in": lifetime.as_secs(),
        "ext_expires_in": lifetime.as_secs(),
        "access_token": token,
    }))
}

/// One known resource, and the scopes of it: `.default` or delegated ones.
fn delegated<'s>(scope: &'s str, options: &Options) -> Result<(&'s str, Vec<&'s str>), Refused> {
    let invalid = || {
        Refused::aadsts(
            70011,
            format!(
                "The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."
            ),
        )
    };
    let mut resource = None;
    let mut scopes = Vec::new();
    for one in scope.split(' ') {
        let (of, name) = one.rsplit_once('/').ok_or_else(invalid)?;
        if *resource.get_or_insert(of) != of {
            return Err(Refused::aadsts(
                28000,
                "Provided value for the input parameter scope is not valid because it contains more than one resource.",
            ));
        }
        scopes.push(name);
    }
    let resource = resource.ok_or_else(invalid)?;
    if options.resources.iter().any(|known| known == resource) {
        Ok((resource, scopes))
    } else {
        Err(entra::unknown_resource(resource))
    }
}

/// The assertion: an access token of a user's, for this client, in its time.
fn user(
    shared: &Shared,
    options: &Options,
    client: &Client<'_>,
    assertion: &str,
) -> Result<Value, Refused> {
    let claims = keys::verify(assertion, &shared.access.jwks())
        .map_err(|_| Refused::aadsts(50013, "Assertion failed signature validation."))?;
    if claims["idtyp"] != "user" {
        return Err(Refused::aadsts(
            7000114,
            format!(
                "Application '{}' is not allowed to make application on-behalf-of calls.",
                client.id
            ),
        ));
    }
    // An agent identity's callers signed in to its blueprint.
    let audience = &claims["aud"];
    if *audience != client.audience && *audience != format!("api://{}", client.audience) {
        return Err(Refused::recorded(500131));
    }
    let now = unix_now().as_secs_f64();
    if now < claims["nbf"].as_f64().unwrap_or(f64::MAX)
        || now >= claims["exp"].as_f64().unwrap_or(0.0)
    {
        return Err(Refused::recorded(500133));
    }
    let user = claims["oid"].as_str().unwrap_or_default();
    if options.users.revoked.contains(user) {
        return Err(Refused::recorded(50173));
    }
    Ok(claims)
}

/// Consent, and Conditional Access.
fn policies(request: &TokenRequest, options: &Options, user: &Value) -> Result<(), Refused> {
    if !options.users.consented {
        return Err(Refused::recorded(65001));
    }
    if options.users.blocked {
        return Err(Refused::recorded(53003));
    }
    let strong = user["amr"]
        .as_array()
        .is_some_and(|factors| factors.iter().any(|factor| factor == "mfa"));
    if options.users.strong_only && !strong && request.field("claims").is_none() {
        return Err(Refused::recorded(50079));
    }
    Ok(())
}
