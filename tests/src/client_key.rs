//! The key of a client that signs its assertions, as a file for the client and as a JWK set for the server.

use crate::Result;
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, JwkSet},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};

/// A key for one algorithm.
pub struct ClientKey {
    pem: String,
    public: Jwk,
}

impl ClientKey {
    /// A new key that fits `algorithm`: RSA of 2048 bits, or EC on the algorithm's curve.
    ///
    /// # Errors
    /// When it cannot be generated, or the algorithm is none of RS, PS, ES256 and ES384.
    pub fn new(algorithm: Algorithm) -> Result<Self> {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            Algorithm::ES384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
            other => return Err(format!("no client key for {other:?}").into()),
        };
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(pair.serialized_der()),
            _ => EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?,
        };
        Ok(Self {
            pem: pair.serialize_pem(),
            public: Jwk::from_encoding_key(&key, algorithm)?,
        })
    }

    /// The private key, PEM (PKCS#8).
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key alone in a set.
    pub fn jwks(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.public.clone()],
        }
    }
}
