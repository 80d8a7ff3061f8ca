//! Entra's request as azure_identity makes it, over our transport; and what becomes of odd replies that the library itself would trip over.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        params::{AuthorityParams, TenantParams},
        subject::{SubjectToken, tests::jwt},
    },
};
use std::time::Duration;
use url::Url;

const OK: &str = r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"refresh_in":1800,"access_token":"t"}"#;
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";

fn exchanger(authority_host: Url) -> EntraExchanger {
    EntraExchanger::new(
        EntraClientAssertionParams {
            tenant: TenantParams {
                authority_host,
                tenant_id: TENANT.into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: CLIENT.into(),
            scope: "api://x/.default".into(),
            subject_token: "pod".into(),
        },
        Clock::system(),
    )
    .unwrap()
}

fn tokens() -> SubjectTokens {
    let token = SubjectToken::parse(jwt(100, "a").as_bytes(), Duration::ZERO).unwrap();
    SubjectTokens::new(vec![("pod".into(), Arc::new(token))])
}

fn recorded(n: usize) -> (String, Vec<(String, String)>) {
    let text =
        include_str!("../../../../tests/samples/entra-recorded/azure-identity-1.27-requests.jsonl");
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(n).unwrap()).unwrap();
    let form = form_urlencoded::parse(line["b"].as_str().unwrap().as_bytes()).into_owned();
    (line["p"].as_str().unwrap().to_owned(), form.collect())
}

/// With our assertion in the place of theirs.
fn with_our_assertion(form: Vec<(String, String)>) -> Vec<(String, String)> {
    form.into_iter()
        .map(|(name, value)| match &*name {
            "client_assertion" => (name, jwt(100, "a")),
            _ => (name, value),
        })
        .collect()
}

#[tokio::test]
async fn the_request_is_that_of_microsofts_own_client() {
    let server = RawServer::json(OK).await;
    let issued = exchanger(server.url())
        .exchange(&tokens(), None)
        .await
        .unwrap();
    assert_eq!(*issued.token, "t");
    assert_eq!(issued.lifetime, Duration::from_secs(3599));
    assert_eq!(issued.refresh_in, Some(Duration::from_secs(1800)));
    let (path, form) = recorded(0);
    assert!(server.requests()[0].starts_with(&format!("POST {path} HTTP/1.1\r\n")));
    assert!(server.requests()[0].contains("x-ms-client-request-id: "));
    assert_eq!(server.form(0), with_our_assertion(form));
}

#[tokio::test]
async fn claims_are_sent_when_challenged() {
    let server = RawServer::json(OK).await;
    let (path, form) = recorded(1);
    let claims = form.last().unwrap().1.clone();
    exchanger(server.url())
        .exchange(&tokens(), Some(&claims))
        .await
        .unwrap();
    assert!(server.requests()[0].starts_with(&format!("POST {path} HTTP/1.1\r\n")));
    assert_eq!(server.form(0), with_our_assertion(form));
}

#[tokio::test]
async fn each_exchange_asks_the_authority() {
    let server = RawServer::json(OK).await;
    let exchanger = exchanger(server.url());
    for _ in 0..3 {
        exchanger.exchange(&tokens(), None).await.unwrap();
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn odd_replies_are_read_by_us_and_never_retried_by_the_library() {
    let server = RawServer::start(|n| match n {
        0 => reply("502 Bad Gateway", "", "<html>Bad Gateway</html>"),
        1 => reply("429 Too Many Requests", "Retry-After: 3600\r\n", "{}"),
        2 => reply("200 OK", "", r#"{"token_type":"Bearer","expires_in":3600}"#),
        3 => reply("401 Unauthorized", "", r#"{"error":"invalid_client","error_description":"AADSTS700213: a \"quoted\"\r\nword","error_codes":[700213]}"#),
        4 => reply("200 OK", "", r#"{"token_type":"Bearer","expires_in":"60","access_token":"s"}"#),
        _ => reply("200 OK", "", r#"{"token_type":"Bearer","expires_in":9223372036854775807,"access_token":"l"}"#),
    })
    .await;
    let exchanger = exchanger(server.url());
    let mut codes = Vec::new();
    for _ in 0..4 {
        let error = exchanger.exchange(&tokens(), None).await.unwrap_err();
        codes.push((
            error.code(),
            error.status(),
            error.retry_after().map(|d| d.as_secs()),
        ));
    }
    assert_eq!(
        codes,
        [
            ("http_5xx", Some(502), None),
            ("http_429", Some(429), Some(3600)),
            ("reply_no_access_token", Some(200), None),
            ("aadsts_700213", Some(401), None),
        ]
    );
    let issued = exchanger.exchange(&tokens(), None).await.unwrap();
    assert_eq!(issued.lifetime, Duration::from_secs(60));
    exchanger.exchange(&tokens(), None).await.unwrap();
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn no_connection_is_named_as_such_and_not_retried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let error = exchanger(url).exchange(&tokens(), None).await.unwrap_err();
    assert_eq!(error.code(), "connection_refused");
    assert!(error.mend().contains("HTTPS_PROXY"));
}

#[test]
fn the_authority_host_of_any_cloud_is_taken_with_and_without_a_slash() {
    for (url, host) in [
        (
            "https://login.microsoftonline.com",
            "https://login.microsoftonline.com",
        ),
        (
            "https://login.microsoftonline.us/",
            "https://login.microsoftonline.us",
        ),
        (
            "https://login.partner.microsoftonline.cn:443/",
            "https://login.partner.microsoftonline.cn",
        ),
        ("https://localhost:8443/", "https://localhost:8443"),
    ] {
        assert_eq!(exchanger(Url::parse(url).unwrap()).authority_host(), host);
    }
}
