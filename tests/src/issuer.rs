//! The cluster issuer: mints projected service-account tokens as a Kubernetes API server does, and publishes its keys.

use crate::{
    Result,
    keys::{SigningKey, unix_now},
};
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The audience that Entra wants of a projected token.
pub const ENTRA_AUDIENCE: &str = "api://AzureADTokenExchange";

/// A cluster's issuer. Clones share keys.
#[derive(Clone)]
pub struct Issuer {
    url: Arc<str>,
    keys: Arc<Mutex<Keys>>,
    minted: Arc<AtomicU64>,
}

struct Keys {
    current: SigningKey,
    /// Published, newest first; the current one is among them unless [`Issuer::roll_unpublished`] was called.
    published: JwkSet,
}

/// What a projected token says.
#[derive(Debug, Clone)]
pub struct ProjectedToken {
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub service_account: String,
    /// Name of the pod.
    pub pod: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `iat` and `nbf`: this long ago.
    pub issued_ago: Duration,
    /// `exp` after `iat`. A token may already be expired: choose an `issued_ago` that is longer.
    pub lifetime: Duration,
}

impl Default for ProjectedToken {
    fn default() -> Self {
        Self {
            namespace: "demo".into(),
            service_account: "workload".into(),
            pod: "workload-0".into(),
            audiences: vec![ENTRA_AUDIENCE.into()],
            issued_ago: Duration::ZERO,
            lifetime: Duration::from_secs(3600),
        }
    }
}

impl ProjectedToken {
    /// `sub`, as the API server writes it.
    pub fn subject(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.service_account
        )
    }
}

impl Issuer {
    /// An issuer that calls itself `url` (AKS' end in a slash, and the slash counts).
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn new(url: &str) -> Result<Self> {
        let current = SigningKey::rs256()?;
        let published = JwkSet {
            keys: vec![current.public().clone()],
        };
        Ok(Self {
            url: url.into(),
            keys: Arc::new(Mutex::new(Keys { current, published })),
            minted: Arc::default(),
        })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Signs a projected token.
    ///
    /// # Errors
    /// When signing fails.
    pub fn mint(&self, token: &ProjectedToken) -> Result<String> {
        self.sign(&self.claims(token))
    }

    /// The claims that [`Issuer::mint`] would sign; change what a test is about and [`Issuer::sign`] them.
    pub fn claims(&self, token: &ProjectedToken) -> Value {
        let number = self.minted.fetch_add(1, Ordering::Relaxed);
        let issued = unix_now().saturating_sub(token.issued_ago);
        json!({
            "aud": token.audiences,
            "exp": (issued + token.lifetime).as_secs(),
            "iat": issued.as_secs(),
            "iss": &*self.url,
            "jti": format!("00000000-0000-4000-8000-{number:012x}"),
            "kubernetes.io": {
                "namespace": token.namespace,
                "node": { "name": "node-0", "uid": "7c1d9a4e-0000-4000-8000-000000000001" },
                "pod": { "name": token.pod, "uid": "7c1d9a4e-0000-4000-8000-000000000002" },
                "serviceaccount": { "name": token.service_account, "uid": "7c1d9a4e-0000-4000-8000-000000000003" },
            },
            "nbf": issued.as_secs(),
            "sub": token.subject(),
        })
    }

    /// Signs any claims with the current key.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.keys().current.sign("JWT", claims)
    }

    /// The published keys.
    pub fn jwks(&self) -> JwkSet {
        self.keys().published.clone()
    }

    /// The discovery document (`/.well-known/openid-configuration`), as an API server writes it.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": &*self.url,
            "jwks_uri": format!("{}/openid/v1/jwks", self.url.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    /// Makes a new key current and publishes it beside the old ones.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn roll(&self) -> Result<()> {
        let key = SigningKey::rs256()?;
        let mut keys = self.keys();
        keys.published.keys.insert(0, key.public().clone());
        keys.current = key;
        Ok(())
    }

    /// Makes a new key current without publishing it: what is signed with it does not verify.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn roll_unpublished(&self) -> Result<()> {
        self.keys().current = SigningKey::rs256()?;
        Ok(())
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
