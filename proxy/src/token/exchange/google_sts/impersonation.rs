//! Impersonating a service account: one call of `generateAccessToken` of the IAM Service Account Credentials API, which speaks JSON and has errors
//! and times of its own kind.

use crate::{
    net::client::{AuthorityClient, Reply, SetupError},
    token::{
        exchange::{
            IssuedToken, TokenType,
            error::{Class, ExchangeError},
            reply, rfc3339,
        },
        params::ImpersonationParams,
    },
};
use http::{
    HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::json;
use sidecar_runtime::clock::Clock;
use std::time::Duration;
use zeroize::Zeroizing;

/// Gets tokens of a service account.
#[derive(Debug)]
pub(super) struct Impersonation {
    client: AuthorityClient,
    path: String,
    body: Vec<u8>,
    lifetime: Duration,
}

impl Impersonation {
    /// `scope` is what the token is for.
    ///
    /// # Errors
    /// When the client cannot be set up (CA file, host).
    pub(super) fn new(params: &ImpersonationParams, scope: &[String]) -> Result<Self, SetupError> {
        Ok(Self {
            client: AuthorityClient::new(
                &params.endpoint,
                params.authority.ca_file.as_deref(),
                params.authority.proxy.as_ref(),
            )?,
            path: format!(
                "/v1/projects/-/serviceAccounts/{}:generateAccessToken",
                params.service_account
            ),
            body: json!({
                "scope": scope,
                "lifetime": format!("{}s", params.lifetime.as_secs()),
            })
            .to_string()
            .into_bytes(),
            lifetime: params.lifetime,
        })
    }

    /// Exchanges a federated token for one of the service account.
    ///
    /// # Errors
    /// [`ExchangeError`], with codes `google_…` for what the API refuses.
    pub(super) async fn generate(
        &self,
        federated: &IssuedToken,
        clock: &Clock,
    ) -> Result<IssuedToken, ExchangeError> {
        let text = Zeroizing::new(format!("Bearer {}", *federated.token));
        let mut bearer =
            HeaderValue::from_str(&text).map_err(|_| ExchangeError::local("header"))?;
        bearer.set_sensitive(true);
        let headers = [
            (AUTHORIZATION, bearer),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        let reply = self
            .client
            .post_form(&self.path, &headers, Zeroizing::new(self.body.clone()))
            .await
            .map_err(|e| ExchangeError::transport(&e))?;
        let now = clock.unix_now();
        if reply.status != 200 {
            return Err(refused(&reply, now));
        }
        self.issued(&reply.body, now)
            .map_err(|e| e.at(reply.status, None))
    }

    fn issued(&self, body: &[u8], now: Duration) -> Result<IssuedToken, ExchangeError> {
        let odd = |code| {
            ExchangeError::odd_reply(
                code,
                "the IAM Credentials API answered 200 without what it documents (accessToken, expireTime); check iamEndpoint and what is in between",
            )
        };
        let body: Body = serde_json::from_slice(body).map_err(|_| odd("reply_not_json"))?;
        let token = Zeroizing::new(body.access_token.unwrap_or_default());
        if token.is_empty() {
            return Err(odd("reply_no_access_token"));
        }
        reply::check_characters(&token)?;
        let expires = body
            .expire_time
            .as_deref()
            .and_then(rfc3339::parse)
            .ok_or_else(|| odd("reply_expire_time"))?;
        // By our own clock; when that is late, the token does not live longer than was asked for.
        let lifetime = expires.saturating_sub(now).min(self.lifetime);
        if lifetime.is_zero() {
            return Err(ExchangeError::odd_reply(
                "reply_expire_time",
                "the service account's token has expired already when it comes; check this node's clock",
            ));
        }
        Ok(IssuedToken {
            token,
            token_type: TokenType::Bearer,
            lifetime,
            refresh_in: None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    access_token: Option<String>,
    expire_time: Option<String>,
}

/// Google's error model: `{"error": {"code": 403, "message": "…", "status": "PERMISSION_DENIED"}}`.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    error: ErrorStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorStatus {
    message: Option<String>,
    status: Option<String>,
}

fn refused(reply: &Reply, now: Duration) -> ExchangeError {
    let ErrorBody { error } = serde_json::from_slice(&reply.body).unwrap_or_default();
    let (code, class, mend) = match (error.status.as_deref(), reply.status) {
        (Some("RESOURCE_EXHAUSTED"), _) | (_, 429) => (
            "google_resource_exhausted",
            Class::Throttled,
            "the IAM Credentials API throttles; it is asked again later",
        ),
        (_, 500..) => (
            "google_unavailable",
            Class::Transient,
            "the IAM Credentials API is failing; it is asked again",
        ),
        (Some("PERMISSION_DENIED"), _) => (
            "google_permission_denied",
            Class::Propagation,
            "the federated identity may not impersonate the service account; grant it roles/iam.workloadIdentityUser there, and enable the IAM Service Account Credentials API; a new grant takes minutes to work",
        ),
        (Some("NOT_FOUND"), _) => (
            "google_not_found",
            Class::Permanent,
            "there is no such service account; check `serviceAccount`",
        ),
        (Some("INVALID_ARGUMENT"), _) => (
            "google_invalid_argument",
            Class::Permanent,
            "the API does not take the request; check `scope` and `lifetime` (more than 1h needs an organization policy)",
        ),
        (Some("UNAUTHENTICATED"), _) => (
            "google_unauthenticated",
            Class::Permanent,
            "the API does not take the federated token; check that `audience` and `iamEndpoint` are of the same cloud",
        ),
        _ => (
            "google_other",
            Class::Permanent,
            "the IAM Credentials API answered an error of its own; the log has its words",
        ),
    };
    ExchangeError::refused_by_api(code, class, mend, error.message.as_deref())
        .at(reply.status, reply::retry_after(&reply.headers, now))
}
