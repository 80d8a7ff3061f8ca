//! Credentials of every kind: those that use each other's tokens, identity bindings, Google, client authentication by secret, key and certificate with what is wrong with
//! their files, delegation, DPoP, static secrets.

use super::{Examined, examine};
use crate::{grants_client, injection::Sts, lab::Lab};
use harness::{
    authority::{
        Application, Certificates, Endpoint, Fault, FederatedCredential, KeyClient, Options,
        StsClient, TokenProxy,
        google::GoogleOptions,
        options::{AGENT, CLIENT, SCOPE},
        token_proxy::BINDING_AUDIENCE,
    },
    certs::Ca,
    client_key::ClientKey,
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    process::SidecarSetup,
    temp::TempDir,
};
use jsonwebtoken::Algorithm;
use std::fs;

/// The object id that the authority's tokens for applications carry.
const OBJECT: &str = "33333333-3333-4333-8333-333333333333";
const OTHER: &str = "66666666-6666-4666-8666-666666666666";

fn dir() -> TempDir {
    TempDir::new("token-sidecar-check").unwrap()
}

/// A configuration with one route for each credential.
fn config(lab: &Lab, more: &str, credentials: &[(&str, &str)]) -> SidecarSetup {
    let credential = |(name, inside): &(&str, &str)| format!("  {name}: {{ {inside} }}\n");
    let route = |(name, _): &(&str, &str)| {
        format!(
            "  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: {name} }}\n",
            lab.upstream.url()
        )
    };
    lab.aks().config(format!(
        "listen: {{listen}}\nadmin: {{admin}}\n{more}credentials:\n{}routes:\n{}",
        credentials.iter().map(credential).collect::<String>(),
        credentials.iter().map(route).collect::<String>(),
    ))
}

/// A tenant in which a second application trusts tokens of the first.
async fn two() -> Lab {
    let lab = Lab::new().await;
    let issuer = lab.authority.access_tokens().issuer().to_owned();
    lab.authority.configure(|options| {
        options.applications.push(Application {
            client_id: OTHER.into(),
            federated: vec![FederatedCredential {
                issuer: Some(issuer),
                subject: OBJECT.into(),
                audience: ENTRA_AUDIENCE.into(),
            }],
        });
    });
    lab
}

fn chained(lab: &Lab) -> SidecarSetup {
    let child = format!(
        "entraClientAssertion: {{ scope: {SCOPE}, clientId: {OTHER}, subjectToken: managed-token }}"
    );
    let parent = format!("entraClientAssertion: {{ scope: {ENTRA_AUDIENCE}/.default }}");
    config(
        lab,
        "subjectTokens: { managed-token: { credential: managed } }\n",
        // The child stands first: the order is that of the chain.
        &[("other", &child), ("managed", &parent)],
    )
}

#[tokio::test]
async fn a_chain_is_walked_from_the_parent_with_the_token_that_it_got() {
    let lab = two().await;
    let examined = examine(&chained(&lab)).await;
    examined.assert_well();
    for credential in ["credential managed", "credential other"] {
        examined.assert(credential, "exchange", "pass", "");
    }
    let issued = lab.authority.issued().all();
    assert_eq!(issued.len(), 2);
    assert_eq!(issued[1].subject_token, issued[0].token);
    // One authority, looked at once.
    let looks = examined
        .steps()
        .iter()
        .filter(|s| s["step"] == "http")
        .count();
    assert_eq!(looks, 1, "{}", examined.printed);
}

