//! Credentials that run beside those in force: what is started, what is seen of it, what is taken over.

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        params::{ChainedTokenParams, GrantParams, StaticSecretParams},
        slot::Slot,
        tests::{Bench, exchanged, token},
    },
};
use std::time::Duration;
use tokio::time::timeout;

const OK: &str = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;

/// For another audience than `exchanged` has.
fn for_audience(mut credential: CredentialParams, audience: &str) -> CredentialParams {
    if let GrantParams::TokenExchange(p) = &mut credential.grant {
        p.target.audience = vec![audience.into()];
    }
    credential
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}"));
}

fn in_slot(slot: &Slot) -> bool {
    slot.load(Instant::now()).is_some()
}

#[tokio::test]
async fn what_is_staged_is_unseen_until_it_takes_over_with_the_token_that_it_has() {
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    bench.write("a");
    let before = exchanged("a", server.url());
    let mut flow = bench.start(bench.params(vec![before.clone()])).unwrap();
    let old = flow.handle("a").0;
    token(&old).await;

    let after = bench.params(vec![
        for_audience(before, "other"),
        exchanged("b", server.url()),
    ]);
    let staged = flow.stage(&after).unwrap().expect("two to start");
    assert_eq!(staged.count(), 2);
    until("their first tokens", || staged.ready()).await;
    assert_eq!(staged.waits_for(), "");
    // Nothing of it shows.
    assert!(Arc::ptr_eq(&flow.handle("a").0, &old));
    assert!(in_slot(&old));
    let names = |bench: &Bench| -> Vec<String> {
        let report = bench.readiness.report();
        report.conditions.into_iter().map(|c| c.name).collect()
    };
    assert_eq!(names(&bench), ["credential a", "subject token pod"]);
    assert!(!bench.shown().contains(r#"credential="b""#));
    let asked = server.requests().len();
    assert_eq!(asked, 3);

    flow.apply(after, Some(staged)).unwrap();
    let (fresh, _, unavailable) = flow.handle("a");
    assert!(!Arc::ptr_eq(&fresh, &old));
    assert!(in_slot(&fresh) && in_slot(&flow.handle("b").0), "at once");
    assert!(bench.readiness.report().ready, "at once");
    until("the old ones' end", || {
        names(&bench) == ["credential a", "credential b", "subject token pod"]
    })
    .await;
    until("their series", || {
        // The counter of `a` goes on where the one before was.
        [("a", 2), ("b", 1)].iter().all(|(name, exchanges)| {
            let shown = bench.shown();
            shown.contains(&format!(
                r#"issued_token_expiry_timestamp_seconds{{credential="{name}"}}"#
            )) && shown.contains(&format!(
                r#"exchanges_total{{credential="{name}",error="",result="success"}} {exchanges}"#
            ))
        })
    })
    .await;
    unavailable.inc();
    assert!(
        bench
            .shown()
            .contains(r#"token_unavailable_total{credential="a"} 1"#)
    );
    assert_eq!(
        server.requests().len(),
        asked,
        "no exchange for taking over"
    );
    // The renewer is alive, and listens to the flow's own file.
    assert_eq!(
        fresh.reject(fresh.load(Instant::now()).unwrap().serial, None),
        crate::token::slot::Rejection::Replacing
    );
    token(&fresh).await;
    assert!(
        server
            .form(asked)
            .contains(&("audience".into(), "other".into()))
    );
}

#[tokio::test]
async fn what_stays_the_same_is_not_staged() {
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    bench.write("a");
    let before = exchanged("a", server.url());
    let mut flow = bench.start(bench.params(vec![before.clone()])).unwrap();
    assert!(!flow.has_tokens());
    token(&flow.handle("a").0).await;
    assert!(flow.has_tokens());
    let mut in_another_way = before.clone();
    in_another_way.exchange_timeout = Duration::from_secs(7);
    for same in [vec![before], vec![in_another_way], vec![]] {
        assert!(flow.stage(&bench.params(same)).unwrap().is_none());
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_cannot_get_a_token_says_why_and_ends_without_a_trace() {
    let server = RawServer::start(|n| match n {
        0 => reply("200 OK", "", OK),
        _ => reply("400 Bad Request", "", r#"{"error":"invalid_target"}"#),
    })
    .await;
    let bench = Bench::new();
    bench.write("a");
    let before = exchanged("a", server.url());
    let mut flow = bench.start(bench.params(vec![before.clone()])).unwrap();
    token(&flow.handle("a").0).await;
    let after = bench.params(vec![for_audience(before, "typo")]);
    let staged = flow.stage(&after).unwrap().unwrap();
    until("a refusal", || {
        staged.waits_for().contains("invalid_target")
    })
    .await;
    assert!(
        staged.waits_for().starts_with("credential a: "),
        "{}",
        staged.waits_for()
    );
    assert!(!staged.ready());
    assert!(bench.readiness.report().ready);
    let shown = bench.shown();
    assert!(!shown.contains("invalid_target"), "{shown}");
    drop(staged);
    assert!(in_slot(&flow.handle("a").0));
    assert!(
        bench
            .shown()
            .contains(r#"issued_token_expiry_timestamp_seconds{credential="a"}"#)
    );
    // Taken over all the same, its failure is shown where it belongs.
    let staged = flow.stage(&after).unwrap().unwrap();
    until("a refusal", || {
        staged.waits_for().contains("invalid_target")
    })
    .await;
    flow.apply(after, Some(staged)).unwrap();
    assert!(!in_slot(&flow.handle("a").0));
    until("the failure", || {
        let report = bench.readiness.report();
        let told = report.conditions[0].reason.clone().unwrap_or_default();
        told.contains("invalid_target")
            && bench.shown().contains(
                r#"renewal_failing_since_timestamp_seconds{credential="a",error="invalid_target"}"#,
            )
    })
    .await;
}

#[tokio::test]
async fn a_staged_credential_uses_staged_parents_and_files_and_those_of_the_flow_afterwards() {
    let server = RawServer::start(|n| {
        let body = OK.replace("issued", &format!("issued-{n}"));
        reply("200 OK", "", &body)
    })
    .await;
    let bench = Bench::new();
    bench.write("a");
    let mut flow = bench
        .start(bench.params(vec![exchanged("a", server.url())]))
        .unwrap();
    token(&flow.handle("a").0).await;
    // A parent with a file of its own, and a child.
    let moved = bench.dir.path().join("moved");
    std::fs::write(
        &moved,
        crate::token::subject::tests::jwt(100_000_000_000, "moved"),
    )
    .unwrap();
    let using = |name: &str, subject: &str| {
        let mut credential = exchanged(name, server.url());
        if let GrantParams::TokenExchange(p) = &mut credential.grant {
            p.subject_token = subject.into();
        }
        credential
    };
    let mut after = bench.params(vec![using("child", "x"), using("parent", "other")]);
    after
        .subject_tokens
        .push(crate::token::params::SubjectTokenParams {
            name: "other".into(),
            file: moved.clone(),
        });
    after.chained_tokens = vec![ChainedTokenParams {
        name: "x".into(),
        credential: "parent".into(),
    }];
    let staged = flow.stage(&after).unwrap().unwrap();
    until("both tokens", || staged.ready()).await;
    assert!(
        server
            .form(2)
            .contains(&("subject_token".into(), "issued-1".into()))
    );
    flow.apply(after, Some(staged)).unwrap();
    until("the new subject token", || bench.readiness.report().ready).await;
    assert_eq!(server.requests().len(), 3);
    // The child hears of its parent's next token: a rejected one is got anew with it.
    let (parent, child) = (flow.handle("parent").0, flow.handle("child").0);
    parent.reject(parent.load(Instant::now()).unwrap().serial, None);
    token(&parent).await;
    child.reject(child.load(Instant::now()).unwrap().serial, None);
    token(&child).await;
    let last = server.form(server.requests().len() - 1);
    assert!(
        last.contains(&("subject_token".into(), "issued-3".into())),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_static_secret_is_staged_as_well() {
    let bench = Bench::new();
    let file = bench.dir.path().join("secret");
    let secret = |path: &std::path::Path| {
        let mut credential = exchanged("s", "http://127.0.0.1:1/".parse().unwrap());
        credential.grant = GrantParams::StaticSecret(StaticSecretParams { file: path.into() });
        bench.params(vec![credential])
    };
    let first = bench.dir.path().join("first");
    std::fs::write(&first, "one").unwrap();
    let mut flow = bench.start(secret(&first)).unwrap();
    token(&flow.handle("s").0).await;
    let staged = flow.stage(&secret(&file)).unwrap().unwrap();
    until("the fault", || {
        staged.waits_for().contains("credential s: ")
    })
    .await;
    std::fs::write(&file, "two").unwrap();
    until("the secret", || staged.ready()).await;
    flow.apply(secret(&file), Some(staged)).unwrap();
    let slot = flow.handle("s").0;
    assert_eq!(slot.load(Instant::now()).unwrap().header, "Bearer two");
    bench.write("a");
    until("readiness", || bench.readiness.report().ready).await;
    // And it is still watched, and shown where it belongs.
    std::fs::write(&file, "three").unwrap();
    until("the next secret", || {
        slot.load(Instant::now()).unwrap().header == "Bearer three"
    })
    .await;
}
