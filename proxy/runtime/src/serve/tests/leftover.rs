//! Answers that are there before the end of the request's body: the connection serves on, or its end is announced and the answer arrives.

use super::*;
use http_body_util::BodyExt as _;

const HEAD: &str = "POST /first HTTP/1.1\r\nHost: x\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server whose service never looks at a body, and answers when it is let go.
fn deaf() -> (Held, SocketAddr, DrainTrigger, JoinHandle<()>) {
    held(ServeOptions {
        max_connections: 10,
        ..OPTIONS
    })
}

/// One answer: its head, in lower case.
async fn answer(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let read = timeout(BOUND, async {
        while !seen.ends_with(b"\r\n\r\ndone") {
            let count = stream.read_buf(&mut seen).await.unwrap();
            assert_ne!(count, 0, "cut: {}", String::from_utf8_lossy(&seen));
        }
    });
    read.await.expect("an answer");
    String::from_utf8(seen).unwrap().to_lowercase()
}

async fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).await.unwrap();
}

fn closes(head: &str) -> bool {
    head.contains("\r\nconnection: close\r\n")
}

/// The body comes when the request has been looked at already, and before the answer.
#[tokio::test]
async fn a_little_is_waited_for_and_the_connection_serves_on() {
    let (mut held, address, _trigger, _served) = deaf();
    let full = "x".repeat(64 * 1024);
    for (head, body) in [
        ("content-length: 3\r\n\r\n", "abc"),
        ("content-length: 3\r\n\r\na", "bc"),
        ("content-length: 65536\r\n\r\n", &full),
        (
            "transfer-encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n3\r\nab",
            "c\r\n1\r\nd\r\n0\r\nx: y\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            "\r\n",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, format!("{HEAD}{head}")).await;
        held.reached.recv().await.unwrap();
        // The next request comes with it.
        send(&mut stream, format!("{body}{NEXT}")).await;
        held.gate.add_permits(2);
        let first = answer_of_two(&mut stream).await;
        assert!(!closes(&first), "{head}: {first}");
        held.reached.recv().await.unwrap();
    }
}

/// Two answers that may come together; the first one's head.
async fn answer_of_two(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let read = timeout(BOUND, async {
        while seen.windows(4).filter(|w| w == b"done").count() < 2 {
            let count = stream.read_buf(&mut seen).await.unwrap();
            assert_ne!(count, 0, "cut: {}", String::from_utf8_lossy(&seen));
        }
    });
    read.await.expect("two answers");
    let text = String::from_utf8(seen).unwrap().to_lowercase();
    text.split("done").next().unwrap_or_default().to_owned()
}

/// What would be taken for a request, if the body were not known to be one.
const INNER: &str = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n";

/// The clock is paused: it moves only when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_or_may_never_come_ends_the_connection_and_the_answer_says_so() {
    let (mut held, address, _trigger, _served) = deaf();
    for head in [
        "content-length: 32\r\n\r\n",
        "content-length: 32\r\n\r\nGET",
        "content-length: 65537\r\n\r\n",
        "content-length: 32\r\nexpect: 100-continue\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "transfer-encoding: chunked\r\n\r\n20000\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, format!("{HEAD}{head}")).await;
        held.reached.recv().await.unwrap();
        held.gate.add_permits(1);
        let first = answer(&mut stream).await;
        assert!(closes(&first), "{head}: {first}");
        // Too late, and no request.
        drop(stream.write_all(INNER.as_bytes()).await);
        assert!(rest(stream).await.is_empty(), "{head}");
        assert!(
            held.reached.try_recv().is_err(),
            "{head}: taken for a request"
        );
    }
}

/// Who sends all of it before it reads gets its answer all the same, and no reset.
#[tokio::test]
async fn a_peer_that_is_still_sending_gets_its_answer() {
    let (held, address, _trigger, _served) = deaf();
    held.gate.add_permits(100);
    let large = vec![b'x'; 8 << 20];
    for head in [
        format!("{HEAD}content-length: {}\r\n\r\n", large.len()),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n800000\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, head).await;
        send(&mut stream, &large).await;
        assert!(closes(&answer(&mut stream).await));
    }
    // What is no request at all, likewise.
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, "GET / HTTP/x\r\n\r\n").await;
    send(&mut stream, &large).await;
    let refused = rest_while_open(&mut stream).await;
    assert!(refused.starts_with(b"HTTP/1.1 400 "));
}

