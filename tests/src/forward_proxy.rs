//! A minimal forward proxy for `HTTPS_PROXY` tests: CONNECT only, records what it was asked, and may lead a public host name to a
//! server on loopback.

use crate::{Result, record::Record};
use rustls::ServerConfig;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A CONNECT request that the proxy received.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// `host:port`.
    pub target: String,
    /// The header lines.
    pub headers: Vec<(String, String)>,
    /// What the proxy answered: 200, 405, 407, 502.
    pub status: u16,
}

/// A running proxy. Ends with its tunnels on drop.
pub struct ForwardProxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    tunnels: Record<Tunnel>,
    hosts: Mutex<HashMap<String, SocketAddr>>,
    authorization: Option<String>,
}

impl ForwardProxy {
    /// Listens on a free loopback port. With `authorization`, every CONNECT must carry exactly that `Proxy-Authorization`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(authorization: Option<&str>) -> Result<Self> {
        Self::start_with(authorization, None).await
    }

    /// As [`ForwardProxy::start`], spoken to over TLS.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_tls(authorization: Option<&str>, tls: Arc<ServerConfig>) -> Result<Self> {
        Self::start_with(authorization, Some(TlsAcceptor::from(tls))).await
    }

    async fn start_with(authorization: Option<&str>, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            tunnels: Record::new(),
            hosts: Mutex::default(),
            authorization: authorization.map(str::to_owned),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state), tls));
        Ok(Self {
            address,
            state,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads `host:port` to `address` instead of resolving it.
    pub fn lead(&self, target: &str, address: SocketAddr) {
        self.state
            .hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(target.to_owned(), address);
    }

    /// Every request received.
    pub fn tunnels(&self) -> &Record<Tunnel> {
        &self.state.tunnels
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    let mut tunnels = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tunnels.spawn(async move {
            match tls {
                None => tunnel(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        tunnel(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn tunnel(mut near: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let Some(head) = head(&mut near).await else {
        return;
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default().to_owned(),
    );
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let authorization = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .map(|(_, value)| value);
    let known = state
        .hosts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&target)
        .copied();
    let far = match known {
        _ if method != "CONNECT" => Err(405),
        _ if state.authorization.is_some() && state.authorization.as_ref() != authorization => {
            Err(407)
        }
        Some(address) => TcpStream::connect(address).await.map_err(|_| 502),
        None => TcpStream::connect(&target).await.map_err(|_| 502),
    };
    state.tunnels.push(Tunnel {
        target,
        headers,
        status: far.as_ref().err().copied().unwrap_or(200),
    });
    match far {
        Ok(mut far) => {
            if near
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await
                .is_ok()
            {
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            }
        }
        Err(status) => {
            let answer = format!(
                "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\r\n"
            );
            drop(near.write_all(answer.as_bytes()).await);
        }
    }
}

/// Reads to the end of a request's head, a byte at a time so that nothing of the tunnel is swallowed.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 16 * 1024 {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    head.truncate(head.len() - 4);
    String::from_utf8(head).ok()
}
