//! Nothing that is a secret is ever printed: subject tokens, issued tokens, assertions, proofs, client secrets, keys, passwords; in text and JSON, at the lowest log level, when all is
//! well and when all is refused by servers that say back what they were sent.

use super::run;
use crate::{injection::Sts, lab::Lab};
use harness::{
    authority::{
        Endpoint, Fault, KeyClient, Options, StsClient,
        options::{RESOURCE, SCOPE},
    },
    client_key::ClientKey,
    forward_proxy::ForwardProxy,
    issuer::ENTRA_AUDIENCE,
    process::SidecarSetup,
    temp::TempDir,
    upstream::Scripted,
};
use jsonwebtoken::Algorithm;
use std::{collections::BTreeSet, fs};

const SECRET: &str = "clients-s3cr3t-0123456789";
const STATIC: &str = "hvs.static-s3cr3t-0123456789";
const PASSWORD: &str = "proxys-p4ssw0rd";

struct Everything {
    lab: Lab,
    key: ClientKey,
    setup: SidecarSetup,
    _dir: TempDir,
    _dpop: Sts,
    _proxy: ForwardProxy,
}

/// One of each kind of secret.
async fn everything() -> Everything {
    let dir = TempDir::new("token-sidecar-check").unwrap();
    let key = ClientKey::new(Algorithm::ES256).unwrap();
    fs::write(dir.join("secret"), SECRET).unwrap();
    fs::write(dir.join("vault"), STATIC).unwrap();
    fs::write(dir.join("key.pem"), key.pem()).unwrap();
    let lab = Lab::with(Options {
        names: vec!["login.cloud.example".into()],
        sts_client: StsClient::PrivateKeyJwt(KeyClient {
            id: "me".into(),
            keys: key.jwks(),
            algorithm: Algorithm::ES256,
            key_id: None,
            certificate: None,
        }),
        resource_client: StsClient::Post {
            id: "at-as".into(),
            secret: SECRET.into(),
        },
        ..Options::default()
    })
    .await;
    let dpop = Sts::start("DPoP", "").await;
    let proxy = ForwardProxy::start(None).await.unwrap();
    proxy.lead("login.cloud.example:443", lab.authority.address());
    let (sts, at, issuer) = (
        lab.authority.token_endpoint(),
        dir.path().display(),
        lab.authority.issuer().url(),
    );
    let signed = format!(
        "clientAuthentication: {{ privateKeyJwt: {{ clientId: me, keyFile: '{at}/key.pem' }} }}"
    );
    let by_secret = |method: &str, id: &str| {
        format!(
            "clientAuthentication: {{ {method}: {{ clientId: {id}, clientSecretFile: '{at}/secret' }} }}"
        )
    };
    let credentials = [
        (
            "entra",
            format!("entraClientAssertion: {{ scope: {SCOPE} }}"),
        ),
        (
            "proxied",
            format!(
                "entraClientAssertion: {{ scope: {SCOPE}, authorityHost: 'https://login.cloud.example/' }}"
            ),
        ),
        (
            "managed",
            format!("entraClientAssertion: {{ scope: {ENTRA_AUDIENCE}/.default }}"),
        ),
        (
            "chained",
            format!("entraClientAssertion: {{ scope: {SCOPE}, subjectToken: managed-token }}"),
        ),
        (
            "behalf",
            format!("entraOnBehalfOf: {{ scope: '{RESOURCE}/orders.read' }}"),
        ),
        (
            "signed",
            format!(
                "clientCredentials: {{ tokenEndpoint: '{sts}', issuer: '{}', audience: [api://backend], {signed} }}",
                lab.authority.sts_issuer()
            ),
        ),
        (
            "refused",
            format!(
                "clientCredentials: {{ tokenEndpoint: '{sts}', audience: [api://backend], {} }}",
                by_secret("clientSecretBasic", "me")
            ),
        ),
        (
            "across",
            format!(
                "identityAssertion: {{ identityProvider: {{ tokenEndpoint: '{sts}', issuer: '{}', subjectToken: pod, resource: [api://backend], {signed} }}, authorizationServer: {{ tokenEndpoint: '{}', issuer: '{}', {} }} }}",
                lab.authority.sts_issuer(),
                lab.authority.resource_token_endpoint(),
                lab.authority.resource_issuer(),
                by_secret("clientSecretPost", "at-as")
            ),
        ),
        (
            "bound",
            format!(
                "inject: {{ tokenType: DPoP }}, tokenExchange: {{ tokenEndpoint: '{}' }}",
                dpop.url()
            ),
        ),
        (
            "vault",
            format!("inject: {{ header: X-Vault-Token }}, staticSecret: {{ file: '{at}/vault' }}"),
        ),
    ];
    let mut text = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\nlog: {{ level: trace }}\n\
         inbound: {{ listen: '{{inbound}}', upstream: 'http://127.0.0.1:1', resource: 'https://mcp.example.com/mcp', issuers: [{{ issuer: '{issuer}', jwksUri: '{issuer}openid/v1/jwks' }}] }}\n\
         subjectTokens: {{ managed-token: {{ credential: managed }} }}\ncredentials:\n"
    );
    for (name, inside) in &credentials {
        text.push_str(&format!("  {name}: {{ {inside} }}\n"));
    }
    text.push_str("routes:\n");
    for (name, _) in &credentials {
        text.push_str(&format!("  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: {name} }}\n", lab.upstream.url()));
    }
    let setup = lab
        .aks()
        .config(text)
        .env(
            "HTTPS_PROXY",
            format!("http://u:{PASSWORD}@{}", proxy.address()),
        )
        .env("TOKEN_SIDECAR_LOG_LEVEL", "trace")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1");
    Everything {
        lab,
        key,
        setup,
        _dir: dir,
        _dpop: dpop,
        _proxy: proxy,
    }
}