/// Everything until the other end ends its side.
async fn rest_while_open(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut answer)).await;
    read.expect("an end").unwrap();
    answer
}

/// What a service does with a request in [`alone`].
type Does = fn(Request<RequestBody>) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>>>>;

/// The answer on a connection of its own, and after how long it was there. Without a socket: the clock is paused, and moves only when
/// nothing else can happen.
async fn alone(request: &str, does: Does) -> (String, Duration) {
    let (mut client, server) = tokio::io::duplex(4096);
    let (_trigger, watch) = drain();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let peer = PeerAddr::Tcp("127.0.0.1:1".parse().unwrap());
    let answer = service_fn(|request| async move { Ok::<_, Infallible>(does(request).await) });
    let served = serve_connection(builder, server, answer, peer, watch);
    let began = tokio::time::Instant::now();
    let told = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\ndone") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "cut");
        }
        let took = began.elapsed();
        drop(client);
        (String::from_utf8(answer).unwrap().to_lowercase(), took)
    };
    tokio::join!(told, served).0
}

fn done(close: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"done")));
    if close {
        let close = http::HeaderValue::from_static("close");
        response
            .headers_mut()
            .insert(http::header::CONNECTION, close);
    }
    response
}

/// Only a body that may yet come, and whose connection is to serve on, is waited for; and no longer than that.
#[tokio::test(start_paused = true)]
async fn what_ends_the_connection_anyway_is_told_at_once() {
    use crate::leftover::LONGEST;
    let ignores: Does = |request| {
        drop(request);
        Box::pin(async { done(false) })
    };
    // As after a body that did not come in time.
    let last: Does = |request| {
        drop(request);
        Box::pin(async { done(true) })
    };
    // The body outlives the answer: nobody else can read it away.
    let keeps: Does = |request| {
        drop(spawn("keeper", async move {
            let _request = request;
            sleep(BOUND).await;
        }));
        Box::pin(async { done(false) })
    };
    let length = "content-length: 9\r\n";
    for (name, does, framing, waits) in [
        ("ignored", ignores, length, true),
        ("ignored", ignores, "transfer-encoding: chunked\r\n", true),
        (
            "withheld",
            ignores,
            "content-length: 9\r\nexpect: 100-continue\r\n",
            false,
        ),
        ("too much", ignores, "content-length: 65537\r\n", false),
        ("closed by the service", last, length, false),
        ("kept by the service", keeps, length, false),
    ] {
        let (told, took) = alone(&format!("{HEAD}{framing}\r\n"), does).await;
        assert!(closes(&told), "{name}: {told}");
        let most = Duration::from_millis(500);
        let least = if waits { LONGEST } else { Duration::ZERO };
        assert!((least..least + most).contains(&took), "{name}: {took:?}");
    }
}

/// What the service has read is not read again, and what it could not read ends the connection.
#[tokio::test(start_paused = true)]
async fn a_body_that_the_service_reads_is_known_to_have_gone_by_or_not() {
    let reads: Does = |request| {
        Box::pin(async {
            drop(request.into_body().collect().await);
            done(false)
        })
    };
    // Its end is there with the last of its data, and nobody asks for it.
    let takes: Does = |request| {
        Box::pin(async {
            let mut body = request.into_body();
            while !body.is_end_stream() {
                body.frame().await.unwrap().unwrap();
            }
            done(false)
        })
    };
    let ignores: Does = |request| {
        drop(request);
        Box::pin(async { done(false) })
    };
    let length = "content-length: 3\r\n\r\nabc";
    let chunked = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let asked_for = format!("expect: 100-continue\r\n{length}");
    // No chunk of these is too large.
    let chunks = |count| chunked.to_owned() + &format!("1000\r\n{:0>4096}\r\n", 0).repeat(count);
    for (name, does, body, ends) in [
        ("read", reads, length.to_owned(), false),
        ("read", reads, format!("{chunked}0\r\n\r\n"), false),
        ("read", reads, asked_for.clone(), false),
        ("taken", takes, length.to_owned(), false),
        ("taken", takes, asked_for, false),
        ("malformed", reads, format!("{chunked}no size\r\n"), true),
        ("little", ignores, chunks(15) + "0\r\n\r\n", false),
        ("much", ignores, chunks(16) + "0\r\n\r\n", true),
    ] {
        let (told, _) = alone(&format!("{HEAD}{body}"), does).await;
        assert_eq!(closes(&told), ends, "{name}: {told}");
    }
}
