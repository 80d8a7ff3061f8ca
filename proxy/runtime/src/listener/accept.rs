//! The accept loop's one step: it never fails and never spins, whatever the system answers.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    time::Instant,
};

use super::{ListenAddr, PeerAddr, Stream};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A listener on a runtime.
#[derive(Debug)]
pub struct AsyncListener {
    socket: Socket,
    addr: ListenAddr,
    trouble: Trouble,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsyncListener {
    pub(super) fn tcp(listener: TcpListener, addr: ListenAddr) -> Self {
        Self::new(Socket::Tcp(listener), addr)
    }

    pub(super) fn unix(listener: UnixListener, addr: ListenAddr) -> Self {
        Self::new(Socket::Unix(listener), addr)
    }

    fn new(socket: Socket, addr: ListenAddr) -> Self {
        Self {
            socket,
            addr,
            trouble: Trouble::default(),
        }
    }

    /// The address as bound.
    #[must_use]
    pub const fn local_addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The next connection; TCP ones have `TCP_NODELAY` set.
    ///
    /// Never fails: when the system is out of file descriptors or memory this logs (now and then), waits (5 ms,
    /// doubling to 1 s) and tries again; connections that died in the queue are skipped. Safe to cancel.
    pub async fn accept(&mut self) -> (Stream, PeerAddr) {
        let Self {
            socket,
            addr,
            trouble,
        } = self;
        persist(|| socket.accept(), addr, trouble).await
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Fails only on a connection that is dead already; its first read will say so.
                drop(stream.set_nodelay(true));
                // `[::]` sees IPv4 peers as ::ffff:…; to everybody else they are IPv4.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Stream::Tcp(stream), PeerAddr::Tcp(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok();
                let peer = PeerAddr::Unix {
                    uid: peer.map(|peer| peer.uid()),
                    pid: peer.and_then(|peer| peer.pid()),
                };
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

/// Calls `accept` until it gives a connection.
async fn persist<T, F>(mut accept: impl FnMut() -> F, addr: &ListenAddr, trouble: &mut Trouble) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match accept().await {
            Ok(connection) => {
                trouble.pause = None;
                return connection;
            }
            Err(error) if is_of_one_connection(&error) => {
                // The queue shrinks with each of these, so trying again at once comes to an end. Other tasks get
                // their turn all the same.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                let pause = trouble.next_pause();
                if let Some(unlogged) = trouble.due_for_log(Instant::now()) {
                    tracing::error!(
                        listener = %addr,
                        error = %error,
                        unlogged,
                        "cannot accept connections, trying again; if files are short, raise the limit on open files"
                    );
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Whether the error is about the connection that would have been accepted, not about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How long to wait and when to speak while accepting fails.
#[derive(Debug, Default)]
struct Trouble {
    pause: Option<Duration>,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Trouble {
    fn next_pause(&mut self) -> Duration {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        pause
    }

    /// The number of failures passed over since the last log line, if it is time for another line.
    fn due_for_log(&mut self, now: Instant) -> Option<u64> {
        if self
            .logged
            .is_some_and(|at| now.duration_since(at) < LOG_EVERY)
        {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const EMFILE: i32 = 24;

    fn addr() -> ListenAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn running_out_of_files_pauses_and_recovers() {
        let mut trouble = Trouble::default();
        let (mut attempts, began) = (0, Instant::now());
        let accepted = persist(
            || {
                attempts += 1;
                let ok = attempts > 12;
                async move {
                    ok.then_some("connection")
                        .ok_or(io::Error::from_raw_os_error(EMFILE))
                }
            },
            &addr(),
            &mut trouble,
        )
        .await;
        assert_eq!((accepted, attempts), ("connection", 13));
        // 5+10+20+40+80+160+320+640 ms, then a second each.
        assert_eq!(began.elapsed(), Duration::from_millis(1275 + 4 * 1000));
        assert_eq!(trouble.next_pause(), FIRST_PAUSE, "a success starts over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_connection_in_the_queue_costs_no_pause() {
        let mut script = VecDeque::from([
            Err(io::ErrorKind::ConnectionAborted.into()),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(7),
        ]);
        let began = Instant::now();
        let next = || std::future::ready(script.pop_front().unwrap());
        assert_eq!(persist(next, &addr(), &mut Trouble::default()).await, 7);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn logs_are_rate_limited_and_count_what_they_left_out() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.due_for_log(Instant::now()), Some(0));
        assert_eq!(trouble.due_for_log(Instant::now()), None);
        assert_eq!(trouble.due_for_log(Instant::now()), None);
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(trouble.due_for_log(Instant::now()), Some(2));
    }
}
