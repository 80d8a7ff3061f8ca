//! What can be told without a caller: of credentials that are made for callers whether the client is accepted, and of the inbound side whether tokens could be verified.

use super::{Examined, examine};
use crate::{inbound_lab::InboundLab, injection::Sts, lab::Lab};
use harness::{
    authority::{
        Endpoint, Options, StsClient,
        options::{AGENT, RESOURCE},
    },
    caller_issuer::Discovery,
    certs::Ca,
    process::SidecarSetup,
    temp::TempDir,
};
use std::fs;

const OF: &str = "credential backend";
const ACCEPTED: &str = "client accepted";

/// A sidecar in front of a workload, with one credential for callers.
fn setup(lab: &Lab, credential: &str) -> SidecarSetup {
    let issuer = lab.authority.issuer().url();
    lab.aks().config(format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\n\
         inbound: {{ listen: '{{inbound}}', upstream: 'http://127.0.0.1:1', resource: 'https://mcp.example.com/mcp', issuers: [{{ issuer: '{issuer}', jwksUri: '{issuer}openid/v1/jwks' }}] }}\n\
         credentials: {{ backend: {{ {credential} }} }}\n\
         routes: [{{ name: backend, upstream: '{}', credential: backend }}]\n",
        lab.upstream.url()
    ))
}

/// What is said of the exchange itself, whatever else is found.
#[track_caller]
fn assert_not_looked_at(examined: &Examined) {
    examined.assert(OF, "exchange", "skip", "");
    examined.assert_says(OF, "exchange", "not looked at here");
}

#[tokio::test]
async fn entra_accepts_the_client_or_says_why_not() {
    let lab = Lab::new().await;
    let obo = format!("entraOnBehalfOf: {{ scope: '{RESOURCE}/orders.read' }}");
    let setup = setup(&lab, &obo);
    let examined = examine(&setup).await;
    examined.assert_well();
    examined.assert(OF, ACCEPTED, "pass", "");
    assert_not_looked_at(&examined);
    // By asking for itself, as the client that it is; nobody's token was made up.
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.field("grant_type"), Some("client_credentials"));
    assert_eq!(
        (lab.authority.requests().len(), request.field("assertion")),
        (1, None)
    );
    lab.authority
        .configure(|o| o.applications[0].federated[0].subject = "another".into());
    let examined = examine(&setup).await;
    examined.assert(OF, ACCEPTED, "fail", "aadsts_700213");
    // On behalf of somebody there are no managed identities.
    let commands = examined.step(OF, ACCEPTED)["commands"].to_string();
    assert!(
        commands.contains("az ad app federated-credential create")
            && !commands.contains("az identity"),
        "{commands}"
    );
    // What the client may have for itself is another matter.
    lab.authority.configure(|o| {
        *o = Options {
            resources: vec![],
            ..Options::default()
        }
    });
    let examined = examine(&setup).await;
    examined.assert(OF, ACCEPTED, "skip", "");
    examined.assert_says(OF, ACCEPTED, "cannot be told without a caller");
}

#[tokio::test]
async fn an_agent_identity_for_callers_is_looked_at_up_to_its_own_token() {
    let lab = Lab::new().await;
    let agent = format!(
        "entraAgentIdentity: {{ scope: '{RESOURCE}/orders.read', agentIdentityClientId: {AGENT}, onBehalfOf: caller }}"
    );
    let examined = examine(&setup(&lab, &agent)).await;
    examined.assert_well();
    examined.assert("credential backend/blueprint", "exchange", "pass", "");
    examined.assert(OF, ACCEPTED, "pass", "");
    assert_not_looked_at(&examined);
}

#[tokio::test]
async fn another_server_tells_by_how_it_refuses_what_is_no_token() {
    let dir = TempDir::new("token-sidecar-check").unwrap();
    let secret = dir.join("secret");
    fs::write(&secret, "s3cr3t").unwrap();
    let lab = Lab::with(Options {
        sts_client: StsClient::Basic {
            id: "me".into(),
            secret: "s3cr3t".into(),
        },
        ..Options::default()
    })
    .await;
    let sts = lab.authority.token_endpoint();
    let authentication = format!(
        "clientAuthentication: {{ clientSecretBasic: {{ clientId: me, clientSecretFile: '{}' }} }}",
        secret.display()
    );
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for grant in [
        format!(
            "tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: caller, subjectTokenType: '{jwt}', audience: [api://backend], {authentication} }}"
        ),
        format!(
            "jwtBearer: {{ tokenEndpoint: '{sts}', assertion: caller, audience: [api://backend], {authentication} }}"
        ),
    ] {
        let setup = setup(&lab, &grant);
        fs::write(&secret, "s3cr3t").unwrap();
        let examined = examine(&setup).await;
        examined.assert_well();
        examined.assert(OF, ACCEPTED, "pass", "");
        assert_not_looked_at(&examined);
        let before = lab.authority.issued().len();
        fs::write(&secret, "another").unwrap();
        let examined = examine(&setup).await;
        examined.assert(OF, ACCEPTED, "fail", "invalid_client");
        assert_eq!(lab.authority.issued().len(), before);
        // Its files are looked at like any other's.
        fs::remove_file(&secret).unwrap();
        let examined = examine(&setup).await;
        examined.assert(OF, "client", "fail", "client_secret_unreadable");
        examined.assert_blocked(OF, "exchange", "credential backend: client");
    }
    // One that believes anything.
    fs::write(&secret, "s3cr3t").unwrap();
    let anything = Sts::start("Bearer", "").await;
    let grant = format!(
        "tokenExchange: {{ tokenEndpoint: '{}', subjectToken: caller, subjectTokenType: '{jwt}', audience: [api://backend], {authentication} }}",
        anything.url()
    );
    let examined = examine(&setup(&lab, &grant)).await;
    examined.assert(OF, ACCEPTED, "warn", "accepts_anything");
    // Nobody authenticates: nothing to be told, and nothing is sent.
    let grant = format!(
        "tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: caller, subjectTokenType: '{jwt}', audience: [api://backend] }}"
    );
    let before = lab.authority.requests().len();
    let examined = examine(&setup(&lab, &grant)).await;
    examined.assert(OF, ACCEPTED, "skip", "");
    assert_eq!(lab.authority.requests().len(), before);
    assert_eq!(
        lab.authority
            .requests()
            .count(|r| r.endpoint == Endpoint::Entra),
        0
    );
}

