//! Every form of key, with every algorithm that fits it; and what does not.

use super::*;
use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer as _, EcPrivateKeyBin, EcPrivateKeyRfc5915Der, Pkcs8V1Der},
    rsa::KeySize,
    signature::{EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// A PEM file with one block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// An RSA key as PKCS#8 and as the PKCS#1 within it.
fn rsa_ders() -> (Vec<u8>, Vec<u8>) {
    let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let pkcs8 = pkcs8.as_ref().to_vec();
    let mut outer = Der(&pkcs8).enter();
    outer.next();
    outer.next();
    let pkcs1 = outer.next().to_vec();
    (pkcs8, pkcs1)
}

/// The least of DER that takes a key apart.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element.
    fn next(&mut self) -> &'a [u8] {
        let (head, length) = match self.0[1] {
            short if short < 0x80 => (2, usize::from(short)),
            long => {
                let count = usize::from(long & 0x7f);
                let length = self.0[2..2 + count]
                    .iter()
                    .fold(0, |n, b| n << 8 | usize::from(*b));
                (2 + count, length)
            }
        };
        let content = &self.0[head..head + length];
        self.0 = &self.0[head + length..];
        content
    }

    fn enter(mut self) -> Self {
        Self(self.next())
    }
}

/// The private JWK of a PKCS#1 key.
fn rsa_jwk(pkcs1: &[u8], rest: &str) -> String {
    let mut fields = Der(pkcs1).enter();
    fields.next();
    let mut members = String::new();
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let number = fields.next();
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        members.push_str(&format!(
            r#""{name}":"{}","#,
            URL_SAFE_NO_PAD.encode(number)
        ));
    }
    format!(r#"{{{members}"kty":"RSA"{rest}}}"#)
}

fn ec_jwk(pair: &EcdsaKeyPair, curve: &str, rest: &str) -> String {
    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let [x, y, d] = [x, y, scalar.as_ref()].map(|n| URL_SAFE_NO_PAD.encode(n));
    format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}","d":"{d}"{rest}}}"#)
}

fn verifies(key: &SigningKey, algorithm: &'static dyn VerificationAlgorithm) -> bool {
    let signature = key.sign(b"message").unwrap();
    UnparsedPublicKey::new(algorithm, key.public())
        .verify(b"message", &signature)
        .is_ok()
}

#[test]
fn an_rsa_key_signs_with_all_of_its_algorithms_from_all_of_its_forms() {
    use SigningAlgorithm as A;
    let (pkcs8, pkcs1) = rsa_ders();
    let verifiers: [(A, &'static dyn VerificationAlgorithm); 6] = [
        (A::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
        (A::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
        (A::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
        (A::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
        (A::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
        (A::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
    ];
    for content in [
        pem("PRIVATE KEY", &pkcs8),
        pem("RSA PRIVATE KEY", &pkcs1),
        rsa_jwk(&pkcs1, ""),
    ] {
        let key = SigningKey::parse(content.as_bytes(), None).unwrap();
        assert_eq!(key.algorithm(), A::Rs256);
        for (algorithm, verifier) in verifiers {
            let key = SigningKey::parse(content.as_bytes(), Some(algorithm)).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert!(verifies(&key, verifier), "{algorithm:?}");
        }
        for other in [A::Es256, A::Es384, A::Es512] {
            assert_eq!(
                SigningKey::parse(content.as_bytes(), Some(other)).unwrap_err(),
                KeyError::OtherAlgorithm
            );
        }
    }
}

#[test]
fn an_ec_key_signs_with_its_curves_algorithm_from_all_of_its_forms() {
    use SigningAlgorithm as A;
    let verifiers: [&'static dyn VerificationAlgorithm; 3] = [
        &signature::ECDSA_P256_SHA256_FIXED,
        &signature::ECDSA_P384_SHA384_FIXED,
        &signature::ECDSA_P521_SHA512_FIXED,
    ];
    for ((curve, name, own), verifier) in CURVES.iter().zip(verifiers) {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
        for content in [
            pem("PRIVATE KEY", pkcs8.as_ref()),
            pem("EC PRIVATE KEY", sec1.as_ref()),
            ec_jwk(&pair, name, ""),
        ] {
            let key = SigningKey::parse(content.as_bytes(), None).unwrap();
            assert_eq!((key.algorithm(), key.id()), (*own, None));
            assert!(verifies(&key, verifier), "{name}");
            for other in A::ALL.into_iter().filter(|a| a != own) {
                assert_eq!(
                    SigningKey::parse(content.as_bytes(), Some(other)).unwrap_err(),
                    KeyError::OtherAlgorithm,
                    "{name} {other:?}"
                );
            }
        }
    }
}

#[test]
fn a_jwk_says_its_algorithm_and_its_id_and_configuration_outweighs_it() {
    let (_, pkcs1) = rsa_ders();
    let jwk = rsa_jwk(
        &pkcs1,
        r#","alg":"PS384","kid":"k1","use":"sig","key_ops":["sign"]"#,
    );
    let key = SigningKey::parse(format!("\n {jwk}").as_bytes(), None).unwrap();
    assert_eq!(
        (key.algorithm(), key.id()),
        (SigningAlgorithm::Ps384, Some("k1"))
    );
    let key = SigningKey::parse(jwk.as_bytes(), Some(SigningAlgorithm::Rs512)).unwrap();
    assert_eq!(key.algorithm(), SigningAlgorithm::Rs512);
    for alg in ["RSA-OAEP", "HS256", "none"] {
        let jwk = rsa_jwk(&pkcs1, &format!(r#","alg":"{alg}""#));
        assert_eq!(
            SigningKey::parse(jwk.as_bytes(), None).unwrap_err(),
            KeyError::OtherAlgorithm,
            "{alg}"
        );
    }
}

#[test]
fn what_is_no_private_key_is_refused_and_never_shown() {
    let (pkcs8, pkcs1) = rsa_ders();
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let jwk = ec_jwk(&pair, "P-256", "");
    let other = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let d = |text: &str| {
        let start = text.find(r#""d":"#).unwrap();
        text[start..].trim_end_matches('}').to_owned()
    };
    for content in [
        String::new(),
        "secret".into(),
        "{}".into(),
        "{".into(),
        r#"{"kty":"oct","k":"c2VjcmV0"}"#.into(),
        r#"{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}"#.into(),
        pem("ENCRYPTED PRIVATE KEY", &pkcs8),
        pem("PRIVATE KEY", &pkcs8[..pkcs8.len() - 1]),
        pem("PRIVATE KEY", b"nothing"),
        pem("CERTIFICATE", &pkcs8),
        pem("EC PRIVATE KEY", &pkcs1),
        pem("RSA PRIVATE KEY", &pkcs8),
        // A public JWK, a private one of another curve, and one with a scalar that is not its point's.
        jwk.replace(r#""d":"#, r#""no":"#),
        jwk.replace("P-256", "P-384"),
        jwk.replace(&d(&jwk), &d(&ec_jwk(&other, "P-256", ""))),
    ] {
        let error = SigningKey::parse(content.as_bytes(), None).unwrap_err();
        assert_eq!(error, KeyError::NotAKey, "{content:.40}");
    }
    let key = SigningKey::parse(jwk.as_bytes(), None).unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey { algorithm: Es256, .. }");
}
