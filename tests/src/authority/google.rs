//! Google's two endpoints: the Security Token Service, which takes a cluster's token for a workload identity pool, and `generateAccessToken` of the
//! IAM Service Account Credentials API, with the errors of each.

use super::{Shared, TokenRequest, error::Refused};
use crate::keys::{self, unix_now};
use http::header;
use serde_json::{Value, json};
use sidecar_runtime::clock::rfc3339;
use std::time::Duration;

/// What a federated token is good for, whatever is asked: at the upstream of these tests, nothing.
const IAM: &str = "https://iamcredentials.googleapis.com/";
const IAM_SCOPES: [&str; 2] = [
    "https://www.googleapis.com/auth/iam",
    "https://www.googleapis.com/auth/cloud-platform",
];

/// What Google knows.
#[derive(Debug, Clone)]
pub struct GoogleOptions {
    /// The pool's provider: `audience` of the exchange.
    pub provider: String,
    /// `aud` of the subject tokens.
    pub subject_audience: String,
    /// Service accounts that the pool's identities may impersonate.
    pub service_accounts: Vec<String>,
}

impl Default for GoogleOptions {
    fn default() -> Self {
        Self {
            provider: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k".into(),
            subject_audience: "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k".into(),
            service_accounts: vec!["orders@p.iam.gserviceaccount.com".into()],
        }
    }
}

fn invalid(error: &'static str, text: impl Into<String>) -> Refused {
    Refused::OAuth(error, 400, text.into())
}

/// `POST /google/v1/token`.
pub(super) fn exchange(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let options = shared.options().clone();
    let google = &options.google;
    if request.headers.contains_key(header::AUTHORIZATION) {
        return Err(invalid(
            "invalid_request",
            "Authorization header is not wanted",
        ));
    }
    let field = |name: &str| {
        request
            .field(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| invalid("invalid_request", format!("Missing required field: {name}")))
    };
    if field("grant_type")? != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return Err(invalid("unsupported_grant_type", "Unsupported grant type"));
    }
    if field("requested_token_type")? != "urn:ietf:params:oauth:token-type:access_token" {
        return Err(invalid(
            "invalid_request",
            "Unsupported requested token type",
        ));
    }
    if !["jwt", "id_token"]
        .map(|kind| format!("urn:ietf:params:oauth:token-type:{kind}"))
        .contains(&field("subject_token_type")?.to_owned())
    {
        return Err(invalid("invalid_request", "Unsupported subject token type"));
    }
    if field("audience")? != google.provider {
        return Err(invalid(
            "invalid_target",
            "The target service indicated by the \"audience\" parameters is invalid.",
        ));
    }
    let subject_token = field("subject_token")?;
    let claims = keys::verify(subject_token, &shared.issuer.jwks()).map_err(|_| {
        invalid(
            "invalid_grant",
            "The signature of the ID Token does not verify.",
        )
    })?;
    let audiences = match &claims["aud"] {
        Value::Array(many) => many.clone(),
        one => vec![one.clone()],
    };
    if !audiences.iter().any(|one| *one == google.subject_audience) {
        return Err(invalid(
            "invalid_grant",
            "The audience in ID Token [REDACTED] does not match the expected audience.",
        ));
    }
    let now = unix_now().as_secs_f64();
    if now >= claims["exp"].as_f64().unwrap_or(0.0) {
        return Err(invalid(
            "invalid_grant",
            "ID Token issued at is stale to sign-in.",
        ));
    }
    let scope = field("scope")?;
    let only_iam = scope == IAM_SCOPES[0];
    let mut access = json!({ "sub": claims["sub"], "scope": scope, "aud": [IAM] });
    if !only_iam {
        let mut audience = options.resources.clone();
        audience.push(IAM.to_owned());
        access["aud"] = json!(audience);
    }
    let (token, lifetime) = shared.issue(request, subject_token, access);
    Ok(json!({
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
    }))
}

/// `POST /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken`.
pub(super) fn generate(shared: &Shared, request: &TokenRequest) -> Result<Value, Refused> {
    let options = shared.options().clone();
    let bearer = request
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let claims = shared.access.verify(bearer, IAM).map_err(|_| {
        Refused::Google(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.".into(),
        )
    })?;
    let scoped = claims["scope"]
        .as_str()
        .is_some_and(|scope| scope.split(' ').any(|one| IAM_SCOPES.contains(&one)));
    if !scoped {
        return Err(Refused::Google(
            403,
            "PERMISSION_DENIED",
            "Request had insufficient authentication scopes.".into(),
        ));
    }
    let account = request
        .path
        .rsplit('/')
        .next()
        .and_then(|last| last.strip_suffix(":generateAccessToken"))
        .unwrap_or_default();
    if !options
        .google
        .service_accounts
        .iter()
        .any(|known| known == account)
    {
        return Err(Refused::Google(
            403,
            "PERMISSION_DENIED",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).".into(),
        ));
    }
    let body = &request.json;
    let lifetime = body["lifetime"]
        .as_str()
        .and_then(|text| text.strip_suffix('s'))
        .and_then(|text| text.parse().ok())
        .map(Duration::from_secs)
        .filter(|lifetime| *lifetime <= Duration::from_secs(3600));
    let scopes = body["scope"].as_array().filter(|scopes| !scopes.is_empty());
    let (Some(lifetime), Some(scopes)) = (lifetime, scopes) else {
        return Err(Refused::Google(
            400,
            "INVALID_ARGUMENT",
            "Request contains an invalid argument.".into(),
        ));
    };
    let access = json!({
        "aud": options.resources,
        "sub": account,
        "email": account,
        "scope": scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
    });
    let (token, _) = shared.issue_for(request, bearer, access, lifetime);
    Ok(json!({ "accessToken": token, "expireTime": rfc3339(unix_now() + lifetime) }))
}
