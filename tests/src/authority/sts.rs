//! A token endpoint for RFC 8693 with client authentication by RFC 6749 section 2.3 and RFC 7523 section 2.2.

use super::{Shared, TokenRequest, error::Refused, options::StsClient};
use crate::keys::{self, unix_now};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::header;
use serde_json::{Value, json};
use url::Url;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Judges a request and issues a token.
pub(super) fn exchange(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let options = shared.options().clone();
    let client = authenticate(shared, request, &options.sts_client)?;
    let unique = |name: &str| match request.fields(name).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).to_owned())),
        _ => Err(invalid(format!("{name} is repeated"))),
    };
    let required = |name: &str| {
        unique(name)?
            .filter(|v| !v.is_empty())
            .ok_or_else(|| invalid(format!("{name} is missing")))
    };
    if required("grant_type")? != GRANT {
        return Err(Refused::OAuth(
            "unsupported_grant_type",
            400,
            "only token exchange is supported".into(),
        ));
    }
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
    let requested = unique("requested_token_type")?;
    let issued_type = match requested.as_deref() {
        None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
        Some(JWT) => JWT,
        Some(other) => {
            return Err(invalid(format!(
                "requested_token_type {other} is not supported"
            )));
        }
    };
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
    let scope = unique("scope")?;
    for one in scope.iter().flat_map(|scope| scope.split(' ')) {
        if !options.sts_scopes.iter().any(|known| known == one) {
            return Err(Refused::OAuth(
                "invalid_scope",
                400,
                format!("{one} is not granted here"),
            ));
        }
    }
    let mut claims = json!({ "aud": audience, "sub": subject["sub"], "client_id": client });
    if audience.is_empty() {
        claims["aud"] = json!(options.resources);
    }
    if let Some(scope) = &scope {
        claims["scope"] = scope.as_str().into();
    }
    if let Some(actor) = actor {
        claims["act"] = json!({ "sub": actor["sub"], "iss": actor["iss"] });
    }
    let (token, lifetime) = shared.issue(request, &subject_token, claims);
    let mut reply = json!({
        "access_token": token,
        "issued_token_type": issued_type,
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
    });
    if let Some(refresh_in) = options.refresh_in {
        reply["refresh_in"] = refresh_in.as_secs().into();
    }
    Ok(reply)
}

fn invalid(text: impl Into<String>) -> Refused {
    Refused::OAuth("invalid_request", 400, text.into())
}

fn unauthenticated(text: &str) -> Refused {
    Refused::OAuth("invalid_client", 401, text.into())
}

/// Exactly the configured way of authenticating, and no second one beside it (RFC 6749 section 2.3).
fn authenticate(
    shared: &Shared,
    request: &TokenRequest,
    client: &StsClient,
) -> Result<Option<String>, Refused> {
    let basic = request
        .headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap_or_default());
    let (secret, assertion) = (
        request.field("client_secret"),
        request.field("client_assertion"),
    );
    let ways = usize::from(basic.is_some())
        + usize::from(secret.is_some())
        + usize::from(assertion.is_some());
    if ways > 1 {
        return Err(invalid("more than one way of client authentication"));
    }
    let claimed = request.field("client_id").map(str::to_owned);
    match client {
        StsClient::None if ways == 0 => Ok(claimed),
        StsClient::None => Err(invalid("client authentication is not wanted here")),
        StsClient::Basic { id, secret } => {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let expected = format!(
                "Basic {}",
                STANDARD.encode(format!("{}:{}", encode(id), encode(secret)))
            );
            if basic == Some(expected.as_str()) {
                Ok(Some(id.clone()))
            } else {
                Err(unauthenticated("Basic authentication failed"))
            }
        }
        StsClient::Post {
            id,
            secret: expected,
        } => {
            let known = claimed.as_ref() == Some(id) && secret == Some(expected.as_str());
            if known {
                Ok(claimed)
            } else {
                Err(unauthenticated("client_id or client_secret is wrong"))
            }
        }
        StsClient::Assertion { subject, audience } => {
            let assertion =
                assertion.ok_or_else(|| unauthenticated("client_assertion is missing"))?;
            if request.field("client_assertion_type") != Some(ASSERTION_TYPE) {
                return Err(unauthenticated("client_assertion_type is not jwt-bearer"));
            }
            let claims = cluster_token(
                shared,
                "client",
                assertion,
                JWT,
                std::slice::from_ref(audience),
            )
            .map_err(|_| unauthenticated("client_assertion is not acceptable"))?;
            if claims["sub"] == subject.as_str() {
                Ok(Some(subject.clone()))
            } else {
                Err(unauthenticated("client_assertion has another subject"))
            }
        }
    }
}

fn cluster_token(
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
