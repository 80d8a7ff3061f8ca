//! Identity assertion JWT authorization grant: an ID-JAG from the identity provider, an access token for it from another domain's
//! authorization server, each with a client authentication of its own.

use crate::{
    grants_client::revoke,
    lab::{Lab, PATIENT, assert_passes, start},
};
use harness::{
    authority::{Endpoint, KeyClient, Options, StsClient},
    client_key::ClientKey,
    keys,
    temp::TempDir,
};
use jsonwebtoken::Algorithm;
use std::fs;

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

fn key_client(id: &str, key: &ClientKey) -> StsClient {
    StsClient::PrivateKeyJwt(KeyClient {
        id: id.into(),
        keys: key.jwks(),
        algorithm: Algorithm::ES256,
        key_id: None,
        certificate: None,
    })
}

fn config(lab: &Lab, dir: &TempDir, issuer: &str) -> String {
    let dir = dir.path().display();
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  backend:\n    identityAssertion:\n      \
         identityProvider: {{ tokenEndpoint: '{}', issuer: '{}', subjectToken: pod, resource: [api://backend], scope: orders.read, clientAuthentication: {{ privateKeyJwt: {{ clientId: at-idp, keyFile: '{dir}/idp.pem' }} }} }}\n      \
         authorizationServer: {{ tokenEndpoint: '{}', issuer: '{issuer}', clientAuthentication: {{ privateKeyJwt: {{ clientId: at-as, keyFile: '{dir}/as.pem' }} }} }}\n\
         routes: [{{ name: backend, upstream: '{}', credential: backend{PATIENT} }}]\n",
        lab.authority.token_endpoint(),
        lab.authority.sts_issuer(),
        lab.authority.resource_token_endpoint(),
        lab.upstream.url(),
    )
}

#[tokio::test]
async fn an_id_jag_crosses_from_one_domain_to_the_other() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let (idp, server) = (
        ClientKey::new(Algorithm::ES256).unwrap(),
        ClientKey::new(Algorithm::ES256).unwrap(),
    );
    fs::write(dir.join("idp.pem"), idp.pem()).unwrap();
    fs::write(dir.join("as.pem"), server.pem()).unwrap();
    let lab = Lab::with(Options {
        sts_client: key_client("at-idp", &idp),
        resource_client: key_client("at-as", &server),
        ..Options::default()
    })
    .await;
    let issuer = lab.authority.resource_issuer();
    let sidecar = start(&lab.aks().config(config(&lab, &dir, &issuer))).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let requests = lab.authority.requests().all();
    let [first, second] = requests.as_slice() else {
        panic!("two steps, not {}", requests.len())
    };
    assert_eq!(
        (first.endpoint, second.endpoint),
        (Endpoint::Sts, Endpoint::Resource)
    );
    assert_eq!(first.field("requested_token_type"), Some(ID_JAG));
    assert_eq!(first.field("audience"), Some(issuer.as_str()));
    let assertion = second.field("assertion").unwrap();
    let claims = keys::peek(assertion).unwrap();
    assert_eq!(claims["client_id"], "at-as");
    let received = lab.upstream.requests().last().unwrap();
    let token = received.bearer().unwrap();
    assert_ne!(token, assertion);
    assert_eq!(keys::peek(token).unwrap()["iss"], issuer.as_str());
    assert!(!sidecar.process.output().contains(assertion));
    // Another exchange gets another ID-JAG: one is good once.
    revoke(&lab);
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.requests().len(), 4);
    assert_eq!(lab.authority.refusals().len(), 0);
}

#[tokio::test]
async fn a_refusal_of_either_step_is_named_and_nothing_is_injected() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let key = ClientKey::new(Algorithm::ES256).unwrap();
    fs::write(dir.join("idp.pem"), key.pem()).unwrap();
    fs::write(dir.join("as.pem"), key.pem()).unwrap();
    let lab = Lab::with(Options {
        sts_client: key_client("at-idp", &key),
        resource_client: key_client("another", &key),
        ..Options::default()
    })
    .await;
    let issuer = lab.authority.resource_issuer();
    let sidecar = start(&lab.aks().config(config(&lab, &dir, &issuer))).await;
    sidecar.pending("invalid_client").await.unwrap();
    assert!(
        sidecar.process.output().contains("authorization server: "),
        "{}",
        sidecar.process.output()
    );
    let foreign = config(&lab, &dir, "https://other.example");
    let sidecar = start(&lab.aks().config(foreign)).await;
    sidecar.pending("invalid_target").await.unwrap();
    assert!(sidecar.process.output().contains("identity provider: "));
    assert!(lab.upstream.requests().is_empty());
}
