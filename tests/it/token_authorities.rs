//! How authorities are reached, trusted and spoken to: slashes, clouds, roots, forward proxies, every parameter of both grants.

use crate::lab::{Lab, assert_passes, start};
use harness::{
    authority::{
        Endpoint, Fault, Options, StsClient,
        options::{CLIENT, SCOPE},
    },
    certs::{Alpn, LOCAL_NAMES},
    forward_proxy::ForwardProxy,
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    temp::TempDir,
};
use serde_json::json;
use std::fs;

#[tokio::test]
async fn entra_gets_the_documented_form_with_or_without_a_trailing_slash() {
    let lab = Lab::new().await;
    let host = lab.authority.authority_host();
    assert!(host.ends_with('/'));
    for host in [host.as_str(), host.trim_end_matches('/')] {
        lab.authority.requests().clear();
        let sidecar = start(&lab.quick().env("AZURE_AUTHORITY_HOST", host)).await;
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
        let request = lab.authority.requests().last().unwrap();
        assert_eq!(
            request.path,
            format!("/{}/oauth2/v2.0/token", harness::authority::options::TENANT)
        );
        let token = fs::read_to_string(lab.volume.file()).unwrap();
        let mut form = request.form.clone();
        form.sort();
        let expected = [
            ("client_assertion", token.as_str()),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_id", CLIENT),
            ("grant_type", "client_credentials"),
            ("scope", SCOPE),
        ];
        assert_eq!(
            form,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn a_sovereign_cloud_is_reached_through_https_proxy() {
    let name = "login.microsoftonline.us";
    for (scheme, slash, credentials) in [
        ("http", "", None),
        ("http", "/", Some(("user:p%40ss@", "Basic dXNlcjpwQHNz"))),
        ("https", "", Some(("user:p%40ss@", "Basic dXNlcjpwQHNz"))),
    ] {
        let lab = Lab::with(Options {
            names: vec![name.into()],
            ..Options::default()
        })
        .await;
        let authorization = credentials.map(|(_, header)| header);
        let proxy = if scheme == "https" {
            let tls = lab.ca.server(&LOCAL_NAMES, Alpn::Http1).unwrap();
            ForwardProxy::start_tls(authorization, tls).await
        } else {
            ForwardProxy::start(authorization).await
        };
        let proxy = proxy.unwrap();
        proxy.lead(&format!("{name}:443"), lab.authority.address());
        let userinfo = credentials.map_or("", |(userinfo, _)| userinfo);
        let setup = lab
            .quick()
            .env("AZURE_AUTHORITY_HOST", format!("https://{name}{slash}"))
            .env(
                "HTTPS_PROXY",
                format!("{scheme}://{userinfo}{}", proxy.address()),
            )
            .env("NO_PROXY", "localhost,.example.com");
        let sidecar = start(&setup).await;
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
        let targets: Vec<_> = proxy
            .tunnels()
            .all()
            .into_iter()
            .map(|tunnel| (tunnel.target, tunnel.status))
            .collect();
        assert_eq!(
            targets,
            [(format!("{name}:443"), 200)],
            "the authority alone, never an upstream"
        );
        assert_eq!(
            lab.authority
                .requests()
                .last()
                .unwrap()
                .headers
                .get("host")
                .map(|host| host.to_str().unwrap().to_owned())
                .unwrap_or(name.into()),
            name
        );
        assert!(
            !sidecar.process.output().contains("p%40ss")
                && !sidecar.process.output().contains("p@ss")
        );
    }
}

/// Neither the credentials for it nor the name of the authority go to a proxy whose certificate nobody trusts.
#[tokio::test]
async fn a_proxy_over_tls_is_told_nothing_unless_it_is_trusted() {
    let name = "login.microsoftonline.us";
    let lab = Lab::with(Options {
        names: vec![name.into()],
        ..Options::default()
    })
    .await;
    let stranger = harness::certs::Ca::new().unwrap();
    let tls = stranger.server(&LOCAL_NAMES, Alpn::Http1).unwrap();
    let proxy = ForwardProxy::start_tls(None, tls).await.unwrap();
    let setup = lab
        .quick()
        .env("AZURE_AUTHORITY_HOST", format!("https://{name}"))
        .env("HTTPS_PROXY", format!("https://{}", proxy.address()));
    let sidecar = start(&setup).await;
    let answer = sidecar.pending("proxy").await.unwrap();
    assert!(answer.text().contains("HTTPS_PROXY"), "{}", answer.text());
    assert!(proxy.tunnels().is_empty() && lab.authority.requests().is_empty());
}

#[tokio::test]
async fn an_authority_on_loopback_is_never_proxied() {
    let lab = Lab::new().await;
    let proxy = ForwardProxy::start(None).await.unwrap();
    let sidecar = start(
        &lab.quick()
            .env("HTTPS_PROXY", format!("http://{}", proxy.address())),
    )
    .await;
    sidecar.ready().await.unwrap();
    assert!(proxy.tunnels().is_empty());
}

#[tokio::test]
async fn a_private_root_is_trusted_only_where_it_is_named() {
    let lab = Lab::new().await;
    let bundle = TempDir::new("token-sidecar-roots").unwrap();
    // Some root, not ours: the system's would do, but there may be none.
    let other = harness::certs::Ca::new().unwrap();
    fs::write(bundle.join("other.pem"), other.pem()).unwrap();
    let ca = lab.ca.file().display().to_string();
    let named = lab
        .config()
        .replace("{ scope: api", &format!("{{ caFile: '{ca}', scope: api"))
        .replace(
            "credential: backend }",
            &format!("credential: backend, upstreamCaFile: '{ca}' }}"),
        );
    let sidecar = start(
        &lab.aks()
            .env("SSL_CERT_FILE", bundle.join("other.pem"))
            .config(&named),
    )
    .await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    drop(sidecar);

    let asked = lab.authority.requests().len();
    let sidecar = start(
        &lab.aks()
            .env("SSL_CERT_FILE", bundle.join("other.pem"))
            .config(lab.config()),
    )
    .await;
    let answer = sidecar.pending("tls").await.unwrap();
    assert!(
        answer.text().contains("caFile") || answer.text().contains("SSL_CERT_FILE"),
        "what to do is said: {}",
        answer.text()
    );
    assert_eq!(
        lab.authority.requests().len(),
        asked,
        "no assertion goes to an authority that is not trusted"
    );
}

fn exchange_config(lab: &Lab, credential: &str) -> String {
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         subjectTokens:\n  pod: {{ file: '{}' }}\n\
         credentials:\n  orders:\n    tokenExchange:\n      tokenEndpoint: {}\n{credential}\n\
         routes:\n  - {{ name: orders, upstream: '{}', credential: orders }}\n",
        lab.volume.file().display(),
        lab.authority.token_endpoint(),
        lab.upstream.url(),
    )
}

#[tokio::test]
async fn token_exchange_sends_every_parameter() {
    let lab = Lab::new().await;
    let credential = "      subjectTokenType: urn:ietf:params:oauth:token-type:id_token
      requestedTokenType: urn:ietf:params:oauth:token-type:access_token
      audience: [api://backend, orders]
      resource: [https://orders.example.com]
      scope: orders.read orders.write
      actorToken: { subjectToken: pod, tokenType: 'urn:ietf:params:oauth:token-type:jwt' }
      parameters: { connector_id: k8s & more }";
    let setup = lab.aks().config(exchange_config(&lab, credential));
    let sidecar = start(&setup).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let request = lab.authority.requests().last().unwrap();
    let token = fs::read_to_string(lab.volume.file()).unwrap();
    let mut form = request.form.clone();
    form.sort();
    let mut expected = [
        ("actor_token", token.as_str()),
        ("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("audience", "api://backend"),
        ("audience", "orders"),
        ("connector_id", "k8s & more"),
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("resource", "https://orders.example.com"),
        ("scope", "orders.read orders.write"),
        ("subject_token", token.as_str()),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    expected.sort();
    assert_eq!(form, expected);
    assert!(
        !request.headers.contains_key("authorization"),
        "Google's endpoint refuses one"
    );
}

#[tokio::test]
async fn token_exchange_authenticates_in_every_way() {
    let secrets = TempDir::new("token-sidecar-secrets").unwrap();
    let secret = secrets.join("secret");
    fs::write(&secret, "s:+&\n").unwrap();
    let file = secret.display();
    let subject = ProjectedToken::default().subject();
    for (client, configured) in [
        (StsClient::None, "{ none: {} }".to_owned()),
        (
            StsClient::Basic {
                id: "a b".into(),
                secret: "s:+&".into(),
            },
            format!("{{ clientSecretBasic: {{ clientId: a b, clientSecretFile: '{file}' }} }}"),
        ),
        (
            StsClient::Post {
                id: "a b".into(),
                secret: "s:+&".into(),
            },
            format!("{{ clientSecretPost: {{ clientId: a b, clientSecretFile: '{file}' }} }}"),
        ),
        (
            StsClient::Assertion {
                subject,
                audience: ENTRA_AUDIENCE.into(),
            },
            "{ clientAssertion: { subjectToken: pod } }".to_owned(),
        ),
    ] {
        let lab = Lab::with(Options {
            sts_client: client.clone(),
            ..Options::default()
        })
        .await;
        let credential =
            format!("      audience: [api://backend]\n      clientAuthentication: {configured}");
        let sidecar = start(&lab.aks().config(exchange_config(&lab, &credential))).await;
        sidecar.ready().await.unwrap();
        assert_passes(&sidecar).await;
        assert!(!sidecar.process.output().contains("s:+&"), "{client:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_exchange_endpoint_is_reported_by_its_code() {
    let lab = Lab::new().await;
    let sidecar = start(
        &lab.aks()
            .config(exchange_config(&lab, "      audience: [unknown-service]")),
    )
    .await;
    let answer = sidecar.pending("invalid_target").await.unwrap();
    assert!(
        answer.text().contains("audience"),
        "what to do is said: {}",
        answer.text()
    );
    let metrics = sidecar.metrics().await.unwrap();
    assert!(
        metrics
            .value(
                "token_sidecar_exchanges_total",
                &[("credential", "orders"), ("error", "invalid_target")]
            )
            .unwrap()
            >= 1.0
    );
}

#[tokio::test]
async fn an_issued_token_of_another_type_than_asked_for_is_refused() {
    let lab = Lab::new().await;
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    lab.authority.fail_once(
        Endpoint::Sts,
        Fault::with("issued_token_type", json!(refresh)),
    );
    let credential = "      audience: [api://backend]";
    let sidecar = start(&lab.aks().config(exchange_config(&lab, credential))).await;
    sidecar
        .metric("the refusal to be counted", |metrics| {
            metrics
                .value(
                    "token_sidecar_exchanges_total",
                    &[("error", "reply_issued_token_type")],
                )
                .is_some_and(|count| count >= 1.0)
        })
        .await
        .unwrap();
    // It passes: the next reply is as asked for.
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}
