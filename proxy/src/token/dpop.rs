//! Demonstrating proof of possession (RFC 9449): the process's key, the proofs that go with requests, and the nonces that servers want in them. It knows
//! neither routes nor slots.
//!
//! The key is made at the start, lives in this process alone and is never written anywhere: a token that is bound to it is worthless elsewhere.

use aws_lc_rs::{
    digest::{SHA256, digest},
    error::Unspecified,
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::WWW_AUTHENTICATE};
use serde_json::json;
use sidecar_runtime::clock::Clock;
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};
use url::Url;

/// The field that carries a proof (section 4.1).
pub const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The field by which a server hands out a nonce (section 8.1).
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The scheme of a bound token in `Authorization` (section 7.1), with its space.
pub const SCHEME: &str = "DPoP ";
/// The error of a server that wants another nonce (section 8).
pub const USE_NONCE: &str = "use_dpop_nonce";

/// Servers whose nonces are remembered: more than any configuration names.
const SERVERS: usize = 1024;
/// Longer nonces are nobody's.
const NONCE_BYTES: usize = 512;

/// Makes proofs with the process's key.
pub struct Prover {
    key: EcdsaKeyPair,
    /// The header of every proof, encoded: with the public key.
    header: String,
    thumbprint: String,
    clock: Clock,
    /// By origin.
    nonces: Mutex<HashMap<String, String>>,
}

impl Prover {
    /// With a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(clock: Clock) -> Result<Self, Unspecified> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        // Uncompressed: 4, x, y (SEC 1 section 2.3.3).
        let point = key.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .filter(|xy| xy.len() == 64)
            .and_then(|xy| xy.split_at_checked(32))
            .ok_or(Unspecified)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        // RFC 7638 section 3: these members, in this order, without white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self {
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())),
            key,
            clock,
            nonces: Mutex::default(),
        })
    }

    /// The key's JWK thumbprint (RFC 7638): what a bound token names in `cnf.jkt` (section 6.1).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// A proof for one request (section 4.2): its method, its URL (what a proof does not cover, query and fragment, is left out), the access token that goes
    /// with it, if one does, and the nonce that its server gave last. Marked sensitive. `None`: there is no randomness; nothing may be sent.
    pub fn proof(&self, method: &Method, url: &Url, token: Option<&str>) -> Option<HeaderValue> {
        let mut id = [0_u8; 16];
        rand::fill(&mut id).ok()?;
        let mut claims = json!({
            "jti": URL_SAFE_NO_PAD.encode(id),
            "htm": method.as_str(),
            "htu": target(url),
            "iat": self.clock.unix_now().as_secs(),
        });
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD
                .encode(digest(&SHA256, token.as_bytes()))
                .into();
        }
        if let Some(nonce) = self.nonces().get(&origin(url)) {
            claims["nonce"] = nonce.as_str().into();
        }
        let signed = format!(
            "{}.{}",
            self.header,
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .ok()?;
        let proof = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let mut value = HeaderValue::from_str(&proof).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Takes over the nonce that a response of the server of `url` hands out (section 8.2). True when it is another one than before.
    pub fn note(&self, url: &Url, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(DPOP_NONCE).iter();
        let (Some(nonce), None) = (given.next(), given.next()) else {
            return false;
        };
        let Some(nonce) = nonce.to_str().ok().filter(|n| is_nonce(n)) else {
            return false;
        };
        let origin = origin(url);
        let mut nonces = self.nonces();
        if nonces.len() >= SERVERS && !nonces.contains_key(&origin) {
            nonces.clear();
        }
        let before = nonces.insert(origin, nonce.to_owned());
        before.is_none_or(|before| before != nonce)
    }

    fn nonces(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover")
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

/// Whether a 401 of an upstream asks for a proof with the nonce that it gave (section 9).
pub fn asks_for_nonce(headers: &HeaderMap) -> bool {
    headers.contains_key(DPOP_NONCE)
        && headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| {
                v.split_ascii_whitespace()
                    .next()
                    .is_some_and(|scheme| scheme.eq_ignore_ascii_case("dpop"))
                    && v.contains(USE_NONCE)
            })
}

/// `htu`: the URL without query and fragment; `Url` has brought the rest into its normal form.
fn target(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// NQCHAR (RFC 6749 appendix A), as section 8.1 has it.
fn is_nonce(text: &str) -> bool {
    (1..=NONCE_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
#[path = "dpop_tests.rs"]
mod tests;
