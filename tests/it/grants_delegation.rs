//! Token exchange with an actor: who may act is checked before asking, who acts stands in the issued token.

use crate::lab::{Lab, PATIENT, assert_passes, start};
use harness::{authority::Options, issuer::ProjectedToken, keys, temp::TempDir};
use serde_json::{Value, json};
use std::fs;

/// The user's token, from the cluster's issuer, in a file; `may_act` in it unless null.
fn user(lab: &Lab, dir: &TempDir, may_act: &Value) {
    let issuer = lab.authority.issuer();
    let mut claims = issuer.claims(&ProjectedToken::default());
    claims["sub"] = "user-1".into();
    if !may_act.is_null() {
        claims["may_act"] = may_act.clone();
    }
    fs::write(dir.join("user"), issuer.sign(&claims).unwrap()).unwrap();
}

fn config(lab: &Lab, dir: &TempDir, actor: &str) -> String {
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         subjectTokens: {{ user: {{ file: '{}' }} }}\n\
         credentials: {{ backend: {{ tokenExchange: {{ tokenEndpoint: '{}', subjectToken: user, audience: [api://backend], {actor} }} }} }}\n\
         routes: [{{ name: backend, upstream: '{}', credential: backend{PATIENT} }}]\n",
        dir.join("user").display(),
        lab.authority.token_endpoint(),
        lab.upstream.url(),
    )
}

const ACTOR: &str = "actorToken: { subjectToken: pod, requireAct: true }";

#[tokio::test]
async fn the_pod_acts_for_a_subject_that_lets_it() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let lab = Lab::new().await;
    let pod = ProjectedToken::default().subject();
    let issuer = lab.authority.issuer().url().to_owned();
    for may_act in [
        json!(null),
        json!({ "sub": pod }),
        json!({ "sub": pod, "iss": issuer }),
    ] {
        user(&lab, &dir, &may_act);
        let sidecar = start(&lab.aks().config(config(&lab, &dir, ACTOR))).await;
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
        let request = lab.authority.requests().last().unwrap();
        let subject = fs::read_to_string(dir.join("user")).unwrap();
        let actor = fs::read_to_string(lab.volume.file()).unwrap();
        assert_eq!(request.field("subject_token"), Some(subject.as_str()));
        assert_eq!(request.field("actor_token"), Some(actor.as_str()));
        let received = lab.upstream.requests().last().unwrap();
        let claims = keys::peek(received.bearer().unwrap()).unwrap();
        assert_eq!(claims["sub"], "user-1");
        assert_eq!(claims["act"], json!({ "sub": pod, "iss": issuer }));
    }
}

#[tokio::test]
async fn a_subject_that_lets_another_act_is_never_sent() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let lab = Lab::new().await;
    user(
        &lab,
        &dir,
        &json!({ "sub": "system:serviceaccount:other:other" }),
    );
    let sidecar = start(&lab.aks().config(config(&lab, &dir, ACTOR))).await;
    let answer = sidecar.pending("may_act_other").await.unwrap();
    assert!(
        answer.text().contains("names another actor"),
        "{}",
        answer.text()
    );
    assert!(lab.authority.requests().is_empty(), "nothing was asked");
    // Impersonation has no actor that could be the wrong one.
    let sidecar = start(&lab.aks().config(config(&lab, &dir, ""))).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn a_token_without_the_actor_is_refused_where_one_is_required() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let lab = Lab::with(Options {
        fixed_access_token: Some("opaque".into()),
        ..Options::default()
    })
    .await;
    user(&lab, &dir, &json!(null));
    let sidecar = start(&lab.aks().config(config(&lab, &dir, ACTOR))).await;
    sidecar.pending("act_missing").await.unwrap();
    assert!(lab.upstream.requests().is_empty());
    let lax = "actorToken: { subjectToken: pod }";
    let sidecar = start(&lab.aks().config(config(&lab, &dir, lax))).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}
