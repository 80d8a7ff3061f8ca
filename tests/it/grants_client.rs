//! Client credentials with every client authentication, against a token endpoint that verifies each; keys, certificates and secrets that
//! are rotated; and the JWT as authorization grant.

use crate::lab::{Lab, PATIENT, assert_passes, start};
use harness::{
    authority::{Certificates, Endpoint, KeyClient, Options, StsClient},
    certs::Leaf,
    client_key::ClientKey,
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    process::Sidecar,
    temp::TempDir,
};
use jsonwebtoken::Algorithm;
use std::fs;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A configuration whose one credential is this grant (the inside of its map), for the endpoint of the development authority.
pub(crate) fn config(lab: &Lab, grant: &str, fields: &str) -> String {
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials: {{ backend: {{ {grant}: {{ tokenEndpoint: '{}', {fields} }} }} }}\n\
         routes: [{{ name: backend, upstream: '{}', credential: backend{PATIENT} }}]\n",
        lab.authority.token_endpoint(),
        lab.upstream.url(),
    )
}

async fn client_credentials(lab: &Lab, authentication: &str) -> Sidecar {
    let fields = format!(
        "issuer: '{}', audience: [api://backend], clientAuthentication: {authentication}",
        lab.authority.sts_issuer()
    );
    start(&lab.aks().config(config(lab, "clientCredentials", &fields))).await
}

/// Has the token of the last exchange refused by the upstream: the next request causes another exchange.
pub(crate) fn revoke(lab: &Lab) {
    let issued = lab.authority.issued().last().unwrap();
    lab.authority.access_tokens().revoke(&issued.token);
}

/// The client `me`, which signs with this key.
pub(crate) fn key_client(key: &ClientKey, algorithm: Algorithm, key_id: Option<&str>) -> KeyClient {
    KeyClient {
        id: "me".into(),
        keys: key.jwks(),
        algorithm,
        key_id: key_id.map(str::to_owned),
        certificate: None,
    }
}

/// Works as configured, and not when the server knows the client by another secret.
async fn check(known: StsClient, unknown: StsClient, authentication: &str, secret: &str) -> Lab {
    let lab = Lab::with(Options {
        sts_client: known,
        certificates: Certificates::Asked,
        ..Options::default()
    })
    .await;
    let sidecar = client_credentials(&lab, authentication).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.field("grant_type"), Some("client_credentials"));
    assert_eq!(request.fields("audience"), ["api://backend"]);
    lab.authority.configure(|o| o.sts_client = unknown);
    let other = client_credentials(&lab, authentication).await;
    other.pending("invalid_client").await.unwrap();
    for line in secret.lines().filter(|l| !l.starts_with("-----")) {
        assert!(!sidecar.process.output().contains(line));
        assert!(!other.process.output().contains(line));
    }
    lab
}

#[tokio::test]
async fn secrets_and_projected_tokens_authenticate_client_credentials() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let file = dir.join("secret");
    fs::write(&file, "s3cr3t:+&\n").unwrap();
    let file = file.display();
    let basic = |secret: &str| StsClient::Basic {
        id: "a b".into(),
        secret: secret.into(),
    };
    let post = |secret: &str| StsClient::Post {
        id: "a b".into(),
        secret: secret.into(),
    };
    let assertion = |subject: String| StsClient::Assertion {
        subject,
        audience: ENTRA_AUDIENCE.into(),
    };
    let secret = "s3cr3t:+&";
    check(
        basic(secret),
        basic("other"),
        &format!("{{ clientSecretBasic: {{ clientId: a b, clientSecretFile: '{file}' }} }}"),
        secret,
    )
    .await;
    check(
        post(secret),
        post("other"),
        &format!("{{ clientSecretPost: {{ clientId: a b, clientSecretFile: '{file}' }} }}"),
        secret,
    )
    .await;
    let lab = check(
        assertion(ProjectedToken::default().subject()),
        assertion("system:serviceaccount:other:other".into()),
        "{ clientAssertion: { subjectToken: pod } }",
        "",
    )
    .await;
    // The assertion says who the client is.
    assert_eq!(
        lab.authority.requests().last().unwrap().field("client_id"),
        None
    );
}

