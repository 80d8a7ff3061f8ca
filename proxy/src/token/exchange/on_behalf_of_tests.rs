//! Entra's two-party grants on the wire: on behalf of a caller, and an agent identity's first step. What the authority makes of them is tested
//! against the development authority.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        exchange::{
            agent_blueprint::AgentBlueprintExchanger,
            error::{CallerFault, Fault},
        },
        params::{AuthorityParams, EntraAgentBlueprintParams, TenantParams},
        subject::{SubjectToken, tests::jwt},
    },
};
use std::{sync::Arc, time::Duration};
use url::Url;

const OK: &str = r#"{"token_type":"Bearer","scope":"api://orders/read","expires_in":3599,"ext_expires_in":3599,"access_token":"t"}"#;
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

fn on_behalf_of(authority_host: Url) -> OnBehalfOfExchanger {
    OnBehalfOfExchanger::new(
        EntraOnBehalfOfParams {
            tenant: TenantParams {
                authority_host,
                tenant_id: TENANT.into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "orders-api".into(),
            scope: "api://orders/read api://orders/write".into(),
            client_assertion: "pod".into(),
            assertion: "caller".into(),
        },
        Clock::system(),
    )
    .unwrap()
}

fn tokens() -> SubjectTokens {
    let token =
        |id| Arc::new(SubjectToken::parse(jwt(100, id).as_bytes(), Duration::ZERO).unwrap());
    SubjectTokens::new(vec![
        ("caller".into(), token("user")),
        ("pod".into(), token("pod")),
    ])
}

fn sorted(mut form: Vec<(String, String)>) -> Vec<(String, String)> {
    form.sort();
    form
}

fn expected(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let fields = fields
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    sorted(fields.collect())
}

#[tokio::test]
async fn the_pods_token_proves_the_client_and_the_callers_is_the_assertion() {
    let server = RawServer::json(OK).await;
    let issued = on_behalf_of(server.url())
        .exchange(&tokens(), None)
        .await
        .unwrap();
    assert_eq!(*issued.token, "t");
    assert!(
        server.requests()[0].starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token HTTP/1.1\r\n"))
    );
    assert!(
        !server.requests()[0]
            .to_ascii_lowercase()
            .contains("authorization:")
    );
    let (pod, user) = (jwt(100, "pod"), jwt(100, "user"));
    let fields = [
        ("assertion", &*user),
        ("client_assertion", &*pod),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_id", "orders-api"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "api://orders/read api://orders/write"),
    ];
    assert_eq!(sorted(server.form(0)), expected(&fields));
}

#[tokio::test]
async fn claims_go_along_when_challenged() {
    let server = RawServer::json(OK).await;
    let exchanger = on_behalf_of(server.url());
    assert!(exchanger.takes_claims());
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    exchanger.exchange(&tokens(), Some(claims)).await.unwrap();
    assert!(
        server
            .form(0)
            .contains(&("claims".to_owned(), claims.to_owned()))
    );
}

#[tokio::test]
async fn what_the_user_must_do_comes_back_with_the_claims_for_it() {
    let samples = include_str!("../../../../tests/samples/entra-errors/on-behalf-of.jsonl");
    let sample: serde_json::Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let body = sample["body"].to_string();
    let server = RawServer::start(move |_| reply("400 Bad Request", "", &body)).await;
    let error = on_behalf_of(server.url())
        .exchange(&tokens(), None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "aadsts_50079");
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Interaction));
    let claims: serde_json::Value = serde_json::from_str(error.claims().unwrap()).unwrap();
    assert_eq!(claims["access_token"]["polids"]["essential"], true);
}

#[tokio::test]
async fn without_the_callers_token_nothing_is_sent() {
    let server = RawServer::json(OK).await;
    let pod = SubjectToken::parse(jwt(100, "pod").as_bytes(), Duration::ZERO).unwrap();
    let only_pod = SubjectTokens::new(vec![("pod".into(), Arc::new(pod))]);
    let error = on_behalf_of(server.url())
        .exchange(&only_pod, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "no_subject_token");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_blueprint_names_its_agent_identity_in_fmi_path() {
    let server = RawServer::json(OK).await;
    let exchanger = AgentBlueprintExchanger::new(
        EntraAgentBlueprintParams {
            tenant: TenantParams {
                authority_host: server.url(),
                tenant_id: TENANT.into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "blueprint".into(),
            agent_identity: "agent".into(),
            client_assertion: "pod".into(),
        },
        Clock::system(),
    )
    .unwrap();
    assert!(!exchanger.takes_claims());
    exchanger.exchange(&tokens(), None).await.unwrap();
    let pod = jwt(100, "pod");
    let fields = [
        ("client_assertion", &*pod),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_id", "blueprint"),
        ("fmi_path", "agent"),
        ("grant_type", "client_credentials"),
        ("scope", "api://AzureADTokenExchange/.default"),
    ];
    assert_eq!(sorted(server.form(0)), expected(&fields));
}
