//! The requests of RFC 8693 as they go over the wire, and of real clients beside them.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        caller,
        exchange::error::{CallerFault, Class, Fault},
        file::tests::TestDir,
        params::{
            ActorTokenParams, AuthorityParams, ClientAuthentication, EndpointParams, TargetParams,
        },
        subject::{
            SubjectToken,
            tests::{jwt, jwt_with},
        },
    },
};
use std::{sync::Arc, time::Duration};

const OK: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":60,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn params(server: &RawServer) -> TokenExchangeParams {
    TokenExchangeParams {
        endpoint: EndpointParams {
            url: server.url().join("realms/x/token").unwrap(),
            client_authentication: ClientAuthentication::None { client_id: None },
            parameters: vec![],
            authority: AuthorityParams::default(),
        },
        subject_token: "pod".into(),
        subject_token_type: JWT.into(),
        requested_token_type: None,
        target: TargetParams {
            audience: vec![],
            resource: vec![],
            scope: None,
        },
        actor_token: None,
    }
}

fn tokens() -> SubjectTokens {
    let token =
        |id| Arc::new(SubjectToken::parse(jwt(100, id).as_bytes(), Duration::ZERO).unwrap());
    SubjectTokens::new(vec![
        ("pod".into(), token("pod")),
        ("other".into(), token("other")),
    ])
}

async fn exchange(params: TokenExchangeParams) -> Result<IssuedToken, ExchangeError> {
    TokenExchanger::new(params, Binding::default(), Clock::system())
        .unwrap()
        .exchange(&tokens(), None)
        .await
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_parameter_is_sent_repeatable_ones_once_for_each_value() {
    let server = RawServer::json(OK).await;
    let mut p = params(&server);
    p.endpoint.url.set_query(Some("api-version=1"));
    p.requested_token_type = Some(ACCESS_TOKEN.into());
    p.target.audience = vec!["orders".into(), "bills".into()];
    p.target.resource = vec!["https://a.example/x".into(), "https://b.example".into()];
    p.target.scope = Some("read write".into());
    p.actor_token = Some(ActorTokenParams {
        subject_token: "other".into(),
        token_type: ACCESS_TOKEN.into(),
        require_act: false,
    });
    p.endpoint.parameters = vec![
        ("connector_id".into(), "k8s".into()),
        ("connector_id".into(), "2".into()),
    ];
    p.endpoint.client_authentication = ClientAuthentication::None {
        client_id: Some("me".into()),
    };
    let issued = exchange(p).await.unwrap();
    assert_eq!(*issued.token, "t");
    assert!(server.requests()[0].starts_with("POST /realms/x/token?api-version=1 HTTP/1.1"));
    assert!(
        !server.requests()[0]
            .to_ascii_lowercase()
            .contains("authorization:")
    );
    assert_eq!(
        server.form(0),
        pairs(&[
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange"
            ),
            ("resource", "https://a.example/x"),
            ("resource", "https://b.example"),
            ("audience", "orders"),
            ("audience", "bills"),
            ("scope", "read write"),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", &jwt(100, "pod")),
            ("subject_token_type", JWT),
            ("actor_token", &jwt(100, "other")),
            ("actor_token_type", ACCESS_TOKEN),
            ("connector_id", "k8s"),
            ("connector_id", "2"),
            ("client_id", "me"),
        ])
    );
}

#[tokio::test]
async fn what_is_not_configured_is_not_sent() {
    let server = RawServer::json(OK).await;
    exchange(params(&server)).await.unwrap();
    let names: Vec<_> = server.form(0).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["grant_type", "subject_token", "subject_token_type"]);
}

