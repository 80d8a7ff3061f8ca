//! Client authentication by secret, key and certificate: what is wrong with their files is told, and none of them is shown.

use super::{BACKEND as OF, config, dir, examine};
use crate::{grants_client, lab::Lab};
use harness::{
    authority::{Certificates, Options, StsClient},
    certs::Ca,
    client_key::ClientKey,
    process::SidecarSetup,
};
use jsonwebtoken::Algorithm;
use std::fs;

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
    let known = grants_client::key_client(&key, Algorithm::ES256, None);
    let lab = sts(StsClient::PrivateKeyJwt(known)).await;
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
