//! The request of RFC 6749 section 4.4 as it goes over the wire.

use super::*;
use crate::{
    net::raw_server::RawServer,
    token::{
        file::tests::TestDir,
        params::{AuthorityParams, ClientAuthentication, EndpointParams, TargetParams},
    },
};

#[tokio::test]
async fn the_form_says_what_for_and_basic_says_who() {
    let server =
        RawServer::json(r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).await;
    let dir = TestDir::new();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let exchanger = ClientCredentialsExchanger::new(
        ClientCredentialsParams {
            endpoint: EndpointParams {
                url: server.url().join("token?v=1").unwrap(),
                client_authentication: ClientAuthentication::ClientSecretBasic {
                    client_id: "me".into(),
                    client_secret_file: secret,
                },
                parameters: vec![("tenant".into(), "t1".into())],
                authority: AuthorityParams::default(),
            },
            target: TargetParams {
                audience: vec!["orders".into()],
                resource: vec!["https://a.example".into()],
                scope: Some("read write".into()),
            },
        },
        Binding::default(),
        Clock::system(),
    )
    .unwrap();
    let issued = exchanger
        .exchange(&SubjectTokens::default(), None)
        .await
        .unwrap();
    assert_eq!(*issued.token, "t");
    assert!(!exchanger.takes_claims());
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /token?v=1 HTTP/1.1"), "{request}");
    // echo -n 'me:s3cret' | base64
    assert!(request.contains("Basic bWU6czNjcmV0"), "{request}");
    let expected = [
        ("grant_type", "client_credentials"),
        ("resource", "https://a.example"),
        ("audience", "orders"),
        ("scope", "read write"),
        ("tenant", "t1"),
    ];
    assert_eq!(
        server.form(0),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}
