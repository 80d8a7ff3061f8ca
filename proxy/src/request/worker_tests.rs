//! What cannot be brought about from outside at will: a peer off loopback on a loopback listener (by a forwarding rule of the node, say), and ten minutes
//! of silence. Real sockets; the worker, the peer's address and the clock are made by hand.

use super::*;
use crate::request::{params::Limits, params::RequestParams, route::RouteTable};
use sidecar_runtime::listener::{PeerAddr, Stream};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn params(allow_remote_peers: bool) -> RequestParams {
    RequestParams {
        listeners: vec![],
        routes: vec![],
        limits: Limits {
            max_connections: 10,
            max_requests: 10,
            max_header_bytes: 8192,
            max_header_fields: 100,
            max_uri_bytes: 1024,
            header_read_timeout: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(600),
        },
        allowed_hosts: vec![],
        allow_remote_peers,
        allowed_origins: vec![],
        inbound: None,
    }
}

/// A worker without routes, and its one listener.
pub(in crate::request) fn worker(allow_remote_peers: bool) -> (Rc<Worker>, Rc<Listening>) {
    let worker = Worker {
        workers: 1,
        timers: Timers::default(),
        metrics: RequestMetrics::register(&prometheus::Registry::new()).unwrap(),
        via: HeaderValue::from_static("1.1 test"),
        in_flight: Cell::new(0),
        draining: Cell::new(false),
        id: 0,
        connections: Arc::default(),
        open: Cell::new(0),
        crowd: RefCell::default(),
        idle: Notify::new(),
        table: RefCell::default(),
        listening: RefCell::default(),
    };
    let table = ListenerTable {
        routes: RouteTable::new(vec![]),
        params: Arc::new(params(allow_remote_peers)),
        inbound: None,
    };
    let listening = Listening {
        table: RefCell::new(Rc::new(table)),
        port: None,
        closing: Cell::new(false),
        closed: Notify::new(),
    };
    (Rc::new(worker), Rc::new(listening))
}

/// A connection that is served as one of `peer`.
async fn connect(worker: &Rc<Worker>, listening: &Rc<Listening>, peer: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let peer = PeerAddr::Tcp(peer.parse::<SocketAddr>().unwrap());
    drop(tokio::task::spawn_local(conn::serve(
        Rc::clone(worker),
        Rc::clone(listening),
        Stream::Tcp(server),
        peer,
    )));
    client
}

async fn answer(client: &mut TcpStream) -> String {
    let mut seen = vec![0; 4096];
    let mut len = 0;
    // The last member of every problem's body.
    while !seen[..len].ends_with(b"}") {
        let n = client.read(&mut seen[len..]).await.unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&seen[..len]));
        len += n;
    }
    String::from_utf8_lossy(&seen[..len]).into_owned()
}

#[tokio::test]
async fn peers_off_loopback_are_refused_unless_allowed() {
    for (peer, allowed, status, reason) in [
        ("10.9.8.7:1234", false, 403, "foreign_peer"),
        ("[fd00::1]:1234", false, 403, "foreign_peer"),
        ("[::ffff:10.9.8.7]:1234", false, 403, "foreign_peer"),
        ("10.9.8.7:1234", true, 404, "no_route"),
        ("127.0.0.9:1234", false, 404, "no_route"),
        ("[::1]:1234", false, 404, "no_route"),
        ("[::ffff:127.0.0.1]:1234", false, 404, "no_route"),
    ] {
        LocalSet::new()
            .run_until(async {
                let (worker, listening) = worker(allowed);
                let mut client = connect(&worker, &listening, peer).await;
                client.write_all(GET).await.unwrap();
                let said = answer(&mut client).await;
                assert!(
                    said.starts_with(&format!("HTTP/1.1 {status} "))
                        && said.contains("application/problem+json")
                        && said.contains(&format!("\"reason\":\"{reason}\"")),
                    "{peer}: {said}"
                );
            })
            .await;
    }
}

/// When the rest of its body comes in, the connection is one that waits for its next request; else it ends, and the answer says so.
#[tokio::test]
async fn a_refused_request_whose_body_comes_in_keeps_its_connection() {
    let post = |body: &str| {
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{body}")
    };
    LocalSet::new()
        .run_until(async {
            let (worker, listening) = worker(false);
            drop(tokio::task::spawn_local(worker.timers.clone().run()));
            let refused = async |body: &str, close: bool| {
                let mut client = connect(&worker, &listening, "127.0.0.1:1234").await;
                client.write_all(post(body).as_bytes()).await.unwrap();
                let said = answer(&mut client).await;
                assert!(said.contains("no_route"), "{said}");
                assert_eq!(said.contains("connection: close"), close, "{said}");
                client
            };
            let mut cut = refused("abc", true).await;
            assert_eq!(cut.read(&mut [0; 1]).await.unwrap(), 0);

            let mut whole = refused("abcdefghij", false).await;
            whole.write_all(GET).await.unwrap();
            assert!(answer(&mut whole).await.contains("no_route"));

            let mut silent = refused("abcdefghij", false).await;
            tokio::time::pause();
            let before = Instant::now();
            assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
            let took = before.elapsed().as_secs();
            let keep_alive = params(false).limits.keep_alive_timeout.as_secs();
            assert!((keep_alive..keep_alive + 10).contains(&took), "{took} s");
        })
        .await;
}
