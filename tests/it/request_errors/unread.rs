//! Requests that are refused while their body is still on its way: the connection serves on once the rest has come in, or the answer says that it ends.
//! Head and body are sent apart throughout, on both sides of the sidecar.

use super::*;
use crate::inbound_lab::InboundLab;
use harness::process::Sidecar;
use std::net::SocketAddr;
use tokio::time::Instant;

/// The sidecar waits for a body for so long.
pub(super) const WAITS: Duration = Duration::from_secs(1);
/// When this machine has stood still for as long as this before the body was sent, the test proves nothing, and is tried again.
pub(super) const PROMPT: Duration = Duration::from_millis(300);
/// More than is read away.
const TOO_MUCH: usize = 200_000;
pub(super) const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// A kind of request that is refused.
struct Refused<'a> {
    sidecar: &'a Sidecar,
    address: SocketAddr,
    /// Request line and headers, without framing.
    head: String,
    status: u16,
    /// The series that counts its refusals, before any answer is out.
    counter: (&'a str, [(&'a str, &'a str); 1]),
}

impl<'a> Refused<'a> {
    fn outbound(sidecar: &'a Sidecar, target: &str, status: u16, reason: &'a str) -> Self {
        Self {
            sidecar,
            address: sidecar.listen(),
            head: format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n"),
            status,
            counter: ("token_sidecar_rejected_total", [("reason", reason)]),
        }
    }

    fn inbound(sidecar: &'a Sidecar, more: &str, status: u16, reason: &'a str) -> Self {
        Self {
            address: sidecar.inbound(),
            head: format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{more}"),
            ..Self::outbound(sidecar, "", status, reason)
        }
    }

    async fn count(&self) -> f64 {
        let (name, labels) = &self.counter;
        let metrics = self.sidecar.metrics().await.unwrap();
        metrics.value(name, labels).unwrap_or(0.0)
    }

    /// Sends the head on a new connection, with the beginning of a body, and waits until it is refused.
    async fn begin(&self, framing: &str, beginning: &str) -> Raw {
        let before = self.count().await;
        let mut raw = Raw::connect(self.address).await.unwrap();
        raw.send(format!("{}{framing}\r\n{beginning}", self.head))
            .await
            .unwrap();
        let (name, labels) = &self.counter;
        self.sidecar
            .metric("the refusal", |m| {
                m.value(name, labels).is_some_and(|n| n > before)
            })
            .await
            .unwrap();
        raw
    }

    /// Reads the refusal, and gives whether it says that the connection ends.
    async fn ends(&self, raw: &mut Raw) -> bool {
        let answer = raw.answer().await.unwrap();
        let (head, text) = (&answer.head, answer.text());
        assert_eq!(
            answer.status(),
            self.status,
            "{}\n{head}\n{text}",
            self.head
        );
        assert!(answer.interim.is_empty(), "{}: asked for", self.head);
        answer.headers("connection") == ["close"]
    }

    /// The body comes when the request has long been refused: the next request on the connection is answered.
    async fn serves_on(&self, framing: &str, beginning: &str, rest: &str) {
        let tried = Instant::now();
        while tried.elapsed() < LONG {
            let begun = Instant::now();
            let mut raw = self.begin(framing, beginning).await;
            raw.send(rest).await.unwrap();
            let prompt = begun.elapsed() < PROMPT;
            if self.ends(&mut raw).await {
                assert!(!prompt, "{}: not waited for", self.head);
                assert!(raw.closes_within(LONG).await);
                continue;
            }
            // The same once more, and then one without a body.
            raw.send(format!("{}{framing}\r\n{beginning}{rest}", self.head))
                .await
                .unwrap();
            assert!(!self.ends(&mut raw).await, "{}", self.head);
            raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(raw.answer().await.unwrap().status(), 403);
            return;
        }
        panic!("{}: never served on", self.head);
    }

    /// The connection ends with the answer, which says so.
    async fn ends_with(&self, framing: &str, beginning: &str) {
        let mut raw = self.begin(framing, beginning).await;
        assert!(self.ends(&mut raw).await, "{}{framing}", self.head);
        assert!(raw.closes_within(LONG).await);
    }
}

