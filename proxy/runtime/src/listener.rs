//! Where a process listens: a TCP address or a Unix socket; binding, and an accept loop that never spins.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// A TCP address, or the path of a Unix socket (`unix:/run/x.sock`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(a) => a.fmt(f),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

/// The text is neither `IP:PORT` nor `unix:/PATH`.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{0}` is neither an address such as 127.0.0.1:8080 nor a socket such as unix:/run/token-sidecar/http.sock"
)]
pub struct ParseListenAddrError(String);

impl FromStr for ListenAddr {
    type Err = ParseListenAddrError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.strip_prefix("unix:") {
            Some(p) if p.starts_with('/') => Ok(Self::Unix(p.into())),
            Some(_) => Err(ParseListenAddrError(s.into())),
            None => s
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ParseListenAddrError(s.into())),
        }
    }
}
