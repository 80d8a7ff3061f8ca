//! On behalf of callers, end to end: a caller's token comes in, the workload sees a handle, the upstream gets what was issued for that very caller. The
//! workload forwards the header that it received, as one does that was written for real tokens. How such a token ends is in `callers_tokens`.

use crate::{
    callers_lab::{Bench, Sts},
    inbound_lab::{InboundLab, client, send, with_token},
    injection::{Upstream, one},
    lab::PATIENT,
};
use harness::{
    body::{self, Body},
    wait::eventually,
};
use http::Request;
use tokio::task::JoinSet;

/// stacklok/toolhive#2044 and #2045: exchange between an unmodified server and its upstream, with caching; each caller gets what was issued for them, and
/// the caller's own token reaches neither the workload nor the upstream.
#[tokio::test]
async fn each_callers_token_is_exchanged_once_and_reaches_nobody_else() {
    let bench = Bench::new().await;
    let (alice, bob) = (bench.lab.token("alice"), bench.lab.token("bob"));
    bench.lab.workload.set_backend(bench.sidecar.listen());
    for _ in 0..3 {
        for (user, token) in [("alice", &alice), ("bob", &bob)] {
            let answer = send(&bench.sidecar, with_token("/call?path=/orders", token)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(
                bench.sent().starts_with(&format!("Bearer {user}-")),
                "{}",
                bench.sent()
            );
        }
    }
    assert_eq!(bench.sts.forms.len(), 2, "one exchange a caller");
    let form = bench.sts.forms.last().unwrap();
    assert_eq!(form["audience"], "orders");
    assert_eq!(form["subject_token"], bob);
    assert!(form["client_assertion"].starts_with("eyJ") && form["client_assertion"] != bob);
    for received in bench.lab.workload.received().all() {
        let shown = format!("{:?}", received.headers);
        assert!(!shown.contains(&alice) && !shown.contains(&bob));
    }
    for got in bench.upstream.got.all() {
        let handles = bench.lab.workload.received().all();
        let handles: Vec<_> = handles.iter().filter_map(|r| r.handle()).collect();
        assert!(
            handles
                .iter()
                .all(|h| !one(&got, "authorization").contains(h))
        );
    }
    let metrics = bench.sidecar.admin_get("/metrics").await.unwrap().text();
    for line in [
        r#"token_sidecar_caller_cache_lookups_total{credential="user",result="hit"} 4"#,
        r#"token_sidecar_caller_cache_lookups_total{credential="user",result="miss"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let said = bench.sidecar.process.output();
    for secret in [&alice, &bob, "alice-1", "bob-2"] {
        assert!(!said.contains(secret) && !metrics.contains(secret));
    }
}

/// Never the pod's identity in a caller's place, unless the route says so, and then only for requests that name nobody.
#[tokio::test]
async fn without_a_good_handle_nothing_leaves() {
    let grace = ", handleGrace: 1s";
    let bench = Bench::with(Upstream::open().await, "", grace).await;
    let lapsed = bench.handle("alice").await;
    let foreign = "A".repeat(43);
    let send = async |request: Request<Body>| bench.sidecar.client().send(request).await.unwrap();
    let none = || Request::get("/orders").body(body::empty()).unwrap();
    let twice = || {
        let mut request = with_token("/orders", &foreign);
        let value = request.headers()["authorization"].clone();
        request.headers_mut().append("authorization", value);
        request
    };
    eventually("the handle to lapse", || async {
        (bench.call(&lapsed, "/orders").await.status == 401).then_some(())
    })
    .await
    .unwrap();
    let before = bench.upstream.got.len();
    for (request, challenge, reason) in [
        (none(), "Bearer", "no_caller"),
        (
            with_token("/orders", "placeholder"),
            "Bearer error=\"invalid_token\"",
            "unknown_caller",
        ),
        (
            with_token("/orders", &foreign),
            "Bearer error=\"invalid_token\"",
            "unknown_caller",
        ),
        (
            with_token("/orders", &lapsed),
            "Bearer error=\"invalid_token\"",
            "unknown_caller",
        ),
        (
            with_token("/orders", &bench.lab.token("alice")),
            "Bearer error=\"invalid_token\"",
            "unknown_caller",
        ),
        (twice(), "Bearer error=\"invalid_token\"", "unknown_caller"),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), challenge);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json()["reason"], reason);
    }
    assert_eq!(bench.upstream.got.len(), before, "nothing left");

    let bench = Bench::with(Upstream::open().await, ", withoutCaller: pod", grace).await;
    let lapsed = bench.handle("alice").await;
    // In flight throughout, so that its handle lasts however long this takes.
    let mut held = JoinSet::new();
    let (caller, request) = (
        client(&bench.sidecar),
        with_token("/hold", &bench.lab.token("bob")),
    );
    held.spawn(async move { caller.send(request).await.map(drop) });
    let received = bench.lab.workload.received();
    let of_bob = received.find("bob's request", |r| r.target == "/hold");
    let good = of_bob.await.unwrap().handle().unwrap().to_owned();
    let send = async |request: Request<Body>| bench.sidecar.client().send(request).await.unwrap();
    assert_eq!(bench.call(&good, "/orders").await.status, 200);
    assert!(bench.sent().starts_with("Bearer bob-"));
    eventually("the handle to lapse", || async {
        (bench.call(&lapsed, "/orders").await.status == 401).then_some(())
    })
    .await
    .unwrap();
    for request in [none(), with_token("/orders", "placeholder")] {
        assert_eq!(send(request).await.status, 200);
        assert!(
            bench.sent().starts_with("Bearer system:serviceaccount:"),
            "{}",
            bench.sent()
        );
    }
    // There was a caller: the pod does not act in their place.
    let before = bench.upstream.got.len();
    let token = bench.lab.token("alice");
    let mangled = ["A".repeat(42) + "B", format!("\"{good}\"")];
    for handle in mangled.iter().chain([&lapsed, &foreign, &token]) {
        assert_eq!(bench.call(handle, "/orders").await.status, 401);
    }
    let other_scheme = Request::get("/orders").header("authorization", format!("DPoP {token}"));
    let other_scheme = other_scheme.body(body::empty()).unwrap();
    assert_eq!(send(other_scheme).await.status, 401);
    assert_eq!(bench.upstream.got.len(), before);
}

