//! Token exchange, JWT bearer and client credentials, with every client authentication, against an authorization server that this project did not
//! write: oidc-provider, as `tests/interop/authorization_server.mjs` sets it up.

use crate::{
    interop_lab::{Parts, listening, parts},
    lab::{Lab, start},
};
use harness::{
    body,
    certs::{Ca, LOCAL_NAMES},
    client::Client,
    client_key::ClientKey,
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    ports,
    process::Process,
    temp::TempDir,
    upstream::Upstream,
};
use http::{Method, Request, header};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// The authorization server, and what proves each of its clients in `dir`.
struct Server {
    _process: Process,
    dir: TempDir,
    issuer: String,
    client: Client,
}

impl Server {
    async fn start(parts: &Parts, lab: &Lab) -> Self {
        let dir = TempDir::new("token-sidecar-interop").unwrap();
        let port = ports::free().unwrap().port();
        let mut keys = serde_json::Map::new();
        for (name, algorithm) in [
            ("ps256", Algorithm::PS256),
            ("es256", Algorithm::ES256),
            ("es384", Algorithm::ES384),
        ] {
            let key = ClientKey::new(algorithm).unwrap();
            fs::write(dir.join(format!("{name}.pem")), key.pem()).unwrap();
            keys.insert(name.into(), json!(key.jwks().keys[0]));
        }
        fs::write(dir.join("secret"), "s3cret:+&/\n").unwrap();
        let (tls, mtls) = (
            lab.ca.leaf(&LOCAL_NAMES).unwrap(),
            lab.ca.client_leaf("mtls").unwrap(),
        );
        fs::write(dir.join("server.crt"), tls.pem()).unwrap();
        fs::write(dir.join("server.key"), tls.key_pem()).unwrap();
        fs::write(dir.join("tls.crt"), mtls.pem()).unwrap();
        fs::write(dir.join("tls.key"), mtls.key_pem()).unwrap();
        let setup = json!({
            "secret": "s3cret:+&/",
            "keys": keys,
            "cluster": {
                "jwks": lab.authority.issuer().jwks(),
                "issuer": lab.authority.issuer().url(),
                "audience": ENTRA_AUDIENCE,
            },
            "tls": {
                "key": dir.join("server.key"),
                "certificate": dir.join("server.crt"),
                "ca": lab.ca.file(),
            },
        });
        let file = dir.join("setup.json");
        fs::write(&file, setup.to_string()).unwrap();
        let env = [
            ("SETUP".to_owned(), file.into()),
            ("PORT".to_owned(), port.to_string().into()),
        ];
        let script = parts.module("authorization_server.mjs");
        let process = Process::spawn(&parts.node(), &[script.into()], &env.into()).unwrap();
        let address = ([127, 0, 0, 1], port).into();
        listening(address, &process).await;
        Self {
            _process: process,
            dir,
            issuer: format!("https://localhost:{port}"),
            client: client(address, &lab.ca),
        }
    }

    /// What the server itself says of a token that it issued (RFC 7662).
    async fn introspect(&self, token: &str) -> Value {
        let form = format!("token={token}&client_id=post-client&client_secret=s3cret%3A%2B%26%2F");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/token/introspection")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body::full(form))
            .unwrap();
        self.client.send(request).await.unwrap().json()
    }
}

fn client(address: std::net::SocketAddr, ca: &Ca) -> Client {
    Client::new(address)
        .tls(ca)
        .unwrap()
        .host(&format!("localhost:{}", address.port()))
}

/// Client id and configuration of each method of client authentication.
fn methods(dir: &Path) -> Vec<(&'static str, String)> {
    let dir = dir.display();
    let key = |id: &str| {
        format!(
            "{{ privateKeyJwt: {{ clientId: {id}, keyFile: '{dir}/{id}.pem', algorithm: {} }} }}",
            id.to_uppercase()
        )
    };
    vec![
        (
            "basic client",
            format!(
                "{{ clientSecretBasic: {{ clientId: basic client, clientSecretFile: '{dir}/secret' }} }}"
            ),
        ),
        (
            "post-client",
            format!(
                "{{ clientSecretPost: {{ clientId: post-client, clientSecretFile: '{dir}/secret' }} }}"
            ),
        ),
        ("ps256", key("ps256")),
        ("es256", key("es256")),
        ("es384", key("es384")),
        (
            "mtls",
            format!(
                "{{ tls: {{ clientId: mtls, certificateFile: '{dir}/tls.crt', keyFile: '{dir}/tls.key' }} }}"
            ),
        ),
    ]
}

