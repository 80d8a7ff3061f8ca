//! The life of a token that was issued for a caller, end to end: got once, replaced when it is rejected, refused with a challenge, never used once it has
//! expired.

use crate::{
    callers_lab::{Bench, issued, refused, subject},
    inbound_lab::{send, with_token},
    injection::{Got, Upstream, one, reply},
};
use harness::{
    body::full,
    wait::{LONG, eventually, within},
};
use http::StatusCode;
use std::sync::Arc;
use tokio::task::JoinSet;

/// An upstream that rejects the first token of every caller, and streams to those with another.
async fn picky() -> Upstream {
    Upstream::start(Arc::new(|got: &Got| {
        if one(got, "authorization").ends_with("-1") {
            let challenge = ("www-authenticate", r#"Bearer error="invalid_token""#);
            return reply(StatusCode::UNAUTHORIZED, &[challenge], "");
        }
        let text = "data: 1\n\ndata: 2\n\n";
        reply(
            StatusCode::OK,
            &[("content-type", "text/event-stream")],
            text,
        )
    }))
    .await
}

/// 401 -> evict -> one exchange, for streams too, and for all that are under way at once.
#[tokio::test]
async fn a_rejected_token_is_replaced_by_one_exchange_for_streams_too() {
    let bench = Arc::new(Bench::with(picky().await, "", "").await);
    let handle = bench.handle("alice").await;
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let (bench, handle) = (Arc::clone(&bench), handle.clone());
        calls.spawn(async move {
            let mut request = with_token("/events", &handle);
            if n % 2 == 0 {
                *request.method_mut() = http::Method::POST;
                *request.body_mut() = full("question");
            }
            bench.sidecar.client().send(request).await.unwrap()
        });
    }
    for answer in within(LONG, "all streams", calls.join_all()).await.unwrap() {
        assert_eq!(
            (answer.status.as_u16(), &*answer.text()),
            (200, "data: 1\n\ndata: 2\n\n")
        );
    }
    assert_eq!(bench.sts.forms.len(), 2, "one exchange, and one more");
    assert_eq!(bench.sent(), "Bearer alice-2");
}

/// 200 first calls of one caller at once, over real sockets: one exchange. (10,000 of them, and 1,000 callers: `token::caller::flight`.)
#[tokio::test]
async fn first_calls_of_one_caller_at_once_are_one_exchange() {
    let bench = Arc::new(Bench::new().await);
    let handle = bench.handle("alice").await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (bench, handle) = (Arc::clone(&bench), handle.clone());
        calls.spawn(async move { bench.call(&handle, "/orders").await.status });
    }
    let all = within(LONG, "all answers", calls.join_all()).await.unwrap();
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
    assert_eq!(bench.sts.forms.len(), 1);
}

/// A step-up reaches the caller as a challenge, through a workload that only relays what it got; it is not remembered.
#[tokio::test]
async fn a_step_up_comes_back_to_the_caller_and_is_never_cached() {
    let bench = Bench::new().await;
    bench.lab.workload.set_backend(bench.sidecar.listen());
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    bench.sts.say(|_, _| {
        let text = serde_json::json!({
            "error": "interaction_required",
            "error_description": "AADSTS50079: not for others to see",
            "claims": r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#,
        });
        refused(StatusCode::BAD_REQUEST, &text.to_string())
    });
    // What the workload gets: a marked problem.
    let handle = bench.handle("alice").await;
    let answer = bench.call(&handle, "/orders").await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.json()["type"], "urn:token-sidecar:step-up");
    assert!(!answer.header("token-sidecar-step-up").is_empty());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.text().contains("AADSTS"), "{}", answer.text());
    let challenge = answer.header("www-authenticate");
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    assert!(
        challenge.contains(r#"error="insufficient_claims""#)
            && challenge.contains(&STANDARD.encode(claims)),
        "{challenge}"
    );
    assert!(bench.upstream.got.is_empty(), "nothing was sent");
    // What the caller gets, when the workload relays it.
    let token = bench.lab.token("alice");
    let answer = send(&bench.sidecar, with_token("/call?path=/orders", &token)).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    let challenge = answer.header("www-authenticate");
    assert!(
        challenge.contains("resource_metadata=") && challenge.contains(&STANDARD.encode(claims)),
        "{challenge}"
    );
    assert_eq!(answer.header("token-sidecar-step-up"), "");
    // Consent was given, or whatever it took: the same token works now.
    bench
        .sts
        .say(|form, _| issued(&format!("{}-later", subject(form)), 3600));
    let answer = send(&bench.sidecar, with_token("/call?path=/orders", &token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(bench.sent(), "Bearer alice-later");
}

/// envoyproxy/envoy#44674: a token that has expired is never injected; while it cannot be replaced the answer is 503, for this caller alone.
#[tokio::test]
async fn an_expired_token_is_never_injected() {
    let bench = Bench::new().await;
    bench
        .sts
        .say(|form, number| issued(&format!("{}-{number}", subject(form)), 8));
    let handle = bench.handle("alice").await;
    assert_eq!(bench.call(&handle, "/orders").await.status, 200);
    bench.sts.say(|form, number| {
        if subject(form) == "alice" {
            refused(StatusCode::SERVICE_UNAVAILABLE, "{}")
        } else {
            issued(&format!("{}-{number}", subject(form)), 3600)
        }
    });
    let expired = eventually("the token to expire", || async {
        let before = bench.upstream.got.len();
        let answer = bench.call(&handle, "/orders").await;
        let sent = bench.upstream.got.len() > before;
        assert_eq!(sent, answer.status == 200);
        (!sent).then_some(answer)
    })
    .await
    .unwrap();
    assert_eq!(expired.status, 503);
    assert_eq!(expired.json()["reason"], "no_token");
    assert!(!expired.header("retry-after").is_empty());
    let bob = bench.handle("bob").await;
    assert_eq!(
        bench.call(&bob, "/orders").await.status,
        200,
        "nobody waits for another's failure"
    );
    bench
        .sts
        .say(|form, number| issued(&format!("{}-{number}", subject(form)), 3600));
    eventually("the authority to be asked again", || async {
        (bench.call(&handle, "/orders").await.status == 200).then_some(())
    })
    .await
    .unwrap();
}
