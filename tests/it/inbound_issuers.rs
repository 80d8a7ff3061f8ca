//! The inbound side's issuers over real sockets: keys that roll, issuers that are down, several or false, and rules that a reload changes.

use crate::inbound_lab::{InboundLab, RESOURCE, send, with_token};
use harness::{
    caller_issuer::{CallerIssuer, Discovery},
    wait::eventually,
};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test]
async fn a_rolled_key_is_taken_over_and_a_withdrawn_one_ends_what_it_signed() {
    let lab = InboundLab::with(Discovery::OAuth).await;
    let sidecar = lab
        .sidecar(", keys: { cooldown: 1s, refreshInterval: 10s }")
        .await;
    let begun = Instant::now();
    let old = lab.token("ada");
    assert_eq!(send(&sidecar, with_token("/", &old)).await.status, 200);
    lab.issuer.roll(false).unwrap();
    let new = lab.token("ada");
    eventually("the new key to be taken over", || async {
        (send(&sidecar, with_token("/", &new)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(send(&sidecar, with_token("/", &old)).await.status, 200);
    lab.issuer.roll(true).unwrap();
    let newest = lab.token("ada");
    eventually("the newest key to be taken over", || async {
        (send(&sidecar, with_token("/", &newest)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
    for withdrawn in [&old, &new] {
        let answer = send(&sidecar, with_token("/", withdrawn)).await;
        assert_eq!(answer.status, 401, "seen before, but its key is gone");
    }
    // Not one for each of the many requests: at the start, once a second at most for those with unknown keys, and one by the interval.
    let (fetches, took) = (lab.issuer.key_fetches(), begun.elapsed());
    assert!(
        fetches as u64 <= 3 + took.as_secs(),
        "{fetches} in {took:?}"
    );
}

#[tokio::test]
async fn an_issuer_that_is_down_at_start_is_named_and_its_callers_wait() {
    let lab = InboundLab::new().await;
    lab.issuer.set_down(true);
    let sidecar = lab.started(lab.config(", keys: { cooldown: 1s }")).await;
    let pending = sidecar.pending("no keys: status").await.unwrap();
    assert!(
        pending
            .text()
            .contains(&format!("inbound issuer {}", lab.issuer.url())),
        "{}",
        pending.text()
    );
    let token = lab.token("ada");
    let answer = send(&sidecar, with_token("/", &token)).await;
    assert_eq!(answer.status, 503, "not 401: the token may be good");
    assert_eq!(answer.json()["reason"], "keys_unavailable");
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|s| s >= 1)
    );
    assert_eq!(answer.header("www-authenticate"), "");
    lab.issuer.set_down(false);
    sidecar.ready().await.unwrap();
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 200);
    // Down again: the keys are kept.
    lab.issuer.set_down(true);
    assert_eq!(
        send(&sidecar, with_token("/", &lab.token("bob")))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn several_issuers_each_for_their_own() {
    let lab = InboundLab::new().await;
    let second = CallerIssuer::start(&lab.ca, Discovery::None).await.unwrap();
    let ca = lab.ca.file().display().to_string();
    let config = lab.config_for(&format!(
        "issuers: [{{ issuer: '{}', caFile: '{ca}' }}, {{ issuer: '{}', jwksUri: '{}', caFile: '{ca}', audience: ['api://mcp'], typ: at+jwt }}]",
        lab.issuer.url(),
        second.url(),
        second.jwks_uri(),
    ));
    let sidecar = lab.ready(config).await;
    let sent = |token: String| {
        let sidecar = &sidecar;
        async move { send(sidecar, with_token("/", &token)).await.status.as_u16() }
    };
    assert_eq!(sent(lab.token("ada")).await, 200);
    assert_eq!(sent(second.token("bob", "api://mcp").unwrap()).await, 200);
    assert_eq!(sent(second.token("bob", RESOURCE).unwrap()).await, 401);
    assert_eq!(
        sent(lab.issuer.token("ada", "api://mcp").unwrap()).await,
        401
    );
    let untyped = second
        .sign_as("JWT", &second.claims("bob", "api://mcp"))
        .unwrap();
    assert_eq!(sent(untyped).await, 401);
    // One's claims under the other's key.
    let mut claims = lab.issuer.claims("ada", RESOURCE);
    claims["iss"] = json!(second.url());
    assert_eq!(sent(lab.issuer.sign(&claims).unwrap()).await, 401);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_believed() {
    let lab = InboundLab::new().await;
    lab.issuer.lie("https://evil.example");
    let sidecar = lab.started(lab.config("")).await;
    sidecar.pending("no keys: other_issuer").await.unwrap();
    assert_eq!(
        send(&sidecar, with_token("/", &lab.token("ada")))
            .await
            .status,
        503
    );
    assert_eq!(lab.issuer.key_fetches(), 0);
}

#[tokio::test]
async fn a_reload_changes_who_is_let_in_and_keeps_what_stays() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar("").await;
    let token = lab.token("ada");
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 200);
    let fetches = lab.issuer.key_fetches();
    sidecar
        .write_config(&lab.config(", requiredScopes: [admin]"))
        .unwrap();
    eventually(
        "the new rule to count, also for a token that was seen",
        || async { (send(&sidecar, with_token("/", &token)).await.status == 403).then_some(()) },
    )
    .await
    .unwrap();
    assert_eq!(
        lab.issuer.key_fetches(),
        fetches,
        "the issuer's keys were kept"
    );
    // A configuration that cannot be used changes nothing.
    let missing = lab.config_for(&format!(
        "issuers: [{{ issuer: '{}', caFile: /nowhere.pem }}]",
        lab.issuer.url()
    ));
    sidecar.write_config(&missing).unwrap();
    sidecar
        .metric("the refusal to be counted", |m| {
            m.value(
                "token_sidecar_config_reloads_total",
                &[("result", "failure")],
            ) == Some(1.0)
        })
        .await
        .unwrap();
    assert_eq!(send(&sidecar, with_token("/", &token)).await.status, 403);
    sidecar.write_config(&lab.config("")).unwrap();
    eventually("the first rule again", || async {
        (send(&sidecar, with_token("/", &token)).await.status == 200).then_some(())
    })
    .await
    .unwrap();
}
