//! Credentials that are put on requests in other ways than as `Authorization: Bearer`: bound to a key by DPoP, static secrets.

use super::{BACKEND as OF, config, dir, examine, examine_with};
use crate::{
    injection::{Sts, Upstream, bound_upstream, one, reply},
    lab::Lab,
};
use harness::dpop::Verifier;
use http::StatusCode;
use std::{fs, sync::Arc};

#[tokio::test]
async fn tokens_that_are_bound_to_a_key_are_got_with_a_proof() {
    let (lab, sts) = (Lab::new().await, Sts::start("DPoP", "").await);
    let exchange = |sts: &Sts| {
        format!(
            "inject: {{ tokenType: DPoP }}, tokenExchange: {{ tokenEndpoint: '{}' }}",
            sts.url()
        )
    };
    let setup = config(&lab, "", &[("backend", &exchange(&sts))]);
    let examined = examine(&setup).await;
    examined.assert(OF, "exchange", "pass", "");
    examined.assert_says(OF, "exchange", "`authorization: DPoP …`");
    // A server that binds nothing.
    let plain = Sts::start("Bearer", "").await;
    let examined = examine(&config(&lab, "", &[("backend", &exchange(&plain))])).await;
    let found = examined.step(OF, "exchange");
    assert_eq!(
        (&found["status"], &found["code"]),
        (&"fail".into(), &"reply_token_type".into()),
        "{}",
        examined.printed
    );
}

/// RFC 9449 section 9: an upstream that wants a nonce gets it at the second try, with the same token; there is no third.
#[tokio::test]
async fn a_nonce_that_the_upstream_asks_for_is_given_once() {
    let (lab, sts) = (Lab::new().await, Sts::start("DPoP", "").await);
    let setup = |upstream: &Upstream| {
        lab.aks().config(format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials: {{ backend: {{ inject: {{ tokenType: DPoP }}, tokenExchange: {{ tokenEndpoint: '{}' }} }} }}\n\
             routes: [{{ name: backend, upstream: '{}/base', credential: backend }}]\n",
            sts.url(),
            upstream.url()
        ))
    };
    let asked = ["--request", "/orders/1?key=s3cr3t"];
    let verifier = Arc::new(Verifier::default());
    let upstream = bound_upstream(&sts, &verifier).await;
    for (nonce, requests) in [(None, 1), (Some("up-1"), 2)] {
        if let Some(nonce) = nonce {
            verifier.want(nonce);
        }
        let before = upstream.got.len();
        let examined = examine_with(&setup(&upstream), &asked).await;
        examined.assert_well();
        examined.assert("route backend", "request", "pass", "");
        let got = upstream.got.since(before);
        assert_eq!(got.len(), requests, "{nonce:?}");
        for request in &got {
            assert_eq!(request.path, "/base/orders/1");
            // One exchange, whose token serves for both; and proofs are made for one request each.
            assert_eq!(one(request, "authorization"), one(&got[0], "authorization"));
        }
        if let [first, second] = &got[..] {
            assert_ne!(one(first, "dpop"), one(second, "dpop"));
        }
        assert!(!examined.printed.contains("s3cr3t"), "{}", examined.printed);
    }
    // Never content: the answer is judged as any other 401.
    let greedy = Upstream::start(Arc::new(|_| {
        let challenge = r#"DPoP error="use_dpop_nonce""#;
        let headers = [("www-authenticate", challenge), ("dpop-nonce", "another")];
        reply(StatusCode::UNAUTHORIZED, &headers, "")
    }))
    .await;
    let examined = examine_with(&setup(&greedy), &asked).await;
    examined.assert("route backend", "request", "fail", "unauthorized");
    examined.assert_says("route backend", "request", "use_dpop_nonce");
    assert_eq!(greedy.got.len(), 2);
}

#[tokio::test]
async fn static_secrets_and_where_they_are_put() {
    let (lab, dir) = (Lab::new().await, dir());
    let file = dir.join("vault");
    let vault = format!(
        "inject: {{ header: X-Vault-Token, prefix: '' }}, staticSecret: {{ file: '{}' }}",
        file.display()
    );
    let setup = config(&lab, "", &[("backend", &vault)]);
    for (content, status, part) in [
        (Some("hvs.s3cr3t\n"), "pass", "`x-vault-token: …`"),
        (None, "fail", "is not there"),
        (Some(" \n"), "fail", "it is empty"),
        (Some("\u{feff}hvs.s3cr3t"), "fail", "byte order mark"),
        (Some("two words"), "fail", "a space"),
    ] {
        fs::remove_file(&file).ok();
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let examined = examine(&setup).await;
        examined.assert(
            OF,
            "exchange",
            status,
            if status == "pass" {
                ""
            } else {
                "static_secret_unreadable"
            },
        );
        examined.assert_says(OF, "exchange", part);
        assert!(!examined.printed.contains("s3cr3t") && !examined.printed.contains("two words"));
    }
}
