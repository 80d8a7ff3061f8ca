//! The grants on behalf of a caller, from the inbound listener to the upstream: the caller's token is the subject, the assertion, or what an ID-JAG is
//! got for; the workload between sees none of them.

use crate::{
    inbound_lab::{RESOURCE, send, with_token},
    lab::{Lab, PATIENT, start},
};
use harness::{
    authority::{Options, StsClient},
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    keys,
    process::Sidecar,
    temp::TempDir,
    workload::Workload,
};
use serde_json::{Value, json};
use std::fs;

/// A caller's token that the inbound side and the authority both take; with `may_act` unless that is null.
fn caller(lab: &Lab, may_act: &Value) -> String {
    let issuer = lab.authority.issuer();
    let mut claims = issuer.claims(&ProjectedToken::default());
    claims["sub"] = "user-1".into();
    claims["aud"] = json!([RESOURCE, ENTRA_AUDIENCE, lab.authority.sts_issuer()]);
    if !may_act.is_null() {
        claims["may_act"] = may_act.clone();
    }
    issuer.sign(&claims).unwrap()
}

async fn sidecar(lab: &Lab, workload: &Workload, dir: &TempDir) -> Sidecar {
    fs::write(dir.join("secret"), "s3cr3t").unwrap();
    let (sts, issuer) = (lab.authority.token_endpoint(), lab.authority.issuer().url());
    let route = |name: &str| {
        format!(
            "  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: {name}{PATIENT} }}\n",
            lab.upstream.url()
        )
    };
    let config = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\n\
         inbound: {{ listen: '{{inbound}}', upstream: '{}', resource: '{RESOURCE}', issuers: [{{ issuer: '{issuer}', jwksUri: '{issuer}openid/v1/jwks', caFile: '{}' }}] }}\n\
         credentials:\n  \
         delegated: {{ tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: caller, subjectTokenType: 'urn:ietf:params:oauth:token-type:jwt', audience: [api://backend], actorToken: {{ subjectToken: pod, requireAct: true }} }} }}\n  \
         bearer: {{ jwtBearer: {{ tokenEndpoint: '{sts}', assertion: caller, audience: [api://backend] }} }}\n  \
         across: {{ identityAssertion: {{ identityProvider: {{ tokenEndpoint: '{sts}', subjectToken: caller, resource: [api://backend] }}, authorizationServer: {{ tokenEndpoint: '{}', issuer: '{}', clientAuthentication: {{ clientSecretPost: {{ clientId: at-as, clientSecretFile: '{}' }} }} }} }} }}\n\
         routes:\n{}{}{}",
        workload.url(),
        lab.ca.file().display(),
        lab.authority.resource_token_endpoint(),
        lab.authority.resource_issuer(),
        dir.join("secret").display(),
        route("delegated"),
        route("bearer"),
        route("across"),
    );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    workload.set_backend(sidecar.listen());
    sidecar
}

/// A lab whose second authorization server knows the client `at-as` by its secret.
pub(crate) async fn two_servers() -> Lab {
    Lab::with(Options {
        resource_client: StsClient::Post {
            id: "at-as".into(),
            secret: "s3cr3t".into(),
        },
        ..Options::default()
    })
    .await
}

async fn lab() -> (Lab, Workload, TempDir) {
    let lab = two_servers().await;
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    (lab, Workload::start().await.unwrap(), dir)
}

#[tokio::test]
async fn each_grant_exchanges_the_callers_token_and_the_workload_sees_none() {
    let (lab, workload, dir) = lab().await;
    let sidecar = sidecar(&lab, &workload, &dir).await;
    let token = caller(&lab, &json!(null));
    let pod = ProjectedToken::default().subject();
    for (name, field, requests) in [
        ("delegated", "subject_token", 1),
        ("bearer", "assertion", 1),
        ("across", "subject_token", 2),
    ] {
        lab.authority.requests().clear();
        let path = format!("/call?path=/{name}/x");
        send(&sidecar, with_token(&path, &token)).await;
        let asked = lab.authority.requests().all();
        assert_eq!(asked.len(), requests, "{name}");
        assert_eq!(asked[0].field(field), Some(token.as_str()), "{name}");
        let received = lab.upstream.requests().last().unwrap();
        assert_eq!(received.path(), format!("/{name}/x"));
        assert_eq!(received.verified, Some(Ok(())), "{name}");
        let bearer = received.bearer().unwrap();
        let claims = keys::peek(bearer).unwrap();
        assert_eq!(claims["sub"], "user-1", "{name}");
        let actor = if name == "delegated" {
            json!(pod)
        } else {
            Value::Null
        };
        assert_eq!(claims["act"]["sub"], actor, "{name}");
        let handed = workload.received().last().unwrap();
        for secret in [token.as_str(), bearer] {
            assert!(!format!("{:?}", handed.headers).contains(secret), "{name}");
            assert!(!sidecar.process.output().contains(secret), "{name}");
        }
    }
}

#[tokio::test]
async fn a_caller_who_lets_another_act_is_refused_before_anything_is_asked() {
    let (lab, workload, dir) = lab().await;
    let sidecar = sidecar(&lab, &workload, &dir).await;
    let token = caller(&lab, &json!({ "sub": "somebody" }));
    let answer = send(&sidecar, with_token("/call?path=/delegated/x", &token)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(lab.authority.requests().is_empty(), "nothing was asked");
    assert!(lab.upstream.requests().is_empty());
    // For a caller who lets the pod act it works, beside that one.
    let pod = ProjectedToken::default().subject();
    let token = caller(&lab, &json!({ "sub": pod }));
    send(&sidecar, with_token("/call?path=/delegated/x", &token)).await;
    assert_eq!(
        lab.upstream.requests().last().unwrap().verified,
        Some(Ok(()))
    );
}
