//! Tests of the server loop over real sockets.

use super::*;
use crate::{
    listener::{BindOptions, ListenAddr, Listener},
    shutdown::drain,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const BOUND: Duration = Duration::from_secs(60);
/// More than all of the system's buffers between two sockets.
const LARGE: usize = 64 * 1024 * 1024;

/// The only connection's peer asks and does not read: its place is free again after the time that an answer may stay unread.
#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_place() {
    let options = ServeOptions {
        name: "connection",
        max_connections: 1,
        header_timeout: BOUND,
        write_timeout: Duration::from_secs(1),
        max_buffer: 8192,
        max_headers: 10,
    };
    let address = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&address, BindOptions::default()).unwrap();
    let ListenAddr::Tcp(address) = listener.local_addr() else {
        panic!()
    };
    let (trigger, watch) = drain();
    let service = service_fn(|request: Request<Incoming>| async move {
        let body = match request.uri().path() {
            "/large" => Bytes::from(vec![b'x'; LARGE]),
            _ => Bytes::from_static(b"small"),
        };
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let listener = listener.into_tokio().unwrap();
    drop(spawn(
        "server",
        serve_http1(listener, options, Arc::new(service), watch),
    ));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let deaf = ask("/large").await;
    let mut answer = String::new();
    let mut second = ask("/small").await;
    timeout(BOUND, second.read_to_string(&mut answer))
        .await
        .expect("the place is free again")
        .unwrap();
    assert!(answer.ends_with("small"), "{answer}");
    drop(deaf);
    // Who reads gets all of it, however large.
    let mut answer = Vec::new();
    let mut reader = ask("/large").await;
    timeout(BOUND, reader.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.len() > LARGE);
    drop(trigger);
}