#[tokio::test]
async fn a_chain_ends_where_it_breaks() {
    let lab = two().await;
    lab.authority
        .fail_once(Endpoint::Entra, Fault::Aadsts(700_213));
    let examined = examine(&chained(&lab)).await;
    examined.assert("credential managed", "exchange", "fail", "aadsts_700213");
    examined.assert_blocked(
        "credential other",
        "exchange",
        "credential managed: exchange",
    );
    assert_eq!(lab.authority.requests().len(), 1);
    // The child's own federated credential: its subject is the managed identity's.
    lab.authority
        .configure(|o| o.applications[1].federated[0].subject = "another".into());
    let examined = examine(&chained(&lab)).await;
    examined.assert("credential other", "exchange", "fail", "aadsts_700213");
    examined.assert_says(
        "credential other",
        "exchange",
        "the assertion is the token of credential managed",
    );
    examined.assert_command(
        "credential other",
        "exchange",
        "<principal id of the managed identity>",
    );
}

#[tokio::test]
async fn an_agent_identity_gets_its_blueprints_token_first() {
    let lab = Lab::new().await;
    let agent = format!("entraAgentIdentity: {{ scope: {SCOPE}, agentIdentityClientId: {AGENT} }}");
    let setup = config(&lab, "", &[("agent", &agent)]);
    let examined = examine(&setup).await;
    examined.assert_well();
    examined.assert("credential agent/blueprint", "exchange", "pass", "");
    examined.assert_says(
        "credential agent/blueprint",
        "exchange",
        "is put on no request",
    );
    examined.assert("credential agent", "exchange", "pass", "");
    lab.authority
        .configure(|o| o.applications[0].federated.clear());
    let examined = examine(&setup).await;
    examined.assert(
        "credential agent/blueprint",
        "exchange",
        "fail",
        "aadsts_70025",
    );
    // A blueprint is an application, never a managed identity.
    let commands = examined.step("credential agent/blueprint", "exchange")["commands"].to_string();
    assert!(
        commands.contains(&format!(
            "az ad app federated-credential create --id {CLIENT}"
        )) && !commands.contains("az identity"),
        "{commands}"
    );
    examined.assert_blocked(
        "credential agent",
        "exchange",
        "credential agent/blueprint: exchange",
    );
}

#[tokio::test]
async fn an_identity_binding_is_walked_to_the_clusters_token_proxy() {
    const NAME: &str = "0123abcd.ests.aks";
    let lab = Lab::new().await;
    let own = Ca::named("The cluster's root").unwrap();
    let proxy = TokenProxy::start(&lab.authority, &own, NAME).await.unwrap();
    let bind = |audience: &str| {
        let token = ProjectedToken {
            audiences: vec![audience.into()],
            ..ProjectedToken::default()
        };
        lab.volume
            .write(lab.authority.issuer().mint(&token).unwrap())
            .unwrap();
    };
    bind(BINDING_AUDIENCE);
    let setup = |ca: &Ca| {
        lab.quick()
            .env(
                "AZURE_KUBERNETES_TOKEN_PROXY",
                format!("https://{}", proxy.address()),
            )
            .env("AZURE_KUBERNETES_SNI_NAME", NAME)
            .env("AZURE_KUBERNETES_CA_FILE", ca.file())
    };
    let of = format!("token proxy https://{}", proxy.address());
    let examined = examine(&setup(&own)).await;
    examined.assert_well();
    examined.assert(&of, "tls", "pass", "");
    examined.assert("subject token pod", "audience", "pass", "");
    examined.assert("credential default", "exchange", "pass", "");
    // Roots of its own, and nobody else's.
    let examined = examine(&setup(&lab.ca)).await;
    examined.assert(&of, "tls", "fail", "tls_certificate_error");
    examined.assert_says(&of, "tls", "AZURE_KUBERNETES_CA_FILE");
    examined.assert_blocked("credential default", "exchange", &format!("{of}: tls"));
    // The audience of the other way.
    bind(ENTRA_AUDIENCE);
    let examined = examine(&setup(&own)).await;
    examined.assert("subject token pod", "audience", "warn", "audience");
    examined.assert_says("subject token pod", "audience", "use-identity-binding");
}

