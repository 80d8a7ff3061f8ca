//! Free ports, for processes that must be told their port before they start, and closed ones, where nobody is to answer.

use rustix::process::getuid;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::Path,
    process,
};
use tokio::net::TcpSocket;

/// Where Linux says which ports it gives by itself: to who asks for any, and to whoever connects.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The fewest ports that are worth their own range: many more than one run of all tests takes.
const ENOUGH: u16 = 8_000;

/// A loopback address whose port is nobody's.
///
/// Whoever is told its port may take seconds to start. So it is none that the system gives by itself, to a listener on port 0 or to a connection's
/// near end; and no other process of this user that asks here gets it too, until thousands have been handed out after it. What remains is a foreign
/// process that was told the same number: whoever starts a process of ours tries again with another port (see [`crate::process`]).
///
/// # Errors
/// When none is free, or the file that says whose turn it is cannot be read or written.
pub fn free() -> io::Result<SocketAddr> {
    let range = set_aside(&fs::read_to_string(EPHEMERAL).unwrap_or_default());
    let turns = std::env::temp_dir().join(format!("token-sidecar-ports-{}", getuid().as_raw()));
    for _ in range.clone() {
        let port = turn(&turns, &range).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "{}, from which tests take ports in turn: {error}; remove it, or set TMPDIR to where you may write",
                    turns.display()
                ),
            )
        })?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr();
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no loopback port of {range:?} is free; close what holds them"),
    ))
}

/// The ports beside those that the system gives by itself, `ephemeral` being its "lowest highest".
fn set_aside(ephemeral: &str) -> Range<u16> {
    let mut ends = ephemeral.split_whitespace().map(str::parse::<u16>);
    match (ends.next(), ends.next()) {
        // Below 10,000 stands much that people run for good.
        (Some(Ok(lowest)), _) if lowest >= 10_000 + ENOUGH => 10_000..lowest,
        (_, Some(Ok(highest))) if highest < u16::MAX - ENOUGH => highest + 1..u16::MAX,
        // No Linux, or one that was told to give nearly all: then these are as good as any.
        _ => 10_000..32_768,
    }
}

/// The port whose turn it is, by the file that all processes of this user share.
fn turn(turns: &Path, range: &Range<u16>) -> io::Result<u16> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(turns)?;
    file.lock()?;
    let mut last = String::new();
    file.read_to_string(&mut last)?;
    let port = after(last.trim().parse().ok(), range);
    put(&mut file, port)?;
    Ok(port)
}

/// The port after `last`. Where nobody has had a turn, one starts anywhere: there may be others who keep their turns in another place.
fn after(last: Option<u16>, range: &Range<u16>) -> u16 {
    match last.and_then(|last| last.checked_add(1)) {
        Some(next) if range.contains(&next) => next,
        Some(_) => range.start,
        None => {
            let ports = u32::from(range.end - range.start);
            let place = process::id().wrapping_mul(97) % ports;
            range.start + u16::try_from(place).unwrap_or_default()
        }
    }
}

fn put(file: &mut File, port: u16) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    write!(file, "{port}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;
    use std::collections::HashSet;

    #[test]
    fn no_port_is_one_that_the_system_gives() {
        assert_eq!(set_aside("32768\t60999\n"), 10_000..32_768);
        assert_eq!(set_aside("1024 50000"), 50_001..u16::MAX);
        for other in ["", "1024 65535", "x y"] {
            assert_eq!(set_aside(other), 10_000..32_768, "{other}");
        }
    }

    #[test]
    fn ports_go_round_by_turns_of_everybody() {
        let dir = TempDir::new("ports").unwrap();
        let turns = dir.join("turns");
        let range = 20_000..20_004;
        let ports: Vec<u16> = (0..4).map(|_| turn(&turns, &range).unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 4, "{ports:?}");
        assert!(ports.iter().all(|port| range.contains(port)), "{ports:?}");
        assert_eq!(turn(&turns, &range).unwrap(), ports[0], "all round");
        assert_eq!(after(Some(20_003), &range), 20_000);
        assert_eq!(after(Some(u16::MAX), &range), after(None, &range));
        assert_eq!(after(Some(50), &range), 20_000, "a range that has changed");
    }

    #[test]
    fn a_port_is_free_and_is_none_that_was_handed_out() {
        let (one, other) = (free().unwrap(), free().unwrap());
        assert_ne!(one, other);
        TcpListener::bind(one).unwrap();
        TcpListener::bind(other).unwrap();
    }
}