#[tokio::test]
async fn a_body_that_comes_after_the_refusal_leaves_the_connection_usable() {
    let lab = Lab::new().await;
    let closed = harness::ports::closed().unwrap();
    let refused = closed.address();
    let routes = [
        named("down", &format!("http://{refused}"), ""),
        named("get", "http://127.0.0.1:1", "").replace("/get }", "/get, methods: [GET] }"),
    ];
    let sidecar = ready(&lab, config("", &routes)).await;
    let inbound_lab = InboundLab::new().await;
    let inbound = inbound_lab.sidecar("").await;
    let garbage = "Authorization: Bearer garbage\r\n";
    let kinds = [
        Refused::outbound(&sidecar, "/elsewhere", 404, "no_route"),
        Refused::outbound(&sidecar, "/get", 403, "method_not_allowed"),
        // The upstream was tried, but nobody has asked for the body.
        Refused::outbound(&sidecar, "/down", 502, "connection_refused"),
        Refused::inbound(&inbound, "", 401, "no_credentials"),
        Refused::inbound(&inbound, garbage, 401, "invalid_token"),
        Refused {
            head: "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\n".into(),
            ..Refused::inbound(&inbound, "", 401, "no_credentials")
        },
    ];
    for kind in &kinds {
        kind.serves_on("Content-Length: 4\r\n", "", "body").await;
    }
    let long = "x".repeat(60_000);
    for kind in [&kinds[0], &kinds[2], &kinds[3]] {
        kind.serves_on("Content-Length: 60000\r\n", "xxx", &long[3..])
            .await;
        // Two chunks and a trailer: more than hyper would take in one go.
        kind.serves_on(CHUNKED, "3\r\nabc\r\n", "1\r\nd\r\n0\r\nx-sum: 4\r\n\r\n")
            .await;
    }
    assert!(inbound_lab.workload.received().is_empty());
}

/// What the inbound side answers in the workload's place is no refusal, and is no different.
#[tokio::test]
async fn a_body_that_comes_after_the_metadata_leaves_the_connection_usable() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar("").await;
    let metadata = Refused {
        head: "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: localhost\r\n".into(),
        counter: ("token_sidecar_requests_total", [("status_class", "2xx")]),
        ..Refused::inbound(&sidecar, "", 200, "")
    };
    metadata
        .serves_on("Content-Length: 4\r\n", "", "body")
        .await;
    metadata
        .ends_with(&format!("Content-Length: {TOO_MUCH}\r\n"), "")
        .await;
}

#[tokio::test]
async fn a_body_that_is_too_much_or_never_comes_ends_the_connection_which_the_refusal_says() {
    let lab = Lab::new().await;
    let closed = harness::ports::closed().unwrap();
    let refused = closed.address();
    let sidecar = ready(
        &lab,
        config("", &[named("down", &format!("http://{refused}"), "")]),
    )
    .await;
    let inbound_lab = InboundLab::new().await;
    let inbound = inbound_lab.sidecar("").await;
    // Whole, so that it is its size alone that makes it too much.
    let long = "x".repeat(TOO_MUCH);
    let chunks = format!("{TOO_MUCH:x}\r\n{long}\r\n0\r\n\r\n");
    for kind in [
        Refused::outbound(&sidecar, "/elsewhere", 404, "no_route"),
        Refused::outbound(&sidecar, "/down", 502, "connection_refused"),
        Refused::inbound(&inbound, "", 401, "no_credentials"),
    ] {
        for (framing, beginning) in [
            // Asked for, it would come; but an answer is not asking.
            ("Expect: 100-continue\r\nContent-Length: 4\r\n", ""),
            (&format!("Content-Length: {TOO_MUCH}\r\n"), long.as_str()),
            (CHUNKED, chunks.as_str()),
            (CHUNKED, "no size\r\n"),
            // The rest of it never comes.
            ("Content-Length: 4\r\n", "bod"),
        ] {
            kind.ends_with(framing, beginning).await;
        }
    }
}

