//! Private keys that sign JWTs: read from PEM or JWK, and the signatures of RFC 7518. Neither shows a key, in `Debug` or in an error.

use crate::token::params::SigningAlgorithm;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding},
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Base64url as JWK has it (RFC 7515 section 2), and as some tools write it: with padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key and the algorithm that it signs with.
pub(super) struct SigningKey {
    key: Key,
    algorithm: SigningAlgorithm,
    id: Option<String>,
}

enum Key {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
}

/// Why a file's content is no key to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyError {
    /// Neither PEM with a private key, nor a private JWK, of a type that signs here; or an encrypted one.
    NotAKey,
    /// A key of another type than the algorithm's, or a JWK whose `alg` is none that is known.
    OtherAlgorithm,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a private key: PEM (PKCS#8, PKCS#1, SEC 1) or a JWK (RFC 7517). `algorithm` outweighs the JWK's `alg`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(super) fn parse(
        content: &[u8],
        algorithm: Option<SigningAlgorithm>,
    ) -> Result<Self, KeyError> {
        if content.trim_ascii_start().starts_with(b"{") {
            let jwk: Jwk = serde_json::from_slice(content).map_err(|_| KeyError::NotAKey)?;
            let own = match (algorithm, &jwk.alg) {
                (None, Some(name)) => {
                    Some(SigningAlgorithm::named(name).ok_or(KeyError::OtherAlgorithm)?)
                }
                _ => algorithm,
            };
            return Self::of(jwk.key()?, own, jwk.kid.clone());
        }
        let der = PrivateKeyDer::from_pem_slice(content).map_err(|_| KeyError::NotAKey)?;
        let der = Zeroizing::new(der);
        Self::of(from_der(&der).ok_or(KeyError::NotAKey)?, algorithm, None)
    }

    fn of(
        key: Key,
        algorithm: Option<SigningAlgorithm>,
        id: Option<String>,
    ) -> Result<Self, KeyError> {
        use SigningAlgorithm as A;
        let own = match &key {
            Key::Rsa(_) => A::Rs256,
            Key::Ec(pair) => curve_algorithm(pair.algorithm()),
        };
        let algorithm = algorithm.unwrap_or(own);
        let fits = match &key {
            Key::Rsa(_) => rsa_encoding(algorithm).is_some(),
            Key::Ec(_) => algorithm == own,
        };
        if fits {
            Ok(Self { key, algorithm, id })
        } else {
            Err(KeyError::OtherAlgorithm)
        }
    }

    /// `alg`.
    pub(super) const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The JWK's `kid`.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How long the modulus of an RSA key is.
    pub(super) fn bits(&self) -> Option<usize> {
        match &self.key {
            Key::Rsa(pair) => Some(pair.public_modulus_len() * 8),
            Key::Ec(_) => None,
        }
    }

    /// The public half as it stands at the end of a certificate's SubjectPublicKeyInfo: an RSAPublicKey, or a point.
    pub(super) fn public(&self) -> &[u8] {
        match &self.key {
            Key::Rsa(pair) => pair.public_key().as_ref(),
            Key::Ec(pair) => pair.public_key().as_ref(),
        }
    }

    /// The signature of RFC 7518 section 3; `None` when the provider fails.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(self.algorithm)?, &random, message, &mut out)
                    .ok()?;
                Some(out)
            }
            Key::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
        }
    }
}

/// The curves, each with the fixed-length signatures of JWS (RFC 7518 section 3.4) and the name of the curve in a JWK.
static CURVES: [(&EcdsaSigningAlgorithm, &str, SigningAlgorithm); 3] = [
    (
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        "P-256",
        SigningAlgorithm::Es256,
    ),
    (
        &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        "P-384",
        SigningAlgorithm::Es384,
    ),
    (
        &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        "P-521",
        SigningAlgorithm::Es512,
    ),
];

