//! The tokens that the authority issues: signing (ES256), verifying, revoking. An upstream of the harness holds a clone.

use crate::{
    Result,
    keys::{self, SigningKey, unix_now},
};
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

static NEXT_JTI: AtomicU64 = AtomicU64::new(1);

/// Issues and verifies access tokens. Clones share keys and revocations.
#[derive(Clone)]
pub struct AccessTokens(Arc<Inner>);

struct Inner {
    issuer: String,
    fixed: Option<String>,
    state: Mutex<State>,
}

struct State {
    key: SigningKey,
    published: JwkSet,
    revoked: HashSet<String>,
}

/// Why an upstream does not accept a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT, or its signature is wrong.
    Signature,
    /// Past its `exp`, or before its `nbf`.
    Expired,
    /// Made for somebody else.
    Audience,
    /// Revoked by [`AccessTokens::revoke`].
    Revoked,
}

impl TokenError {
    /// For `error_description` in a challenge.
    pub fn text(self) -> &'static str {
        match self {
            Self::Signature => "The signature is invalid",
            Self::Expired => "The token is expired",
            Self::Audience => "The audience is invalid",
            Self::Revoked => "The token was revoked",
        }
    }
}

impl AccessTokens {
    /// Tokens of this `iss`; with `fixed`, that literal is the only token there is.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn new(issuer: &str, fixed: Option<String>) -> Result<Self> {
        let key = SigningKey::es256()?;
        let published = JwkSet {
            keys: vec![key.public().clone()],
        };
        Ok(Self(Arc::new(Inner {
            issuer: issuer.to_owned(),
            fixed,
            state: Mutex::new(State {
                key,
                published,
                revoked: HashSet::new(),
            }),
        })))
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Signs a token; `claims` adds to (and overrides) iss, iat, nbf, exp and jti. No two are alike, unless fixed.
    pub(super) fn issue(&self, claims: Value, lifetime: Duration) -> String {
        if let Some(fixed) = &self.0.fixed {
            return fixed.clone();
        }
        self.sign("at+jwt", claims, lifetime)
    }

    /// As [`AccessTokens::issue`], of another `typ`.
    pub(super) fn sign(&self, typ: &str, claims: Value, lifetime: Duration) -> String {
        let now = unix_now();
        let mut all = json!({
            "iss": self.0.issuer,
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            // In fractions of a second (NumericDate allows it): lives of a second or two stay exact.
            "exp": (now + lifetime).as_secs_f64(),
            "jti": format!("{:016x}", NEXT_JTI.fetch_add(1, Ordering::Relaxed)),
        });
        if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
            all.extend(claims);
        }
        self.state().key.sign(typ, &all).unwrap_or_default()
    }

    /// Checks signature, times, audience and revocation; gives the claims.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, audience: &str) -> std::result::Result<Value, TokenError> {
        if self.state().revoked.contains(token) {
            return Err(TokenError::Revoked);
        }
        if let Some(fixed) = &self.0.fixed {
            return if fixed == token {
                Ok(json!({}))
            } else {
                Err(TokenError::Signature)
            };
        }
        let claims = keys::verify(token, &self.jwks()).map_err(|_| TokenError::Signature)?;
        let now = unix_now().as_secs_f64();
        let (nbf, exp) = (
            claims["nbf"].as_f64().unwrap_or(f64::MAX),
            claims["exp"].as_f64().unwrap_or(0.0),
        );
        if now < nbf || now >= exp {
            return Err(TokenError::Expired);
        }
        let for_us = match &claims["aud"] {
            Value::String(one) => one == audience,
            Value::Array(many) => many.iter().any(|one| one == audience),
            _ => false,
        };
        if for_us {
            Ok(claims)
        } else {
            Err(TokenError::Audience)
        }
    }

    /// From now on this token is refused.
    pub fn revoke(&self, token: &str) {
        self.state().revoked.insert(token.to_owned());
    }

    /// Signs with a new key from now on; with `forget`, tokens of the old keys no longer verify.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn roll(&self, forget: bool) -> Result<()> {
        let key = SigningKey::es256()?;
        let mut state = self.state();
        if forget {
            state.published.keys.clear();
        }
        state.published.keys.insert(0, key.public().clone());
        state.key = key;
        Ok(())
    }

    /// The published keys.
    pub fn jwks(&self) -> JwkSet {
        self.state().published.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_audience_until_it_expires_or_is_revoked() {
        let tokens = AccessTokens::new("https://issuer", None).unwrap();
        let good = tokens.issue(json!({"aud": "api://a"}), Duration::from_secs(60));
        assert!(tokens.verify(&good, "api://a").is_ok());
        assert_eq!(
            tokens.verify(&good, "api://b").unwrap_err(),
            TokenError::Audience
        );
        let stale = tokens.issue(json!({"aud": "api://a"}), Duration::ZERO);
        assert_eq!(
            tokens.verify(&stale, "api://a").unwrap_err(),
            TokenError::Expired
        );
        assert_ne!(
            good,
            tokens.issue(json!({"aud": "api://a"}), Duration::from_secs(60))
        );
        tokens.revoke(&good);
        assert_eq!(
            tokens.verify(&good, "api://a").unwrap_err(),
            TokenError::Revoked
        );
        let old = tokens.issue(json!({"aud": "api://a"}), Duration::from_secs(60));
        tokens.roll(false).unwrap();
        assert!(tokens.verify(&old, "api://a").is_ok());
        tokens.roll(true).unwrap();
        assert_eq!(
            tokens.verify(&old, "api://a").unwrap_err(),
            TokenError::Signature
        );
    }

    #[test]
    fn a_fixed_token_is_the_only_one() {
        let tokens = AccessTokens::new("https://issuer", Some("bench-token".into())).unwrap();
        assert_eq!(tokens.issue(json!({}), Duration::ZERO), "bench-token");
        assert!(tokens.verify("bench-token", "anything").is_ok());
        assert_eq!(
            tokens.verify("other", "anything").unwrap_err(),
            TokenError::Signature
        );
    }
}
