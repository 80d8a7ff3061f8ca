//! For tests: keys of every kind that sign tokens and show their public half, and tokens whose header and claims a test can make up.

use super::jwk::Algorithm;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://issuer.example/tenant";
pub(crate) const AUDIENCE: &str = "https://mcp.example.com/mcp";
/// What tests call now.
pub(crate) const NOW: u64 = 1_000_000;

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key that signs.
pub(crate) struct TestKey {
    pub(crate) kid: &'static str,
    pub(crate) algorithm: Algorithm,
    pair: Pair,
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    pub(crate) fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
            }
            Algorithm::Es256 => {
                Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            Algorithm::Es384 => {
                Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            Algorithm::EdDsa => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
        };
        Self {
            kid,
            algorithm,
            pair,
        }
    }

    /// The public half, without `alg` and `use`.
    pub(crate) fn jwk(&self) -> Value {
        match (&self.pair, self.algorithm) {
            (Pair::Rsa(pair), _) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "kid": self.kid, "n": part(n), "e": part(e) })
            }
            (Pair::Ec(pair), algorithm) => {
                let (crv, size) = match algorithm {
                    Algorithm::Es384 => ("P-384", 48),
                    _ => ("P-256", 32),
                };
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(size);
                json!({ "kty": "EC", "crv": crv, "kid": self.kid, "x": part(x), "y": part(y) })
            }
            (Pair::Ed(pair), _) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": part(pair.public_key()) })
            }
        }
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                if self.algorithm == Algorithm::Ps256 {
                    pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                } else {
                    pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                }
                .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm.name(), "kid": self.kid, "typ": "JWT" })
    }

    /// Signs these very texts as header and payload.
    pub(crate) fn sign_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", part(header), part(payload));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", part(signature))
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }
}

/// Claims that every check likes.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 3600, "nbf": NOW, "iat": NOW,
        "scope": "tools.read tools.call", "tid": "t1",
    })
}

/// [`claims`] with one changed, or taken out by null.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().unwrap();
    if value.is_null() {
        map.remove(name);
    } else {
        map.insert(name.to_owned(), value);
    }
    claims
}

pub(crate) fn jwks(keys: &[&TestKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|k| k.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Modulus and exponent out of an RSAPublicKey (RFC 8017 appendix A.1.1): a sequence of two integers.
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn value(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match usize::from(der[1]) {
            short @ ..0x80 => (short, 2),
            long => {
                let count = long - 0x80;
                let length = der[2..2 + count]
                    .iter()
                    .fold(0, |all, b| all << 8 | usize::from(*b));
                (length, 2 + count)
            }
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (numbers, _) = value(der);
    let (n, rest) = value(numbers);
    let (e, _) = value(rest);
    (n.to_vec(), e.to_vec())
}
