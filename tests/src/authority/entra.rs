//! Entra's v2 token endpoint for a federated client assertion: the checks in the order that decides which error is seen first.

use super::{
    Shared, TokenRequest, agent,
    error::Refused,
    on_behalf_of,
    options::{Application, FederatedCredential},
    token_proxy::BINDING_AUDIENCE,
};
use crate::keys::{self, Refused as Unverified, unix_now};
use http::header;
use serde_json::{Value, json};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Judges a request and issues a token.
pub(super) fn exchange(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let options = shared.options().clone();
    form(request)?;
    let grant = required(request, "grant_type")?;
    let tenant = request
        .path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    if tenant != options.tenant {
        return Err(Refused::aadsts(
            90002,
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            ),
        ));
    }
    let client_id = required(request, "client_id")?;
    let on_behalf_of = match grant {
        "client_credentials" => false,
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => true,
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            return Err(Refused::aadsts(
                82001,
                "The token exchange grant is not supported.",
            ));
        }
        _ => {
            return Err(Refused::aadsts(
                70003,
                format!("The app requested an unsupported grant type '{grant}'."),
            ));
        }
    };
    let agent = options
        .agent_identities
        .iter()
        .find(|agent| agent.client_id == client_id);
    let application = options
        .applications
        .iter()
        .find(|application| application.client_id == client_id);
    let (client, assertion, claims) = match (agent, application) {
        (Some(agent), _) => {
            let assertion = assertion(request)?;
            let claims = agent::prove(shared, agent, assertion)?;
            let client = Client {
                id: client_id,
                audience: &agent.blueprint,
            };
            (client, assertion, claims)
        }
        (None, Some(application)) => {
            // Which error comes first: the scope's, then the assertion's.
            if !on_behalf_of && request.field("fmi_path").is_none() {
                scope(required(request, "scope")?, &options.resources)?;
            }
            let assertion = assertion(request)?;
            let claims = federated(shared, request, application, assertion)?;
            let client = Client {
                id: client_id,
                audience: client_id,
            };
            (client, assertion, claims)
        }
        (None, None) => {
            return Err(Refused::aadsts(
                700016,
                format!(
                    "Application with identifier '{client_id}' was not found in the directory '{tenant}'."
                ),
            ));
        }
    };
    if on_behalf_of {
        return on_behalf_of::exchange(shared, request, &options, &client);
    }
    let resource = scope(required(request, "scope")?, &options.resources)?;
    if let Some(fmi_path) = request.field("fmi_path") {
        if resource != agent::EXCHANGE {
            return Err(unknown_resource(resource));
        }
        return agent::blueprint(shared, request, &options, client_id, fmi_path, assertion);
    }
    let mut access = json!({
        "aud": resource,
        "appid": client_id,
        "azp": client_id,
        "oid": "33333333-3333-4333-8333-333333333333",
        "sub": "33333333-3333-4333-8333-333333333333",
        "tid": tenant,
        "idtyp": "app",
        "ver": "2.0",
    });
    if let Some(challenged) = self::claims(request)? {
        access["requested_claims"] = challenged.into();
    }
    access["federated_subject"] = claims["sub"].clone();
    let (token, lifetime) = shared.issue(request, assertion, access);
    let mut reply = json!({
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "ext_expires_in": lifetime.as_secs(),
        "access_token": token,
    });
    if let Some(refresh_in) = options.refresh_in {
        reply["refresh_in"] = refresh_in.as_secs().into();
    }
    Ok(reply)
}

/// A client that was proven.
pub(super) struct Client<'a> {
    pub(super) id: &'a str,
    /// Which client a user's token must have been made for.
    pub(super) audience: &'a str,
}

/// The answer to a claims challenge, which must be JSON.
pub(super) fn claims(request: &TokenRequest) -> Result<Option<&str>, Refused> {
    let Some(challenged) = request.field("claims") else {
        return Ok(None);
    };
    serde_json::from_str::<Value>(challenged)
        .map_err(|_| Refused::aadsts(9002313, "The claims parameter is not JSON."))?;
    Ok(Some(challenged))
}

fn form(request: &TokenRequest) -> Result<(), Refused> {
    let is_form = request
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    let mut names: Vec<_> = request.form.iter().map(|(name, _)| name).collect();
    names.sort();
    let repeated = names.windows(2).any(|pair| pair[0] == pair[1]);
    if is_form && !repeated {
        return Ok(());
    }
    Err(Refused::aadsts(
        9002313,
        "Invalid request. Request is malformed or invalid.",
    ))
}

pub(super) fn required<'r>(request: &'r TokenRequest, name: &str) -> Result<&'r str, Refused> {
    request
        .field(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            Refused::aadsts(
                900144,
                format!("The request body must contain the following parameter: '{name}'."),
            )
        })
}

