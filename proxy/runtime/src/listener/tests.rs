//! Tests of listeners over real sockets: loopback and a directory of their own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::*;

const BOUND: Duration = Duration::from_secs(60);
const SHARED: BindOptions = BindOptions {
    reuse_port: true,
    backlog: 16,
};

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "sidecar-runtime-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> ListenAddr {
        ListenAddr::Unix(self.0.join("s.sock"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn loopback() -> ListenAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn port(listener: &Listener) -> SocketAddr {
    match listener.local_addr() {
        ListenAddr::Tcp(addr) => addr,
        ListenAddr::Unix(path) => panic!("{}", path.display()),
    }
}

fn path(addr: &ListenAddr) -> &Path {
    match addr {
        ListenAddr::Unix(path) => path,
        ListenAddr::Tcp(addr) => panic!("{addr}"),
    }
}

#[test]
fn addresses_parse_and_print() {
    for text in ["127.0.0.1:8080", "[::1]:9090", "unix:/run/x.sock"] {
        assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
    }
    for text in ["localhost:8080", "unix:x.sock", "8080", "", "127.0.0.1"] {
        assert!(text.parse::<ListenAddr>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn tcp_connections_arrive_without_delay() {
    let listener = Listener::bind(&loopback(), BindOptions::default()).unwrap();
    let addr = port(&listener);
    assert_ne!(addr.port(), 0);
    let mut listener = listener.into_tokio().unwrap();
    let mut client = TcpStream::connect(addr).await.unwrap();
    let (mut stream, peer) = timeout(BOUND, listener.accept()).await.unwrap();
    assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
    assert!(peer.is_local());
    assert!(matches!(&stream, Stream::Tcp(tcp) if tcp.nodelay().unwrap()));
    assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
    stream.write_all(b"hello").await.unwrap();
    let mut read = [0; 5];
    timeout(BOUND, client.read_exact(&mut read))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&read, b"hello");
}

#[tokio::test]
async fn every_address_takes_both_families() {
    for options in [BindOptions::default(), SHARED] {
        let every = "[::]:0".parse().unwrap();
        let listener = Listener::bind(&every, options).unwrap();
        let addr = port(&listener);
        let mut listener = listener.into_tokio().unwrap();
        for ip in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(ip.parse().unwrap(), addr.port());
            // Where there is no IPv6, or its loopback has no address, nobody calls by it.
            if to.is_ipv6() && TcpListener::bind("[::1]:0").is_err() {
                continue;
            }
            let client = TcpStream::connect(to).await.unwrap();
            let (_, peer) = timeout(BOUND, listener.accept()).await.unwrap();
            // An IPv4 peer is one, and not ::ffff:127.0.0.1.
            assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
            assert!(peer.is_local());
        }
    }
}

#[tokio::test]
async fn unix_connections_carry_the_peers_credentials() {
    let dir = Dir::new();
    let listener = Listener::bind(&dir.socket(), BindOptions::default()).unwrap();
    assert_eq!(listener.local_addr(), dir.socket());
    let mode = fs::metadata(path(&dir.socket()))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
    let mut listener = listener.into_tokio().unwrap();
    let mut client = UnixStream::connect(path(&dir.socket())).await.unwrap();
    let (mut stream, peer) = timeout(BOUND, listener.accept()).await.unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(peer, PeerAddr::Unix { uid: Some(_), pid: Some(p) } if p == pid));
    client.write_all(b"x").await.unwrap();
    assert_eq!(
        timeout(BOUND, stream.read_u8()).await.unwrap().unwrap(),
        b'x'
    );
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let dir = Dir::new();
    drop(Listener::bind(&dir.socket(), BindOptions::default()).unwrap());
    assert!(path(&dir.socket()).exists(), "the file stays behind");
    Listener::bind(&dir.socket(), BindOptions::default()).unwrap();
}

#[test]
fn a_socket_that_answers_is_left_alone() {
    let dir = Dir::new();
    let first = Listener::bind(&dir.socket(), BindOptions::default()).unwrap();
    let error = Listener::bind(&dir.socket(), BindOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::SocketInUse { .. }), "{error}");
    std::os::unix::net::UnixStream::connect(path(&dir.socket())).unwrap();
    drop(first);
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let dir = Dir::new();
    fs::write(path(&dir.socket()), "precious").unwrap();
    let error = Listener::bind(&dir.socket(), BindOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(path(&dir.socket())).unwrap(), "precious");
}

#[test]
fn a_missing_directory_is_named() {
    let addr = ListenAddr::Unix("/nonexistent-directory/s.sock".into());
    let error = Listener::bind(&addr, BindOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent-directory/s.sock"),
        "{error}"
    );
}

#[test]
fn siblings_share_a_port_but_a_foreign_listener_does_not() {
    let first = Listener::bind(&loopback(), SHARED).unwrap();
    let second = first.sibling().unwrap();
    assert_eq!(port(&first), port(&second));
    let addr = ListenAddr::Tcp(port(&first));
    for options in [SHARED, BindOptions::default()] {
        let error = Listener::bind(&addr, options).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
    }
}

#[test]
fn a_free_port_is_bound_with_reuse_port() {
    // Between the two binds somebody else may take the port; not five times in a row.
    let bound = (0..5).any(|_| {
        let free = port(&Listener::bind(&loopback(), SHARED).unwrap());
        Listener::bind(&ListenAddr::Tcp(free), SHARED).is_ok_and(|l| port(&l) == free)
    });
    assert!(bound);
}

#[tokio::test]
async fn siblings_have_accept_queues_of_their_own() {
    let first = Listener::bind(&loopback(), SHARED).unwrap();
    let addr = port(&first);
    let mut second = first.sibling().unwrap().into_tokio().unwrap();
    // With one queue less, every connection reaches the other.
    drop(first);
    for _ in 0..8 {
        let client = TcpStream::connect(addr).await.unwrap();
        let (_, peer) = timeout(BOUND, second.accept()).await.unwrap();
        assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
    }
}

#[tokio::test]
async fn a_listener_bound_on_one_thread_serves_on_another() {
    let listener = Listener::bind(&loopback(), BindOptions::default()).unwrap();
    let (addr, clone) = (port(&listener), listener.try_clone().unwrap());
    drop(listener);
    let worker = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { clone.into_tokio().unwrap().accept().await.1 })
    });
    let client = TcpStream::connect(addr).await.unwrap();
    let peer = tokio::task::spawn_blocking(|| worker.join().unwrap());
    let peer = timeout(BOUND, peer).await.unwrap().unwrap();
    assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
}
