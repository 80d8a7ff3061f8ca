//! A request's body as an upstream's connection takes it: what is kept of it, given again, refused and waited for. Every body comes by a connection of
//! hyper's, in memory; the clock is paused, and moves only when nothing else can happen.

use super::*;
use crate::request::{timer::Timers, worker::tests::worker};
use http::{Request, Response};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    convert::Infallible,
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::Wake,
};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::oneshot,
    task::LocalSet,
    time::sleep,
};

const IDLE: Duration = Duration::from_secs(10);
const RESPONSE_HEADER: Duration = Duration::from_secs(100);
/// A second more than a deadline may be late.
const LATE: Duration = Duration::from_secs(1);

const TEN: &str = "Content-Length: 10\r\n\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// A body on its way.
struct Way {
    /// What the workload still sends.
    client: DuplexStream,
    first: RequestBody,
    replay: Replayable,
    conn: Rc<Conn>,
    deadline: Rc<Deadline>,
}

impl Way {
    /// A request with this framing and as much of its body, under these rules but for what `change` does.
    async fn new(framing: &str, body: &str, change: impl FnOnce(&mut BodyRules)) -> Self {
        let (incoming, client) = incoming(&format!("{framing}{body}")).await;
        let (worker, listening) = worker(false);
        let conn = Rc::new(Conn::alone(worker, listening));
        let timers = Timers::default();
        drop(tokio::task::spawn_local(timers.clone().run()));
        let deadline = Rc::new(timers.deadline());
        let (first, replay) = RequestBody::new(incoming, || {
            let mut rules = BodyRules {
                keep: 100,
                limit: None,
                strip: Arc::from([]),
                deadline: Rc::clone(&deadline),
                conn: Rc::clone(&conn),
                idle: IDLE,
                response_header: RESPONSE_HEADER,
            };
            change(&mut rules);
            rules
        });
        Self {
            client,
            first,
            replay: replay.unwrap(),
            conn,
            deadline,
        }
    }

    fn poll_ended(&self) -> Poll<bool> {
        self.replay.poll_ended(&Context::from_waker(Waker::noop()))
    }
}

