//! The grants of the token endpoint beside token exchange: client credentials (RFC 6749 section 4.4) and a JWT as authorization grant (RFC 7523
//! section 2.1), here a token of the cluster issuer.

use super::{
    Shared, TokenRequest,
    error::Refused,
    sts::{JWT, asked_for, bearer, cluster_token, required},
};
use serde_json::{Value, json};

/// For a client that authenticated.
pub(super) fn client_credentials(
    shared: &Shared,
    request: &TokenRequest,
    client: Option<String>,
) -> Result<Value, Refused> {
    let authenticated = !matches!(shared.options().sts_client, super::options::StsClient::None);
    let client = client.filter(|_| authenticated).ok_or_else(|| {
        Refused::OAuth(
            "unauthorized_client",
            400,
            "client credentials are for clients that authenticate".into(),
        )
    })?;
    let mut claims = asked_for(shared, request)?;
    claims["sub"] = json!(client);
    claims["client_id"] = json!(client);
    Ok(bearer(shared, request, "", claims))
}

/// For a token of the cluster issuer whose audience is this server.
pub(super) fn jwt_bearer(
    shared: &Shared,
    request: &TokenRequest,
    client: Option<String>,
) -> Result<Value, Refused> {
    let assertion = required(request, "assertion")?;
    let audiences = [
        shared.sts_issuer(),
        format!("{}{}", shared.base, request.path),
    ];
    let subject =
        cluster_token(shared, "assertion", &assertion, JWT, &audiences).map_err(|_| {
            // RFC 7523 section 3.1.
            Refused::OAuth(
                "invalid_grant",
                400,
                "the assertion is not acceptable".into(),
            )
        })?;
    let mut claims = asked_for(shared, request)?;
    claims["sub"] = subject["sub"].clone();
    claims["client_id"] = json!(client);
    Ok(bearer(shared, request, &assertion, claims))
}