#[tokio::test]
async fn claims_are_not_sent_even_when_they_are_given() {
    let server = RawServer::json(OK).await;
    let exchanger =
        TokenExchanger::new(params(&server), Binding::default(), Clock::system()).unwrap();
    assert!(!exchanger.takes_claims());
    exchanger
        .exchange(&tokens(), Some(r#"{"access_token":{}}"#))
        .await
        .unwrap();
    assert!(server.form(0).iter().all(|(n, _)| n != "claims"));
}

#[tokio::test]
async fn the_request_of_googles_own_client_can_be_made() {
    let recorded = include_str!("../../../../tests/samples/rfc8693/google-auth-2.62-request.jsonl");
    let recorded: serde_json::Value = serde_json::from_str(recorded.trim()).unwrap();
    let mut expected: Vec<(String, String)> =
        form_urlencoded::parse(recorded["b"].as_str().unwrap().as_bytes())
            .into_owned()
            .filter(|(n, _)| n != "subject_token")
            .collect();
    let field = |name: &str| expected.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let server = RawServer::json(OK).await;
    let mut p = params(&server);
    p.target.audience = vec![field("audience")];
    p.target.scope = Some(field("scope"));
    p.requested_token_type = Some(field("requested_token_type"));
    p.subject_token_type = field("subject_token_type");
    exchange(p).await.unwrap();
    let mut sent: Vec<_> = server
        .form(0)
        .into_iter()
        .filter(|(n, _)| n != "subject_token")
        .collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn clients_authenticate_as_configured_with_the_secret_read_each_time() {
    let dir = TestDir::new();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s:1 /é\n").unwrap();
    let server = RawServer::json(OK).await;
    let mut p = params(&server);
    p.endpoint.client_authentication = ClientAuthentication::ClientSecretBasic {
        client_id: "me".into(),
        client_secret_file: file.clone(),
    };
    exchange(p.clone()).await.unwrap();
    // echo -n 'me:s%3A1+%2F%C3%A9' | base64
    let line = "authorization: Basic bWU6cyUzQTErJTJGJUMzJUE5\r\n";
    assert!(
        server.requests()[0].contains(line),
        "{}",
        server.requests()[0]
    );
    assert!(
        server
            .form(0)
            .iter()
            .all(|(n, _)| !n.starts_with("client_"))
    );

    std::fs::write(&file, "rotated").unwrap();
    p.endpoint.client_authentication = ClientAuthentication::ClientSecretPost {
        client_id: "me".into(),
        client_secret_file: file.clone(),
    };
    exchange(p.clone()).await.unwrap();
    let form = server.form(1);
    assert!(form.ends_with(&pairs(&[("client_id", "me"), ("client_secret", "rotated")])));

    for unusable in [Some(" \n"), None] {
        match unusable {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let error = exchange(p.clone()).await.unwrap_err();
        assert_eq!(error.code(), "client_secret_unreadable");
        assert_eq!(error.class(), Class::Permanent);
    }
    // Nothing was sent without the secret.
    assert_eq!(server.requests().len(), 2);

    p.endpoint.client_authentication = ClientAuthentication::ClientAssertion {
        client_id: Some("me".into()),
        subject_token: "other".into(),
    };
    exchange(p).await.unwrap();
    assert!(server.form(2).ends_with(&pairs(&[
        ("client_id", "me"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ),
        ("client_assertion", &jwt(100, "other")),
    ])));
}

#[tokio::test]
async fn errors_of_the_authority_come_through() {
    let server = RawServer::start(|n| match n {
        0 => reply("400 Bad Request", "", r#"{"error":"invalid_target"}"#),
        1 => reply("503 Service Unavailable", "Retry-After: 30\r\n", "busy"),
        _ => reply("502 Bad Gateway", "", "<html>"),
    })
    .await;
    let p = params(&server);
    let error = exchange(p.clone()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("invalid_target", Class::Permanent)
    );
    let error = exchange(p.clone()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!(error.class(), Class::Throttled);
    assert_eq!(exchange(p).await.unwrap_err().code(), "http_5xx");
}

#[tokio::test]
async fn a_subject_that_lets_another_act_is_not_exchanged() {
    let server = RawServer::json(OK).await;
    let mut p = params(&server);
    p.subject_token = caller::NAME.into();
    p.actor_token = Some(ActorTokenParams {
        subject_token: "pod".into(),
        token_type: JWT.into(),
        require_act: false,
    });
    let exchanger = TokenExchanger::new(p, Binding::default(), Clock::system()).unwrap();
    let exchange = async |may_act: &str| {
        let caller = jwt_with(&format!(r#""exp":100,"sub":"user","may_act":{may_act}"#));
        let caller = SubjectToken::parse(caller.as_bytes(), Duration::ZERO).unwrap();
        let mut tokens: Vec<_> = tokens().iter().cloned().collect();
        tokens.push((caller::NAME.into(), Arc::new(caller)));
        exchanger.exchange(&SubjectTokens::new(tokens), None).await
    };
    let error = exchange(r#"{"sub":"system:serviceaccount:other:sa"}"#)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "may_act_other");
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Denied));
    assert!(error.to_string().contains("may_act"));
    assert!(server.requests().is_empty(), "nothing was asked");
    exchange(r#"{"sub":"system:serviceaccount:ns:sa"}"#)
        .await
        .unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_issued_token_names_its_actor_where_that_is_required() {
    let issued = |act: &str| {
        let token = jwt_with(&format!(r#""exp":100,"act":{act}"#));
        OK.replace("\"t\"", &format!("\"{token}\""))
    };
    let own = issued(r#"{"sub":"system:serviceaccount:ns:sa"}"#);
    let other = issued(r#"{"sub":"other","act":{"sub":"system:serviceaccount:ns:sa"}}"#);
    for (require_act, issued, code) in [
        (false, OK, None),
        (false, &*other, None),
        (true, &*own, None),
        (true, OK, Some("act_missing")),
        (true, &*other, Some("act_other")),
    ] {
        let body = issued.to_owned();
        let server = RawServer::start(move |_| reply("200 OK", "", &body)).await;
        let mut p = params(&server);
        p.actor_token = Some(ActorTokenParams {
            subject_token: "other".into(),
            token_type: JWT.into(),
            require_act,
        });
        let error = exchange(p).await.err().map(|e| e.code());
        assert_eq!(error, code, "{require_act} {issued}");
    }
}
