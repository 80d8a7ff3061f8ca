//! The echo upstream: verifies the bearer token as a real API would, records what it received, and behaves in every way a proxy has to
//! cope with. What each path does is said in [`paths`], [`streams`] and [`challenge`].

pub mod challenge;
pub mod paths;
pub mod raw;
pub mod streams;

use crate::{
    Result,
    authority::{AccessTokens, access::TokenError},
    body::{self, Body},
    certs::{Alpn, Ca, LOCAL_NAMES},
    fingerprint,
    record::Record,
    serve::{self, Connection, Server},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use rustls::ServerConfig;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// A request as the upstream received it; its body is in [`ReceivedBody`], later.
#[derive(Debug, Clone)]
pub struct Received {
    /// Numbered from 0, to find its body by.
    pub number: usize,
    /// When its header had arrived.
    pub at: Instant,
    /// The method.
    pub method: Method,
    /// The target as it was sent (HTTP/2: with scheme and authority).
    pub uri: Uri,
    /// The version.
    pub version: Version,
    /// All headers, `Authorization` included: for tests to look into, never to print.
    pub headers: HeaderMap,
    /// The number of the connection it came over.
    pub connection: usize,
    /// Fingerprint of the one bearer token it carried.
    pub token: Option<String>,
    /// Whether that token was good; `None`: this upstream asks for none.
    pub verified: Option<std::result::Result<(), Denied>>,
}

impl Received {
    /// The path.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Every value of a header as text.
    pub fn header(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    /// The bearer token itself: to compare or to revoke, never to print.
    pub fn bearer(&self) -> Option<&str> {
        bearer(&self.headers).ok()
    }
}

/// Why a request was answered 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No `Authorization` at all.
    Missing,
    /// More than one, or not `Bearer`.
    Malformed,
    /// A bearer token that is not good here.
    Token(TokenError),
}

/// A request's body as it arrived, recorded at its end.
#[derive(Debug, Clone)]
pub struct ReceivedBody {
    /// The [`Received::number`] it belongs to.
    pub number: usize,
    /// How many bytes of data came.
    pub len: u64,
    /// The bytes themselves, where the path collects them (`/echo`, `/trailers`, gRPC).
    pub bytes: bytes::Bytes,
    /// The trailers, if any came.
    pub trailers: Option<HeaderMap>,
    /// It broke off before its end.
    pub broken: bool,
}

/// An answer given by script.
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    /// The status; 0 means 200.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// A running upstream.
pub struct Upstream {
    server: Server,
    tls: bool,
    shared: Arc<Shared>,
}

/// What the paths see.
pub struct Shared {
    check: Option<(AccessTokens, String)>,
    requests: Record<Received>,
    bodies: Record<ReceivedBody>,
    scripted: Mutex<HashMap<String, Scripted>>,
    first_token: Mutex<Option<String>>,
}

impl Upstream {
    /// https on a free loopback port (HTTP/1.1 and h2 by ALPN), certificate for localhost, accepting tokens of `tokens` for `audience`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn https(ca: &Ca, tokens: AccessTokens, audience: &str) -> Result<Self> {
        Self::start(
            Some(ca.server(&LOCAL_NAMES, Alpn::Both)?),
            Some((tokens, audience.to_owned())),
        )
        .await
    }

    /// As [`Upstream::https`] over plain http (HTTP/1.1 and prior-knowledge h2).
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn http(tokens: AccessTokens, audience: &str) -> Result<Self> {
        Self::start(None, Some((tokens, audience.to_owned()))).await
    }

    /// Any TLS configuration, and `None` to ask for no token.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(
        tls: Option<Arc<ServerConfig>>,
        check: Option<(AccessTokens, String)>,
    ) -> Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), tls, check).await
    }

    /// As [`Upstream::start`], on a given address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_on(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        check: Option<(AccessTokens, String)>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            check,
            requests: Record::new(),
            bodies: Record::new(),
            scripted: Mutex::default(),
            first_token: Mutex::default(),
        });
        let is_tls = tls.is_some();
        let state = Arc::clone(&shared);
        let handler = serve::handler(move |request, connection| {
            answer(Arc::clone(&state), request, connection)
        });
        Ok(Self {
            server: Server::start_on(address, tls, handler).await?,
            tls: is_tls,
            shared,
        })
    }

    /// `https://localhost:PORT` or `http://localhost:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address().port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Every request received.
    pub fn requests(&self) -> &Record<Received> {
        &self.shared.requests
    }

    /// Every request body that came to an end (or broke off) on a path that reads bodies.
    pub fn bodies(&self) -> &Record<ReceivedBody> {
        &self.shared.bodies
    }

    /// Answers requests to `path` in this way from now on (a good token is still asked for).
    pub fn script(&self, path: &str, answer: Scripted) {
        self.shared
            .scripted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), answer);
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.server.open()
    }

    /// Connections accepted so far.
    pub fn accepted_connections(&self) -> usize {
        self.server.accepted()
    }
}

impl Shared {
    fn verify(&self, headers: &HeaderMap) -> Option<std::result::Result<(), Denied>> {
        let (tokens, audience) = self.check.as_ref()?;
        Some(bearer(headers).and_then(|token| {
            tokens
                .verify(token, audience)
                .map(|_| ())
                .map_err(Denied::Token)
        }))
    }

    /// The claims of a good token; `Null` otherwise.
    fn claims(&self, headers: &HeaderMap) -> serde_json::Value {
        let verified = self
            .check
            .as_ref()
            .and_then(|(tokens, audience)| tokens.verify(bearer(headers).ok()?, audience).ok());
        verified.unwrap_or_default()
    }

    /// Whether this is the first token that `/reject-once` ever saw.
    fn is_first(&self, headers: &HeaderMap) -> bool {
        let token = bearer(headers).unwrap_or_default();
        let mut first = self
            .first_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| token.to_owned()) == token
    }
}

fn bearer(headers: &HeaderMap) -> std::result::Result<&str, Denied> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Denied::Missing),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Denied::Malformed),
        _ => Err(Denied::Malformed),
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: Connection,
) -> Response<Body> {
    let verified = shared.verify(request.headers());
    let number = shared.requests.push_numbered(|number| Received {
        number,
        at: Instant::now(),
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        headers: request.headers().clone(),
        connection: connection.number,
        token: bearer(request.headers()).ok().map(fingerprint),
        verified,
    });
    if let Some(Err(denied)) = verified {
        // The answer does not wait for the body, and the body is read all the same: else the connection would be reset, and the answer lost.
        let body = request.into_body();
        connection.spawn(async move { drop(body::collect(body).await) });
        return challenge::unauthorized(denied);
    }
    let scripted = shared
        .scripted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(request.uri().path())
        .cloned();
    match scripted {
        Some(scripted) => scripted.response(),
        None => paths::answer(shared, request, number, connection).await,
    }
}

impl Scripted {
    fn response(self) -> Response<Body> {
        let mut response = Response::new(body::full(self.body));
        if self.status != 0 {
            *response.status_mut() =
                StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        }
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (
                header::HeaderName::try_from(name),
                HeaderValue::try_from(value),
            ) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}
