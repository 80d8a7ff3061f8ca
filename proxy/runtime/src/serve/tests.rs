//! Tests of the server loop over real sockets.

use super::*;
use crate::{
    listener::{BindOptions, ListenAddr, Listener},
    shutdown::{DrainTrigger, drain},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{pause, resume, sleep, timeout},
};

const BOUND: Duration = Duration::from_secs(60);
/// More than all of the system's buffers between two sockets.
const LARGE: usize = 64 * 1024 * 1024;

const OPTIONS: ServeOptions = ServeOptions {
    name: "connection",
    max_connections: 1,
    header_timeout: BOUND,
    write_timeout: BOUND,
    max_buffer: 8192,
    max_headers: 10,
};

/// A server that answers with what `answer` makes of a path; its address, the way to end it, and its end.
fn start<F>(
    options: ServeOptions,
    answer: impl Fn(String) -> F + Send + Sync + 'static,
) -> (SocketAddr, DrainTrigger, JoinHandle<()>)
where
    F: Future<Output = Bytes> + Send + 'static,
{
    let address = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&address, BindOptions::default()).unwrap();
    let ListenAddr::Tcp(address) = listener.local_addr() else {
        panic!()
    };
    let (trigger, watch) = drain();
    let service = service_fn(move |request: Request<RequestBody>| {
        let body = answer(request.uri().path().to_owned());
        async move { Ok::<_, Infallible>(Response::new(Full::new(body.await))) }
    });
    let listener = listener.into_tokio().unwrap();
    let served = serve_http1(listener, options, Arc::new(service), watch);
    (address, trigger, spawn("server", served))
}

/// A connection with a request on its way.
async fn ask(address: SocketAddr, path: &str, connection: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Everything until the other end closes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut answer)).await;
    read.expect("an end").unwrap();
    answer
}

/// Tells when the last of an answer's bytes is gone, read or not.
struct Noticed(Vec<u8>, mpsc::UnboundedSender<()>);

impl AsRef<[u8]> for Noticed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Noticed {
    fn drop(&mut self) {
        self.1.send(()).unwrap_or_default();
    }
}

/// A peer asks and does not read: its connection ends after the time that an answer may stay unread, though nobody needs its place.
#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_place() {
    let options = ServeOptions {
        max_connections: 2,
        write_timeout: Duration::from_secs(1),
        ..OPTIONS
    };
    let (gone, mut noticed) = mpsc::unbounded_channel();
    let (address, _trigger, _served) = start(options, move |_| {
        let answer = Noticed(vec![b'x'; LARGE], gone.clone());
        async move { Bytes::from_owner(answer) }
    });
    let deaf = ask(address, "/", "close").await;
    let ended = timeout(BOUND, noticed.recv()).await;
    ended.expect("an end of the answer").unwrap();
    drop(deaf);
    // Who reads gets all of it, however large.
    let answer = rest(ask(address, "/", "close").await).await;
    assert!(answer.len() > LARGE);
}

#[tokio::test]
async fn more_headers_than_allowed_are_refused() {
    let options = ServeOptions {
        max_buffer: 16_384,
        ..OPTIONS
    };
    let (address, _trigger, _served) = start(options, async |_| Bytes::from_static(b"done"));
    // With `Host` and `Connection`.
    let fields = |count| "a: b\r\n".repeat(count);
    let padding = |count| format!("a: {}\r\n", "b".repeat(count));
    for (more, status) in [
        (fields(8), 200),
        (fields(9), 431),
        (padding(16_000), 200),
        (padding(20_000), 431),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(line.as_bytes()), "{}", more.len());
    }
}

/// The clock is paused: it moves only when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn silence_gives_its_place_away_when_all_are_taken() {
    let options = ServeOptions {
        max_connections: 3,
        header_timeout: 60 * BOUND,
        write_timeout: 60 * BOUND,
        ..OPTIONS
    };
    let (address, _trigger, _served) = start(options, async |_| Bytes::from_static(b"done"));
    let mut slow = TcpStream::connect(address).await.unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    slow.write_all(b"GET / HT").await.unwrap();
    let mut idle = ask(address, "/", "keep-alive").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"done") {
        assert_ne!(idle.read_buf(&mut answer).await.unwrap(), 0);
    }
    for _ in 0..3 {
        let answer = rest(ask(address, "/", "close").await).await;
        assert!(answer.ends_with(b"done"));
    }
    assert!(rest(silent).await.is_empty());
    let end = b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    slow.write_all(end).await.unwrap();
    assert!(rest(slow).await.ends_with(b"done"), "others had gone first");
}

/// A service that says when a request has reached it, and answers when it is let go.
struct Held {
    reached: mpsc::UnboundedReceiver<()>,
    gate: Arc<Semaphore>,
}

fn held(options: ServeOptions) -> (Held, SocketAddr, DrainTrigger, JoinHandle<()>) {
    let (reach, reached) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let held = Held {
        reached,
        gate: Arc::clone(&gate),
    };
    let (address, trigger, served) = start(options, move |_| {
        let (reach, gate) = (reach.clone(), Arc::clone(&gate));
        async move {
            reach.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            Bytes::from_static(b"done")
        }
    });
    (held, address, trigger, served)
}

#[tokio::test]
async fn one_connection_too_many_waits_for_its_turn() {
    let (mut held, address, _trigger, _served) = held(OPTIONS);
    let first = ask(address, "/", "close").await;
    held.reached.recv().await.unwrap();
    let second = ask(address, "/", "close").await;
    // Half of what a connection may be silent, in no time: nothing that has to happen is on its way through the system now.
    pause();
    sleep(BOUND / 2).await;
    resume();
    assert!(held.reached.try_recv().is_err(), "the second is served too");
    held.gate.add_permits(2);
    for answer in [rest(first).await, rest(second).await] {
        assert!(answer.ends_with(b"done"));
    }
}

/// Clients that would keep their connections do not hold up the end; a request at hand is answered.
#[tokio::test]
async fn the_drain_lets_requests_finish_and_closes_what_is_idle() {
    let (mut held, address, trigger, served) = held(ServeOptions {
        max_connections: 2,
        header_timeout: 10 * BOUND,
        ..OPTIONS
    });
    let mut idle = ask(address, "/", "keep-alive").await;
    held.reached.recv().await.unwrap();
    held.gate.add_permits(1);
    let mut answer = Vec::new();
    while !answer.ends_with(b"done") {
        assert_ne!(idle.read_buf(&mut answer).await.unwrap(), 0);
    }
    let at_hand = ask(address, "/", "keep-alive").await;
    held.reached.recv().await.unwrap();
    let draining = trigger.drain();
    timeout(BOUND, served).await.expect("an end").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    assert!(rest(idle).await.is_empty());
    held.gate.add_permits(1);
    assert!(rest(at_hand).await.ends_with(b"done"));
    timeout(BOUND, draining.drained()).await.expect("an end");
}

mod leftover;