/// Once the upstream's connection has begun to take the body, what is left of it is not waited for.
#[tokio::test]
async fn a_failed_exchange_says_that_the_connection_ends_unless_the_body_was_whole() {
    let lab = Lab::new().await;
    let silent = RawUpstream::start(vec![HOLD]).await.unwrap();
    let times = ", timeouts: { idle: 1s, responseHeader: 1s }";
    let sidecar = ready(&lab, config("", &[route(&silent.url(), times)])).await;
    let timeout = |reason| Refused::outbound(&sidecar, "/sink", 504, reason);
    timeout("connection_write_timeout")
        .ends_with("Content-Length: 4\r\n", "bod")
        .await;
    timeout("connection_write_timeout")
        .ends_with(CHUNKED, "")
        .await;
    timeout("http_response_timeout")
        .serves_on("Content-Length: 4\r\n", "body", "")
        .await;
}

/// An upstream that answers before it has read the body, as frameworks do with redirects and with what they refuse, but reads it then.
#[tokio::test]
async fn a_body_that_comes_after_an_early_answer_leaves_the_connection_usable() {
    let lab = Lab::new().await;
    let mut raws = Vec::new();
    for answer in [
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /sink/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let steps = vec![Step::text(answer), Step::Read(4), Step::Again];
        raws.push(RawUpstream::start(steps).await.unwrap());
    }
    let routes: Vec<String> = ["redirect", "refuse"]
        .iter()
        .zip(&raws)
        .map(|(name, raw)| named(name, &raw.url(), ", replayBuffer: 0B"))
        .collect();
    let sidecar = ready(&lab, config("", &routes)).await;
    for (path, upstream, status) in [("redirect", &raws[0], 307), ("refuse", &raws[1], 401)] {
        let head = format!("POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n");
        let tried = Instant::now();
        loop {
            assert!(tried.elapsed() < LONG, "{path}: never served on");
            let seen = upstream.heads().len();
            let begun = Instant::now();
            let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
            raw.send(&head).await.unwrap();
            upstream.heads().wait_for(seen + 1).await.unwrap();
            // The answer is under way, and has long been there when this is.
            sidecar.metrics().await.unwrap();
            raw.send("body").await.unwrap();
            let prompt = begun.elapsed() < PROMPT;
            let answer = raw.answer().await.unwrap();
            assert_eq!(answer.status(), status, "{}", answer.text());
            if answer.headers("connection") == ["close"] {
                assert!(!prompt, "{path}: not waited for");
                assert!(raw.closes_within(LONG).await);
                continue;
            }
            raw.send(format!("{head}body")).await.unwrap();
            assert_eq!(raw.answer().await.unwrap().status(), status);
            break;
        }
        // What never comes is not waited for.
        let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
        raw.send(&head).await.unwrap();
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert_eq!(answer.headers("connection"), ["close"], "{path}");
        assert!(raw.closes_within(LONG).await);
    }
}

/// Over HTTP/2 an upstream says with RST_STREAM (NO_ERROR) that it wants no more of the body: there is nothing to wait for.
#[tokio::test]
async fn a_body_that_an_http2_upstream_wants_no_more_of_is_not_waited_for() {
    let lab = Lab::new().await;
    let sidecar = ready(&lab, config("", &[route(&lab.upstream.url(), "")])).await;
    let head = "POST /early HTTP/1.1\r\nHost: localhost\r\n";
    for (framing, beginning) in [("Content-Length: 4\r\n", ""), (CHUNKED, "3\r\nabc\r\n")] {
        let tried = Instant::now();
        loop {
            assert!(tried.elapsed() < LONG, "{framing}: waited for each time");
            let begun = Instant::now();
            let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
            raw.send(format!("{head}{framing}\r\n{beginning}"))
                .await
                .unwrap();
            let answer = raw.answer().await.unwrap();
            let sooner = begun.elapsed() < WAITS;
            assert_eq!(answer.status(), 413, "{}", answer.text());
            assert_eq!(answer.headers("connection"), ["close"], "{framing}");
            assert!(raw.closes_within(LONG).await);
            if sooner {
                break;
            }
        }
    }
    let seen = lab.upstream.requests().since(0);
    assert!(seen.iter().all(|r| r.version == http::Version::HTTP_2));
}
