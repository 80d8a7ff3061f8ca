//! Credentials that get tokens in more than one step, or from servers of every kind: those that use each other's tokens, identity bindings, Google, delegation; and what
//! servers refuse. What proves a client is in `clients`, how a token is put on requests in `injected`.

use super::{BACKEND as OF, Examined, config, dir, examine};
use crate::{
    grants_caller,
    identity_chain::{self, OTHER},
    lab::Lab,
};
use harness::{
    authority::{
        Endpoint, Fault, TokenProxy,
        google::GoogleOptions,
        options::{AGENT, CLIENT, SCOPE},
        token_proxy::BINDING_AUDIENCE,
    },
    certs::Ca,
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    process::SidecarSetup,
};
use std::fs;

fn chained(lab: &Lab) -> SidecarSetup {
    let child = format!(
        "entraClientAssertion: {{ scope: {SCOPE}, clientId: {OTHER}, subjectToken: managed-token }}"
    );
    let parent = format!("entraClientAssertion: {{ scope: {ENTRA_AUDIENCE}/.default }}");
    config(
        lab,
        "subjectTokens: { managed-token: { credential: managed } }\n",
        // The child stands first: the order is that of the chain.
        &[("other", &child), ("managed", &parent)],
    )
}

#[tokio::test]
async fn a_chain_is_walked_from_the_parent_with_the_token_that_it_got() {
    let lab = identity_chain::lab().await;
    let examined = examine(&chained(&lab)).await;
    examined.assert_well();
    for credential in ["credential managed", "credential other"] {
        examined.assert(credential, "exchange", "pass", "");
    }
    let issued = lab.authority.issued().all();
    assert_eq!(issued.len(), 2);
    assert_eq!(issued[1].subject_token, issued[0].token);
    // One authority, looked at once.
    let looks = examined
        .steps()
        .iter()
        .filter(|s| s["step"] == "http")
        .count();
    assert_eq!(looks, 1, "{}", examined.printed);
}

#[tokio::test]
async fn a_chain_ends_where_it_breaks() {
    let lab = identity_chain::lab().await;
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Aadsts(700_213));
    let examined = examine(&chained(&lab)).await;
    examined.assert("credential managed", "exchange", "fail", "aadsts_700213");
    examined.assert_blocked(
        "credential other",
        "exchange",
        "credential managed: exchange",
    );
    assert_eq!(lab.authority.requests().len(), 1);
    // The child's own federated credential: its subject is the managed identity's.
    lab.authority
        .configure(|o| o.applications[1].federated[0].subject = "another".into());
    let examined = examine(&chained(&lab)).await;
    examined.assert("credential other", "exchange", "fail", "aadsts_700213");
    examined.assert_says(
        "credential other",
        "exchange",
        "the assertion is the token of credential managed",
    );
    examined.assert_command(
        "credential other",
        "exchange",
        "<principal id of the managed identity>",
    );
}

#[tokio::test]
async fn an_agent_identity_gets_its_blueprints_token_first() {
    let lab = Lab::new().await;
    let agent = format!("entraAgentIdentity: {{ scope: {SCOPE}, agentIdentityClientId: {AGENT} }}");
    let setup = config(&lab, "", &[("agent", &agent)]);
    let examined = examine(&setup).await;
    examined.assert_well();
    examined.assert("credential agent/blueprint", "exchange", "pass", "");
    examined.assert_says(
        "credential agent/blueprint",
        "exchange",
        "is put on no request",
    );
    examined.assert("credential agent", "exchange", "pass", "");
    lab.authority
        .configure(|o| o.applications[0].federated.clear());
    let examined = examine(&setup).await;
    examined.assert(
        "credential agent/blueprint",
        "exchange",
        "fail",
        "aadsts_70025",
    );
    // A blueprint is an application, never a managed identity.
    let commands = examined.step("credential agent/blueprint", "exchange")["commands"].to_string();
    assert!(
        commands.contains(&format!(
            "az ad app federated-credential create --id {CLIENT}"
        )) && !commands.contains("az identity"),
        "{commands}"
    );
    examined.assert_blocked(
        "credential agent",
        "exchange",
        "credential agent/blueprint: exchange",
    );
}

