//! Google's exchange as Google's own client makes it, the impersonation after it, and what becomes of the API's errors and times.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        exchange::error::{Class, Fault},
        params::{AuthorityParams, ImpersonationParams},
        subject::{SubjectToken, tests::jwt},
    },
};
use sidecar_runtime::clock::rfc3339;
use std::{sync::Arc, time::Duration};

const FEDERATED: &str = r#"{"access_token":"federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3599}"#;
const NOW: Duration = Duration::from_secs(1_800_000_000);
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

fn params(server: &RawServer) -> GoogleStsParams {
    GoogleStsParams {
        token_endpoint: server.url().join("/v1/token").unwrap(),
        audience:
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k"
                .into(),
        scope: vec![CLOUD_PLATFORM.into()],
        subject_token: "pod".into(),
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
        impersonation: None,
        authority: AuthorityParams::default(),
    }
}

fn impersonating(server: &RawServer) -> GoogleStsParams {
    GoogleStsParams {
        impersonation: Some(ImpersonationParams {
            endpoint: server.url(),
            service_account: "orders@p.iam.gserviceaccount.com".into(),
            lifetime: Duration::from_secs(3600),
            authority: AuthorityParams::default(),
        }),
        ..params(server)
    }
}

async fn exchange(params: GoogleStsParams) -> Result<IssuedToken, ExchangeError> {
    let token = SubjectToken::parse(jwt(2_000_000_000, "a").as_bytes(), NOW).unwrap();
    GoogleStsExchanger::new(params, Clock::anchored(NOW))
        .unwrap()
        .exchange(
            &SubjectTokens::new(vec![("pod".into(), Arc::new(token))]),
            None,
        )
        .await
}

/// A federated token first, then this.
async fn then(status: &'static str, headers: &'static str, body: String) -> RawServer {
    RawServer::start(move |n| match n {
        0 => reply("200 OK", "", FEDERATED),
        _ => reply(status, headers, &body),
    })
    .await
}

fn generated(expire_time: &str) -> String {
    format!(r#"{{"accessToken":"impersonated","expireTime":"{expire_time}"}}"#)
}

#[tokio::test]
async fn the_request_is_that_of_googles_own_client() {
    let recorded = include_str!("../../../../tests/samples/rfc8693/google-auth-2.62-request.jsonl");
    let recorded: serde_json::Value = serde_json::from_str(recorded.trim()).unwrap();
    let expected: Vec<(String, String)> =
        form_urlencoded::parse(recorded["b"].as_str().unwrap().as_bytes())
            .into_owned()
            .map(|(name, value)| match &*name {
                "subject_token" => (name, jwt(2_000_000_000, "a")),
                _ => (name, value),
            })
            .collect();
    let server = RawServer::json(FEDERATED).await;
    let issued = exchange(params(&server)).await.unwrap();
    assert_eq!(*issued.token, "federated");
    assert_eq!(issued.lifetime, Duration::from_secs(3599));
    // The order too.
    assert_eq!(server.form(0), expected);
    assert_eq!(server.requests().len(), 1);
    let path = recorded["p"].as_str().unwrap();
    assert!(server.requests()[0].starts_with(&format!("POST {path} HTTP/1.1\r\n")));
    assert!(
        !server.requests()[0]
            .to_ascii_lowercase()
            .contains("\r\nauthorization:"),
        "the endpoint refuses one"
    );
}

#[tokio::test]
async fn a_service_account_is_impersonated_with_the_federated_token() {
    let expires = rfc3339(NOW + Duration::from_secs(1800));
    let server = then("200 OK", "", generated(&expires)).await;
    let issued = exchange(impersonating(&server)).await.unwrap();
    assert_eq!(*issued.token, "impersonated");
    assert_eq!(issued.token_type, TokenType::Bearer);
    // The clock has gone on a little.
    assert!(
        issued.lifetime <= Duration::from_secs(1800) && issued.lifetime > Duration::from_secs(1790)
    );
    let scope = server.form(0).into_iter().find(|(n, _)| n == "scope");
    assert_eq!(
        scope.unwrap().1,
        "https://www.googleapis.com/auth/iam",
        "the federated token can do nothing but impersonate"
    );
    let second = server.requests().remove(1);
    let (head, body) = second.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(
        "POST /v1/projects/-/serviceAccounts/orders@p.iam.gserviceaccount.com:generateAccessToken HTTP/1.1\r\n"
    ));
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: bearer federated\r\n"));
    assert!(head.contains("\r\ncontent-type: application/json\r\n"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "scope": [CLOUD_PLATFORM], "lifetime": "3600s" })
    );
}

