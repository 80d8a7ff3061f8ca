//! Binding: clear errors instead of a silently shared port, `[::]` for both families of addresses, and replacement of a dead process' socket file.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BindOptions;

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket listens there.
    #[error(
        "{addr} is in use by another process; stop that process (`ss -ltnp` names it) or configure another port"
    )]
    InUse {
        /// The TCP address.
        addr: SocketAddr,
    },
    /// Any other failure at a TCP address.
    #[error(
        "cannot listen on {addr}; check that the address belongs to this machine and that the port is allowed"
    )]
    Tcp {
        /// The TCP address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A process answers on the Unix socket.
    #[error("{} is in use: a process answers on it; stop that process or configure another path", path.display())]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path is taken by something that is not a socket, which is never removed.
    #[error("{} exists and is not a socket; remove it or configure another path", path.display())]
    NotASocket {
        /// The configured path.
        path: PathBuf,
    },
    /// Any other failure at a Unix socket.
    #[error("cannot listen on {}; check that its directory exists and may be written by this user", path.display())]
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A second handle on a socket was refused.
    #[error("cannot share a listening socket with another worker; raise the limit on open files")]
    Clone {
        /// What the system said.
        source: io::Error,
    },
}

/// Binds a TCP address that nobody listens on.
pub(super) fn tcp(addr: SocketAddr, options: BindOptions) -> Result<TcpListener, BindError> {
    if !options.reuse_port || addr.port() == 0 {
        return tcp_socket(addr, options, options.reuse_port);
    }
    // With SO_REUSEPORT alone a second process would join in silently and take half of the connections. Binding once
    // without it fails when any socket listens there.
    drop(tcp_socket(addr, options, false)?);
    tcp_shared(addr, options)
}

/// Binds a TCP address that a listener of this process has bound with `reuse_port` already.
pub(super) fn tcp_shared(addr: SocketAddr, options: BindOptions) -> Result<TcpListener, BindError> {
    tcp_socket(addr, options, true)
}

fn tcp_socket(
    addr: SocketAddr,
    options: BindOptions,
    reuse_port: bool,
) -> Result<TcpListener, BindError> {
    let bind = |addr: SocketAddr| -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if every_address(&addr) {
            // Whatever net.ipv6.bindv6only says: IPv4 peers reach it, too.
            socket.set_only_v6(false)?;
        }
        // Connections of an earlier run that linger in TIME_WAIT must not hold the port.
        socket.set_reuse_address(true)?;
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(options.backlog)?;
        Ok(socket.into())
    };
    on_any_kernel(addr, bind).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr },
        _ => BindError::Tcp { addr, source },
    })
}

/// `[::]`: every address of the machine, of IPv6 and of IPv4.
fn every_address(addr: &SocketAddr) -> bool {
    addr.is_ipv6() && addr.ip().is_unspecified()
}

/// Binds; `[::]` on a kernel without IPv6 is `0.0.0.0`.
fn on_any_kernel<T>(addr: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(addr) {
        Err(error) if every_address(&addr) && is_without_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, addr.port()).into())
        }
        bound => bound,
    }
}

/// `EAFNOSUPPORT`: there is no IPv6 in the kernel; `EADDRNOTAVAIL`: it has no address.
fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Binds a Unix socket, after removing the file of a dead one.
pub(super) fn unix(path: &Path, options: BindOptions) -> Result<UnixListener, BindError> {
    remove_stale(path)?;
    let bind = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        socket.listen(options.backlog)?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError::Unix {
        path: path.to_owned(),
        source,
    })
}

/// Removes the file at `path` if it is a socket on which nobody answers.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Unix {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Without blocking: a live process with a full accept queue answers EAGAIN instead of keeping us waiting.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match probe() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Ok(()) => Err(BindError::SocketInUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::SocketInUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(addr: &str, answers: impl Fn(SocketAddr) -> Option<i32>) -> (Vec<String>, bool) {
        let seen = std::cell::RefCell::new(Vec::new());
        let bound = on_any_kernel(addr.parse().unwrap(), |addr| {
            seen.borrow_mut().push(addr.to_string());
            answers(addr).map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
        });
        (seen.into_inner(), bound.is_ok())
    }

    #[test]
    fn without_ipv6_every_address_is_every_ipv4_address() {
        const EAFNOSUPPORT: i32 = 97;
        const EADDRINUSE: i32 = 98;
        const EADDRNOTAVAIL: i32 = 99;
        for missing in [EAFNOSUPPORT, EADDRNOTAVAIL] {
            let without = |addr: SocketAddr| addr.is_ipv6().then_some(missing);
            let both = ["[::]:9090", "0.0.0.0:9090"].map(str::to_owned).to_vec();
            assert_eq!(tried("[::]:9090", without), (both, true));
            // An address that somebody chose is that address or an error.
            let one = vec!["[::1]:9090".to_owned()];
            assert_eq!(tried("[::1]:9090", without), (one, false));
        }
        let taken = tried("[::]:9090", |_| Some(EADDRINUSE));
        assert_eq!(taken, (vec!["[::]:9090".to_owned()], false));
    }
}
