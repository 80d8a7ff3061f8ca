//! Entra Agent ID: a blueprint gets the token of one of its agent identities, which has no credential but that token.

use super::{
    Shared, TokenRequest,
    error::Refused,
    options::{AgentIdentity, Options},
};
use crate::keys::{self, unix_now};
use serde_json::{Value, json};

/// What such a token is for.
pub(super) const EXCHANGE: &str = "api://AzureADTokenExchange";

/// The first step: the blueprint `client_id` is proven.
pub(super) fn blueprint(
    shared: &Shared,
    request: &TokenRequest,
    options: &Options,
    client_id: &str,
    fmi_path: &str,
    assertion: &str,
) -> Result<Value, Refused> {
    let known = options
        .agent_identities
        .iter()
        .any(|agent| agent.client_id == fmi_path && agent.blueprint == client_id);
    if !known {
        return Err(Refused::aadsts(
            700016,
            format!(
                "Application with identifier '{fmi_path}' was not found in the directory '{}'.",
                options.tenant
            ),
        ));
    }
    let claims = json!({
        "aud": EXCHANGE,
        "appid": client_id,
        "fmi": fmi_path,
        "sub": format!("/eid1/c/pub/t/{}/a/{client_id}/{fmi_path}", options.tenant),
        "tid": options.tenant,
        "idtyp": "app",
    });
    let (token, lifetime) = shared.issue(request, assertion, claims);
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "ext_expires_in": lifetime.as_secs(),
        "access_token": token,
    }))
}

/// The second step: the agent identity is proven by the token of the first, and by nothing else.
pub(super) fn prove(
    shared: &Shared,
    agent: &AgentIdentity,
    assertion: &str,
) -> Result<Value, Refused> {
    let no_match = |what: &str, value: &str| {
        format!(
            "No matching federated identity record found for presented assertion {what} '{value}'."
        )
    };
    let claims = keys::verify(assertion, &shared.access.jwks()).map_err(|_| {
        let issuer = keys::peek(assertion).unwrap_or_default();
        Refused::aadsts(
            700211,
            no_match("issuer", issuer["iss"].as_str().unwrap_or_default()),
        )
    })?;
    if claims["fmi"] != agent.client_id.as_str() || claims["aud"] != EXCHANGE {
        return Err(Refused::aadsts(
            700213,
            no_match("subject", claims["sub"].as_str().unwrap_or_default()),
        ));
    }
    let now = unix_now().as_secs_f64();
    if now >= claims["exp"].as_f64().unwrap_or(0.0) {
        return Err(Refused::aadsts(
            700024,
            "Client assertion is not within its valid time range.",
        ));
    }
    Ok(claims)
}
