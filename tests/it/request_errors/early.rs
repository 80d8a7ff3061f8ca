//! Upstreams that answer before they have read the body, and close, or go on reading: the answer arrives whole, and soon.

use super::*;
use harness::process::{Metrics, Sidecar};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use unread::{CHUNKED, PROMPT, WAITS};

/// An upstream that answers with a page of more than one read before it reads any of the body; both ends of one exchange with it.
struct Early {
    raw: Raw,
    /// `None` once it has closed.
    upstream: Option<TcpStream>,
    page: String,
}

impl Early {
    /// The page is on its way, and so far nothing of a body of `length` bytes.
    async fn begin(sidecar: &Sidecar, listener: &TcpListener, length: usize) -> Self {
        let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
        raw.send(Self::request(length)).await.unwrap();
        let accepted = within(LONG, "the upstream's connection", listener.accept());
        let upstream = Some(accepted.await.unwrap().unwrap().0);
        let page = (0..6000).map(|i| format!("{i:08}")).collect();
        let mut early = Self {
            raw,
            upstream,
            page,
        };
        early.answer().await;
        early
    }

    fn request(length: usize) -> String {
        format!("POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    }

    /// The upstream reads a head, and sends the page.
    async fn answer(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await);
        }
        let (length, page) = (self.page.len(), &self.page);
        let answer =
            format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: {length}\r\n\r\n{page}");
        let upstream = self.upstream.as_mut().unwrap();
        upstream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// What the upstream reads next.
    async fn byte(&mut self) -> u8 {
        let byte = self.upstream.as_mut().unwrap().read_u8();
        within(LONG, "a byte", byte).await.unwrap().unwrap()
    }

    /// Passes three bytes of the body on, one by one. The page was there before the second was sent: who passes it on and reads all there is has read
    /// the page.
    async fn three(&mut self) {
        for sent in ["a", "b", "c"] {
            self.raw.send(sent).await.unwrap();
            assert_eq!(self.byte().await, sent.as_bytes()[0]);
        }
    }

    /// Reads the page, whole, and gives whether the answer says that the connection ends.
    async fn ends(&mut self) -> bool {
        let got = self.raw.answer().await.unwrap();
        assert_eq!(got.status(), 413, "{}", got.head);
        assert!(!got.cut, "cut after {} bytes", got.body.len());
        assert_eq!(got.text(), self.page);
        got.headers("connection") == ["close"]
    }
}

async fn early_lab() -> (Lab, TcpListener, Sidecar) {
    let lab = Lab::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sidecar = ready(&lab, config("", &[route(&url, ", replayBuffer: 0B")])).await;
    (lab, listener, sidecar)
}

/// What the upstream is sent after it has closed destroys what was not read of its page.
#[tokio::test]
async fn an_early_answer_is_whole_although_the_upstream_closes_before_the_body_is_out() {
    let (_lab, listener, sidecar) = early_lab().await;
    let mut early = Early::begin(&sidecar, &listener, 1000).await;
    early.three().await;
    early.upstream = None;
    // The first of these is answered with a reset, and the next is not taken. The answer may be there before, and the connection at its end.
    for part in ["d", "e", "f"] {
        drop(early.raw.send(part).await);
        sidecar.metrics().await.unwrap();
    }
    assert!(early.ends().await);
    // Nothing is held any more.
    let done = |m: &Metrics| m.value("token_sidecar_requests_in_flight", &[]) == Some(0.0);
    sidecar.metric("no request in flight", done).await.unwrap();
}

#[tokio::test]
async fn an_early_answer_whose_body_went_by_leaves_both_connections_usable() {
    let (_lab, listener, sidecar) = early_lab().await;
    let tried = Instant::now();
    while tried.elapsed() < LONG {
        let begun = Instant::now();
        let mut early = Early::begin(&sidecar, &listener, 3).await;
        early.three().await;
        let prompt = begun.elapsed() < PROMPT;
        if early.ends().await {
            assert!(!prompt, "not waited for");
            continue;
        }
        let again = format!("{}abc", Early::request(3));
        early.raw.send(again).await.unwrap();
        early.answer().await;
        assert!(!early.ends().await);
        return;
    }
    panic!("never served on");
}

/// Reads a head, and answers.
async fn refuse(upstream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within(LONG, "a byte", upstream.read_u8());
        head.push(byte.await.unwrap().unwrap());
    }
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    upstream.write_all(answer.as_bytes()).await.unwrap();
}

/// Many do so: what the sidecar is still sending is answered with a reset, which may be there before the answer is read.
#[tokio::test]
async fn the_answer_of_an_upstream_that_refuses_a_large_body_and_closes_is_no_502() {
    let (_lab, listener, sidecar) = early_lab().await;
    let body = vec![b'x'; 4 << 20];
    for _ in 0..20 {
        let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
        raw.send(Early::request(body.len())).await.unwrap();
        let upstream = async {
            let accepted = within(LONG, "the upstream's connection", listener.accept());
            refuse(&mut accepted.await.unwrap().unwrap().0).await;
        };
        // The workload may be told before it has sent all.
        let (sent, ()) = tokio::join!(raw.send(&body), upstream);
        drop(sent);
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (413, "no"));
    }
}

/// A workload that announces no length and sends on and on is answered when a little more has gone by, and the connection ends.
#[tokio::test]
async fn an_early_answer_does_not_wait_for_a_body_without_end() {
    let (_lab, listener, sidecar) = early_lab().await;
    let tried = Instant::now();
    while tried.elapsed() < LONG {
        let begun = Instant::now();
        let stream = TcpStream::connect(sidecar.listen()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let head = format!("POST /sink HTTP/1.1\r\nHost: localhost\r\n{CHUNKED}\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        let mut both = tokio::task::JoinSet::new();
        both.spawn(async move {
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while writer.write_all(chunk.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let accepted = within(LONG, "the upstream's connection", listener.accept());
        let mut upstream = accepted.await.unwrap().unwrap().0;
        refuse(&mut upstream).await;
        both.spawn(async move {
            drop(tokio::io::copy(&mut upstream, &mut tokio::io::sink()).await);
        });
        let mut got = Vec::new();
        let whole = within(LONG, "the answer", async {
            while !got.ends_with(b"\r\n\r\nno") {
                assert_ne!(reader.read_buf(&mut got).await.unwrap(), 0, "cut");
            }
        });
        whole.await.unwrap();
        let sooner = begun.elapsed() < WAITS;
        drop(both);
        let got = String::from_utf8(got).unwrap().to_lowercase();
        assert!(got.starts_with("http/1.1 413 "), "{got}");
        assert!(got.contains("\r\nconnection: close\r\n"), "{got}");
        if sooner {
            return;
        }
    }
    panic!("waited for each time");
}
