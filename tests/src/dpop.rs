//! The server's side of DPoP, by RFC 9449 section 4.3 and written apart from the sidecar's: checks a proof with the signature library's own verifier,
//! refuses one that was seen before, and hands out nonces.

use crate::keys::unix_now;
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method};
use serde_json::Value;
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A proof's age at most, either way.
const WINDOW: Duration = Duration::from_secs(120);

/// A server that checks proofs.
#[derive(Default)]
pub struct Verifier {
    /// The nonce that a proof must have, when one must.
    pub nonce: Mutex<Option<String>>,
    seen: Mutex<HashSet<String>>,
}

/// What a proof must fit.
pub struct Expected<'a> {
    /// `htm`.
    pub method: &'a Method,
    /// `htu`: the URL without query.
    pub url: &'a str,
    /// The access token that comes with it; `None` at a token endpoint.
    pub token: Option<&'a str>,
    /// The thumbprint that the token is bound to; `None` at a token endpoint.
    pub thumbprint: Option<&'a str>,
}

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Another nonce is wanted.
    Nonce,
    /// Everything else, in words.
    Proof(String),
}

impl Verifier {
    /// Checks the one `DPoP` field; gives the thumbprint of its key.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, headers: &HeaderMap, expected: &Expected<'_>) -> Result<String, Refused> {
        let wrong = |what: &str| Refused::Proof(what.to_owned());
        let mut proofs = headers.get_all("dpop").iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else {
            return Err(wrong("not one proof"));
        };
        let proof = proof.to_str().map_err(|_| wrong("not text"))?;
        let parts: Vec<&str> = proof.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(wrong("not a JWT"));
        };
        let json = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Value>(&bytes).ok()
        };
        let head = json(header).ok_or_else(|| wrong("header"))?;
        let body = json(claims).ok_or_else(|| wrong("claims"))?;
        if head["typ"] != "dpop+jwt" || head["alg"] != "ES256" {
            return Err(wrong("typ or alg"));
        }
        let jwk = &head["jwk"];
        if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || jwk.get("d").is_some() {
            return Err(wrong("jwk"));
        }
        let mut point = vec![4];
        for name in ["x", "y"] {
            let coordinate = jwk[name]
                .as_str()
                .and_then(|c| URL_SAFE_NO_PAD.decode(c).ok());
            point.extend(coordinate.ok_or_else(|| wrong("coordinate"))?);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| wrong("base64"))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(format!("{header}.{claims}").as_bytes(), &signature)
            .map_err(|_| wrong("signature"))?;
        if body["htm"] != expected.method.as_str() || body["htu"] != expected.url {
            return Err(wrong(&format!("made for {} {}", body["htm"], body["htu"])));
        }
        let now = unix_now();
        let iat = Duration::from_secs(body["iat"].as_u64().ok_or_else(|| wrong("iat"))?);
        if now.abs_diff(iat) > WINDOW {
            return Err(wrong("too old or from the future"));
        }
        let hash = expected
            .token
            .map(|token| URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())));
        if body.get("ath").and_then(Value::as_str) != hash.as_deref() {
            return Err(wrong("ath"));
        }
        let wanted = self
            .nonce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if wanted.is_some() && body["nonce"].as_str() != wanted.as_deref() {
            return Err(Refused::Nonce);
        }
        let id = body["jti"].as_str().ok_or_else(|| wrong("jti"))?;
        let fresh = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
        if !fresh {
            return Err(wrong("seen before"));
        }
        let (x, y) = (&jwk["x"], &jwk["y"]);
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{x},"y":{y}}}"#);
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        if expected.thumbprint.is_some_and(|bound| bound != thumbprint) {
            return Err(wrong("another key than the token is bound to"));
        }
        Ok(thumbprint)
    }

    /// Wants this nonce from now on.
    pub fn want(&self, nonce: &str) {
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
    }
}
