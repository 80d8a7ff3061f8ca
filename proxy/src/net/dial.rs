//! Opens connections: resolve, guard every address, connect, TLS. Knows no HTTP, keeps no pool, and has no overall timeout: callers put one around it.

use super::{gather::Tcp, guard::Guard};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long one address may take while others are left to try.
const ATTEMPT: Duration = Duration::from_secs(2);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Where to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address literal (no brackets).
    pub host: String,
    /// Port.
    pub port: u16,
    /// The Unix socket to connect to in their place; then there is no TLS.
    pub unix: Option<PathBuf>,
    /// TLS, if any.
    pub tls: Option<TlsTarget>,
    /// Which addresses are allowed.
    pub guard: Guard,
}

/// How TLS is spoken to a target.
#[derive(Debug, Clone)]
pub struct TlsTarget {
    /// Roots, versions, ALPN.
    pub config: Arc<ClientConfig>,
    /// The name sent (SNI) and required in the certificate.
    pub server_name: ServerName<'static>,
}

/// Why a connection could not be opened. The texts name hosts and addresses of the configuration, never a secret.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name did not resolve.
    #[error("{host} does not resolve")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// It resolved to nothing.
    #[error("{host} resolves to no address")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// Every address that it resolved to is one that must not be connected to.
    #[error("{host} resolves to {address}, which is not an allowed destination")]
    Forbidden {
        /// The name.
        host: String,
        /// The last address refused.
        address: IpAddr,
    },
    /// TCP said no.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What the system said for the last address.
        #[source]
        source: io::Error,
    },
    /// TLS said no.
    #[error("TLS with {host}:{port} failed")]
    Tls {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What the handshake said.
        #[source]
        source: io::Error,
    },
}

impl DialError {
    /// A bounded code, in the words of RFC 9209 section 2.3 (`Proxy-Status` error types).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => "dns_error",
            Self::Forbidden { .. } => "destination_ip_prohibited",
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => "connection_refused",
                io::ErrorKind::TimedOut => "connection_timeout",
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    "destination_ip_unroutable"
                }
                _ => "connection_terminated",
            },
            Self::Tls { source, .. } => match tls_error(source) {
                Some(
                    rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented,
                ) => "tls_certificate_error",
                Some(rustls::Error::AlertReceived(_)) => "tls_alert_received",
                _ => "tls_protocol_error",
            },
        }
    }
}

/// What TLS itself said, when it was that and not the connection below.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
}

/// Opens a connection. Addresses are tried in the resolver's order.
///
/// # Errors
/// [`DialError`]; of several addresses, the last failure.
pub async fn dial(target: &Target) -> Result<Stream, DialError> {
    if let Some(path) = &target.unix {
        return match UnixStream::connect(path).await {
            Ok(stream) => Ok(Stream::Unix(stream)),
            Err(source) => Err(DialError::Connect {
                host: path.display().to_string(),
                port: target.port,
                source,
            }),
        };
    }
    let stream = connect(target).await?;
    let stream = Stream::Plain(Tcp(stream));
    match &target.tls {
        None => Ok(stream),
        Some(tls) => tls_over(stream, tls, &target.host, target.port).await,
    }
}

/// The TLS handshake over a connection that is open already (also through a tunnel, itself perhaps over TLS). `host` and `port` are for the error's text.
///
/// # Errors
/// [`DialError::Tls`].
pub async fn tls_over(
    stream: Stream,
    tls: &TlsTarget,
    host: &str,
    port: u16,
) -> Result<Stream, DialError> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let name = tls.server_name.clone();
    let result = match stream {
        Stream::Plain(stream) => connector
            .connect(name, stream)
            .await
            .map(|s| Stream::Tls(Box::new(s))),
        Stream::Tls(stream) => connector
            .connect(name, stream)
            .await
            .map(|s| Stream::TlsInTls(Box::new(s))),
        Stream::TlsInTls(_) | Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
    };
    result.map_err(|source| DialError::Tls {
        host: host.into(),
        port,
        source,
    })
}

/// TCP only.
///
/// # Errors
/// [`DialError`] but for its TLS variant.
pub async fn connect(target: &Target) -> Result<TcpStream, DialError> {
    connect_to(target, resolve(target).await?).await
}

/// The addresses of a target's host, in the resolver's order, allowed or not.
///
/// # Errors
/// [`DialError::Resolve`].
pub async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    let Target { host, port, .. } = target;
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, *port)]),
        Err(_) => Ok(tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|source| DialError::Resolve {
                host: host.clone(),
                source,
            })?
            .collect()),
    }
}

/// TCP to the first of a target's addresses that is allowed and answers.
///
/// # Errors
/// [`DialError`] but for its TLS variant.
pub async fn connect_to(
    target: &Target,
    addresses: Vec<SocketAddr>,
) -> Result<TcpStream, DialError> {
    let Target {
        host, port, guard, ..
    } = target;
    let mut last = DialError::NoAddress { host: host.clone() };
    let allowed = addresses.iter().filter(|a| guard.allows(a.ip())).count();
    let mut tried = 0;
    for address in addresses {
        if !guard.allows(address.ip()) {
            if allowed == 0 {
                last = DialError::Forbidden {
                    host: host.clone(),
                    address: address.ip(),
                };
            }
            continue;
        }
        tried += 1;
        let attempt = TcpStream::connect(address);
        let result = if tried < allowed {
            tokio::time::timeout(ATTEMPT, attempt)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            attempt.await
        };
        match result.and_then(tune) {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                last = DialError::Connect {
                    host: host.clone(),
                    port: *port,
                    source,
                }
            }
        }
    }
    Err(last)
}

fn tune(stream: TcpStream) -> io::Result<TcpStream> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    // No TCP_USER_TIMEOUT: it would also end an upload that the upstream holds back. What vanishes is found by the routes' own timeouts.
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    Ok(stream)
}

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(Tcp),
    /// TLS over TCP.
    Tls(Box<TlsStream<Tcp>>),
    /// TLS through the tunnel of a proxy that is itself spoken to over TLS.
    TlsInTls(Box<TlsStream<Box<TlsStream<Tcp>>>>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// The TLS session nearest to the other end, if there is one.
    pub fn tls(&self) -> Option<&rustls::ClientConnection> {
        match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(s) => Some(s.get_ref().1),
            Self::TlsInTls(s) => Some(s.get_ref().1),
        }
    }

    /// Whether ALPN settled on HTTP/2.
    pub fn alpn_h2(&self) -> bool {
        self.tls()
            .is_some_and(|tls| tls.alpn_protocol() == Some(b"h2"))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Self::TlsInTls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Self::TlsInTls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Self::TlsInTls(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Self::TlsInTls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
            Self::TlsInTls(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
            Self::TlsInTls(s) => s.is_write_vectored(),
            Self::Unix(s) => s.is_write_vectored(),
        }
    }
}