/// The configuration of an inbound side alone.
fn inbound(config: String) -> SidecarSetup {
    SidecarSetup::default().config(config)
}

#[tokio::test]
async fn keys_of_issuers_are_had_and_fit() {
    for discovery in [Discovery::OpenId, Discovery::OAuth] {
        let lab = InboundLab::with(discovery).await;
        let examined = examine(&inbound(lab.config(""))).await;
        examined.assert_well();
        let of = format!("inbound issuer {}", lab.issuer.url());
        examined.assert(&of, "keys", "pass", "");
        examined.assert_says(&of, "keys", "1 key, for RS256");
        examined.assert(&of, "audience", "pass", "");
        examined.assert("inbound", "resource", "pass", "");
        examined.assert("inbound", "workload", "pass", "");
        assert_eq!(lab.workload.received().len(), 0);
    }
}

#[tokio::test]
async fn what_keeps_tokens_from_being_verified_is_told() {
    let lab = InboundLab::new().await;
    let (url, ca) = (lab.issuer.url().to_owned(), lab.ca.file());
    let of = format!("inbound issuer {url}");
    let only = lab.config_for(&format!(
        "issuers: [{{ issuer: '{url}', caFile: '{}', algorithms: [ES256] }}]",
        ca.display()
    ));
    let examined = examine(&inbound(only)).await;
    examined.assert(&of, "keys", "fail", "no_key_for_algorithms");
    examined.assert_says(&of, "keys", "only accepted with ES256");
    // The metadata is somebody else's: a trailing slash is enough.
    let slash = lab.config_for(&format!(
        "issuers: [{{ issuer: '{url}/', caFile: '{}' }}]",
        ca.display()
    ));
    let examined = examine(&inbound(slash)).await;
    examined.assert(&format!("{of}/"), "keys", "fail", "other_issuer");
    examined.assert_command(
        &format!("{of}/"),
        "keys",
        "/.well-known/openid-configuration",
    );
    // Not trusted, not there.
    let untrusted = lab.config_for(&format!("issuers: [{{ issuer: '{url}' }}]"));
    let other = Ca::new().unwrap();
    let examined = examine(&inbound(untrusted).env("SSL_CERT_FILE", other.file())).await;
    let place = examined.authority();
    examined.assert(&place, "tls", "fail", "tls_certificate_error");
    examined.assert_blocked(&of, "keys", &format!("{place}: tls"));
    lab.issuer.set_down(true);
    let examined = examine(&inbound(lab.config(""))).await;
    examined.assert(&of, "keys", "fail", "status");
}

#[tokio::test]
async fn what_no_token_of_entra_says_is_told_without_asking_it() {
    let lab = InboundLab::new().await;
    let common = "https://login.microsoftonline.com/common/v2.0";
    // Nobody here resolves the cloud.
    let config = lab.config_for(&format!("issuers: [{{ issuer: '{common}', jwksUri: 'https://no-such-host.invalid/keys', caFile: '{}' }}]", lab.ca.file().display()));
    let examined = examine(&inbound(config)).await;
    let of = format!("inbound issuer {common}");
    examined.assert(&of, "issuer", "fail", "issuer_of_no_token");
    examined.assert(&of, "audience", "warn", "audience");
    examined.assert_says(&of, "audience", "client id");
    examined.assert(
        "authority https://no-such-host.invalid",
        "dns",
        "fail",
        "dns_error",
    );
    examined.assert_blocked(&of, "keys", "authority https://no-such-host.invalid: dns");
}

#[tokio::test]
async fn a_workload_that_is_not_beside_the_doctor_is_no_failure() {
    let lab = Lab::new().await;
    let examined = examine(&setup(
        &lab,
        &format!("entraOnBehalfOf: {{ scope: '{RESOURCE}/orders.read' }}"),
    ))
    .await;
    examined.assert("inbound", "workload", "skip", "");
    examined.assert_well();
}