#[tokio::test]
async fn each_grant_with_each_client_authentication_at_a_foreign_authorization_server() {
    let Some(parts) = parts("grants at oidc-provider") else {
        return;
    };
    let lab = Lab::new().await;
    let server = Server::start(&parts, &lab).await;
    let issuer = lab.authority.issuer();
    let bearer = issuer
        .mint(&ProjectedToken {
            audiences: vec![server.issuer.clone()],
            ..ProjectedToken::default()
        })
        .unwrap();
    fs::write(server.dir.join("bearer"), bearer).unwrap();
    let mut claims = issuer.claims(&ProjectedToken::default());
    claims["sub"] = "user-1".into();
    claims["may_act"] = json!({ "sub": ProjectedToken::default().subject() });
    fs::write(server.dir.join("user"), issuer.sign(&claims).unwrap()).unwrap();

    // It verifies no token: whether one is good is asked of the server that issued it.
    let upstream = Upstream::start(None, None).await.unwrap();
    let (mut credentials, mut routes) = (String::new(), String::new());
    let mut expected = Vec::new();
    let methods = methods(server.dir.path());
    for (number, (client_id, method)) in methods.iter().enumerate() {
        for (grant, fields, subject, actor) in [
            (
                "clientCredentials",
                "scope: orders.read",
                Value::Null,
                Value::Null,
            ),
            (
                "jwtBearer",
                "assertion: bearer, scope: orders.read",
                json!(ProjectedToken::default().subject()),
                Value::Null,
            ),
            (
                "tokenExchange",
                "subjectToken: user, actorToken: { subjectToken: pod }, audience: [orders], scope: orders.read",
                json!("user-1"),
                json!(ProjectedToken::default().subject()),
            ),
        ] {
            let name = format!("{grant}-{number}");
            credentials.push_str(&format!(
                "  {name}: {{ {grant}: {{ tokenEndpoint: '{0}/token', issuer: '{0}', {fields}, clientAuthentication: {method} }} }}\n",
                server.issuer
            ));
            routes.push_str(&format!(
                "  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: {name} }}\n",
                upstream.url()
            ));
            expected.push((name, client_id, subject, actor));
        }
    }
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\nsubjectTokens:\n  bearer: {{ file: '{0}/bearer' }}\n  user: {{ file: '{0}/user' }}\ncredentials:\n{credentials}routes:\n{routes}",
        server.dir.path().display(),
    );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    for (name, client_id, subject, actor) in expected {
        let path = format!("/{name}/x");
        let answer = sidecar.client().get(&path).await.unwrap();
        assert_ne!(answer.status, 503, "{name}: {}", answer.text());
        let received = upstream.requests().last().unwrap();
        assert_eq!(received.path(), path);
        let said = server.introspect(received.bearer().unwrap()).await;
        assert_eq!(said["active"], true, "{name}: {said}");
        assert_eq!(said["client_id"], **client_id, "{name}: {said}");
        assert_eq!(said["scope"], "orders.read", "{name}: {said}");
        assert_eq!(
            (&said["subject"], &said["actor"]),
            (&subject, &actor),
            "{name}: {said}"
        );
    }
}

#[tokio::test]
async fn a_foreign_authorization_servers_refusals_are_named() {
    let Some(parts) = parts("refusals of oidc-provider") else {
        return;
    };
    let lab = Lab::new().await;
    let server = Server::start(&parts, &lab).await;
    let dir = server.dir.path().display();
    let upstream = Upstream::start(None, None).await.unwrap();
    fs::write(server.dir.join("wrong"), "wrong").unwrap();
    let other = lab.ca.client_leaf("other").unwrap();
    fs::write(server.dir.join("other.crt"), other.pem()).unwrap();
    fs::write(server.dir.join("other.key"), other.key_pem()).unwrap();
    let good =
        format!("clientSecretPost: {{ clientId: post-client, clientSecretFile: '{dir}/secret' }}");
    for (grant, fields, method, code) in [
        (
            "clientCredentials",
            "",
            format!(
                "clientSecretBasic: {{ clientId: basic client, clientSecretFile: '{dir}/wrong' }}"
            ),
            "invalid_client",
        ),
        (
            "clientCredentials",
            "",
            format!("privateKeyJwt: {{ clientId: es256, keyFile: '{dir}/es384.pem' }}"),
            "invalid_client",
        ),
        (
            "clientCredentials",
            "",
            format!(
                "privateKeyJwt: {{ clientId: es256, keyFile: '{dir}/es256.pem', audience: 'https://other.example' }}"
            ),
            "invalid_client",
        ),
        (
            "clientCredentials",
            "",
            format!(
                "tls: {{ clientId: mtls, certificateFile: '{dir}/other.crt', keyFile: '{dir}/other.key' }}"
            ),
            "invalid_client",
        ),
        (
            "clientCredentials",
            "scope: orders.write,",
            good.clone(),
            "invalid_scope",
        ),
        ("jwtBearer", "", good.clone(), "invalid_grant"),
        (
            "tokenExchange",
            "audience: [unknown],",
            good.clone(),
            "invalid_target",
        ),
    ] {
        let config = format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials: {{ a: {{ {grant}: {{ tokenEndpoint: '{0}/token', issuer: '{0}', {fields} clientAuthentication: {{ {method} }} }} }} }}\n\
             routes: [{{ name: a, upstream: '{1}', credential: a }}]\n",
            server.issuer,
            upstream.url()
        );
        let sidecar = start(&lab.aks().config(config)).await;
        sidecar.pending(code).await.unwrap();
        let answer = sidecar.client().get("/x").await.unwrap();
        assert_eq!(answer.status, 503);
    }
    assert!(upstream.requests().is_empty());
}
