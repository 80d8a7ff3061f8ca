//! The way to upstreams, and the one request that is sent when it is asked for.

use super::{examine, examine_with};
use crate::{
    injection::{Upstream as Judging, reply},
    lab::Lab,
};
use harness::{
    certs::Ca,
    upstream::{Scripted, Upstream},
    wait::{LONG, within},
};
use http::StatusCode;
use std::sync::Arc;
use tokio::net::TcpListener;

const ROUTE: &str = "route default";

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_by_why() {
    let lab = Lab::new().await;
    let closed = harness::ports::closed().unwrap();
    let free = closed.address();
    let other = Ca::named("Another root").unwrap();
    let strange = Upstream::https(&other, lab.authority.access_tokens(), "x")
        .await
        .unwrap();
    for (upstream, step, code) in [
        (
            format!("https://localhost:{}", free.port()),
            "connect",
            "connection_refused",
        ),
        (
            "https://no-such-host.invalid".to_owned(),
            "dns",
            "dns_error",
        ),
        (format!("http://{free}"), "connect", "connection_refused"),
        (strange.url(), "tls", "tls_certificate_error"),
    ] {
        let examined = examine(&lab.quick().env("TOKEN_SIDECAR_UPSTREAM", upstream)).await;
        examined.assert(ROUTE, step, "fail", code);
        assert_eq!(
            examined.step("credential default", "exchange")["status"],
            "pass"
        );
        if step == "tls" {
            examined.assert_says(ROUTE, "tls", "set upstreamCaFile to it");
        }
    }
}