fn curve_algorithm(curve: &'static EcdsaSigningAlgorithm) -> SigningAlgorithm {
    CURVES
        .iter()
        .find(|(c, ..)| *c == curve)
        .map_or(SigningAlgorithm::Es256, |(.., algorithm)| *algorithm)
}

fn rsa_encoding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    use SigningAlgorithm as A;
    Some(match algorithm {
        A::Rs256 => &signature::RSA_PKCS1_SHA256,
        A::Rs384 => &signature::RSA_PKCS1_SHA384,
        A::Rs512 => &signature::RSA_PKCS1_SHA512,
        A::Ps256 => &signature::RSA_PSS_SHA256,
        A::Ps384 => &signature::RSA_PSS_SHA384,
        A::Ps512 => &signature::RSA_PSS_SHA512,
        A::Es256 | A::Es384 | A::Es512 => return None,
    })
}

fn from_der(der: &PrivateKeyDer<'_>) -> Option<Key> {
    let curves = || CURVES.iter().map(|(curve, ..)| *curve);
    match der {
        PrivateKeyDer::Pkcs1(key) => {
            let pair = rsa::KeyPair::from_der(key.secret_pkcs1_der()).ok()?;
            Some(Key::Rsa(pair))
        }
        PrivateKeyDer::Sec1(key) => curves()
            .find_map(|c| EcdsaKeyPair::from_private_key_der(c, key.secret_sec1_der()).ok())
            .map(Key::Ec),
        PrivateKeyDer::Pkcs8(key) => {
            let der = key.secret_pkcs8_der();
            let rsa = rsa::KeyPair::from_pkcs8(der).ok().map(Key::Rsa);
            rsa.or_else(|| {
                curves()
                    .find_map(|c| EcdsaKeyPair::from_pkcs8(c, der).ok())
                    .map(Key::Ec)
            })
        }
        _ => None,
    }
}

/// A private JWK (RFC 7518 sections 6.2 and 6.3). All of its text is wiped when dropped.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for secret in [
            &mut self.d,
            &mut self.p,
            &mut self.q,
            &mut self.dp,
            &mut self.dq,
            &mut self.qi,
        ] {
            secret.zeroize();
        }
    }
}

impl Jwk {
    fn key(&self) -> Result<Key, KeyError> {
        match &*self.kty {
            "RSA" => self.rsa().map(Key::Rsa),
            "EC" => self.ec().map(Key::Ec),
            _ => None,
        }
        .ok_or(KeyError::NotAKey)
    }

    fn rsa(&self) -> Option<rsa::KeyPair> {
        rsa::KeyPair::from_components(&rsa::KeyPairComponents {
            public_key: rsa::PublicKeyComponents {
                n: decode(&self.n)?,
                e: decode(&self.e)?,
            },
            d: decode(&self.d)?,
            p: decode(&self.p)?,
            q: decode(&self.q)?,
            dP: decode(&self.dp)?,
            dQ: decode(&self.dq)?,
            qInv: decode(&self.qi)?,
        })
        .ok()
    }

    fn ec(&self) -> Option<EcdsaKeyPair> {
        let wanted = self.crv.as_deref()?;
        let (curve, ..) = CURVES.iter().find(|(_, name, _)| *name == wanted)?;
        // The uncompressed point of SEC 1 section 2.3.3.
        let mut point = vec![4];
        point.extend_from_slice(&decode(&self.x)?.0);
        point.extend_from_slice(&decode(&self.y)?.0);
        EcdsaKeyPair::from_private_key_and_public_key(curve, &decode(&self.d)?.0, &point).ok()
    }
}

/// Decoded octets, wiped when dropped.
struct Octets(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn decode(text: &Option<String>) -> Option<Octets> {
    let octets = BASE64URL.decode(text.as_deref()?).ok()?;
    Some(Octets(Zeroizing::new(octets)))
}

#[cfg(test)]
#[path = "signing_key_tests.rs"]
mod tests;