#[tokio::test]
async fn google_is_asked_in_both_steps() {
    let google = GoogleOptions::default();
    let lab = Lab::new().await;
    let token = ProjectedToken {
        audiences: vec![google.subject_audience.clone()],
        ..ProjectedToken::default()
    };
    lab.volume
        .write(lab.authority.issuer().mint(&token).unwrap())
        .unwrap();
    let storage = |account: &str| {
        format!(
            "googleSts: {{ audience: '{}', tokenEndpoint: '{}', impersonation: {{ serviceAccount: {account}, endpoint: '{}' }} }}",
            google.provider,
            lab.authority.google_token_endpoint(),
            lab.authority.authority_host()
        )
    };
    let setup = config(
        &lab,
        "",
        &[("storage", &storage("orders@p.iam.gserviceaccount.com"))],
    );
    let examined = examine(&setup).await;
    examined.assert_well();
    examined.assert("credential storage", "exchange", "pass", "");
    let setup = config(
        &lab,
        "",
        &[("storage", &storage("nobody@p.iam.gserviceaccount.com"))],
    );
    let examined = examine(&setup).await;
    let found = examined.step("credential storage", "exchange");
    assert_eq!(found["status"], "fail", "{}", examined.printed);
    assert!(
        found["code"]
            .as_str()
            .is_some_and(|c| c.starts_with("google_")),
        "{}",
        examined.printed
    );
    examined.assert_command("credential storage", "exchange", "gcloud ");
}

/// A token endpoint whose one client is this.
async fn sts(client: StsClient) -> Lab {
    Lab::with(Options {
        sts_client: client,
        certificates: Certificates::Asked,
        ..Options::default()
    })
    .await
}

fn client_credentials(lab: &Lab, authentication: &str) -> SidecarSetup {
    let fields = format!("audience: [api://backend], clientAuthentication: {authentication}");
    lab.aks()
        .config(grants_client::config(lab, "clientCredentials", &fields))
}

const OF: &str = "credential backend";