/// The body of a request that has come in as far as this.
async fn incoming(text: &str) -> (Incoming, DuplexStream) {
    let (mut client, server) = tokio::io::duplex(1024);
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\n";
    client
        .write_all([head, text].concat().as_bytes())
        .await
        .unwrap();
    let (give, take) = oneshot::channel();
    let give = Cell::new(Some(give));
    let service = service_fn(move |request: Request<Incoming>| {
        assert!(give.take().unwrap().send(request.into_body()).is_ok());
        std::future::pending::<Result<Response<String>, Infallible>>()
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    drop(tokio::task::spawn_local(server));
    (take.await.unwrap(), client)
}

async fn next(body: &mut RequestBody) -> Option<Result<Frame<Bytes>, BodyError>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// The next of the body's data.
async fn data(body: &mut RequestBody) -> Bytes {
    next(body).await.unwrap().unwrap().into_data().unwrap()
}

/// All that there is yet to come, and the trailers.
async fn rest(body: &mut RequestBody) -> (String, Option<HeaderMap>) {
    let (mut seen, mut trailers) = (Vec::new(), None);
    while !body.is_end_stream() {
        let Some(frame) = next(body).await else { break };
        match frame.unwrap().into_data() {
            Ok(data) => {
                assert!(trailers.is_none(), "data behind the trailers");
                seen.extend_from_slice(&data);
            }
            Err(other) => {
                let more = trailers.replace(other.into_trailers().unwrap());
                assert!(more.is_none(), "trailers twice");
            }
        }
    }
    assert!(body.is_end_stream());
    (String::from_utf8(seen).unwrap(), trailers)
}

async fn run(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Only the use of a body that counts has anything to say of it: one that was taken over gets nothing more, and gives nothing up.
#[tokio::test(start_paused = true)]
async fn a_use_that_was_taken_over_neither_reads_nor_gives_up() {
    run(async {
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        let mut second = way.replay.again().unwrap();
        drop(std::mem::replace(&mut way.first, RequestBody::Empty));
        assert!(way.poll_ended().is_pending());
        // It has what came in, and waits for more until the third is there.
        assert_eq!(data(&mut second).await, "abc");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut second).poll_frame(&mut cx).is_pending());
        let third = way.replay.again().unwrap();
        assert!(woken.0.load(Relaxed));
        let error = next(&mut second).await.unwrap().unwrap_err();
        assert_eq!(error, BodyError::Superseded);
        drop(second);
        assert!(way.poll_ended().is_pending());
        drop(third);
        assert_eq!(way.poll_ended(), Poll::Ready(false));
        // Somebody wants it after all.
        let _fourth = way.replay.again().unwrap();
        assert!(way.poll_ended().is_pending());
    })
    .await;
}

/// What a connection has asked for, or waits for, is that connection's: nobody else may read it away.
#[tokio::test(start_paused = true)]
async fn a_body_is_unread_until_somebody_asks_for_it() {
    run(async {
        let mut untouched = Way::new(TEN, "abcdefghij", |_| {}).await;
        let mut own = untouched.replay.unread().unwrap();
        assert_eq!(rest(&mut own).await.0, "abcdefghij");
        assert!(next(&mut untouched.first).await.unwrap().is_err());

        let mut waited_for = Way::new(TEN, "", |_| {}).await;
        let mut cx = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut waited_for.first).poll_frame(&mut cx);
        assert!(polled.is_pending());
        assert!(waited_for.replay.unread().is_none());

        let mut begun = Way::new(TEN, "abc", |_| {}).await;
        data(&mut begun.first).await;
        // Only the bytes tell: hyper may have had them at hand.
        begun.replay.0.borrow_mut().waiting = None;
        assert!(begun.replay.unread().is_none());

        let mut empty = Way::new(CHUNKED, "0\r\n\r\n", |_| {}).await;
        assert!(next(&mut empty.first).await.is_none());
        empty.replay.0.borrow_mut().waiting = None;
        assert!(empty.replay.unread().is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_given_again_with_its_trailers_and_without_what_is_stripped_of_them() {
    run(async {
        let body = "3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\nx-secret: s\r\n\r\n";
        let strip = |rules: &mut BodyRules| {
            rules.strip = Arc::from([HeaderName::from_static("x-secret")]);
        };
        let mut way = Way::new(CHUNKED, body, strip).await;
        let mut first = std::mem::replace(&mut way.first, RequestBody::Empty);
        for turn in 0..3 {
            let (seen, trailers) = rest(&mut first).await;
            assert_eq!(seen, "abcde", "turn {turn}");
            let trailers = trailers.unwrap_or_else(|| panic!("turn {turn}: no trailers"));
            assert_eq!(trailers.len(), 1, "{trailers:?}");
            assert_eq!(trailers["x-sum"], "5");
            assert!(next(&mut first).await.is_none(), "turn {turn}: more");
            first = way.replay.again().unwrap();
            assert!(!first.is_end_stream());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_has_the_length_that_was_announced() {
    run(async {
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        assert_eq!(data(&mut way.first).await, "abc");
        assert_eq!(way.first.size_hint().exact(), Some(7));
        let mut again = way.replay.again().unwrap();
        assert_eq!(again.size_hint().exact(), Some(10));
        assert_eq!(data(&mut again).await, "abc");
        assert_eq!(again.size_hint().exact(), Some(7));
        way.client.write_all(b"defghij").await.unwrap();
        assert_eq!(rest(&mut again).await.0, "defghij");
    })
    .await;
}

/// With the answer there is nothing to keep it for, but for what is still to be sent of a second turn.
#[tokio::test(start_paused = true)]
async fn a_body_is_kept_until_the_answer() {
    run(async {
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        data(&mut way.first).await;
        assert!(way.replay.is_whole());
        way.replay.answered();
        assert!(way.replay.0.borrow().kept.is_none());
        assert!(!way.replay.is_whole() && way.replay.again().is_none());
        way.client.write_all(b"defghij").await.unwrap();
        assert_eq!(rest(&mut way.first).await.0, "defghij");

        let mut twice = Way::new(TEN, "abcdefghij", |_| {}).await;
        data(&mut twice.first).await;
        let mut again = twice.replay.again().unwrap();
        twice.replay.answered();
        assert_eq!(rest(&mut again).await.0, "abcdefghij");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_kept_up_to_the_buffers_size_and_passes_up_to_the_limit() {
    let two = "5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n";
    run(async {
        for (keep, whole) in [(10, true), (9, false), (0, false)] {
            let mut way = Way::new(CHUNKED, two, |r| r.keep = keep).await;
            assert_eq!(rest(&mut way.first).await.0, "abcdefghij");
            assert_eq!(way.replay.is_whole(), whole, "{keep}");
            assert_eq!(way.replay.again().is_some(), whole, "{keep}");
        }
        let mut exact = Way::new(CHUNKED, two, |r| r.limit = Some(10)).await;
        assert_eq!(rest(&mut exact.first).await.0, "abcdefghij");
        assert_eq!(exact.poll_ended(), Poll::Ready(true));

        let mut large = Way::new(CHUNKED, two, |r| r.limit = Some(9)).await;
        assert_eq!(data(&mut large.first).await, "abcde");
        let error = next(&mut large.first).await.unwrap().unwrap_err();
        assert_eq!(error, BodyError::TooLarge);
        assert_eq!(large.replay.failure(), Some(error));
        assert_eq!(large.poll_ended(), Poll::Ready(false));
        assert!(large.replay.again().is_none());
        assert!(large.conn.awaits_body(), "its end was not seen");
    })
    .await;
}

/// Who waits for the end is woken by it, and by what comes in its place.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_is_woken() {
    run(async {
        for (body, limit, whole) in [("abcdefghij", 10, true), ("abcdefghij", 5, false)] {
            let mut way = Way::new(TEN, body, |r| r.limit = Some(limit)).await;
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let waiting = way.replay.poll_ended(&Context::from_waker(&waker));
            assert!(waiting.is_pending());
            assert_eq!(next(&mut way.first).await.unwrap().is_ok(), whole);
            assert!(woken.0.load(Relaxed), "up to {limit}");
            assert_eq!(way.poll_ended(), Poll::Ready(whole));
        }
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let waiting = way.replay.poll_ended(&Context::from_waker(&waker));
        assert!(waiting.is_pending());
        drop(std::mem::replace(&mut way.first, RequestBody::Empty));
        assert!(woken.0.load(Relaxed));
    })
    .await;
}

/// Every byte gives the workload time for the next one; the end begins the wait for the answer, unless it is there.
#[tokio::test(start_paused = true)]
async fn the_deadline_follows_the_body() {
    run(async {
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        assert_eq!(data(&mut way.first).await, "abc");
        assert!(way.conn.awaits_body());
        sleep(IDLE - LATE).await;
        assert!(!way.deadline.is_due());
        way.client.write_all(b"d").await.unwrap();
        assert_eq!(data(&mut way.first).await, "d");
        sleep(IDLE - LATE).await;
        assert!(!way.deadline.is_due());
        sleep(2 * LATE).await;
        assert!(way.deadline.is_due());
        way.client.write_all(b"efghij").await.unwrap();
        assert_eq!(rest(&mut way.first).await.0, "efghij");
        assert!(!way.conn.awaits_body());
        sleep(RESPONSE_HEADER - LATE).await;
        assert!(!way.deadline.is_due());
        sleep(2 * LATE).await;
        assert!(way.deadline.is_due());

        let mut answered = Way::new(TEN, "abc", |_| {}).await;
        data(&mut answered.first).await;
        answered.replay.answered();
        answered.client.write_all(b"defghij").await.unwrap();
        rest(&mut answered.first).await;
        sleep(IDLE - LATE).await;
        assert!(!answered.deadline.is_due());
        sleep(2 * LATE).await;
        assert!(answered.deadline.is_due());
    })
    .await;
}

/// A workload that breaks off ends the body with an error, not with its end.
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_has_failed() {
    run(async {
        let mut way = Way::new(TEN, "abc", |_| {}).await;
        assert_eq!(data(&mut way.first).await, "abc");
        way.client.shutdown().await.unwrap();
        let error = next(&mut way.first).await.unwrap().unwrap_err();
        assert_eq!(error, BodyError::Workload);
        assert_eq!(way.replay.failure(), Some(error));
        assert!(!way.replay.ended());
    })
    .await;
}
