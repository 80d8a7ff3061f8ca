//! An authorization server of the workload's callers, as far as a resource server sees one: metadata, keys that roll, tokens of any content, and
//! outages by script. It has no token endpoint: tests ask it for tokens directly.

use crate::{
    Result,
    body::{self, Body},
    certs::{Alpn, Ca, LOCAL_NAMES},
    keys::{SigningKey, unix_now},
    record::Record,
    serve::{self, Server},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::net::TcpListener;

/// Where the metadata is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// `/tenant/.well-known/openid-configuration` (OpenID Connect Discovery).
    OpenId,
    /// `/.well-known/oauth-authorization-server/tenant` (RFC 8414).
    OAuth,
    /// Nowhere.
    None,
}

/// A running issuer.
pub struct CallerIssuer {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    discovery: Discovery,
    state: Mutex<State>,
    fetches: Record<String>,
    minted: AtomicU64,
}

struct State {
    key: SigningKey,
    published: JwkSet,
    down: bool,
    /// What the metadata calls itself, when it lies.
    claimed: Option<String>,
}

impl CallerIssuer {
    /// Starts one on a free loopback port, over TLS with a certificate of `ca`; it signs RS256.
    ///
    /// # Errors
    /// When no port can be bound or a key cannot be made.
    pub async fn start(ca: &Ca, discovery: Discovery) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}/tenant", listener.local_addr()?.port());
        let key = SigningKey::rs256()?;
        let published = JwkSet {
            keys: vec![key.public().clone()],
        };
        let shared = Arc::new(Shared {
            url,
            discovery,
            state: Mutex::new(State {
                key,
                published,
                down: false,
                claimed: None,
            }),
            fetches: Record::new(),
            minted: AtomicU64::new(0),
        });
        let state = Arc::clone(&shared);
        let handler = serve::handler(move |request, _| {
            let answer = state.answer(&request);
            async move { answer }
        });
        let tls = ca.server(&LOCAL_NAMES, Alpn::Both)?;
        Ok(Self {
            server: Server::serve(listener, Some(tls), handler)?,
            shared,
        })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Where its keys are.
    pub fn jwks_uri(&self) -> String {
        self.shared.jwks_uri()
    }

    /// Claims of a good token for `audience`, with the scopes `tools.read tools.call`; no two are alike.
    pub fn claims(&self, subject: &str, audience: &str) -> Value {
        let now = unix_now().as_secs();
        let number = self.shared.minted.fetch_add(1, Ordering::Relaxed);
        json!({
            "iss": self.url(), "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": now + 3600,
            "scope": "tools.read tools.call", "jti": format!("caller-{number:08x}"),
        })
    }

    /// A good token.
    ///
    /// # Errors
    /// When signing fails.
    pub fn token(&self, subject: &str, audience: &str) -> Result<String> {
        self.sign(&self.claims(subject, audience))
    }

    /// Signs any claims, as an access token of RFC 9068.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as("at+jwt", claims)
    }

    /// Signs any claims under any `typ`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign_as(&self, typ: &str, claims: &Value) -> Result<String> {
        self.shared.state().key.sign(typ, claims)
    }

    /// Signs with a new key (ES256) from now on, and publishes it beside the old ones, or in their place.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn roll(&self, forget: bool) -> Result<()> {
        let key = SigningKey::es256()?;
        let mut state = self.shared.state();
        if forget {
            state.published.keys.clear();
        }
        state.published.keys.insert(0, key.public().clone());
        state.key = key;
        Ok(())
    }

    /// From now on it answers 503, or is well again.
    pub fn set_down(&self, down: bool) {
        self.shared.state().down = down;
    }

    /// From now on its metadata says to be another issuer's.
    pub fn lie(&self, issuer: &str) {
        self.shared.state().claimed = Some(issuer.to_owned());
    }

    /// The paths of all requests for documents.
    pub fn fetches(&self) -> &Record<String> {
        &self.shared.fetches
    }

    /// How often the keys were asked for.
    pub fn key_fetches(&self) -> usize {
        self.shared.fetches.count(|path| path == "/tenant/keys")
    }

    /// Connections accepted so far.
    pub fn accepted_connections(&self) -> usize {
        self.server.accepted()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jwks_uri(&self) -> String {
        format!("{}/keys", self.url)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        self.fetches.push(path.to_owned());
        let state = self.state();
        let metadata = match self.discovery {
            Discovery::OpenId => "/tenant/.well-known/openid-configuration",
            Discovery::OAuth => "/.well-known/oauth-authorization-server/tenant",
            Discovery::None => "",
        };
        let document = match path {
            _ if request.method() != Method::GET => None,
            "/tenant/keys" => serde_json::to_value(&state.published).ok(),
            path if path == metadata => Some(json!({
                "issuer": state.claimed.as_deref().unwrap_or(&self.url),
                "jwks_uri": self.jwks_uri(),
                "token_endpoint": format!("{}/token", self.url),
            })),
            _ => None,
        };
        let (status, text) = match document {
            _ if state.down => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            Some(document) => (StatusCode::OK, document.to_string()),
            None => (StatusCode::NOT_FOUND, String::new()),
        };
        let mut response = Response::new(body::full(text));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}