#[tokio::test]
async fn an_identity_binding_is_walked_to_the_clusters_token_proxy() {
    const NAME: &str = "0123abcd.ests.aks";
    let lab = Lab::new().await;
    let own = Ca::named("The cluster's root").unwrap();
    let proxy = TokenProxy::start(&lab.authority, &own, NAME).await.unwrap();
    let bind = |audience: &str| {
        let token = ProjectedToken {
            audiences: vec![audience.into()],
            ..ProjectedToken::default()
        };
        lab.volume
            .write(lab.authority.issuer().mint(&token).unwrap())
            .unwrap();
    };
    bind(BINDING_AUDIENCE);
    let setup = |ca: &Ca| {
        lab.quick()
            .env(
                "AZURE_KUBERNETES_TOKEN_PROXY",
                format!("https://{}", proxy.address()),
            )
            .env("AZURE_KUBERNETES_SNI_NAME", NAME)
            .env("AZURE_KUBERNETES_CA_FILE", ca.file())
    };
    let of = format!("token proxy https://{}", proxy.address());
    let examined = examine(&setup(&own)).await;
    examined.assert_well();
    examined.assert(&of, "tls", "pass", "");
    examined.assert("subject token pod", "audience", "pass", "");
    examined.assert("credential default", "exchange", "pass", "");
    // Roots of its own, and nobody else's.
    let examined = examine(&setup(&lab.ca)).await;
    examined.assert(&of, "tls", "fail", "tls_certificate_error");
    examined.assert_says(&of, "tls", "AZURE_KUBERNETES_CA_FILE");
    examined.assert_blocked("credential default", "exchange", &format!("{of}: tls"));
    // The audience of the other way.
    bind(ENTRA_AUDIENCE);
    let examined = examine(&setup(&own)).await;
    examined.assert("subject token pod", "audience", "warn", "audience");
    examined.assert_says("subject token pod", "audience", "use-identity-binding");
}

#[tokio::test]
async fn google_is_asked_in_both_steps() {
    let google = GoogleOptions::default();
    let lab = Lab::new().await;
    let token = ProjectedToken {
        audiences: vec![google.subject_audience.clone()],
        ..ProjectedToken::default()
    };
    lab.volume
        .write(lab.authority.issuer().mint(&token).unwrap())
        .unwrap();
    let storage = |account: &str| {
        format!(
            "googleSts: {{ audience: '{}', tokenEndpoint: '{}', impersonation: {{ serviceAccount: {account}, endpoint: '{}' }} }}",
            google.provider,
            lab.authority.google_token_endpoint(),
            lab.authority.authority_host()
        )
    };
    let setup = config(
        &lab,
        "",
        &[("storage", &storage("orders@p.iam.gserviceaccount.com"))],
    );
    let examined = examine(&setup).await;
    examined.assert_well();
    examined.assert("credential storage", "exchange", "pass", "");
    let setup = config(
        &lab,
        "",
        &[("storage", &storage("nobody@p.iam.gserviceaccount.com"))],
    );
    let examined = examine(&setup).await;
    let found = examined.step("credential storage", "exchange");
    assert_eq!(found["status"], "fail", "{}", examined.printed);
    assert!(
        found["code"]
            .as_str()
            .is_some_and(|c| c.starts_with("google_")),
        "{}",
        examined.printed
    );
    examined.assert_command("credential storage", "exchange", "gcloud ");
}