#[tokio::test]
async fn routes_to_one_upstream_are_walked_once() {
    let lab = Lab::new().await;
    let url = lab.upstream.url();
    let config = |url: &str| {
        format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials:\n  c: {{ entraClientAssertion: {{ scope: api://backend/.default }} }}\n\
             routes:\n  - {{ name: a, match: {{ pathPrefix: /a }}, upstream: '{url}/x', credential: c }}\n\
             \x20 - {{ name: b, match: {{ pathPrefix: /b }}, upstream: '{url}', credential: c }}\n"
        )
    };
    let examined = examine(&lab.aks().config(config(&url))).await;
    examined.assert_well();
    examined.assert_says("route b", "connect", "the same upstream as that of route a");
    assert_eq!(lab.upstream.accepted_connections(), 1);
    let examined = examine(&lab.aks().config(config("https://no-such-host.invalid"))).await;
    examined.assert_blocked("route b", "connect", "route a: dns");
}

#[tokio::test]
async fn nothing_is_sent_unless_it_is_asked_for_and_then_with_the_token() {
    let lab = Lab::new().await;
    examine(&lab.quick()).await.assert_well();
    assert_eq!(lab.upstream.requests().len(), 0);
    let examined = examine_with(&lab.quick(), &["--request", "/users/123?key=s3cr3t"]).await;
    examined.assert_well();
    examined.assert(ROUTE, "request", "pass", "");
    assert!(!examined.printed.contains("s3cr3t"), "{}", examined.printed);
    let sent = lab.upstream.requests().all();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].path(), "/users/123");
    let issued = lab.authority.issued().last().unwrap();
    assert_eq!(sent[0].bearer(), Some(&*issued.token));
}

#[tokio::test]
async fn what_an_upstream_answers_is_judged() {
    let lab = Lab::new().await;
    let script = |status: u16, headers: &[(&str, &str)]| {
        lab.upstream.script(
            "/probe",
            Scripted {
                status,
                headers: headers
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                    .collect(),
                ..Scripted::default()
            },
        );
    };
    for (status, headers, expected, code, part) in [
        (200, vec![], "pass", "", ""),
        (
            302,
            vec![("location", "https://login.example/x?y")],
            "warn",
            "http_3xx",
            "to https://login.example,",
        ),
        (
            401,
            vec![(
                "www-authenticate",
                "Bearer error=\"invalid_token\", scope=\"orders.read\"",
            )],
            "fail",
            "unauthorized",
            "error: invalid_token, scope: orders.read",
        ),
        (403, vec![], "fail", "forbidden", "may not do this"),
        (404, vec![], "warn", "not_found", "no such path"),
        (500, vec![], "fail", "http_5xx", "is failing"),
        (503, vec![], "fail", "http_5xx", "is failing"),
    ] {
        script(status, &headers);
        let examined = examine_with(&lab.quick(), &["--request", "/probe"]).await;
        examined.assert(ROUTE, "request", expected, code);
        examined.assert_says(ROUTE, "request", part);
    }
    // A token for another resource is refused on its merits.
    let other = lab.quick().env("TOKEN_SIDECAR_SCOPE", "orders/.default");
    let examined = examine_with(&other, &["--request", "/users/123"]).await;
    examined.assert(ROUTE, "request", "fail", "unauthorized");
    examined.assert_command(ROUTE, "request", "az ad sp show --id orders");
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_refused_and_nothing_is_sent() {
    let lab = Lab::new().await;
    let setup = lab.aks().config(format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  c: {{ entraClientAssertion: {{ scope: api://backend/.default }} }}\n\
         routes:\n  - {{ name: a, match: {{ pathPrefix: /a, methods: [POST] }}, upstream: '{0}', credential: c }}\n\
         \x20 - {{ name: b, match: {{ pathPrefix: /b }}, upstream: '{0}', credential: c }}\n",
        lab.upstream.url()
    ));
    for (asked, of, code) in [
        ("/x", "configuration", "no_such_route"),
        ("nobody=/x", "configuration", "no_such_route"),
        ("b=/a/x", "route b", "not_of_this_route"),
        ("b=/bx", "route b", "not_of_this_route"),
        ("a=/a", "route a", "not_of_this_route"),
    ] {
        let examined = examine_with(&setup, &["--request", asked]).await;
        let found = examined.step(of, "request");
        assert_eq!(
            (&found["status"], &found["code"]),
            (&"fail".into(), &code.into()),
            "{}",
            examined.printed
        );
    }
    assert_eq!(lab.upstream.requests().len(), 0);
    // Without a token there is no request.
    lab.authority.configure(|o| o.applications.clear());
    let examined = examine_with(&setup, &["--request", "b=/b"]).await;
    examined.assert_blocked("route b", "request", "credential c: exchange");
    assert_eq!(lab.upstream.requests().len(), 0);
}

/// The field and prefix that the configuration names, over plain http on loopback.
#[tokio::test]
async fn the_token_is_put_where_the_configuration_says() {
    let lab = Lab::new().await;
    let dir = harness::temp::TempDir::new("token-sidecar-check").unwrap();
    std::fs::write(dir.join("vault"), "hvs.secret").unwrap();
    let judge = Judging::start(Arc::new(|got| {
        let fine = got
            .headers
            .get("x-vault-token")
            .is_some_and(|v| v == "hvs.secret")
            && !got.headers.contains_key("authorization");
        reply(
            if fine {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            },
            &[],
            "",
        )
    }))
    .await;
    let setup = lab.aks().config(format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  vault: {{ inject: {{ header: X-Vault-Token }}, staticSecret: {{ file: '{}' }} }}\n\
         routes: [{{ name: vault, upstream: '{}', credential: vault }}]\n",
        dir.join("vault").display(),
        judge.url()
    ));
    let examined = examine_with(&setup, &["--request", "vault=/v1/sys"]).await;
    examined.assert("route vault", "request", "pass", "");
    assert_eq!(judge.got.last().unwrap().path, "/v1/sys");
}

/// An upstream whose URL a variable holds: the report says which, and a value that is none is refused as the sidecar would.
#[tokio::test]
async fn a_variable_that_holds_the_url_is_named() {
    let lab = Lab::new().await;
    let setup = |value: &str| {
        let url = format!("upstream: '{}'", lab.upstream.url());
        let named = lab
            .config()
            .replace(&url, "upstream: { env: TOKEN_SIDECAR_UPSTREAM_BACKEND }");
        assert_ne!(named, lab.config());
        lab.aks()
            .config(named)
            .env("TOKEN_SIDECAR_UPSTREAM_BACKEND", value)
    };
    let url = lab.upstream.url();
    let examined = examine(&setup(&format!("{url}/base/path\n"))).await;
    examined.assert_well();
    examined.assert_says(
        "route backend",
        "upstream",
        &format!("TOKEN_SIDECAR_UPSTREAM_BACKEND says {url}"),
    );
    assert!(!examined.printed.contains("/base/path"));
    let plain = examine(&lab.aks().config(lab.config())).await;
    assert!(plain.find("route backend", "upstream").is_none());

    let output = super::run(&setup("https://me:s3cr3t@backend.example"), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("routes[0].upstream.env: the value of TOKEN_SIDECAR_UPSTREAM_BACKEND: carries a user name or password; remove"),
        "{said}"
    );
    assert!(
        !said.contains("s3cr3t") && !said.contains("backend.example"),
        "{said}"
    );
}

/// What fails on the way is in the way of the request, and what never answers is given up on.
#[tokio::test]
async fn a_request_without_a_way_is_not_reached_and_one_without_an_answer_ends() {
    let lab = Lab::new().await;
    let closed = harness::ports::closed().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = |upstream: &str| {
        lab.aks().config(format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials:\n  c: {{ entraClientAssertion: {{ scope: api://backend/.default }} }}\n\
             routes: [{{ name: default, upstream: 'http://{upstream}', credential: c, timeouts: {{ responseHeader: 300ms }} }}]\n"
        ))
    };
    let asked = ["--request", "/x"];
    let examined = examine_with(&setup(&closed.address().to_string()), &asked).await;
    examined.assert(ROUTE, "connect", "fail", "connection_refused");
    examined.assert_blocked(ROUTE, "request", "route default: connect");
    // It is the layer that failed which is in the way.
    let ca = Ca::named("Another root").unwrap();
    let strange = Upstream::https(&ca, lab.authority.access_tokens(), "x")
        .await
        .unwrap();
    let untrusted = lab.quick().env("TOKEN_SIDECAR_UPSTREAM", strange.url());
    let examined = examine_with(&untrusted, &asked).await;
    examined.assert_blocked(ROUTE, "request", "route default: tls");
    assert!(strange.requests().is_empty());
    let address = silent.local_addr().unwrap().to_string();
    let examining = setup(&address);
    let examined = within(LONG, "the report", examine_with(&examining, &asked))
        .await
        .unwrap();
    examined.assert(ROUTE, "request", "fail", "http_response_timeout");
}
