//! Official clients that know a URL and nothing else, all the way, with an authorization server that this project did not write (oidc-provider): the 401
//! of the inbound side, its metadata (RFC 9728), the authorization server's, registration, a person who signs in, a token for this very server, the
//! call; then the exchange of that token at the same authorization server, and an upstream that sees the person.

use crate::{
    interop_lab::{Language, Parts, listening, parts, said},
    lab::{Lab, start},
};
use harness::{
    certs::LOCAL_NAMES,
    client::Client,
    keys, ports,
    process::{Process, Sidecar},
    temp::TempDir,
    upstream::Upstream,
};
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr};

const BACKEND: &str = "https://users.example.com";

const SECRET: &str = "s3cret:+&/";

/// The authorization server: what the sidecar has to know of it, before it runs.
struct AuthorizationServer {
    dir: TempDir,
    port: u16,
}

impl AuthorizationServer {
    fn new() -> Self {
        let dir = TempDir::new("token-sidecar-callers").unwrap();
        fs::write(dir.join("secret"), SECRET).unwrap();
        let port = ports::free().unwrap().port();
        Self { dir, port }
    }

    fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Starts it; from then on it issues tokens for the MCP server `resource`.
    async fn start(&self, parts: &Parts, lab: &Lab, resource: &str) -> Process {
        let tls = lab.ca.leaf(&LOCAL_NAMES).unwrap();
        let [certificate, key, setup] =
            ["server.crt", "server.key", "setup.json"].map(|name| self.dir.join(name));
        fs::write(&certificate, tls.pem()).unwrap();
        fs::write(&key, tls.key_pem()).unwrap();
        let text = json!({
            "secret": SECRET,
            "resource": resource,
            "backend": BACKEND,
            "tls": { "key": key, "certificate": certificate },
        });
        fs::write(&setup, text.to_string()).unwrap();
        let env = [
            ("SETUP".to_owned(), setup.into()),
            ("PORT".to_owned(), self.port.to_string().into()),
        ];
        let script = parts.module("callers_authorization_server.mjs");
        let process = Process::spawn(&parts.node(), &[script.into()], &env.into()).unwrap();
        listening(([127, 0, 0, 1], self.port).into(), &process).await;
        process
    }

    /// The claims of a token, if it was signed by it.
    async fn verified(&self, lab: &Lab, token: &str) -> Value {
        let client = Client::new(([127, 0, 0, 1], self.port).into())
            .tls(&lab.ca)
            .unwrap();
        let keys = client
            .host(&format!("localhost:{}", self.port))
            .get("/jwks")
            .await
            .unwrap();
        let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
        keys::verify(token, &keys).unwrap()
    }
}

/// A sidecar on both sides of `workload`, which trusts that server; not ready until it runs.
async fn sidecar(
    lab: &Lab,
    server: &AuthorizationServer,
    workload: SocketAddr,
    upstream: &Upstream,
) -> Sidecar {
    let config = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\n\
         inbound:\n  listen: '{{inbound}}'\n  upstream: 'http://{workload}'\n  resource: 'http://{{inbound}}/mcp'\n\
         \x20 requiredScopes: [tools.call]\n  issuers: [{{ issuer: '{issuer}' }}]\n  keys: {{ cooldown: 1s }}\n\
         credentials:\n  backend:\n    tokenExchange:\n      tokenEndpoint: '{issuer}/token'\n      subjectToken: caller\n      resource: ['{BACKEND}']\n\
         \x20     clientAuthentication: {{ clientSecretBasic: {{ clientId: sidecar, clientSecretFile: '{}' }} }}\n\
         routes: [{{ name: backend, upstream: '{}', credential: backend }}]\n",
        server.dir.join("secret").display(),
        upstream.url(),
        issuer = server.issuer(),
    );
    start(&lab.aks().config(config)).await
}

#[tokio::test]
async fn official_clients_find_out_how_to_get_a_token_and_are_acted_for() {
    let Some(parts) = parts("discovery by the official clients") else {
        return;
    };
    let lab = Lab::new().await;
    let (server, workload) = (AuthorizationServer::new(), ports::free().unwrap());
    // It verifies no token: that is done here, with the keys of the server that issued it.
    let upstream = Upstream::start(None, None).await.unwrap();
    let sidecar = sidecar(&lab, &server, workload, &upstream).await;
    sidecar.pending("inbound issuer").await.unwrap();
    let url = format!("http://{}/mcp", sidecar.inbound());
    let process = server.start(&parts, &lab, &url).await;
    let backend = format!("http://{}", sidecar.listen());
    let _workload = parts
        .server(
            (Language::Python, "fastmcp_relaying_server"),
            workload,
            &backend,
            &[],
        )
        .await;
    sidecar.ready().await.unwrap();
    let roots = lab.ca.file().to_str().unwrap().to_owned();
    for (client, person) in [(Language::Python, "ada"), (Language::TypeScript, "bob")] {
        process.stdout().clear();
        let args = [url.as_str(), "get_user_profile", r#"{"user_id":"123"}"#];
        let env = [
            ("PERSON", person),
            ("SSL_CERT_FILE", &roots),
            ("NODE_EXTRA_CA_CERTS", &roots),
        ];
        let output = parts.client(client, "client", &args, &env).await;
        let whole = format!(
            "{client:?}: {}\n{}\n{}",
            said(&output),
            process.output(),
            sidecar.process.output()
        );
        assert!(output.status.success(), "{whole}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "Ada Lovelace\n",
            "{whole}"
        );
        // The way that the client went, and the sidecar after it.
        let asked = process.stdout().all();
        let mut place = 0;
        for step in [
            "GET /.well-known/",
            "POST /reg",
            "GET /auth",
            "POST /sign-in/",
            "POST /token",
            "POST /token",
        ] {
            let found = asked[place..]
                .iter()
                .position(|line| line.starts_with(step));
            place += 1 + found.unwrap_or_else(|| panic!("no {step} in {asked:?}: {whole}"));
        }
        let sent = upstream.requests().last().unwrap();
        let claims = server.verified(&lab, sent.bearer().unwrap()).await;
        assert_eq!(
            [
                &claims["sub"],
                &claims["aud"],
                &claims["client_id"],
                &claims["iss"]
            ],
            [person, BACKEND, "sidecar", &server.issuer()]
        );
    }
}
