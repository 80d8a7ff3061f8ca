//! Free ports, for processes that must be told their port before they start, and closed ones, where nobody is to answer.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};
use tokio::net::TcpSocket;

static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback address whose port was free a moment ago; never the same twice within this process.
///
/// Another process may still take it before it is used: whoever starts a process on it tries again with another (see
/// [`crate::process`]).
///
/// # Errors
/// When the system has no port left.
pub fn free() -> io::Result<SocketAddr> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let handed_out = handed_out.get_or_insert_default();
    // The listeners stay open until a fresh port is found, so that the system does not offer the same one again.
    let mut tried = Vec::new();
    for _ in 0..256 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        if handed_out.insert(address.port()) {
            return Ok(address);
        }
        tried.push(listener);
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free loopback port after 256 tries; close what holds them",
    ))
}

/// A loopback port at which nobody answers, for as long as this lives: it is taken, so that no other process can listen there, and connections are
/// refused.
pub struct Closed(
    SocketAddr,
    #[expect(dead_code, reason = "holds the port")] TcpSocket,
);

impl Closed {
    /// Where nobody answers.
    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Takes a port and does not listen there.
///
/// # Errors
/// When the system has no port left.
pub fn closed() -> io::Result<Closed> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(Closed(socket.local_addr()?, socket))
}
