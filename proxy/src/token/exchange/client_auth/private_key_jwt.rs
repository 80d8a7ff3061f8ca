//! `private_key_jwt` (OpenID Connect Core section 9, RFC 7523 section 3): assertions that name the client, for one token endpoint and a
//! minute, signed with a key from a file that may be rotated.

use super::{
    super::error::ExchangeError,
    rotating::Rotating,
    signing_key::{KeyError, SigningKey},
};
use crate::token::params::{PrivateKeyJwtParams, SigningAlgorithm};
use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Map, Value, json};
use sidecar_runtime::clock::Clock;
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// From `iat` to `exp`. Servers refuse more than two minutes, or less.
const LIFETIME: Duration = Duration::from_secs(60);
/// `iat` and `nbf` lie so far back: clocks differ.
const BACKDATED: Duration = Duration::from_secs(10);

/// Signs the assertions of one client.
pub(super) struct PrivateKeyJwt {
    params: PrivateKeyJwtParams,
    key: Rotating<Ready>,
    clock: Clock,
}

impl fmt::Debug for PrivateKeyJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeyJwt")
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// A key, and the header of all that it signs.
struct Ready {
    key: SigningKey,
    header: String,
}

impl PrivateKeyJwt {
    pub(super) fn new(params: PrivateKeyJwtParams, clock: Clock) -> Self {
        let mut files = vec![(params.key_file.clone(), "client_key_unreadable")];
        if let Some(file) = &params.certificate_file {
            files.push((file.clone(), "client_certificate_unreadable"));
        }
        Self {
            params,
            key: Rotating::new(files),
            clock,
        }
    }

    /// A new assertion. No two have the same `jti`.
    ///
    /// # Errors
    /// [`ExchangeError`] `client_key_…` or `client_certificate_…`.
    pub(super) fn sign(&self) -> Result<Zeroizing<String>, ExchangeError> {
        let ready = self.key.current(|contents| self.ready(contents))?;
        let issued = self.clock.unix_now().saturating_sub(BACKDATED);
        let mut id = [0; 16];
        let unusable = || ExchangeError::local("client_key_unusable");
        rand::fill(&mut id).map_err(|_| unusable())?;
        let claims = json!({
            "iss": self.params.client_id,
            "sub": self.params.client_id,
            "aud": self.params.audience,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": issued.as_secs(),
            "nbf": issued.as_secs(),
            "exp": (issued + LIFETIME).as_secs(),
        });
        let mut jwt = Zeroizing::new(String::with_capacity(2048));
        jwt.push_str(&ready.header);
        jwt.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut jwt);
        let signature = ready.key.sign(jwt.as_bytes()).ok_or_else(unusable)?;
        jwt.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
        Ok(jwt)
    }

    fn ready(&self, contents: &[Zeroizing<Vec<u8>>]) -> Result<Ready, ExchangeError> {
        let Some((key, others)) = contents.split_first() else {
            return Err(ExchangeError::local("client_key_unreadable"));
        };
        let key = parse(key, self.params.algorithm)?;
        let mut header = Map::new();
        header.insert("alg".into(), key.algorithm().name().into());
        header.insert("typ".into(), "JWT".into());
        if let Some(id) = self.params.key_id.as_deref().or(key.id()) {
            header.insert("kid".into(), id.into());
        }
        if let Some(pem) = others.first() {
            // RFC 7515 section 4.1.8.
            let digest = digest::digest(&digest::SHA256, &certificate(pem, &key)?);
            header.insert("x5t#S256".into(), URL_SAFE_NO_PAD.encode(digest).into());
        }
        Ok(Ready {
            header: URL_SAFE_NO_PAD.encode(Value::Object(header).to_string()),
            key,
        })
    }
}

/// A file's key, for an algorithm.
pub(super) fn parse(
    content: &[u8],
    algorithm: Option<SigningAlgorithm>,
) -> Result<SigningKey, ExchangeError> {
    SigningKey::parse(content, algorithm).map_err(|e| {
        ExchangeError::local(match e {
            KeyError::NotAKey => "client_key_unusable",
            KeyError::OtherAlgorithm => "client_key_algorithm",
        })
    })
}

/// The first certificate of a PEM file, which must be the key's.
pub(super) fn certificate(
    pem: &[u8],
    key: &SigningKey,
) -> Result<CertificateDer<'static>, ExchangeError> {
    let unusable = |_| ExchangeError::local("client_certificate_unusable");
    let certificate = CertificateDer::from_pem_slice(pem)
        .map_err(|_| ExchangeError::local("client_certificate_unusable"))?;
    let parsed = ParsedCertificate::try_from(&certificate).map_err(unusable)?;
    if !parsed.subject_public_key_info().ends_with(key.public()) {
        return Err(ExchangeError::local("client_certificate_other_key"));
    }
    Ok(certificate)
}

#[cfg(test)]
#[path = "private_key_jwt_tests.rs"]
mod tests;