#[tokio::test]
async fn a_private_key_authenticates_with_each_algorithm() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let file = dir.join("key.pem");
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::ES256,
        Algorithm::ES384,
    ] {
        let key = ClientKey::new(algorithm).unwrap();
        let other = ClientKey::new(algorithm).unwrap();
        fs::write(&file, key.pem()).unwrap();
        let lab = check(
            StsClient::PrivateKeyJwt(key_client(&key, algorithm, Some("k1"))),
            StsClient::PrivateKeyJwt(key_client(&other, algorithm, Some("k1"))),
            &format!(
                "{{ privateKeyJwt: {{ clientId: me, keyFile: '{}', algorithm: {algorithm:?}, keyId: k1 }} }}",
                file.display()
            ),
            key.pem(),
        )
        .await;
        let requests = lab.authority.requests().all();
        let request = requests.first().unwrap();
        assert_eq!(request.field("client_id"), Some("me"));
        assert_eq!(request.field("client_assertion_type"), Some(ASSERTION_TYPE));
    }
}

#[tokio::test]
async fn an_assertion_names_its_certificate_and_is_good_once_and_for_one_server() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let algorithm = Algorithm::ES256;
    let lab = Lab::new().await;
    let leaf = lab.ca.client_leaf("me").unwrap();
    let (key, certificate) = (dir.join("tls.key"), dir.join("tls.crt"));
    fs::write(&key, leaf.key_pem()).unwrap();
    fs::write(&certificate, leaf.pem()).unwrap();
    let registered = KeyClient {
        keys: leaf.jwks().unwrap(),
        certificate: Some(leaf.thumbprint()),
        ..key_client(&ClientKey::new(algorithm).unwrap(), algorithm, None)
    };
    lab.authority
        .configure(|o| o.sts_client = StsClient::PrivateKeyJwt(registered));
    let method = |more: &str| {
        format!(
            "{{ privateKeyJwt: {{ clientId: me, keyFile: '{}', certificateFile: '{}' {more} }} }}",
            key.display(),
            certificate.display()
        )
    };
    let sidecar = client_credentials(&lab, &method("")).await;
    sidecar.ready().await.unwrap();
    // What was seen on the wire is worth nothing the second time.
    let seen = lab.authority.requests().last().unwrap();
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(&seen.form);
    let client = harness::client::Client::new(lab.authority.address())
        .tls(&lab.ca)
        .unwrap()
        .host("localhost");
    let again = client.post("/sts/token", body.finish()).await.unwrap();
    assert_eq!(again.status, 401, "{}", again.text());
    assert!(again.text().contains("used before"), "{}", again.text());
    // For another audience it is worth nothing either.
    let other = client_credentials(&lab, &method(", audience: 'https://other.example'")).await;
    other.pending("invalid_client").await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_signs_at_the_next_exchange() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let file = dir.join("key.pem");
    let algorithm = Algorithm::ES256;
    let (old, new) = (
        ClientKey::new(algorithm).unwrap(),
        ClientKey::new(algorithm).unwrap(),
    );
    fs::write(&file, old.pem()).unwrap();
    let lab = Lab::with(Options {
        sts_client: StsClient::PrivateKeyJwt(key_client(&old, algorithm, None)),
        ..Options::default()
    })
    .await;
    let method = format!(
        "{{ privateKeyJwt: {{ clientId: me, keyFile: '{}' }} }}",
        file.display()
    );
    let sidecar = client_credentials(&lab, &method).await;
    sidecar.ready().await.unwrap();
    fs::write(&file, new.pem()).unwrap();
    lab.authority.configure(|o| {
        o.sts_client = StsClient::PrivateKeyJwt(key_client(&new, algorithm, None));
    });
    revoke(&lab);
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 2);
    assert_eq!(lab.authority.refusals().len(), 0);
    // A broken file does not take the key away.
    let sidecar = client_credentials(&lab, &method).await;
    sidecar.ready().await.unwrap();
    fs::write(&file, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    revoke(&lab);
    assert_passes(&sidecar).await;
    assert!(
        sidecar.process.output().contains("client_key_unusable"),
        "{}",
        sidecar.process.output()
    );
    assert_eq!(lab.authority.issued().len(), 4);
}

