//! Whether a token whose signature is good is one for this server, now, with the rights that are asked for. Pure: no clock, no keys.

use super::{
    Refusal,
    jwt::Jwt,
    params::{IssuerParams, RequiredClaim, VerifyParams},
};
use serde_json::Value;
use std::time::Duration;

/// Kinds of JWT that `typ` may name when no kind is asked for: what access tokens come as. Others (`logout+jwt`, `dpop+jwt`,
/// `oauth-id-jag+jwt`, …) say themselves that they are something else (RFC 8725 section 3.11).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Checks everything but the signature. `now` since the epoch.
///
/// # Errors
/// The [`Refusal`]. [`Refusal::Scope`] comes last: it alone tells of a token that is good as such.
pub fn check(
    jwt: &Jwt<'_>,
    issuer: &IssuerParams,
    params: &VerifyParams,
    now: Duration,
) -> Result<(), Refusal> {
    let is_access_token = match (&issuer.typ, &jwt.typ) {
        (Some(wanted), typ) => typ.as_deref() == Some(super::jwt::media_type(wanted).as_str()),
        (None, Some(typ)) => ACCESS_TOKEN_TYPES.contains(&typ.as_str()),
        (None, None) => true,
    };
    if !is_access_token {
        return Err(Refusal::Type);
    }
    let exp = jwt
        .claims
        .get("exp")
        .and_then(numeric_date)
        .ok_or(Refusal::Malformed)?;
    if exp <= now {
        return Err(Refusal::Expired);
    }
    if let Some(nbf) = jwt.claims.get("nbf") {
        let nbf = numeric_date(nbf).ok_or(Refusal::Malformed)?;
        if nbf > now + params.leeway {
            return Err(Refusal::NotYetValid);
        }
    }
    let audience = jwt.claims.get("aud").map(values).unwrap_or_default();
    if !audience
        .iter()
        .any(|a| issuer.audiences.iter().any(|own| own == a))
    {
        return Err(Refusal::Audience);
    }
    // Bound to a key whose possession nobody has proved here (RFC 8705 section 3, RFC 9449 section 7): for all we know, a thief's.
    if jwt.claims.get("cnf").is_some_and(|cnf| !cnf.is_null()) {
        return Err(Refusal::Bound);
    }
    if !params.required_claims.iter().all(|c| has(jwt, c)) {
        return Err(Refusal::Claim);
    }
    let granted = scopes(jwt);
    if !params
        .required_scopes
        .iter()
        .all(|wanted| granted.contains(&wanted.as_str()))
    {
        return Err(Refusal::Scope);
    }
    Ok(())
}

/// `scope` (RFC 8693 section 4.2: text, separated by spaces), `scp` (such text or a list) and `roles` (RFC 9068 section 2.2.3.1; what Entra
/// grants to applications) together. An item of a list is one name, spaces or not.
fn scopes<'a>(jwt: &'a Jwt<'_>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in ["scope", "scp", "roles"] {
        match jwt.claims.get(name) {
            Some(Value::String(text)) => all.extend(text.split_ascii_whitespace()),
            Some(list) => all.extend(values(list)),
            None => {}
        }
    }
    all
}

fn has(jwt: &Jwt<'_>, wanted: &RequiredClaim) -> bool {
    let fits = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return false,
        };
        wanted.values.contains(&text)
    };
    match jwt.claims.get(&wanted.name) {
        Some(Value::Array(list)) => list.iter().any(fits),
        Some(value) => fits(value),
        None => false,
    }
}

/// One text or a list of them.
fn values(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A NumericDate (RFC 7519 section 2) may have a fraction.
fn numeric_date(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?.max(0.0)).ok()
}

#[cfg(test)]
#[path = "claims_tests.rs"]
pub(crate) mod tests;
