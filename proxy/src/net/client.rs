//! The client that talks to authorities: one request (a form posted, or a document got), one bounded reply. A connection is opened for each exchange (they are minutes apart, so
//! a kept one would mostly be stale), directly or through a CONNECT tunnel. No redirects, no retries, no timeout of its own: the caller has one.

use super::{
    dial::{self, DialError, Stream, Target, TlsTarget},
    guard::Guard,
    observe::{self, Presented},
    proxy::{self, ProxySetupError, TunnelError},
    tls::{self, Alpn, ClientCertificate, TlsError},
    walk::{self, Walk},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version,
    header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{future::Future, path::Path, pin::pin, sync::Arc, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// Token replies are a few KiB; more is not one.
pub const MAX_BODY: usize = 64 * 1024;

/// A client for one authority (scheme, host, port).
#[derive(Debug)]
pub struct AuthorityClient {
    target: Target,
    proxy: Option<proxy::Proxy>,
    origin: Origin,
}

#[derive(Debug)]
struct Origin {
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
}

/// What came back.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_BODY`].
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("length", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why a client for an authority cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL cannot be an authority's.
    #[error(
        "`{host}` cannot be used as an authority's host; use an https URL with a host name, or http on loopback"
    )]
    Host {
        /// The host, or what stands there.
        host: String,
    },
    /// The proxy's URL cannot be a proxy's.
    #[error("HTTPS_PROXY names a host that cannot be used; write a host name or an address there")]
    Proxy,
    /// The CA file or the system's roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why there is no reply. The texts name hosts of the configuration, never a secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the authority (or to the proxy).
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The proxy did not open a tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// HTTP broke down.
    #[error("the exchange of HTTP messages failed")]
    Http(#[from] hyper::Error),
    /// The body is larger than [`MAX_BODY`].
    #[error("the reply is larger than 64 KiB")]
    TooLarge,
    /// The request could not be built.
    #[error("the request cannot be built")]
    Request(#[from] http::Error),
    /// What is read anew for each request (roots) cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl ClientError {
    /// A bounded code for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Dial(e) => e.code(),
            Self::Tunnel(_) => "proxy_tunnel",
            Self::Http(_) => "http_protocol_error",
            Self::TooLarge => "reply_too_large",
            Self::Request(_) => "request",
            Self::Setup(_) => "tls_setup",
        }
    }

    /// What the operator should do.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Dial(DialError::Resolve { .. } | DialError::NoAddress { .. }) => {
                "the authority's name does not resolve; check its URL and the cluster's DNS"
            }
            Self::Dial(DialError::Forbidden { .. }) => {
                "the authority's name resolves to an address that is never connected to (link-local, metadata, loopback); check its URL and DNS"
            }
            Self::Dial(DialError::Connect { .. }) => {
                "the authority cannot be connected to; check its URL, network policies, and HTTPS_PROXY"
            }
            Self::Dial(DialError::Tls { .. }) => {
                "TLS with the authority failed; when its certificate comes from a private CA, set caFile"
            }
            Self::Tunnel(e) => e.mend(),
            Self::Http(_) => {
                "the connection to the authority broke off or what answered speaks no HTTP; check its URL and what is in between"
            }
            Self::TooLarge => {
                "what answered is no token endpoint; check the authority's URL and what is in between"
            }
            Self::Request(_) => "check the authority's URL",
            Self::Setup(_) => {
                "the roots to trust cannot be read; check that their file is mounted, readable and PEM"
            }
        }
    }
}

impl AuthorityClient {
    /// A client for the authority of `endpoint` (its path does not matter here). `ca_file` holds roots to trust beside the system's;
    /// `proxy` is an `http://` or `https://` URL, perhaps with userinfo.
    ///
    /// # Errors
    /// [`SetupError`], which names what to change.
    pub fn new(
        endpoint: &Url,
        ca_file: Option<&Path>,
        proxy: Option<&Url>,
    ) -> Result<Self, SetupError> {
        Self::build(endpoint, ca_file, proxy, None)
    }

