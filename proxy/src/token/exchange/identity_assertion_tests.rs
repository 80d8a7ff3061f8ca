//! The two requests of the draft as they go over the wire, and that only an ID-JAG comes from the first to the second.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        caller,
        params::{
            AuthorityParams, AuthorizationServerParams, ClientAuthentication, EndpointParams,
            IdentityProviderParams,
        },
        subject::{SubjectToken, tests::jwt},
    },
};
use std::{sync::Arc, time::Duration};

const ID_JAG: &str = r#"{"access_token":"id-jag","token_type":"N_A","expires_in":60,"issued_token_type":"urn:ietf:params:oauth:token-type:id-jag"}"#;
const OK: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;

fn public(client_id: &str) -> ClientAuthentication {
    ClientAuthentication::None {
        client_id: Some(client_id.into()),
    }
}

async fn exchange(first: &RawServer, second: &RawServer) -> Result<IssuedToken, ExchangeError> {
    let exchanger = IdentityAssertionExchanger::new(
        IdentityAssertionParams {
            identity_provider: IdentityProviderParams {
                endpoint: EndpointParams {
                    url: first.url().join("idp").unwrap(),
                    client_authentication: public("at-idp"),
                    parameters: vec![],
                    authority: AuthorityParams::default(),
                },
                subject_token: caller::NAME.into(),
                subject_token_type: "urn:ietf:params:oauth:token-type:id_token".into(),
                audience: "https://as.example".into(),
                resource: vec!["https://api.example".into()],
                scope: Some("read".into()),
            },
            authorization_server: AuthorizationServerParams {
                endpoint: EndpointParams {
                    url: second.url().join("as").unwrap(),
                    client_authentication: public("at-as"),
                    parameters: vec![("x".into(), "y".into())],
                    authority: AuthorityParams::default(),
                },
                scope: Some("read".into()),
            },
        },
        Binding::default(),
        Clock::system(),
    )
    .unwrap();
    let caller = SubjectToken::parse(jwt(100, "caller").as_bytes(), Duration::ZERO).unwrap();
    let tokens = SubjectTokens::new(vec![(caller::NAME.into(), Arc::new(caller))]);
    exchanger.exchange(&tokens, None).await
}

#[tokio::test]
async fn an_id_jag_of_the_first_is_the_grant_at_the_second() {
    let (first, second) = (RawServer::json(ID_JAG).await, RawServer::json(OK).await);
    let issued = exchange(&first, &second).await.unwrap();
    assert_eq!(
        (&**issued.token, issued.token_type),
        ("t", TokenType::Bearer)
    );
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    assert_eq!(
        first.form(0),
        pairs(&[
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange"
            ),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:id-jag"
            ),
            ("audience", "https://as.example"),
            ("resource", "https://api.example"),
            ("scope", "read"),
            ("subject_token", &jwt(100, "caller")),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:id_token"
            ),
            ("client_id", "at-idp"),
        ])
    );
    assert_eq!(
        second.form(0),
        pairs(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", "id-jag"),
            ("scope", "read"),
            ("x", "y"),
            ("client_id", "at-as"),
        ])
    );
}

#[tokio::test]
async fn what_is_no_id_jag_goes_no_further() {
    for (body, code) in [
        (OK.to_owned(), "reply_token_type"),
        (ID_JAG.replace("N_A", "Bearer"), "reply_token_type"),
        (
            ID_JAG.replace("token-type:id-jag", "token-type:access_token"),
            "reply_issued_token_type",
        ),
        (
            ID_JAG.replace("id-jag\",\"token_type", "\",\"token_type"),
            "reply_no_access_token",
        ),
    ] {
        let first = RawServer::start(move |_| reply("200 OK", "", &body)).await;
        let second = RawServer::json(OK).await;
        let error = exchange(&first, &second).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.detail().unwrap().starts_with("identity provider:"));
        assert!(second.requests().is_empty());
    }
}
