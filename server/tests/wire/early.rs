//! What is refused before its body is read: the answer arrives, and the end of the connection with it is announced when the body does not come.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{client::BOUND, server::pair};

/// A request of each kind, without the fields that say how its body is framed.
const REFUSED: [(&str, &str); 8] = [
    ("404", "POST /nothing HTTP/1.1\r\nHost: localhost\r\n"),
    ("405", "PUT /messages HTTP/1.1\r\nHost: localhost\r\n"),
    ("405", "POST /health HTTP/1.1\r\nHost: localhost\r\n"),
    ("405", "POST /tools HTTP/1.1\r\nHost: localhost\r\n"),
    ("405", "POST /metrics HTTP/1.1\r\nHost: localhost\r\n"),
    ("403", "POST /mcp HTTP/1.1\r\nHost: evil.example\r\n"),
    (
        "403",
        "POST /messages HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
    ),
    ("200", "GET /livez HTTP/1.1\r\nHost: localhost\r\n"),
];
/// Too large to be waited for.
const LARGE: usize = 2 << 20;

/// Sends the parts one after the other, and gives all that comes until the server ends the connection.
async fn told(addr: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
    }
    let mut answer = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut answer)).await;
    read.expect("an end").unwrap();
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn is_last(answer: &str, status: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_the_connection_and_the_answer_says_so() {
    let (_backend, server) = pair();
    let mut waits = tokio::task::JoinSet::new();
    for (status, head) in REFUSED {
        for rest in [
            "content-length: 9\r\n\r\n{",
            "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            "content-length: 9\r\nexpect: 100-continue\r\n\r\n",
        ] {
            let addr = server.addr;
            waits.spawn(async move {
                let request = format!("{head}{rest}");
                is_last(&told(addr, &[request.as_bytes()]).await, status);
            });
        }
    }
    while let Some(done) = waits.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_large_body_does_not_cost_the_answer() {
    let (_backend, server) = pair();
    let body = vec![b'x'; LARGE];
    let mut too_large = vec![(
        "413",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\n",
    )];
    too_large.extend(REFUSED);
    for (status, head) in too_large {
        for framing in [
            format!("content-length: {LARGE}\r\n\r\n"),
            format!("transfer-encoding: chunked\r\n\r\n{LARGE:x}\r\n"),
        ] {
            let head = format!("{head}{framing}");
            is_last(&told(server.addr, &[head.as_bytes(), &body]).await, status);
        }
    }
}
