//! Client authentication at the token endpoints: RFC 6749 section 2.3, RFC 7523 sections 2.2 and 3, RFC 8705 section 2. Verifies as real
//! servers do: signature, `iss`, `sub`, `aud`, times, replay, the certificate of the connection.

use super::{
    Shared, TokenRequest,
    error::Refused,
    options::{KeyClient, StsClient},
    sts::{JWT, cluster_token, invalid},
};
use crate::keys::unix_now;
use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::header;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// As tokendings has it: an assertion lives no longer.
const LONGEST_ASSERTION: f64 = 120.0;

/// Exactly the configured way of authenticating, and no second one beside it (RFC 6749 section 2.3).
pub(super) fn authenticate(
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
        StsClient::PrivateKeyJwt(registered) => {
            let assertion = presented(request, assertion)?;
            let id = private_key_jwt(shared, request, registered, assertion)?;
            if claimed.is_some_and(|claimed| claimed != id) {
                return Err(unauthenticated("client_id is not the assertion's"));
            }
            Ok(Some(id))
        }
        StsClient::Tls { id, certificates } => {
            if ways > 0 {
                return Err(unauthenticated("mutual TLS is wanted, and nothing else"));
            }
            let shown = request
                .certificate
                .as_ref()
                .ok_or_else(|| unauthenticated("no client certificate"))?;
            if claimed.as_ref() != Some(id) {
                return Err(unauthenticated("client_id is missing or wrong"));
            }
            if certificates.contains(&thumbprint(shown)) {
                Ok(claimed)
            } else {
                Err(unauthenticated("another client's certificate"))
            }
        }
        StsClient::Assertion { subject, audience } => {
            let assertion = presented(request, assertion)?;
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

/// The assertion, of the one type that is known.
fn presented<'a>(request: &TokenRequest, assertion: Option<&'a str>) -> Result<&'a str, Refused> {
    let assertion = assertion.ok_or_else(|| unauthenticated("client_assertion is missing"))?;
    if request.field("client_assertion_type") == Some(ASSERTION_TYPE) {
        Ok(assertion)
    } else {
        Err(unauthenticated("client_assertion_type is not jwt-bearer"))
    }
}

/// Verifies an assertion that the client signed, and gives the client's id.
fn private_key_jwt(
    shared: &Shared,
    request: &TokenRequest,
    registered: &KeyClient,
    assertion: &str,
) -> Result<String, Refused> {
    let refused = |why: &str| unauthenticated(&format!("client_assertion: {why}"));
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| refused("no JWT"))?;
    if let Some(wanted) = &registered.key_id
        && header.kid.as_ref() != Some(wanted)
    {
        return Err(refused("unknown kid"));
    }
    if let Some(wanted) = &registered.certificate
        && header.x5t_s256.as_ref() != Some(wanted)
    {
        return Err(refused("another certificate"));
    }
    if header.alg != registered.algorithm {
        return Err(refused("another alg than registered"));
    }
    let mut validation = Validation::new(registered.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let claims = registered
        .keys
        .keys
        .iter()
        .filter_map(|jwk| DecodingKey::from_jwk(jwk).ok())
        .find_map(|key| jsonwebtoken::decode::<Value>(assertion, &key, &validation).ok())
        .ok_or_else(|| refused("the signature is wrong"))?
        .claims;
    if claims["iss"] != registered.id.as_str() || claims["sub"] != registered.id.as_str() {
        return Err(refused("iss and sub are not the client's id"));
    }
    let audiences = [
        shared.sts_issuer(),
        shared.resource_issuer(),
        format!("{}{}", shared.base, request.path),
    ];
    let ours = match request.path.as_str() {
        "/resource/token" => [&audiences[1], &audiences[2]],
        _ => [&audiences[0], &audiences[2]],
    };
    if !ours.iter().any(|one| claims["aud"] == one.as_str()) {
        return Err(refused("made for another audience"));
    }
    let now = unix_now().as_secs_f64();
    let time = |name: &str| claims[name].as_f64();
    let (Some(exp), Some(iat), nbf) = (time("exp"), time("iat"), time("nbf")) else {
        return Err(refused("exp or iat is missing"));
    };
    if now >= exp || iat > now || nbf.is_some_and(|nbf| nbf > now) {
        return Err(refused("expired or not yet valid"));
    }
    if exp - iat > LONGEST_ASSERTION {
        return Err(refused("lives too long"));
    }
    match claims["jti"].as_str() {
        None | Some("") => Err(refused("jti is missing")),
        Some(jti) if !shared.first_use(&format!("{} {jti}", registered.id)) => {
            Err(refused("it was used before"))
        }
        Some(_) => Ok(registered.id.clone()),
    }
}

/// `x5t#S256` of a certificate (RFC 7515 section 4.1.8).
pub(super) fn thumbprint(certificate: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, certificate))
}

fn unauthenticated(text: &str) -> Refused {
    Refused::OAuth("invalid_client", 401, text.into())
}
