//! Signing keys that are made at start: RS256 for the cluster issuer, ES256 for issued tokens; their public halves as a JWK set; and
//! verification against such a set.

use crate::Result;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

static NEXT_KID: AtomicU64 = AtomicU64::new(1);

/// The wall clock, since the epoch.
pub fn unix_now() -> Duration {
    sidecar_runtime::clock::Clock::system().unix_now()
}

/// A private key that signs JWTs under its own `kid`.
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Jwk,
}

impl SigningKey {
    /// A 2048-bit RSA key that signs RS256, the only algorithm Entra accepts from an issuer.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn rs256() -> Result<Self> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Self::new(
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?,
        )
    }

    /// A P-256 key that signs ES256.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn es256() -> Result<Self> {
        Self::new(
            Algorithm::ES256,
            EncodingKey::from_ec_der(KeyPair::generate()?.serialized_der()),
        )
    }

    fn new(algorithm: Algorithm, key: EncodingKey) -> Result<Self> {
        let kid = format!(
            "key-{}-{}",
            std::process::id(),
            NEXT_KID.fetch_add(1, Ordering::Relaxed)
        );
        let mut public = Jwk::from_encoding_key(&key, algorithm)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            kid,
            algorithm,
            key,
            public,
        })
    }

    /// The key's name in a JWK set.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// Signs `claims`; `typ` is the header's type (`JWT`, `at+jwt`).
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String> {
        let mut header = Header::new(self.algorithm);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

/// Why a JWT was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not three base64url parts of JSON.
    Malformed,
    /// Its `kid` names no key of the set, or none at all.
    UnknownKey,
    /// The signature or the algorithm is wrong.
    Signature,
}

/// Checks the signature of `token` against `keys` and returns its claims. Checks no claim: times, issuer and audience are the caller's,
/// who has an own error for each.
///
/// # Errors
/// [`Refused`].
pub fn verify(token: &str, keys: &JwkSet) -> std::result::Result<Value, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    let kid = header.kid.ok_or(Refused::UnknownKey)?;
    let jwk = keys.find(&kid).ok_or(Refused::UnknownKey)?;
    let key = DecodingKey::from_jwk(jwk).map_err(|_| Refused::UnknownKey)?;
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map(|data| data.claims)
        .map_err(|_| Refused::Signature)
}

/// The claims of a JWT, signature unchecked.
pub fn peek(token: &str) -> Option<Value> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signature_is_checked_against_the_set_that_holds_its_key() {
        for (key, other) in [
            (SigningKey::rs256().unwrap(), SigningKey::rs256().unwrap()),
            (SigningKey::es256().unwrap(), SigningKey::es256().unwrap()),
        ] {
            let token = key.sign("JWT", &json!({"sub": "a"})).unwrap();
            let keys = JwkSet {
                keys: vec![key.public().clone(), other.public().clone()],
            };
            assert_eq!(verify(&token, &keys).unwrap()["sub"], "a");
            assert_eq!(
                verify(
                    &token,
                    &JwkSet {
                        keys: vec![other.public().clone()]
                    }
                ),
                Err(Refused::UnknownKey)
            );
            let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
            parts[1] = "eyJzdWIiOiJiIn0".into();
            assert_eq!(verify(&parts.join("."), &keys), Err(Refused::Signature));
            assert_eq!(verify("no.jwt", &keys), Err(Refused::Malformed));
        }
    }
}
