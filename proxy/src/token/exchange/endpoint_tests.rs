//! A request that is sent twice: what is good once is made anew.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        dpop::Prover,
        exchange::TokenType,
        file::tests::TestDir,
        params::{AuthorityParams, PrivateKeyJwtParams},
    },
};
use rcgen::KeyPair;

#[tokio::test]
async fn an_authority_that_wants_a_nonce_gets_another_client_assertion_too() {
    let dir = TestDir::new();
    let key_file = dir.path().join("key.pem");
    std::fs::write(&key_file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let server = RawServer::start(|number| match number {
        0 => reply(
            "400 Bad Request",
            "DPoP-Nonce: n1\r\n",
            r#"{"error":"use_dpop_nonce"}"#,
        ),
        _ => reply(
            "200 OK",
            "",
            r#"{"access_token":"t","token_type":"DPoP","expires_in":60}"#,
        ),
    })
    .await;
    let clock = Clock::system();
    let endpoint = TokenEndpoint::new(
        &EndpointParams {
            url: server.url(),
            client_authentication: ClientAuthentication::PrivateKeyJwt(PrivateKeyJwtParams {
                client_id: "me".into(),
                key_file,
                algorithm: None,
                key_id: None,
                certificate_file: None,
                audience: "https://as.example".into(),
            }),
            parameters: vec![],
            authority: AuthorityParams::default(),
        },
        Binding {
            token_type: TokenType::DPoP,
            prover: Some(Arc::new(Prover::new(clock.clone()).unwrap())),
        },
        clock,
    )
    .unwrap();
    let form = Form::new().with("grant_type", "client_credentials");
    let issued = endpoint
        .request(form, &SubjectTokens::default(), Expected::AccessToken)
        .await
        .unwrap();
    assert_eq!(issued.token_type, TokenType::DPoP);
    let assertions: Vec<String> = (0..2)
        .map(|number| {
            let form = server.form(number);
            assert_eq!(form[0].1, "client_credentials");
            let (_, assertion) = form.last().cloned().unwrap();
            assertion
        })
        .collect();
    assert_eq!(server.requests().len(), 2);
    assert_ne!(assertions[0], assertions[1]);
}