/// A handle in a field of its own is no business of any upstream's, and is looked for nowhere else.
#[tokio::test]
async fn a_handle_in_a_field_of_its_own_never_leaves() {
    let header = ", handleHeader: X-Caller";
    let bench = Bench::with(Upstream::open().await, "", header).await;
    let token = bench.lab.token("alice");
    send(&bench.sidecar, with_token("/hello", &token)).await;
    let received = bench.lab.last();
    let handle = received.header("x-caller")[0];
    let with = |path: &str, name: &str, value: &str| {
        let request = Request::get(path).header(name, value);
        request.body(body::empty()).unwrap()
    };
    let client = bench.sidecar.client();
    for path in ["/orders", "/pods"] {
        let answer = client.send(with(path, "x-caller", handle)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = bench.upstream.got.last().unwrap();
        assert!(!got.headers.contains_key("x-caller"), "{path}");
        assert_eq!(bench.sent().starts_with("Bearer alice-"), path == "/orders");
    }
    let elsewhere = with("/orders", "authorization", &format!("Bearer {handle}"));
    assert_eq!(client.send(elsewhere).await.unwrap().status, 401);
}

/// Nobody puts a placeholder into a field that is there for handles: what is no handle was meant to be one, and there was a caller.
#[tokio::test]
async fn the_pod_does_not_stand_in_for_a_mangled_handle() {
    let more = ", handleHeader: x-caller-handle";
    let bench = Bench::with(Upstream::open().await, ", withoutCaller: pod", more).await;
    let token = bench.lab.token("alice");
    send(&bench.sidecar, with_token("/hello", &token)).await;
    let received = bench.lab.last();
    let behind_a_scheme = format!("Bearer {}", received.header("x-caller-handle")[0]);
    for (value, status) in [(&*behind_a_scheme, 401), ("placeholder", 401), ("", 200)] {
        let before = bench.upstream.got.len();
        let request = Request::get("/orders").header("x-caller-handle", value);
        let request = request.body(body::empty()).unwrap();
        let answer = bench.sidecar.client().send(request).await.unwrap();
        assert_eq!(answer.status, status, "{value}");
        assert_eq!(bench.upstream.got.len() > before, status == 200, "{value}");
    }
}

/// rossoctl/cortex#69: audience, scope and token URL are each route's own. rossoctl/cortex#513: whatever `Host` or target the client writes, they stay.
#[tokio::test]
async fn audience_scope_and_token_url_are_the_routes_and_never_the_clients() {
    let (lab, one_sts, other_sts) = (
        InboundLab::new().await,
        Sts::start().await,
        Sts::start().await,
    );
    let upstream = Upstream::open().await;
    let config = format!(
        "{}allowedHosts: [evil.example]\ncredentials:\n  a: {{ tokenExchange: {{ tokenEndpoint: '{}', subjectToken: caller, audience: [aud-a], scope: scope-a }} }}\n\
         \x20 b: {{ tokenExchange: {{ tokenEndpoint: '{}', subjectToken: caller, audience: [aud-b], resource: ['https://b.example/'] }} }}\n\
         routes:\n  - {{ name: a, match: {{ pathPrefix: /a }}, upstream: '{up}', credential: a{PATIENT} }}\n\
         \x20 - {{ name: b, match: {{ pathPrefix: /b }}, upstream: '{up}', credential: b{PATIENT} }}\n",
        lab.config(""),
        one_sts.url(),
        other_sts.url(),
        up = upstream.url(),
    );
    let sidecar = lab.ready(config).await;
    for user in ["alice", "bob"] {
        send(&sidecar, with_token("/hello", &lab.token(user))).await;
        let handle = lab.last().handle().unwrap().to_owned();
        for path in ["/a", "/b"] {
            for host in ["localhost", "evil.example", "127.0.0.1"] {
                let mut request = with_token(path, &handle);
                request.headers_mut().insert("host", host.parse().unwrap());
                let answer = sidecar.client().send(request).await.unwrap();
                assert_eq!(answer.status, 200, "{host}: {}", answer.text());
            }
        }
    }
    assert_eq!((one_sts.forms.len(), other_sts.forms.len()), (2, 2));
    for form in one_sts.forms.all() {
        assert_eq!((&*form["audience"], &*form["scope"]), ("aud-a", "scope-a"));
        assert!(!form.contains_key("resource"));
    }
    for form in other_sts.forms.all() {
        assert_eq!(
            (&*form["audience"], &*form["resource"]),
            ("aud-b", "https://b.example/")
        );
        assert!(!form.contains_key("scope"));
    }
}
