//! Where a process listens: a TCP address or a Unix socket; binding, and an accept loop that never spins.
//!
//! A [`Listener`] is bound on one thread and may be used on another: it holds a plain socket until a runtime takes it.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    str::FromStr,
};

mod accept;
mod bind;
mod stream;

pub use accept::AsyncListener;
pub use bind::BindError;
pub use stream::{PeerAddr, Stream};

/// A TCP address, or the path of a Unix socket (`unix:/run/x.sock`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// A TCP address; port 0 lets the system choose. `[::]` is every address, IPv4 included, and `0.0.0.0` where the kernel has no IPv6.
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

/// How to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindOptions {
    /// TCP only: let siblings (see [`Listener::sibling`]) share the address, each with an accept queue of its own.
    pub reuse_port: bool,
    /// How many connections may wait to be accepted.
    pub backlog: i32,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            reuse_port: false,
            backlog: 1024,
        }
    }
}

/// A bound socket that listens already, tied to no runtime yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: BindOptions,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds and listens.
    ///
    /// A Unix socket's file that a dead process left behind is replaced; the new one may be used by every user
    /// (mode 0666: who may reach it is up to the directory). With `reuse_port`, an address that another process
    /// listens on is an error all the same.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(addr: &ListenAddr, options: BindOptions) -> Result<Self, BindError> {
        let socket = match addr {
            ListenAddr::Tcp(addr) => {
                let listener = bind::tcp(*addr, options)?;
                let bound = listener.local_addr().map_err(|source| BindError::Tcp {
                    addr: *addr,
                    source,
                })?;
                Socket::Tcp(listener, bound)
            }
            ListenAddr::Unix(path) => Socket::Unix(bind::unix(path, options)?, path.clone()),
        };
        Ok(Self { socket, options })
    }

    /// Another listener at the same address, for another worker: with `reuse_port` a socket of its own, so that the
    /// system spreads connections over both, else a second handle on the same socket.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn sibling(&self) -> Result<Self, BindError> {
        match &self.socket {
            Socket::Tcp(_, bound) if self.options.reuse_port => Ok(Self {
                socket: Socket::Tcp(bind::tcp_shared(*bound, self.options)?, *bound),
                options: self.options,
            }),
            _ => self
                .try_clone()
                .map_err(|source| BindError::Clone { source }),
        }
    }

    /// A second handle on the same socket (and the same accept queue).
    ///
    /// # Errors
    /// The system refused another file descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(listener, bound) => Socket::Tcp(listener.try_clone()?, *bound),
            Socket::Unix(listener, path) => Socket::Unix(listener.try_clone()?, path.clone()),
        };
        Ok(Self {
            socket,
            options: self.options,
        })
    }

    /// The address as bound: port 0 has become a real port.
    #[must_use]
    pub fn local_addr(&self) -> ListenAddr {
        match &self.socket {
            Socket::Tcp(_, bound) => ListenAddr::Tcp(*bound),
            Socket::Unix(_, path) => ListenAddr::Unix(path.clone()),
        }
    }

    /// Ties the socket to the runtime of this thread.
    ///
    /// # Errors
    /// The runtime could not register the socket.
    pub fn into_tokio(self) -> io::Result<AsyncListener> {
        let addr = self.local_addr();
        Ok(match self.socket {
            Socket::Tcp(listener, _) => {
                AsyncListener::tcp(tokio::net::TcpListener::from_std(listener)?, addr)
            }
            Socket::Unix(listener, _) => {
                AsyncListener::unix(tokio::net::UnixListener::from_std(listener)?, addr)
            }
        })
    }
}

#[cfg(test)]
mod tests;
