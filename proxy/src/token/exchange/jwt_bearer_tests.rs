//! The request of RFC 7523 section 2.1 as it goes over the wire.

use super::*;
use crate::{
    net::raw_server::RawServer,
    token::{
        caller,
        params::{AuthorityParams, ClientAuthentication, EndpointParams, TargetParams},
        subject::{SubjectToken, tests::jwt},
    },
};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn the_grant_is_one_token_and_the_client_another() {
    let server =
        RawServer::json(r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#).await;
    let exchanger = JwtBearerExchanger::new(
        JwtBearerParams {
            endpoint: EndpointParams {
                url: server.url().join("token").unwrap(),
                client_authentication: ClientAuthentication::ClientAssertion {
                    client_id: None,
                    subject_token: "pod".into(),
                },
                parameters: vec![("tenant".into(), "t1".into())],
                authority: AuthorityParams::default(),
            },
            assertion: caller::NAME.into(),
            target: TargetParams {
                audience: vec!["orders".into()],
                resource: vec!["https://a.example".into()],
                scope: Some("read".into()),
            },
        },
        Binding::default(),
        Clock::system(),
    )
    .unwrap();
    let token =
        |id| Arc::new(SubjectToken::parse(jwt(100, id).as_bytes(), Duration::ZERO).unwrap());
    let tokens = SubjectTokens::new(vec![
        (caller::NAME.into(), token("caller")),
        ("pod".into(), token("pod")),
    ]);
    exchanger.exchange(&tokens, None).await.unwrap();
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", &jwt(100, "caller")),
        ("resource", "https://a.example"),
        ("audience", "orders"),
        ("scope", "read"),
        ("tenant", "t1"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &jwt(100, "pod")),
    ];
    assert_eq!(
        server.form(0),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let without = exchanger.exchange(&SubjectTokens::default(), None).await;
    assert_eq!(without.unwrap_err().code(), "no_subject_token");
}
