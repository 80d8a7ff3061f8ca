//! On behalf of callers, end to end: a caller's token comes in, the workload sees a handle, the upstream gets what was issued for that very caller. The
//! workload forwards the header that it received, as one does that was written for real tokens.

use crate::{
    inbound_lab::{InboundLab, send, with_token},
    injection::{Got, Upstream, one, reply},
    lab::start,
};
use harness::{
    body::{self, Body, full},
    client::Answer,
    issuer::{Issuer, ProjectedToken},
    process::{Sidecar, SidecarSetup},
    record::Record,
    serve::{Server, handler},
    volume::{Layout, TokenVolume},
    wait::{LONG, eventually, within},
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// The fields of a token request.
type Form = HashMap<String, String>;

type Answers = Arc<Mutex<Box<dyn Fn(&Form, usize) -> Response<Body> + Send>>>;

/// An authorization server that answers as a test says.
struct Sts {
    server: Server,
    forms: Arc<Record<Form>>,
    answers: Answers,
}

fn issued(token: &str, life: u64) -> Response<Body> {
    let text = format!(
        r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{life},"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}}"#
    );
    reply(StatusCode::OK, &[], text)
}

fn refused(status: StatusCode, text: &str) -> Response<Body> {
    reply(status, &[], text)
}

impl Sts {
    /// Issues a token that says for whom, and which one it is.
    async fn start() -> Self {
        let answers: Answers = Arc::new(Mutex::new(Box::new(|form, number| {
            issued(&format!("{}-{number}", subject(form)), 3600)
        })));
        let forms = Arc::new(Record::new());
        let (record, say) = (Arc::clone(&forms), Arc::clone(&answers));
        let server = Server::start(
            None,
            handler(move |request: Request<hyper::body::Incoming>, _| {
                let (record, say) = (Arc::clone(&record), Arc::clone(&say));
                async move {
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    let form: Form = form_urlencoded::parse(&bytes).into_owned().collect();
                    let number = record.push_numbered(|_| form.clone());
                    // Long enough for calls at once to be at once.
                    sleep(Duration::from_millis(50)).await;
                    let answers = say.lock().unwrap();
                    answers(&form, number + 1)
                }
            }),
        )
        .await
        .unwrap();
        Self {
            server,
            forms,
            answers,
        }
    }

    fn say(&self, answers: impl Fn(&Form, usize) -> Response<Body> + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    fn url(&self) -> String {
        format!("http://{}/token", self.server.address())
    }
}

/// `sub` of the caller's token that is exchanged.
fn subject(form: &Form) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = form["subject_token"].split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

struct Bench {
    lab: InboundLab,
    sts: Sts,
    upstream: Upstream,
    sidecar: Sidecar,
    _volume: TokenVolume,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Upstream::open().await, "", "").await
    }

    /// `route`: further keys of the route; `more`: further keys of the inbound side.
    async fn with(upstream: Upstream, route: &str, more: &str) -> Self {
        let (lab, sts) = (InboundLab::new().await, Sts::start().await);
        let volume = TokenVolume::new(Layout::Nested).unwrap();
        let issuer = Issuer::new("https://issuer.example/").unwrap();
        volume
            .write(issuer.mint(&ProjectedToken::default()).unwrap())
            .unwrap();
        let config = format!(
            "{}log: {{ level: trace }}\nsubjectTokens: {{ pod: {{ file: '{}' }} }}\n\
             credentials:\n  user: {{ tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: caller, audience: [orders], scope: orders.read,\n\
             \x20   clientAuthentication: {{ clientAssertion: {{ subjectToken: pod }} }} }} }}\n\
             \x20 pod: {{ tokenExchange: {{ tokenEndpoint: '{sts}', audience: [pods] }} }}\n\
             routes:\n  - {{ name: orders, upstream: '{}', credential: user{route} }}\n\
             \x20 - {{ name: pods, match: {{ pathPrefix: /pods }}, upstream: '{}', credential: pod }}\n",
            lab.config(more),
            volume.file().display(),
            upstream.url(),
            upstream.url(),
            sts = sts.url(),
        );
        let sidecar = start(&SidecarSetup::default().config(config)).await;
        sidecar.ready().await.unwrap();
        sts.forms.clear();
        Self {
            lab,
            sts,
            upstream,
            sidecar,
            _volume: volume,
        }
    }

    /// A handle of this caller's, which lasts for the grace.
    async fn handle(&self, user: &str) -> String {
        let answer = send(&self.sidecar, with_token("/hello", &self.lab.token(user))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.lab.last().handle().unwrap().to_owned()
    }

    /// A call of the workload's with this handle.
    async fn call(&self, handle: &str, path: &str) -> Answer {
        self.sidecar
            .client()
            .send(with_token(path, handle))
            .await
            .unwrap()
    }

    fn sent(&self) -> String {
        one(&self.upstream.got.last().unwrap(), "authorization").to_owned()
    }
}

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
    let good = bench.handle("bob").await;
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
         routes:\n  - {{ name: a, match: {{ pathPrefix: /a }}, upstream: '{up}', credential: a }}\n\
         \x20 - {{ name: b, match: {{ pathPrefix: /b }}, upstream: '{up}', credential: b }}\n",
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
        .say(|form, number| issued(&format!("{}-{number}", subject(form)), 2));
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