#[tokio::test]
async fn a_rotated_secret_is_sent_at_the_next_exchange() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let file = dir.join("secret");
    let client = |secret: &str| StsClient::Basic {
        id: "me".into(),
        secret: secret.into(),
    };
    fs::write(&file, "old-secret").unwrap();
    let lab = Lab::with(Options {
        sts_client: client("old-secret"),
        ..Options::default()
    })
    .await;
    let method = format!(
        "{{ clientSecretBasic: {{ clientId: me, clientSecretFile: '{}' }} }}",
        file.display()
    );
    let sidecar = client_credentials(&lab, &method).await;
    sidecar.ready().await.unwrap();
    fs::write(&file, "new-secret").unwrap();
    lab.authority
        .configure(|o| o.sts_client = client("new-secret"));
    revoke(&lab);
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.refusals().len(), 0);
}

fn write(dir: &TempDir, leaf: &Leaf) {
    fs::write(dir.join("tls.crt"), leaf.pem()).unwrap();
    fs::write(dir.join("tls.key"), leaf.key_pem()).unwrap();
}

#[tokio::test]
async fn mutual_tls_authenticates_and_a_rotated_pair_is_shown_at_the_next_exchange() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let lab = Lab::with(Options {
        certificates: Certificates::Asked,
        ..Options::default()
    })
    .await;
    let (old, new) = (
        lab.ca.client_leaf("me").unwrap(),
        lab.ca.client_leaf("me").unwrap(),
    );
    let client = |leaf: &Leaf| StsClient::Tls {
        id: "me".into(),
        certificates: vec![leaf.thumbprint()],
    };
    lab.authority.configure(|o| o.sts_client = client(&old));
    write(&dir, &old);
    let method = format!(
        "{{ tls: {{ clientId: me, certificateFile: '{0}/tls.crt', keyFile: '{0}/tls.key' }} }}",
        dir.path().display()
    );
    let sidecar = client_credentials(&lab, &method).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.field("client_id"), Some("me"));
    assert!(request.certificate.is_some() && !request.headers.contains_key("authorization"));
    write(&dir, &new);
    lab.authority.configure(|o| o.sts_client = client(&new));
    revoke(&lab);
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 2);
    // Half of another pair: the last good one stays.
    let half = client_credentials(&lab, &method).await;
    half.ready().await.unwrap();
    fs::write(dir.join("tls.crt"), old.pem()).unwrap();
    revoke(&lab);
    assert_passes(&half).await;
    assert_eq!(lab.authority.issued().len(), 4);
    assert_eq!(lab.authority.refusals().len(), 0);
    write(&dir, &new);
    for line in old.key_pem().lines().chain(new.key_pem().lines()) {
        assert!(line.starts_with('-') || !sidecar.process.output().contains(line));
    }
    // Who shows another certificate, or none, is not that client.
    lab.authority.configure(|o| o.sts_client = client(&old));
    let other = client_credentials(&lab, &method).await;
    other.pending("invalid_client").await.unwrap();
}

#[tokio::test]
async fn a_pair_that_comes_late_is_waited_for_and_its_want_is_named() {
    let dir = TempDir::new("token-sidecar-grants").unwrap();
    let lab = Lab::with(Options {
        certificates: Certificates::Asked,
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
    let method = format!(
        "{{ tls: {{ clientId: me, certificateFile: '{0}/tls.crt', keyFile: '{0}/tls.key' }} }}",
        dir.path().display()
    );
    let sidecar = client_credentials(&lab, &method).await;
    sidecar
        .pending("client_certificate_unreadable")
        .await
        .unwrap();
    assert!(lab.authority.requests().is_empty());
    write(&dir, &leaf);
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn a_jwt_is_an_authorization_grant() {
    let lab = Lab::new().await;
    let token = |audience: String| {
        let token = lab.authority.issuer().mint(&ProjectedToken {
            audiences: vec![audience],
            ..ProjectedToken::default()
        });
        token.unwrap()
    };
    let good = token(lab.authority.sts_issuer());
    lab.volume.write(&good).unwrap();
    let configuration = config(
        &lab,
        "jwtBearer",
        "audience: [api://backend], scope: orders.read, clientAuthentication: { none: { clientId: me } }",
    );
    let sidecar = start(&lab.aks().config(&configuration)).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.endpoint, Endpoint::Sts);
    let mut form = request.form;
    form.sort();
    let mut expected = [
        ("assertion", good.as_str()),
        ("audience", "api://backend"),
        ("client_id", "me"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("scope", "orders.read"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    expected.sort();
    assert_eq!(form, expected);
    lab.volume
        .write(token("https://other.example".into()))
        .unwrap();
    let other = start(&lab.aks().config(&configuration)).await;
    other.pending("invalid_grant").await.unwrap();
}