/// The resource of a `/.default` scope; one only, and known.
fn scope<'s>(scope: &'s str, resources: &[String]) -> Result<&'s str, Refused> {
    let resource = scope
        .strip_suffix("/.default")
        .filter(|resource| !resource.contains(' '))
        .ok_or_else(|| Refused::aadsts(70011, format!("The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid.")))?;
    // Entra itself is one: what is got for it is a federated assertion.
    if resource == agent::EXCHANGE || resources.iter().any(|known| known == resource) {
        return Ok(resource);
    }
    Err(unknown_resource(resource))
}

pub(super) fn unknown_resource(resource: &str) -> Refused {
    Refused::aadsts(
        500011,
        format!("The resource principal named {resource} was not found in the tenant."),
    )
}

fn assertion(request: &TokenRequest) -> Result<&str, Refused> {
    let missing = || {
        Refused::aadsts(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )
    };
    let assertion = request
        .field("client_assertion")
        .filter(|value| !value.is_empty())
        .ok_or_else(missing)?;
    match request.field("client_assertion_type") {
        Some(ASSERTION_TYPE) => Ok(assertion),
        _ => Err(Refused::aadsts(
            900144,
            "The request body must contain the following parameter: 'client_assertion_type'.",
        )),
    }
}

/// Checks the assertion's claims against the application's federated credentials, then its signature and times.
fn federated(
    shared: &Shared,
    request: &TokenRequest,
    application: &Application,
    assertion: &str,
) -> Result<Value, Refused> {
    let claims = keys::peek(assertion)
        .ok_or_else(|| Refused::aadsts(50027, "JWT token is invalid or malformed."))?;
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let (issuer, subject) = (text("iss"), text("sub"));
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if application.federated.is_empty() {
        return Err(Refused::aadsts(
            70025,
            "The client has no configured federated identity credentials.",
        ));
    }
    let expected_issuer = |issuer: &Option<String>| {
        issuer
            .clone()
            .unwrap_or_else(|| shared.issuer.url().to_owned())
    };
    let no_match = |what: &str, value: &str| {
        format!(
            "No matching federated identity record found for presented assertion {what} '{value}'. Check your federated identity credential \
             Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
        )
    };
    let by_issuer: Vec<_> = application
        .federated
        .iter()
        .filter(|one| expected_issuer(&one.issuer) == issuer)
        .collect();
    if by_issuer.is_empty() {
        return Err(Refused::aadsts(700211, no_match("issuer", &issuer)));
    }
    let by_subject: Vec<_> = by_issuer
        .iter()
        .filter(|one| one.subject == subject)
        .collect();
    if by_subject.is_empty() {
        if by_issuer
            .iter()
            .any(|one| one.subject.eq_ignore_ascii_case(&subject))
        {
            return Err(Refused::aadsts(
                7002138,
                format!("{} (only the case differs)", no_match("subject", &subject)),
            ));
        }
        return Err(Refused::aadsts(700213, no_match("subject", &subject)));
    }
    // A token proxy takes tokens of its own audience, and nobody else does.
    let fits = |one: &FederatedCredential| match request.through_token_proxy {
        true => audiences == [BINDING_AUDIENCE],
        false => audiences.contains(&one.audience.as_str()),
    };
    if !by_subject.iter().any(|one| fits(one)) {
        return Err(Refused::aadsts(
            700212,
            no_match("audience", &audiences.join(" ")),
        ));
    }
    // A managed identity's token may be an assertion too: then Entra itself is the issuer.
    let published = if issuer == shared.access.issuer() {
        shared.access.jwks()
    } else {
        shared.issuer.jwks()
    };
    match keys::verify(assertion, &published) {
        Ok(_) => {}
        Err(Unverified::Malformed) => {
            return Err(Refused::aadsts(50027, "JWT token is invalid or malformed."));
        }
        Err(Unverified::UnknownKey) => {
            return Err(Refused::aadsts(
                700027,
                "Client assertion contains an invalid signature. [Reason - The key was not found.]",
            ));
        }
        Err(Unverified::Signature) => {
            return Err(Refused::aadsts(
                700027,
                "Client assertion contains an invalid signature. [Reason - The signature does not match.]",
            ));
        }
    }
    // Entra allows five minutes of clock skew; a test of an expired assertion must not wait for that, so here there are none.
    let now = unix_now().as_secs_f64();
    if now < claims["nbf"].as_f64().unwrap_or(f64::MAX)
        || now >= claims["exp"].as_f64().unwrap_or(0.0)
    {
        return Err(Refused::aadsts(
            700024,
            "Client assertion is not within its valid time range.",
        ));
    }
    Ok(claims)
}