    /// As [`AuthorityClient::new`], showing `certificate` when the authority asks for one (mutual TLS).
    ///
    /// # Errors
    /// [`SetupError`], which names what to change.
    pub fn with_certificate(
        endpoint: &Url,
        ca_file: Option<&Path>,
        proxy: Option<&Url>,
        certificate: &ClientCertificate,
    ) -> Result<Self, SetupError> {
        Self::build(endpoint, ca_file, proxy, Some(certificate))
    }

    fn build(
        endpoint: &Url,
        ca_file: Option<&Path>,
        proxy: Option<&Url>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Self, SetupError> {
        let config = match endpoint.scheme() {
            "https" => Some(tls::client_config_as(
                ca_file,
                Alpn::Http1And2,
                certificate,
            )?),
            _ => None,
        };
        Self::with(endpoint, None, config, tunnel(proxy, ca_file)?)
    }

    /// As [`AuthorityClient::with_certificate`], and the certificates that the authority shows.
    ///
    /// # Errors
    /// [`SetupError`], which names what to change.
    pub fn observing(
        endpoint: &Url,
        ca_file: Option<&Path>,
        proxy: Option<&Url>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<(Self, Arc<Presented>), SetupError> {
        let (config, presented) = match endpoint.scheme() {
            "https" => {
                let (config, presented) =
                    observe::client_config_as(ca_file, Alpn::Http1And2, certificate)?;
                (Some(config), presented)
            }
            _ => (None, Arc::default()),
        };
        let client = Self::with(endpoint, None, config, tunnel(proxy, ca_file)?)?;
        Ok((client, presented))
    }

    /// Opens a connection layer by layer, each of which may take as long as `within`.
    pub async fn walk(&self, within: Duration) -> Walk {
        walk::walk(&self.target, self.proxy.as_ref(), within).await
    }

    /// As [`AuthorityClient::get`], over a connection that is open already.
    ///
    /// # Errors
    /// [`ClientError`]. A reply with any status is a reply, not an error.
    pub async fn get_over(
        &self,
        stream: Stream,
        path_and_query: &str,
    ) -> Result<Reply, ClientError> {
        self.send_over(stream, path_and_query, &[], None).await
    }

    /// As [`AuthorityClient::new`] without a proxy, over TLS that is set up already, perhaps under another server name than the endpoint's host.
    ///
    /// # Errors
    /// [`SetupError`], which names what to change.
    pub fn over_tls(
        endpoint: &Url,
        server_name: Option<&str>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, SetupError> {
        Self::with(endpoint, server_name, Some(config), None)
    }

    fn with(
        endpoint: &Url,
        server_name: Option<&str>,
        config: Option<Arc<ClientConfig>>,
        proxy: Option<proxy::Proxy>,
    ) -> Result<Self, SetupError> {
        let bad = || SetupError::Host {
            host: endpoint.host_str().unwrap_or_default().to_owned(),
        };
        let plain = config.is_none();
        let bracketed = endpoint.host_str().ok_or_else(bad)?;
        let host = bracketed
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let tls = match config {
            None => None,
            Some(config) => {
                let name = server_name.unwrap_or(&host).to_owned();
                Some(TlsTarget {
                    config,
                    server_name: ServerName::try_from(name.clone())
                        .map_err(|_| SetupError::Host { host: name })?,
                })
            }
        };
        let authority = match endpoint.port() {
            Some(port) => format!("{bracketed}:{port}"),
            None => bracketed.to_owned(),
        };
        Ok(Self {
            origin: Origin {
                scheme: if plain {
                    http::uri::Scheme::HTTP
                } else {
                    http::uri::Scheme::HTTPS
                },
                authority: authority.parse().map_err(|_| bad())?,
            },
            target: Target {
                guard: Guard::for_host(&host, plain),
                port: endpoint.port_or_known_default().ok_or_else(bad)?,
                unix: None,
                host,
                tls,
            },
            proxy,
        })
    }

    /// Posts a form to a path (with query) of the authority. `extra` headers are added to the usual ones, or replace them.
    ///
    /// # Errors
    /// [`ClientError`]. A reply with any status is a reply, not an error.
    pub async fn post_form(
        &self,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Reply, ClientError> {
        self.send(path_and_query, extra, Some(body)).await
    }

    /// Gets a document (metadata, keys) from a path (with query) of the authority. `extra` as in [`AuthorityClient::post_form`].
    ///
    /// # Errors
    /// [`ClientError`]. A reply with any status is a reply, not an error.
    pub async fn get(
        &self,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Reply, ClientError> {
        self.send(path_and_query, extra, None).await
    }

    /// A form is posted; without one, it is a GET.
    async fn send(
        &self,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
        form: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Reply, ClientError> {
        let stream = self.connect().await?;
        self.send_over(stream, path_and_query, extra, form).await
    }

    async fn send_over(
        &self,
        stream: Stream,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
        form: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Reply, ClientError> {
        let h2 = stream.alpn_h2();
        let request = self.request(path_and_query, extra, form, h2)?;
        let io = TokioIo::new(stream);
        if h2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(io)
                .await?;
            let reply = async move {
                sender.ready().await?;
                collect(sender.send_request(request).await?).await
            };
            drive(connection, reply).await
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            let reply = async move {
                sender.ready().await?;
                collect(sender.send_request(request).await?).await
            };
            drive(connection, reply).await
        }
    }

    async fn connect(&self) -> Result<Stream, ClientError> {
        match (&self.proxy, &self.target.tls) {
            (Some(proxy), Some(tls)) => {
                let tunnel = proxy.tunnel(&self.target.host, self.target.port).await?;
                Ok(dial::tls_over(tunnel, tls, &self.target.host, self.target.port).await?)
            }
            // Plain http is loopback only, which is never proxied.
            _ => Ok(dial::dial(&self.target).await?),
        }
    }

    fn request(
        &self,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
        form: Option<Zeroizing<Vec<u8>>>,
        h2: bool,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut uri = http::Uri::builder().path_and_query(path_and_query);
        if h2 {
            uri = uri
                .scheme(self.origin.scheme.clone())
                .authority(self.origin.authority.clone());
        }
        let posts = form.is_some();
        let mut request = Request::builder()
            .method(if posts { Method::POST } else { Method::GET })
            .uri(uri.build()?)
            .version(if h2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            })
            .body(Full::new(
                form.map_or_else(Bytes::new, |f| Bytes::from_owner(Wiped(f))),
            ))?;
        let headers = request.headers_mut();
        if !h2 {
            headers.insert(HOST, HeaderValue::from_str(self.origin.authority.as_str())?);
        }
        if posts {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("token-sidecar/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in extra {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }
}

/// The proxy of an authority, which is trusted by the same roots.
fn tunnel(url: Option<&Url>, ca_file: Option<&Path>) -> Result<Option<proxy::Proxy>, SetupError> {
    url.map(|url| proxy::Proxy::new(url, ca_file))
        .transpose()
        .map_err(|error| match error {
            ProxySetupError::NoHost => SetupError::Proxy,
            ProxySetupError::Tls(error) => error.into(),
        })
}

/// A request body that is wiped when the last reference goes.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Runs a connection for as long as its one reply takes. Both end with the caller's future: nothing is left running behind a timeout.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    reply: impl Future<Output = Result<Reply, ClientError>>,
) -> Result<Reply, ClientError> {
    let (mut connection, mut reply) = (pin!(connection), pin!(reply));
    tokio::select! {
        biased;
        reply = &mut reply => return reply,
        // How it ended is known to the reply too.
        _ = &mut connection => {}
    }
    reply.await
}

async fn collect(response: Response<Incoming>) -> Result<Reply, ClientError> {
    let (head, mut body) = response.into_parts();
    // Full size from the start, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len() + data.len() > MAX_BODY {
                return Err(ClientError::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes,
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