#[tokio::test]
async fn what_is_wrong_with_a_secrets_file_is_told_and_the_secret_never() {
    let (dir, secret) = (dir(), "s3cr3t-of-mine");
    let lab = sts(StsClient::Basic {
        id: "me".into(),
        secret: secret.into(),
    })
    .await;
    let file = dir.join("secret");
    let setup = client_credentials(
        &lab,
        &format!(
            "{{ clientSecretBasic: {{ clientId: me, clientSecretFile: '{}' }} }}",
            file.display()
        ),
    );
    for (content, status, code, part, exchange) in [
        (Some(secret.to_owned()), "pass", "", "", "pass"),
        // An editor's line end is left out.
        (Some(format!("{secret}\r\n")), "pass", "", "", "pass"),
        (
            None,
            "fail",
            "client_secret_unreadable",
            "is not there",
            "skip",
        ),
        (
            Some(String::new()),
            "fail",
            "client_secret_unreadable",
            "it is empty",
            "skip",
        ),
        (
            Some(format!("\u{feff}{secret}")),
            "warn",
            "client_secret_odd",
            "byte order mark",
            "fail",
        ),
        (
            Some(format!("{secret}\nmore")),
            "warn",
            "client_secret_odd",
            "several lines",
            "fail",
        ),
        (
            Some(format!("'{secret}'")),
            "warn",
            "client_secret_odd",
            "quotes",
            "fail",
        ),
    ] {
        fs::remove_file(&file).ok();
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let examined = examine(&setup).await;
        examined.assert(OF, "client", status, code);
        examined.assert_says(OF, "client", part);
        let exchanged = examined.step(OF, "exchange");
        assert_eq!(exchanged["status"], exchange, "{}", examined.printed);
        if exchange == "fail" {
            assert_eq!(exchanged["code"], "invalid_client");
            examined.assert_command(OF, "exchange", "kubectl create secret generic");
        }
        assert!(!examined.printed.contains(secret), "{}", examined.printed);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_and_the_key_never() {
    let dir = dir();
    let (key, rsa) = (
        ClientKey::new(Algorithm::ES256).unwrap(),
        ClientKey::new(Algorithm::RS256).unwrap(),
    );
    let lab = sts(StsClient::PrivateKeyJwt(KeyClient {
        id: "me".into(),
        keys: key.jwks(),
        algorithm: Algorithm::ES256,
        key_id: None,
        certificate: None,
    }))
    .await;
    let other = lab.ca.client_leaf("me").unwrap();
    let (file, certificate) = (dir.join("key.pem"), dir.join("crt.pem"));
    let method = |more: &str| {
        let issuer = lab.authority.sts_issuer();
        let fields = format!(
            "issuer: '{issuer}', audience: [api://backend], clientAuthentication: {{ privateKeyJwt: {{ clientId: me, keyFile: '{}'{more} }} }}",
            file.display()
        );
        lab.aks()
            .config(grants_client::config(&lab, "clientCredentials", &fields))
    };
    let with_certificate = format!(", certificateFile: '{}'", certificate.display());
    fs::write(&certificate, other.pem()).unwrap();
    for (content, more, status, code, part) in [
        (
            key.pem(),
            "",
            "pass",
            "",
            "an EC key signs the client's assertions (ES256, no kid)",
        ),
        ("", "", "fail", "client_key_unusable", "it is empty"),
        (
            other.pem(),
            "",
            "fail",
            "client_key_unusable",
            "it holds a certificate",
        ),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "",
            "fail",
            "client_key_unusable",
            "passphrase",
        ),
        (
            rsa.pem(),
            ", algorithm: ES256",
            "fail",
            "client_key_algorithm",
            "does not fit",
        ),
        (
            key.pem(),
            &*with_certificate,
            "fail",
            "client_certificate_other_key",
            "not the client key's",
        ),
    ] {
        fs::write(&file, content).unwrap();
        let examined = examine(&method(more)).await;
        examined.assert(OF, "client", status, code);
        examined.assert_says(OF, "client", part);
        match status {
            "pass" => examined.assert(OF, "exchange", "pass", ""),
            _ => examined.assert_blocked(OF, "exchange", "credential backend: client"),
        }
        for line in content.lines().filter(|l| !l.starts_with('-')) {
            assert!(!examined.printed.contains(line), "{}", examined.printed);
        }
    }
    // Registered under another key: the exchange tells, and what to compare.
    fs::write(&file, rsa.pem()).unwrap();
    let examined = examine(&method("")).await;
    examined.assert(OF, "client", "pass", "");
    examined.assert_says(OF, "client", "an RSA key of 2048 bits");
    examined.assert(OF, "exchange", "fail", "invalid_client");
    examined.assert_command(OF, "exchange", "openssl pkey -in <key file> -pubout");
}

/// The server does not even finish a handshake without the client's certificate: the way there is walked with it.
#[tokio::test]
async fn mutual_tls_is_walked_with_the_certificate() {
    let dir = dir();
    let lab = Lab::with(Options {
        certificates: Certificates::Demanded,
        ..Options::default()
    })
    .await;
    let leaf = lab.ca.client_leaf("me").unwrap();
    lab.authority.configure(|o| {
        o.sts_client = StsClient::Tls {
            id: "me".into(),
            certificates: vec![leaf.thumbprint()],
        };
    });
    let write = |certificate: &str, key: &str| {
        fs::write(dir.join("tls.crt"), certificate).unwrap();
        fs::write(dir.join("tls.key"), key).unwrap();
    };
    let setup = client_credentials(
        &lab,
        &format!(
            "{{ tls: {{ clientId: me, certificateFile: '{0}/tls.crt', keyFile: '{0}/tls.key' }} }}",
            dir.path().display()
        ),
    );
    write(leaf.pem(), leaf.key_pem());
    let examined = examine(&setup).await;
    examined.assert_well();
    let of = examined.authority();
    assert!(of.ends_with("(as client me)"), "{of}");
    examined.assert(&of, "http", "pass", "");
    examined.assert(OF, "client", "pass", "");
    // Of another authority: the server ends it, after the handshake as TLS 1.3 has it.
    let strange = Ca::new().unwrap().client_leaf("me").unwrap();
    write(strange.pem(), strange.key_pem());
    let examined = examine(&setup).await;
    examined.assert(&of, "tls", "fail", "tls_alert_received");
    examined.assert_says(
        &of,
        "tls",
        "does not take the certificate that it was shown",
    );
    examined.assert_blocked(OF, "exchange", &format!("{of}: tls"));
    // Expired; half of a pair; none.
    let old = lab
        .ca
        .dated_client_leaf("me", (2020, 1, 1), (2021, 1, 1))
        .unwrap();
    for (certificate, key, code, part) in [
        (
            old.pem(),
            old.key_pem(),
            "client_certificate_expired",
            "it expired",
        ),
        (
            leaf.pem(),
            old.key_pem(),
            "client_certificate_other_key",
            "not the client key's",
        ),
        (
            leaf.key_pem(),
            leaf.key_pem(),
            "client_certificate_unusable",
            "it holds a private key",
        ),
    ] {
        write(certificate, key);
        let examined = examine(&setup).await;
        examined.assert(OF, "client", "fail", code);
        examined.assert_says(OF, "client", part);
        examined.assert_blocked(OF, "exchange", "credential backend: client");
    }
    // What can be seen of the server without the certificate is seen.
    fs::remove_file(dir.join("tls.crt")).unwrap();
    let examined = examine(&setup).await;
    examined.assert(OF, "client", "fail", "client_certificate_unreadable");
    examined.assert(&of, "tls", "pass", "");
    examined.assert(&of, "http", "skip", "");
    for line in leaf.key_pem().lines().chain(old.key_pem().lines()) {
        assert!(line.starts_with('-') || !examined.printed.contains(line));
    }
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_told_before_anything_is_asked() {
    let (lab, dir) = (Lab::new().await, dir());
    let file = dir.join("ca.pem");
    let exchange = format!(
        "tokenExchange: {{ tokenEndpoint: '{}', audience: [api://backend], caFile: '{}' }}",
        lab.authority.token_endpoint(),
        file.display()
    );
    let mut setup = config(&lab, "", &[("backend", &exchange)]);
    // The private root is in the file alone.
    setup.env.remove("SSL_CERT_FILE");
    for (content, part) in [
        (None, "is not there"),
        (Some(""), "it is empty"),
        (
            Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "it holds a private key",
        ),
    ] {
        fs::remove_file(&file).ok();
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let examined = examine(&setup).await;
        let of = examined.authority();
        examined.assert(&of, "tls", "fail", "tls_setup");
        examined.assert_says(&of, "tls", part);
        examined.assert_blocked(OF, "exchange", &format!("{of}: tls"));
    }
    let other = Ca::named("Another root").unwrap();
    fs::write(&file, other.pem()).unwrap();
    let examined = examine(&setup).await;
    let of = examined.authority();
    examined.assert(&of, "tls", "fail", "tls_certificate_error");
    // Whose roots are trusted, beside whose are wanted.
    examined.assert_says(&of, "tls", "has: Another root");
    fs::write(&file, lab.ca.pem()).unwrap();
    examine(&setup).await.assert(OF, "exchange", "pass", "");
}

#[tokio::test]
async fn refusals_of_other_servers_are_told_by_their_code() {
    let lab = Lab::new().await;
    let exchange = format!(
        "tokenExchange: {{ tokenEndpoint: '{}', audience: [api://backend] }}",
        lab.authority.token_endpoint()
    );
    let setup = config(&lab, "", &[("backend", &exchange)]);
    for (status, error) in [
        (400, "invalid_request"),
        (401, "invalid_client"),
        (400, "invalid_grant"),
        (400, "unauthorized_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
        (400, "invalid_target"),
        (400, "invalid_token"),
        (403, "access_denied"),
        (400, "slow_down"),
        (503, "temporarily_unavailable"),
    ] {
        lab.authority
            .fail_once(Endpoint::Sts, Fault::OAuth(status, error));
        let examined = examine(&setup).await;
        examined.assert(OF, "exchange", "fail", error);
        let commands = examined.step(OF, "exchange")["commands"].as_array();
        assert!(commands.is_some_and(|c| !c.is_empty()), "{error}");
    }
    lab.authority
        .fail_once(Endpoint::Sts, Fault::OAuth(400, "of_its_own"));
    let examined = examine(&setup).await;
    examined.assert(OF, "exchange", "fail", "other");
    examined.assert_says(OF, "exchange", "Refused by script.");
}

#[tokio::test]
async fn grants_with_two_tokens_or_two_servers_are_made_whole() {
    let dir = dir();
    fs::write(dir.join("secret"), "s3cr3t").unwrap();
    let lab = Lab::with(Options {
        resource_client: StsClient::Post {
            id: "at-as".into(),
            secret: "s3cr3t".into(),
        },
        ..Options::default()
    })
    .await;
    let user = |may_act: &str| {
        let issuer = lab.authority.issuer();
        let mut claims = issuer.claims(&ProjectedToken::default());
        claims["sub"] = "user-1".into();
        claims["may_act"] = serde_json::json!({ "sub": may_act });
        fs::write(dir.join("user"), issuer.sign(&claims).unwrap()).unwrap();
    };
    let sts = lab.authority.token_endpoint();
    let (bearer, across, delegated) = (
        format!(
            "jwtBearer: {{ tokenEndpoint: '{sts}', assertion: realm, audience: [api://backend] }}"
        ),
        format!(
            "identityAssertion: {{ identityProvider: {{ tokenEndpoint: '{sts}', subjectToken: pod, resource: [api://backend] }}, authorizationServer: {{ tokenEndpoint: '{}', issuer: '{}', clientAuthentication: {{ clientSecretPost: {{ clientId: at-as, clientSecretFile: '{}' }} }} }} }}",
            lab.authority.resource_token_endpoint(),
            lab.authority.resource_issuer(),
            dir.join("secret").display()
        ),
        format!(
            "tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: user, audience: [api://backend], actorToken: {{ subjectToken: pod, requireAct: true }} }}"
        ),
    );
    let more = format!(
        "subjectTokens: {{ user: {{ file: '{0}/user' }}, realm: {{ file: '{0}/realm' }} }}\n",
        dir.path().display()
    );
    // A JWT as a grant is for the server itself.
    let realm = ProjectedToken {
        audiences: vec![lab.authority.sts_issuer()],
        ..ProjectedToken::default()
    };
    fs::write(
        dir.join("realm"),
        lab.authority.issuer().mint(&realm).unwrap(),
    )
    .unwrap();
    user(&ProjectedToken::default().subject());
    let setup = config(
        &lab,
        &more,
        &[
            ("bearer", &bearer),
            ("across", &across),
            ("delegated", &delegated),
        ],
    );
    let examined: Examined = examine(&setup).await;
    examined.assert_well();
    for name in ["bearer", "across", "delegated"] {
        examined.assert(&format!("credential {name}"), "exchange", "pass", "");
    }
    // Who may act is looked at before anything is asked.
    user("somebody-else");
    let before = lab.authority.requests().len();
    let examined = examine(&setup).await;
    examined.assert("credential delegated", "exchange", "fail", "may_act_other");
    assert_eq!(lab.authority.requests().len() - before, 3);
    // Which of the two servers refused is said.
    lab.authority
        .fail_once(Endpoint::Resource, Fault::OAuth(400, "invalid_grant"));
    let examined = examine(&setup).await;
    examined.assert("credential across", "second client", "pass", "");
    examined.assert("credential across", "exchange", "fail", "invalid_grant");
    examined.assert_says("credential across", "exchange", "authorization server: ");
}

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
