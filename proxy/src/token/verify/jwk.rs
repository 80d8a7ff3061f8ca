//! Keys of issuers: a JWK set (RFC 7517) as far as signatures of access tokens need it. A key can verify with the algorithms of its own type and no
//! others, so a token's `alg` can never choose how a key is used; symmetric keys do not exist here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// A set with more keys is refused: nobody has so many.
pub const MAX_KEYS: usize = 100;
/// Modulus lengths in bytes that are accepted (RFC 7518 section 3.3 wants 2048 bits at least).
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A signature algorithm (RFC 7518 section 3.1, RFC 8037). There is no `none` and no HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Rs256,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// As `alg` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one of that name; case counts (RFC 7515 section 4.1.1). RFC 9864 calls EdDSA on this curve `Ed25519`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDsa),
            _ => Self::ALL.into_iter().find(|a| a.name() == name),
        }
    }
}

/// A public key with the algorithms it may be used with.
pub struct Key {
    kid: Option<String>,
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.verifiers.iter().map(|(a, _)| a).collect();
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &algorithms)
            .finish()
    }
}

impl Key {
    /// Whether the signature is this key's over the message, by that algorithm. A key that is not for the algorithm has signed nothing with it.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers
            .iter()
            .any(|(a, key)| *a == algorithm && key.verify_sig(message, signature).is_ok())
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(a, _)| *a == algorithm)
    }

    /// Whether this is the very same key, under the same name.
    fn is_same(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.verifiers.len() == other.verifiers.len()
            && self
                .verifiers
                .iter()
                .zip(&other.verifiers)
                .all(|((a, x), (b, y))| a == b && x.as_ref() == y.as_ref())
    }
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

/// Why a document is no usable set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON with a list `keys`.
    #[error("what came back is no JWK set")]
    NotASet,
    /// More than [`MAX_KEYS`].
    #[error("the JWK set has more than {MAX_KEYS} keys")]
    TooMany,
    /// None that could verify a signature.
    #[error(
        "the JWK set has no key for any of RS256, PS256, ES256, ES384, EdDSA (RSA keys need 2048 bits or more)"
    )]
    Empty,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWK set. Keys that are for something else, or that this program cannot use, are left out (RFC 7517 section 5).
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = document
            .keys
            .into_iter()
            .filter_map(|key| key_of(&serde_json::from_value(key).ok()?))
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self(keys))
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The algorithms that some key is for.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(|a| self.0.iter().any(|k| k.is_for(*a)))
            .collect()
    }

    /// The keys that a token with this `kid` and `alg` may have been signed with. A token without `kid` is only ever matched with a key that is
    /// the only one for its algorithm.
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<&Key> {
        let fitting = self.0.iter().filter(|k| k.is_for(algorithm));
        match kid {
            Some(kid) => fitting.filter(|k| k.kid.as_deref() == Some(kid)).collect(),
            None => {
                let all: Vec<_> = fitting.collect();
                if all.len() == 1 { all } else { Vec::new() }
            }
        }
    }

    /// Whether each key of `before` is still here: only then do signatures that were good still count.
    pub fn keeps_all_of(&self, before: &Self) -> bool {
        before
            .0
            .iter()
            .all(|old| self.0.iter().any(|new| new.is_same(old)))
    }
}

fn key_of(jwk: &Jwk) -> Option<Key> {
    let signs = jwk.r#use.as_deref().is_none_or(|u| u == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !signs {
        return None;
    }
    let of_type = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(jwk)?,
        ("EC", Some("P-256")) => vec![(
            Algorithm::Es256,
            parsed(&ECDSA_P256_SHA256_FIXED, &point(jwk, 32)?)?,
        )],
        ("EC", Some("P-384")) => vec![(
            Algorithm::Es384,
            parsed(&ECDSA_P384_SHA384_FIXED, &point(jwk, 48)?)?,
        )],
        ("OKP", Some("Ed25519")) => vec![(
            Algorithm::EdDsa,
            parsed(&ED25519, &bytes_of(jwk.x.as_deref()?, 32)?)?,
        )],
        _ => return None,
    };
    let verifiers: Vec<_> = match &jwk.alg {
        None => of_type,
        Some(alg) => {
            let only = Algorithm::named(alg)?;
            of_type.into_iter().filter(|(a, _)| *a == only).collect()
        }
    };
    if verifiers.is_empty() {
        return None;
    }
    Some(Key {
        kid: jwk.kid.clone(),
        verifiers,
    })
}

fn rsa(jwk: &Jwk) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
    let n = unsigned(jwk.n.as_deref()?)?;
    let e = unsigned(jwk.e.as_deref()?)?;
    if !RSA_BYTES.contains(&n.len()) {
        return None;
    }
    let parameters: [(Algorithm, &'static RsaParameters); 2] = [
        (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    ];
    let components = RsaPublicKeyComponents { n: &n, e: &e };
    parameters
        .into_iter()
        .map(|(algorithm, parameters)| {
            Some((algorithm, components.to_parsed_public_key(parameters).ok()?))
        })
        .collect()
}

/// A big-endian number without the leading zeros that some issuers write.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let first = bytes.iter().position(|b| *b != 0)?;
    Some(bytes[first..].to_vec())
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn point(jwk: &Jwk, size: usize) -> Option<Vec<u8>> {
    let (x, y) = (
        bytes_of(jwk.x.as_deref()?, size)?,
        bytes_of(jwk.y.as_deref()?, size)?,
    );
    Some([&[4], &x[..], &y[..]].concat())
}

fn bytes_of(text: &str, size: usize) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .filter(|bytes| bytes.len() == size)
}

fn parsed(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(algorithm, bytes).ok()
}

#[cfg(test)]
#[path = "jwk_tests.rs"]
mod tests;
