//! A small HTTP client for tests and the demo: HTTP/1.1 or HTTP/2, TCP or a Unix socket, TLS or not. Sends what it is given, adds only
//! `Host`, follows nothing, retries nothing.

use crate::{
    Result,
    body::{self, Body},
    certs::{Alpn, Ca},
    wait::{LONG, within},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// Where and how to connect. Each request of its own gets a connection of its own; see [`Client::connect`] to share one.
#[derive(Clone)]
pub struct Client {
    target: Target,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    http2: bool,
    host: String,
}

#[derive(Clone)]
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The HTTP version.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, if any came.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text, whatever is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Client {
    /// Plain HTTP/1.1 to a TCP address; `Host` names that address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            target: Target::Tcp(address),
            tls: None,
            http2: false,
            host: address.to_string(),
        }
    }

    /// Plain HTTP/1.1 to a Unix socket; `Host` is `localhost`.
    pub fn unix(path: &Path) -> Self {
        Self {
            target: Target::Unix(path.to_owned()),
            tls: None,
            http2: false,
            host: "localhost".into(),
        }
    }

    /// HTTP/2: by prior knowledge, or by ALPN over TLS. To be said before [`Client::tls`].
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// TLS for `localhost`, trusting `ca` alone.
    ///
    /// # Errors
    /// Never in practice.
    pub fn tls(mut self, ca: &Ca) -> Result<Self> {
        let alpn = if self.http2 { Alpn::Http2 } else { Alpn::Http1 };
        self.tls = Some((ca.client(alpn)?, ServerName::try_from("localhost")?));
        Ok(self)
    }

    /// Another `Host` (and `:authority`).
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Request::get(path).body(body::empty())?).await
    }

    /// POST with a body.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn post(&self, path: &str, bytes: impl Into<Bytes>) -> Result<Answer> {
        self.send(Request::post(path).body(body::full(bytes))?)
            .await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn post_json(&self, path: &str, json: &serde_json::Value) -> Result<Answer> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        self.send(request.body(body::full(json.to_string()))?).await
    }

    /// Any request, over a connection of its own; reads the whole answer, generously bounded.
    ///
    /// # Errors
    /// When the connection fails or the answer breaks off or does not end in time.
    pub async fn send(&self, request: Request<Body>) -> Result<Answer> {
        let whole = Box::pin(async { self.connect().await?.send(request).await });
        within(LONG, "the whole answer", whole).await?
    }

    /// Opens a connection that takes several requests.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn connect(&self) -> Result<Connected> {
        match (&self.target, &self.tls) {
            (Target::Tcp(address), tls) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => self.handshake(stream).await,
                    Some((config, name)) => {
                        let stream = TlsConnector::from(Arc::clone(config))
                            .connect(name.clone(), stream)
                            .await?;
                        self.handshake(stream).await
                    }
                }
            }
            (Target::Unix(path), _) => self.handshake(UnixStream::connect(path).await?).await,
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connected>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let sender = if self.http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tasks.spawn(async move { drop(connection.with_upgrades().await) });
            Sender::Http1(sender)
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(Connected {
            sender,
            scheme,
            host: self.host.clone(),
            _tasks: tasks,
        })
    }
}

/// An open connection; closed on drop.
pub struct Connected {
    sender: Sender,
    scheme: &'static str,
    host: String,
    _tasks: JoinSet<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connected {
    /// Another handle for requests over the same HTTP/2 connection, which stays open as long as this one lives.
    ///
    /// # Errors
    /// When this is HTTP/1.1.
    pub fn share(&self) -> Result<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return Err("an HTTP/1.1 connection takes one request at a time".into());
        };
        Ok(Self {
            sender: Sender::Http2(sender.clone()),
            scheme: self.scheme,
            host: self.host.clone(),
            _tasks: JoinSet::new(),
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection fails or the answer breaks off.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer> {
        let is_head = request.method() == Method::HEAD;
        let response = self.start(request).await?;
        let (head, body) = response.into_parts();
        let collected = if is_head {
            body::Collected::default()
        } else {
            body::collect(body).await?
        };
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: collected.bytes,
            trailers: collected.trailers,
        })
    }

    /// Sends a request and returns as soon as the answer's header is there. Keep the connection while the body is read.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn start(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key(header::HOST) {
                    request
                        .headers_mut()
                        .insert(header::HOST, HeaderValue::from_str(&self.host)?);
                }
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                if request.uri().authority().is_none() {
                    let path = request
                        .uri()
                        .path_and_query()
                        .map_or("/", |path| path.as_str());
                    *request.uri_mut() =
                        format!("{}://{}{path}", self.scheme, self.host).parse()?;
                }
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}
