//! The way to an authority: name, connection, proxy, TLS, HTTP, clock. Each fails in each of its ways, and is told apart, with its own mend.

use super::{CREDENTIAL, examine};
use crate::lab::Lab;
use harness::{
    authority::Options,
    certs::{Alpn, Ca, LOCAL_NAMES, Leaf},
    forward_proxy::ForwardProxy,
    process::SidecarSetup,
    serve::{Server, handler},
};
use http::{HeaderValue, Response};
use rustls::ServerConfig;
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::net::TcpListener;

/// The real cloud's name, which nobody here resolves: it is reached through a forward proxy alone.
const CLOUD: &str = "login.microsoftonline.com";

#[tokio::test]
async fn a_name_that_is_not_there_and_a_port_that_is_closed() {
    let lab = Lab::new().await;
    let closed = harness::ports::closed().unwrap();
    let free = closed.address();
    for (host, step, code) in [
        (
            "https://no-such-host.invalid".to_owned(),
            "dns",
            "dns_error",
        ),
        (
            format!("https://localhost:{}", free.port()),
            "connect",
            "connection_refused",
        ),
        (
            "https://169.254.169.254".to_owned(),
            "dns",
            "destination_ip_prohibited",
        ),
    ] {
        let examined = examine(&lab.quick().env("AZURE_AUTHORITY_HOST", format!("{host}/"))).await;
        let of = format!("authority {host}");
        examined.assert(&of, step, "fail", code);
        examined.assert_command(&of, step, "kubectl");
        // The chain ends there, and the exchange says what it waits for.
        assert!(examined.find(&of, "tls").is_none(), "{}", examined.printed);
        examined.assert_blocked(CREDENTIAL, "exchange", &format!("{of}: {step}"));
        // What does not depend on it is looked at all the same.
        examined.assert("route default", "tls", "pass", "");
    }
}

/// The quick start with an authority at this port of localhost.
fn at(lab: &Lab, port: u16) -> SidecarSetup {
    lab.quick()
        .env("AZURE_AUTHORITY_HOST", format!("https://localhost:{port}/"))
}

async fn serving(
    tls: Option<Arc<ServerConfig>>,
    status: u16,
    header: (&'static str, &'static str),
) -> Server {
    let answer = handler(move |_, _| async move {
        let response = Response::builder()
            .status(status)
            .header(header.0, header.1);
        response.body(harness::body::empty()).unwrap()
    });
    Server::start(tls, answer).await.unwrap()
}

/// A server's certificate that is good from one year to another.
fn dated(lab: &Lab, from: i32, to: i32) -> Arc<ServerConfig> {
    let leaf = lab.ca.dated_leaf(&LOCAL_NAMES, (from, 1, 1), (to, 1, 1));
    Ca::serving(leaf.unwrap(), Alpn::Both).unwrap()
}

#[tokio::test]
async fn certificates_that_are_refused_are_told_by_why() {
    let lab = Lab::new().await;
    let strange = Ca::named("Corporate root").unwrap();
    let untrusted = strange.server(&LOCAL_NAMES, Alpn::Both).unwrap();
    // Made anew under the same name, as private authorities are.
    let anew = Ca::new().unwrap();
    let anew = anew.server(&LOCAL_NAMES, Alpn::Both).unwrap();
    let named = lab.ca.server(&["elsewhere.example"], Alpn::Both).unwrap();
    let alone = Ca::serving(Leaf::alone(&LOCAL_NAMES).unwrap(), Alpn::Both).unwrap();
    let expired = dated(&lab, 2020, 2021);
    let early = dated(&lab, 2200, 2201);
    for (tls, part, command) in [
        (
            untrusted,
            "signed by Corporate root, who is not trusted here; the other end shows no further certificate",
            "openssl s_client",
        ),
        (
            anew,
            "one of that name is trusted here, but with another key",
            "openssl s_client",
        ),
        (
            named,
            "the certificate is not for localhost but for elsewhere.example",
            "openssl s_client",
        ),
        (
            alone,
            "is signed by itself and not trusted here",
            "openssl s_client",
        ),
        (expired, "expired", "date -u"),
        (early, "is not good yet, by this node's clock", "date -u"),
    ] {
        let server = serving(Some(tls), 200, ("server", "x")).await;
        let examined = examine(&at(&lab, server.address().port())).await;
        let of = examined.authority();
        examined.assert(&of, "tls", "fail", "tls_certificate_error");
        examined.assert_says(&of, "tls", part);
        examined.assert_command(&of, "tls", command);
    }
}