#[tokio::test]
async fn a_token_is_not_taken_to_live_longer_than_asked_for() {
    // As when this node's clock is a day late.
    let expires = rfc3339(NOW + Duration::from_secs(90_000));
    let server = then("200 OK", "", generated(&expires)).await;
    let issued = exchange(impersonating(&server)).await.unwrap();
    assert_eq!(issued.lifetime, Duration::from_secs(3600));
}

#[tokio::test]
async fn odd_replies_of_the_api_are_clear_errors() {
    for (body, code) in [
        ("<html>".to_owned(), "reply_not_json"),
        ("{}".to_owned(), "reply_no_access_token"),
        (
            r#"{"accessToken":"","expireTime":"2030-01-01T00:00:00Z"}"#.to_owned(),
            "reply_no_access_token",
        ),
        (
            r#"{"accessToken":"a b","expireTime":"2030-01-01T00:00:00Z"}"#.to_owned(),
            "reply_bad_characters",
        ),
        (r#"{"accessToken":"t"}"#.to_owned(), "reply_expire_time"),
        (generated("soon"), "reply_expire_time"),
        (generated("2001-01-01T00:00:00Z"), "reply_expire_time"),
    ] {
        let server = then("200 OK", "", body.clone()).await;
        let error = exchange(impersonating(&server)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.fault()),
            (code, Fault::Authority),
            "{body}"
        );
    }
}

#[tokio::test]
async fn errors_of_the_api_are_named_classed_and_mendable() {
    let body = |status: &str| {
        format!(
            r#"{{"error":{{"code":1,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied; secretish","status":"{status}","details":[]}}}}"#
        )
    };
    for (http, status, code, class, fault) in [
        (
            "403 Forbidden",
            "PERMISSION_DENIED",
            "google_permission_denied",
            Class::Propagation,
            Fault::Pod,
        ),
        (
            "404 Not Found",
            "NOT_FOUND",
            "google_not_found",
            Class::Permanent,
            Fault::Pod,
        ),
        (
            "400 Bad Request",
            "INVALID_ARGUMENT",
            "google_invalid_argument",
            Class::Permanent,
            Fault::Pod,
        ),
        (
            "401 Unauthorized",
            "UNAUTHENTICATED",
            "google_unauthenticated",
            Class::Permanent,
            Fault::Pod,
        ),
        (
            "429 Too Many Requests",
            "RESOURCE_EXHAUSTED",
            "google_resource_exhausted",
            Class::Throttled,
            Fault::Authority,
        ),
        (
            "503 Service Unavailable",
            "UNAVAILABLE",
            "google_unavailable",
            Class::Transient,
            Fault::Authority,
        ),
        (
            "502 Bad Gateway",
            "",
            "google_unavailable",
            Class::Transient,
            Fault::Authority,
        ),
        (
            "418 Teapot",
            "NEW",
            "google_other",
            Class::Permanent,
            Fault::Pod,
        ),
    ] {
        let server = then(http, "Retry-After: 7\r\n", body(status)).await;
        let error = exchange(impersonating(&server)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.class(), error.fault()),
            (code, class, fault),
            "{http}"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(
            error.status().map(|s| s.to_string()).as_deref(),
            http.get(..3)
        );
        assert!(error.detail().unwrap().contains("getAccessToken"));
        assert!(!format!("{error} {error:?}").contains("secretish"));
    }
}

#[tokio::test]
async fn a_refusal_of_the_first_step_ends_the_exchange() {
    let server = RawServer::start(|_| {
        reply(
            "400 Bad Request",
            "",
            r#"{"error":"invalid_grant","error_description":"The audience in ID Token does not match."}"#,
        )
    })
    .await;
    let error = exchange(impersonating(&server)).await.unwrap_err();
    assert_eq!(error.code(), "invalid_grant");
    assert_eq!(server.requests().len(), 1);
}