#[tokio::test]
async fn refusals_of_other_servers_are_told_by_their_code() {
    let lab = Lab::new().await;
    let exchange = format!(
        "tokenExchange: {{ tokenEndpoint: '{}', audience: [api://backend] }}",
        lab.authority.token_endpoint()
    );
    let setup = config(&lab, "", &[("backend", &exchange)]);
    for (status, error) in [
        (400, "invalid_request"),
        (401, "invalid_client"),
        (400, "invalid_grant"),
        (400, "unauthorized_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
        (400, "invalid_target"),
        (400, "invalid_token"),
        (403, "access_denied"),
        (400, "slow_down"),
        (503, "temporarily_unavailable"),
    ] {
        lab.authority
            .fail_once(Endpoint::Sts, Fault::OAuth(status, error));
        let examined = examine(&setup).await;
        examined.assert(OF, "exchange", "fail", error);
        let commands = examined.step(OF, "exchange")["commands"].as_array();
        assert!(commands.is_some_and(|c| !c.is_empty()), "{error}");
    }
    lab.authority
        .fail_once(Endpoint::Sts, Fault::OAuth(400, "of_its_own"));
    let examined = examine(&setup).await;
    examined.assert(OF, "exchange", "fail", "other");
    examined.assert_says(OF, "exchange", "Refused by script.");
}

#[tokio::test]
async fn grants_with_two_tokens_or_two_servers_are_made_whole() {
    let dir = dir();
    fs::write(dir.join("secret"), "s3cr3t").unwrap();
    let lab = grants_caller::two_servers().await;
    let user = |may_act: &str| {
        let issuer = lab.authority.issuer();
        let mut claims = issuer.claims(&ProjectedToken::default());
        claims["sub"] = "user-1".into();
        claims["may_act"] = serde_json::json!({ "sub": may_act });
        fs::write(dir.join("user"), issuer.sign(&claims).unwrap()).unwrap();
    };
    let sts = lab.authority.token_endpoint();
    let (bearer, across, delegated) = (
        format!(
            "jwtBearer: {{ tokenEndpoint: '{sts}', assertion: realm, audience: [api://backend] }}"
        ),
        format!(
            "identityAssertion: {{ identityProvider: {{ tokenEndpoint: '{sts}', subjectToken: pod, resource: [api://backend] }}, authorizationServer: {{ tokenEndpoint: '{}', issuer: '{}', clientAuthentication: {{ clientSecretPost: {{ clientId: at-as, clientSecretFile: '{}' }} }} }} }}",
            lab.authority.resource_token_endpoint(),
            lab.authority.resource_issuer(),
            dir.join("secret").display()
        ),
        format!(
            "tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: user, audience: [api://backend], actorToken: {{ subjectToken: pod, requireAct: true }} }}"
        ),
    );
    let more = format!(
        "subjectTokens: {{ user: {{ file: '{0}/user' }}, realm: {{ file: '{0}/realm' }} }}\n",
        dir.path().display()
    );
    // A JWT as a grant is for the server itself.
    let realm = ProjectedToken {
        audiences: vec![lab.authority.sts_issuer()],
        ..ProjectedToken::default()
    };
    fs::write(
        dir.join("realm"),
        lab.authority.issuer().mint(&realm).unwrap(),
    )
    .unwrap();
    user(&ProjectedToken::default().subject());
    let setup = config(
        &lab,
        &more,
        &[
            ("bearer", &bearer),
            ("across", &across),
            ("delegated", &delegated),
        ],
    );
    let examined: Examined = examine(&setup).await;
    examined.assert_well();
    for name in ["bearer", "across", "delegated"] {
        examined.assert(&format!("credential {name}"), "exchange", "pass", "");
    }
    // Who may act is looked at before anything is asked.
    user("somebody-else");
    let before = lab.authority.requests().len();
    let examined = examine(&setup).await;
    examined.assert("credential delegated", "exchange", "fail", "may_act_other");
    assert_eq!(lab.authority.requests().len() - before, 3);
    // Which of the two servers refused is said.
    lab.authority
        .fail_once(Endpoint::Resource, Fault::OAuth(400, "invalid_grant"));
    let examined = examine(&setup).await;
    examined.assert("credential across", "second client", "pass", "");
    examined.assert("credential across", "exchange", "fail", "invalid_grant");
    examined.assert_says("credential across", "exchange", "authorization server: ");
}
