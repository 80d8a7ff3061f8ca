//! The paths that refuse good tokens, and the challenge for bad ones.
//!
//! - `/reject-once`: 401 `invalid_token` to the first token that was ever seen here, 200 to every other
//! - `/reject-always`: 401 `invalid_token` to every token
//! - `/claims`: 401 `insufficient_claims` (as Microsoft Graph) until the token was obtained with the claims asked for

use super::{
    Denied, Shared,
    paths::{json_answer, read},
};
use crate::body::{self, Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

/// The claims that `/claims` asks for.
pub const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1726077595"},"xms_caeerror":{"value":"10012"}}}"#;

/// 401 with the challenge that fits.
pub(super) fn unauthorized(denied: Denied) -> Response<Body> {
    let challenge = match denied {
        Denied::Missing => "Bearer realm=\"echo\"".to_owned(),
        Denied::Malformed => "Bearer realm=\"echo\", error=\"invalid_request\"".to_owned(),
        Denied::Token(error) => format!(
            "Bearer realm=\"echo\", error=\"invalid_token\", error_description=\"{}\"",
            error.text()
        ),
    };
    challenged(&challenge)
}

/// Answers the paths above.
pub(super) async fn answer(
    shared: &Shared,
    request: Request<Incoming>,
    number: usize,
    path: &str,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let collected = read(shared, body, number).await;
    let rejected =
        "Bearer realm=\"echo\", error=\"invalid_token\", error_description=\"Rejected by script\"";
    match path {
        "reject-always" => return challenged(rejected),
        "reject-once" if shared.is_first(&head.headers) => return challenged(rejected),
        "claims" if shared.claims(&head.headers)["requested_claims"] != CLAIMS => {
            let claims = STANDARD.encode(CLAIMS);
            return challenged(&format!(
                "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
                 client_id=\"00000003-0000-0000-c000-000000000000\", error=\"insufficient_claims\", claims=\"{claims}\""
            ));
        }
        _ => {}
    }
    json_answer(&json!({ "accepted": true, "body": String::from_utf8_lossy(&collected.bytes) }))
}

fn challenged(challenge: &str) -> Response<Body> {
    let mut response = Response::new(body::full("unauthorized\n"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