impl Everything {
    /// Whatever must not be seen, in the pieces in which it would be.
    fn secrets(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for secret in [SECRET, STATIC, PASSWORD] {
            all.insert(secret.to_owned());
        }
        all.extend(
            self.key
                .pem()
                .lines()
                .filter(|l| !l.starts_with('-'))
                .map(str::to_owned),
        );
        let mut token =
            |text: &str| all.extend(text.split('.').filter(|p| p.len() > 20).map(str::to_owned));
        for issued in self.lab.authority.issued().all() {
            token(&issued.token);
            token(&issued.subject_token);
        }
        token(&fs::read_to_string(self.lab.volume.file()).unwrap());
        for request in self.lab.authority.requests().all() {
            for field in [
                "client_assertion",
                "assertion",
                "subject_token",
                "actor_token",
            ] {
                request.fields(field).into_iter().for_each(&mut token);
            }
            let fields = request.headers.get_all("authorization");
            fields
                .iter()
                .chain(request.headers.get_all("dpop"))
                .filter_map(|v| v.to_str().ok())
                .for_each(&mut token);
        }
        for request in self.lab.upstream.requests().all() {
            for name in ["authorization", "dpop"] {
                request
                    .header(name)
                    .iter()
                    .for_each(|v| token(v.trim_start_matches("Bearer ")));
            }
        }
        all
    }

    /// Runs it in each format, with a request to each route, and looks for them in all that is printed.
    async fn search(&self) -> String {
        let mut printed = String::new();
        for format in ["text", "json"] {
            let asked: Vec<String> = ["entra", "chained", "signed", "bound", "vault"]
                .iter()
                .map(|name| format!("{name}=/{name}"))
                .collect();
            let mut arguments = vec!["--output", format];
            asked
                .iter()
                .for_each(|a| arguments.extend(["--request", a]));
            let output = run(&self.setup, &arguments).await;
            assert!(output.status.code().is_some_and(|c| c < 2), "{output:?}");
            printed.push_str(&String::from_utf8_lossy(&output.stdout));
            printed.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        let secrets = self.secrets();
        assert!(secrets.len() > 20, "{}", secrets.len());
        for secret in secrets {
            assert!(!printed.contains(&secret), "{secret} is in {printed}");
        }
        printed
    }
}

#[tokio::test]
async fn when_tokens_are_got_none_is_shown() {
    let all = everything().await;
    let printed = all.search().await;
    for name in [
        "entra", "proxied", "managed", "signed", "across", "bound", "vault",
    ] {
        assert!(
            printed.contains(&format!("[ok]   credential {name}: exchange: ")),
            "{name}: {printed}"
        );
    }
    assert!(
        printed.contains("[ok]   credential behalf: client accepted: "),
        "{printed}"
    );
    assert!(
        printed.contains("[FAIL] credential refused: exchange: invalid_client: "),
        "{printed}"
    );
}

/// Servers that say back what they were sent, in descriptions, challenges and bodies.
#[tokio::test]
async fn what_servers_say_back_is_not_shown() {
    let all = everything().await;
    let token = fs::read_to_string(all.lab.volume.file()).unwrap();
    for endpoint in [Endpoint::Entra, Endpoint::Sts, Endpoint::Resource] {
        let body = format!(
            "{{\"error\":\"invalid_grant\",\"error_description\":\"AADSTS50013: the assertion {token} of {token}\\r\\n is bad\"}}"
        );
        all.lab.authority.fail_always(
            endpoint,
            Fault::Reply {
                status: 400,
                headers: vec![("content-type", "application/json".into())],
                body,
            },
        );
    }
    for path in ["/vault", "/bound"] {
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{token}\"");
        all.lab.upstream.script(
            path,
            Scripted {
                status: 401,
                headers: vec![("www-authenticate".into(), challenge)],
                body: token.clone(),
            },
        );
    }
    let printed = all.search().await;
    assert!(
        printed.contains("the assertion [removed] of [removed] is bad"),
        "{printed}"
    );
    assert!(
        printed.contains("[FAIL] route vault: request: unauthorized: "),
        "{printed}"
    );
}