/// Good enough for today, and worth a word.
#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_before_it_does() {
    let lab = Lab::new().await;
    for (days, status, code) in [(2, "warn", "certificate_ends_soon"), (4, "pass", "")] {
        let life = Duration::from_secs(days * 24 * 60 * 60);
        let leaf = lab.ca.leaf_for(&LOCAL_NAMES, life).unwrap();
        let tls = Ca::serving(leaf, Alpn::Both).unwrap();
        let server = serving(Some(tls), 200, ("server", "x")).await;
        let examined = examine(&at(&lab, server.address().port())).await;
        examined.assert(&examined.authority(), "tls", status, code);
    }
}

#[tokio::test]
async fn what_speaks_no_tls_and_what_says_nothing_is_told() {
    let lab = Lab::new().await;
    let plain = serving(None, 200, ("server", "x")).await;
    let examined = examine(&at(&lab, plain.address().port())).await;
    let of = examined.authority();
    examined.assert(&of, "tls", "fail", "tls_protocol_error");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  default: {{ exchangeTimeout: 3s, entraClientAssertion: {{ scope: api://backend/.default, authorityHost: 'https://localhost:{}' }} }}\n\
         routes:\n  - {{ name: default, upstream: '{}', credential: default }}\n",
        silent.local_addr().unwrap().port(),
        lab.upstream.url()
    );
    let examined = examine(&lab.aks().config(config)).await;
    examined.assert(&examined.authority(), "tls", "fail", "tls_timeout");
}

#[tokio::test]
async fn answers_that_no_authority_gives_are_worth_a_look() {
    let lab = Lab::new().await;
    let tls = || lab.ca.server(&LOCAL_NAMES, Alpn::Both).unwrap();
    for (status, header, code, part) in [
        (
            302,
            ("location", "https://portal.example/login?x"),
            "http_3xx",
            "to https://portal.example,",
        ),
        (
            200,
            ("content-type", "text/html"),
            "not_an_authority",
            "web page",
        ),
        (503, ("server", "x"), "http_5xx", "503"),
    ] {
        let server = serving(Some(tls()), status, header).await;
        let examined = examine(&at(&lab, server.address().port())).await;
        let of = examined.authority();
        examined.assert(&of, "http", "warn", code);
        examined.assert_says(&of, "http", part);
        // It was asked all the same.
        assert_eq!(examined.step(CREDENTIAL, "exchange")["status"], "fail");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_how_much_and_is_in_nobodys_way() {
    for (off, status) in [(600, "fail"), (120, "warn")] {
        let date = UNIX_EPOCH + harness::keys::unix_now() + Duration::from_secs(off);
        let lab = Lab::with(Options {
            date: Some(HeaderValue::from_str(&httpdate::fmt_http_date(date)).unwrap()),
            ..Options::default()
        })
        .await;
        let examined = examine(&lab.quick()).await;
        examined.assert(&examined.authority(), "clock", status, "clock_skew");
        examined.assert_command(&examined.authority(), "clock", "kubectl debug node/node-0 ");
        examined.assert(CREDENTIAL, "exchange", "pass", "");
    }
}

/// A setup whose authority is the cloud's own, reached through a forward proxy.
async fn behind(proxy: &ForwardProxy, lab: &Lab) -> SidecarSetup {
    proxy.lead(&format!("{CLOUD}:443"), lab.authority.address());
    lab.quick()
        .env("AZURE_AUTHORITY_HOST", format!("https://{CLOUD}/"))
        .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
}

async fn cloud() -> Lab {
    Lab::with(Options {
        names: vec![CLOUD.into()],
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn the_way_through_a_proxy_is_told_in_place_of_the_direct_one() {
    let lab = cloud().await;
    let proxy = ForwardProxy::start(None).await.unwrap();
    let examined = examine(&behind(&proxy, &lab).await).await;
    examined.assert_well();
    let of = format!("authority https://{CLOUD}");
    examined.assert(&of, "proxy", "pass", "");
    assert!(examined.find(&of, "dns").is_none());
    // A proxy that wants credentials, one that does not run, and one that may not lead there.
    let wary = ForwardProxy::start(Some("Basic dTpodW50ZXIy"))
        .await
        .unwrap();
    let examined = examine(&behind(&wary, &lab).await).await;
    examined.assert(&of, "proxy", "fail", "proxy_tunnel");
    examined.assert_says(&of, "proxy", "put user:password into HTTPS_PROXY");
    examined.assert_blocked(CREDENTIAL, "exchange", &format!("{of}: proxy"));
    let with_password = behind(&wary, &lab).await.env(
        "HTTPS_PROXY",
        format!("http://u:hunter2@{}", wary.address()),
    );
    let examined = examine(&with_password).await;
    examined.assert_well();
    assert!(!examined.printed.contains("hunter2"));
    let closed = harness::ports::closed().unwrap();
    let free = closed.address();
    let nowhere = behind(&wary, &lab)
        .await
        .env("HTTPS_PROXY", format!("http://{free}"));
    examine(&nowhere)
        .await
        .assert(&of, "proxy", "fail", "proxy_tunnel");
    let lost = ForwardProxy::start(None).await.unwrap();
    let refuses = lab
        .quick()
        .env("AZURE_AUTHORITY_HOST", "https://no-such-host.invalid/")
        .env("HTTPS_PROXY", format!("http://{}", lost.address()));
    let examined = examine(&refuses).await;
    let of = "authority https://no-such-host.invalid";
    examined.assert(of, "proxy", "fail", "proxy_tunnel");
    examined.assert_says(of, "proxy", "502");
}

#[tokio::test]
async fn a_proxy_over_tls_that_is_not_trusted_is_told_from_the_authority() {
    let lab = cloud().await;
    let other = Ca::new().unwrap();
    let tls = other.server(&LOCAL_NAMES, Alpn::Http1).unwrap();
    let proxy = ForwardProxy::start_tls(None, tls).await.unwrap();
    let setup = behind(&proxy, &lab).await.env(
        "HTTPS_PROXY",
        format!("https://localhost:{}", proxy.address().port()),
    );
    let examined = examine(&setup).await;
    let of = format!("authority https://{CLOUD}");
    examined.assert(&of, "proxy", "fail", "tls_certificate_error");
    examined.assert_says(&of, "proxy", "the proxy localhost:");
}

/// An inspecting proxy shows a certificate of its own for the cloud's name.
#[tokio::test]
async fn inspection_of_tls_is_told_from_a_private_authority() {
    let lab = cloud().await;
    let inspector = Ca::named("Inspecting firewall").unwrap();
    let server = serving(
        Some(inspector.server(&[CLOUD], Alpn::Both).unwrap()),
        200,
        ("server", "x"),
    )
    .await;
    let proxy = ForwardProxy::start(None).await.unwrap();
    let setup = behind(&proxy, &lab).await;
    proxy.lead(&format!("{CLOUD}:443"), server.address());
    let examined = examine(&setup).await;
    let of = format!("authority https://{CLOUD}");
    examined.assert(&of, "tls", "fail", "tls_certificate_error");
    examined.assert_says(&of, "tls", "something in between opens the connection");
    examined.assert_says(&of, "tls", "signed by Inspecting firewall");
}
