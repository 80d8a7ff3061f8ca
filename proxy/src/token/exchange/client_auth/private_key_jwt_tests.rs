//! The assertions: what they say, who signed them, and that a rotated key signs the next one.

use super::{super::super::SubjectTokens, *};
use crate::token::{
    exchange::{client_auth::ClientAuth, wire::Form},
    file::tests::TestDir,
    params::{ClientAuthentication, SigningAlgorithm},
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rcgen::{CertificateParams, KeyPair};
use std::{collections::HashSet, fs, path::Path};

fn params(dir: &Path) -> PrivateKeyJwtParams {
    PrivateKeyJwtParams {
        client_id: "me".into(),
        key_file: dir.join("key.pem"),
        algorithm: None,
        key_id: None,
        certificate_file: None,
        audience: "https://issuer.example".into(),
    }
}

/// Writes a new P-256 key with its certificate.
fn write_pair(dir: &Path) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["me".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.join("certificate.pem"), certificate.pem()).unwrap();
    (key, certificate.der().to_vec())
}

/// Header and claims of a JWT, which the key signed.
fn opened(jwt: &str, key: &KeyPair) -> (Value, Value) {
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key_raw())
        .verify(message.as_bytes(), &decode(signature))
        .unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
    (json(header), json(claims))
}

fn code(signer: &PrivateKeyJwt) -> &'static str {
    signer.sign().unwrap_err().code()
}

#[test]
fn an_assertion_names_the_client_the_audience_and_a_short_time() {
    let dir = TestDir::new();
    let (key, _) = write_pair(dir.path());
    let signer = PrivateKeyJwt::new(
        params(dir.path()),
        Clock::anchored(Duration::from_secs(1000)),
    );
    let (header, claims) = opened(&signer.sign().unwrap(), &key);
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT"}));
    let mut expected = json!({
        "iss": "me", "sub": "me", "aud": "https://issuer.example",
        "iat": 990, "nbf": 990, "exp": 1050,
    });
    expected["jti"] = claims["jti"].clone();
    assert_eq!(claims, expected);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
    let ids: HashSet<String> = (0..100)
        .map(|_| opened(&signer.sign().unwrap(), &key).1["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn the_header_names_the_key_and_its_certificate() {
    let dir = TestDir::new();
    let (key, certificate) = write_pair(dir.path());
    let mut p = params(dir.path());
    p.key_id = Some("k1".into());
    p.certificate_file = Some(dir.path().join("certificate.pem"));
    let signer = PrivateKeyJwt::new(p, Clock::system());
    let (header, _) = opened(&signer.sign().unwrap(), &key);
    let thumbprint = digest::digest(&digest::SHA256, &certificate);
    assert_eq!(
        header,
        json!({"alg": "ES256", "typ": "JWT", "kid": "k1", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint)})
    );
}

#[test]
fn a_rotated_pair_signs_the_next_assertion_and_half_of_one_does_not() {
    let dir = TestDir::new();
    let mut p = params(dir.path());
    p.certificate_file = Some(dir.path().join("certificate.pem"));
    let signer = PrivateKeyJwt::new(p, Clock::system());
    assert_eq!(code(&signer), "client_key_unreadable");
    let (old, _) = write_pair(dir.path());
    let (first, _) = opened(&signer.sign().unwrap(), &old);
    // The key alone is another one's: the old pair stays.
    let half = KeyPair::generate().unwrap();
    fs::write(dir.path().join("key.pem"), half.serialize_pem()).unwrap();
    assert_eq!(opened(&signer.sign().unwrap(), &old).0, first);
    let (new, _) = write_pair(dir.path());
    assert_ne!(opened(&signer.sign().unwrap(), &new).0, first);
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = TestDir::new();
    write_pair(dir.path());
    let with = |change: &dyn Fn(&mut PrivateKeyJwtParams)| {
        let mut p = params(dir.path());
        change(&mut p);
        code(&PrivateKeyJwt::new(p, Clock::system()))
    };
    let certificate = dir.path().join("certificate.pem");
    assert_eq!(
        with(&|p| p.algorithm = Some(SigningAlgorithm::Rs256)),
        "client_key_algorithm"
    );
    assert_eq!(
        with(&|p| p.key_file = certificate.clone()),
        "client_key_unusable"
    );
    assert_eq!(
        with(&|p| p.certificate_file = Some(p.key_file.clone())),
        "client_certificate_unusable"
    );
    assert_eq!(
        with(&|p| p.certificate_file = Some(dir.path().join("none"))),
        "client_certificate_unreadable"
    );
    fs::write(
        dir.path().join("other.pem"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    assert_eq!(
        with(&|p| {
            p.key_file = dir.path().join("other.pem");
            p.certificate_file = Some(certificate.clone());
        }),
        "client_certificate_other_key"
    );
}

#[test]
fn it_is_sent_as_a_client_assertion_and_the_key_is_not_shown() {
    let dir = TestDir::new();
    let (key, _) = write_pair(dir.path());
    let auth = ClientAuth::new(
        &ClientAuthentication::PrivateKeyJwt(params(dir.path())),
        Clock::system(),
    );
    let (form, headers) = auth.apply(Form::new(), &SubjectTokens::default()).unwrap();
    assert!(headers.is_empty());
    let form: Vec<(String, String)> = form_urlencoded::parse(&form.finish())
        .into_owned()
        .collect();
    let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["client_id", "client_assertion_type", "client_assertion"]
    );
    assert_eq!(form[0].1, "me");
    assert_eq!(
        form[1].1,
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    opened(&form[2].1, &key);
    let shown = format!("{auth:?}");
    for secret in key.serialize_pem().lines().filter(|l| !l.starts_with('-')) {
        assert!(!shown.contains(secret), "{shown}");
    }
}
