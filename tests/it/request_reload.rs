//! Configurations that change, and processes that stop, while many requests are on their way.

use crate::{
    lab::{Lab, assert_passes, start},
    request_lab::{config, plain_upstream, ready, route},
};
use harness::{
    body,
    client::{Client, Connected},
    ports,
    process::Sidecar,
    raw::Raw,
    upstream::Upstream,
    wait::{LONG, until, within},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// Answers that are being streamed.
struct Streams(Vec<(Connected, Response<Incoming>)>);

impl Streams {
    /// `n` connections, each with an answer of 40 bytes, one every 100 ms.
    async fn open(client: &Client, n: usize) -> Self {
        let mut streams = vec![];
        for _ in 0..n {
            let mut connection = client.connect().await.unwrap();
            let request = Request::get("/slow-body?n=40&ms=100")
                .body(body::empty())
                .unwrap();
            let response = connection.start(request).await.unwrap();
            assert_eq!(response.status(), 200);
            streams.push((connection, response));
        }
        Self(streams)
    }

    /// Every one of them comes to its end, whole.
    async fn finish(self) {
        for (connection, response) in self.0 {
            let body = within(LONG, "a stream to end", response.into_body().collect())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(body.to_bytes().len(), 40);
            drop(connection);
        }
    }
}

/// Requests one after the other over connections that stay, and over new ones.
struct Flow {
    stop: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Flow {
    fn start(client: &Client) -> Self {
        let (stop, passed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for kind in 0..6 {
            let client = if kind % 3 == 2 {
                client.clone().http2()
            } else {
                client.clone()
            };
            let (stop, passed) = (Arc::clone(&stop), Arc::clone(&passed));
            tasks.spawn(async move {
                let mut failures = vec![];
                let mut kept: Option<Connected> = None;
                while !stop.load(Ordering::SeqCst) {
                    let request = Request::post("/echo").body(body::full("abc")).unwrap();
                    let answer = if kind % 3 == 0 {
                        client.send(request).await
                    } else {
                        let connection = match &mut kept {
                            Some(connection) => connection,
                            None => kept.insert(client.connect().await.unwrap()),
                        };
                        connection.send(request).await
                    };
                    match answer {
                        Ok(answer) if answer.status == 200 => {
                            passed.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
                        Err(error) => failures.push(error.to_string()),
                    }
                    if failures.len() > 5 {
                        break;
                    }
                }
                failures
            });
        }
        Self {
            stop,
            passed,
            tasks,
        }
    }

    async fn more(&self) {
        let seen = self.passed.load(Ordering::SeqCst);
        until("the flow to go on", || {
            self.passed.load(Ordering::SeqCst) > seen + 30
        })
        .await
        .unwrap();
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let mut failures = vec![];
        while let Some(done) = self.tasks.join_next().await {
            failures.extend(done.unwrap());
        }
        assert!(failures.is_empty(), "{failures:?}");
    }
}

async fn reloads(sidecar: &Sidecar, result: &str, count: f64) {
    sidecar
        .metric(&format!("{count} reloads with result {result}"), |m| {
            m.value("token_sidecar_config_reloads_total", &[("result", result)])
                .is_some_and(|n| n >= count)
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_configuration_drops_nothing_and_a_bad_one_changes_nothing() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let text = |more: &str| config("", &[route(&upstream.url(), more)]);
    let sidecar = ready(&lab, text("")).await;
    let streams = Streams::open(&sidecar.client(), 150).await;
    let http2 = Streams::open(&sidecar.client().http2(), 50).await;
    let flow = Flow::start(&sidecar.client());
    flow.more().await;
    // Each changes the pool or the route; the last one is the first one again. The start counts as one.
    for (i, more) in [
        ", pool: { maxIdle: 3 }",
        ", replayBuffer: 1KiB",
        ", http: '1'",
        "",
    ]
    .iter()
    .enumerate()
    {
        sidecar.write_config(&text(more)).unwrap();
        reloads(&sidecar, "success", (i + 2) as f64).await;
        flow.more().await;
    }
    for (i, bad) in [
        text("").replace("credential: backend", "credential: nobody"),
        "{ not yaml".to_owned(),
        text(", upstreamCaFile: /nowhere"),
    ]
    .iter()
    .enumerate()
    {
        sidecar.write_config(bad).unwrap();
        reloads(&sidecar, "failure", (i + 1) as f64).await;
        flow.more().await;
    }
    sidecar.process.logged("nobody").await.unwrap();
    streams.finish().await;
    http2.finish().await;
    flow.end().await;
    assert_eq!(lab.authority.issued().len(), 1, "the token is kept");
}

#[tokio::test]
async fn routes_and_listeners_come_and_go() {
    let lab = Lab::new().await;
    let (first, second) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    let other = ports::free().unwrap();
    let one = config("", &[route(&first.url(), "")]);
    let two = config(
        "",
        &[
            route(&first.url(), ""),
            format!(
                "name: more, match: {{ pathPrefix: /users }}, upstream: '{}'",
                second.url()
            ),
            format!(
                "name: other, listen: '{other}', upstream: '{}'",
                second.url()
            ),
        ],
    );
    let sidecar = ready(&lab, one.clone()).await;
    assert!(std::net::TcpStream::connect(other).is_err());
    // A connection from before uses the routes of now.
    let mut kept = sidecar.client().connect().await.unwrap();
    let get = || Request::get("/users/1").body(body::empty()).unwrap();
    assert_eq!(kept.send(get()).await.unwrap().status, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
    sidecar.write_config(&two).unwrap();
    reloads(&sidecar, "success", 2.0).await;
    assert_eq!(kept.send(get()).await.unwrap().status, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    assert_eq!(
        Client::new(other).get("/users/1").await.unwrap().status,
        200
    );
    assert_eq!(second.requests().len(), 2);
    let names = |text: &str| text.contains("route=\"more\"") && text.contains("route=\"other\"");
    assert!(names(&sidecar.metrics().await.unwrap().0));

    // What is in flight on a listener that goes finishes; its idle connections are closed, and nobody is let in.
    let streams = Streams::open(&Client::new(other), 3).await;
    let mut idle = Raw::connect(other).await.unwrap();
    idle.send("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(idle.answer().await.unwrap().status(), 200);
    sidecar.write_config(&one).unwrap();
    reloads(&sidecar, "success", 3.0).await;
    until("the listener to be gone", || {
        std::net::TcpStream::connect(other).is_err()
    })
    .await
    .unwrap();
    assert!(idle.closes_within(LONG).await);
    streams.finish().await;
    let before = first.requests().len();
    assert_eq!(kept.send(get()).await.unwrap().status, 200);
    assert_eq!(first.requests().len(), before + 1);
    let metrics = sidecar.metrics().await.unwrap();
    assert!(!metrics.0.contains("route=\"more\""), "{}", metrics.0);
}

/// A route that moves to another upstream, or trusts other roots, uses no connection of before.
#[tokio::test]
async fn a_changed_upstream_gets_new_connections() {
    let lab = Lab::new().await;
    let (first, second) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    let sidecar = ready(&lab, config("workers: 1", &[route(&first.url(), "")])).await;
    assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
    assert_eq!(first.open_connections(), 1);
    sidecar
        .write_config(&config("workers: 1", &[route(&second.url(), "")]))
        .unwrap();
    reloads(&sidecar, "success", 2.0).await;
    assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    until("the idle connection to be closed", || {
        first.open_connections() == 0
    })
    .await
    .unwrap();
    sidecar
        .metric("the gauge to say so", |m| {
            m.value("token_sidecar_upstream_connections", &[]) == Some(1.0)
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_in_flight_finish_after_sigterm() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let top = "shutdown: { delay: 1s, deadline: 60s }";
    let mut sidecar = ready(&lab, config(top, &[route(&upstream.url(), "")])).await;
    let streams = Streams::open(&sidecar.client(), 150).await;
    let http2 = Streams::open(&sidecar.client().http2(), 50).await;
    let mut idle = Raw::connect(sidecar.listen()).await.unwrap();
    idle.send("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(idle.answer().await.unwrap().status(), 200);
    let mut silent = Raw::connect(sidecar.listen()).await.unwrap();
    silent.send("GET /us").await.unwrap();
    let mut preface = Raw::connect(sidecar.listen()).await.unwrap();
    preface
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    sidecar.process.signal(Signal::TERM).unwrap();
    sidecar.pending("draining").await.unwrap();
    until("the listener to close", || {
        std::net::TcpStream::connect(sidecar.listen()).is_err()
    })
    .await
    .unwrap();
    assert!(idle.closes_within(LONG).await, "an idle connection");
    assert!(silent.closes_within(LONG).await, "half a header section");
    assert!(
        preface.closes_within(LONG).await,
        "HTTP/2 that never begins"
    );
    streams.finish().await;
    http2.finish().await;
    assert_eq!(
        within(LONG, "the end", sidecar.process.wait())
            .await
            .unwrap()
            .unwrap()
            .code(),
        Some(0)
    );
    assert!(
        sidecar
            .process
            .output()
            .contains("every request in flight has finished"),
        "{}",
        sidecar.process.output()
    );
}

#[tokio::test]
async fn the_deadline_cuts_http2_and_tunnels_too() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let top = "shutdown: { delay: 0s, deadline: 1s }";
    let mut sidecar = ready(&lab, config(top, &[route(&upstream.url(), "")])).await;
    let mut connection = sidecar.client().http2().connect().await.unwrap();
    let request = Request::get("/slow-body?n=100000&ms=100")
        .body(body::empty())
        .unwrap();
    let response = connection.start(request).await.unwrap();
    let mut tunnel = Raw::connect(sidecar.listen()).await.unwrap();
    tunnel
        .send("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(tunnel.answer().await.unwrap().status(), 101);
    sidecar.process.signal(Signal::TERM).unwrap();
    let end = within(LONG, "the stream to break", response.into_body().collect())
        .await
        .unwrap();
    assert!(end.is_err(), "a clean end");
    assert!(tunnel.closes_within(LONG).await);
    assert_eq!(sidecar.process.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_aborts_with_its_own_code() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let lab = Lab::new().await;
        let upstream = plain_upstream(&lab).await;
        let top = "shutdown: { delay: 0s, deadline: 10m }";
        let mut sidecar = ready(&lab, config(top, &[route(&upstream.url(), "")])).await;
        let streams = Streams::open(&sidecar.client(), 3).await;
        sidecar.process.signal(Signal::TERM).unwrap();
        until("the listener to close", || {
            std::net::TcpStream::connect(sidecar.listen()).is_err()
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        sidecar.process.signal(second).unwrap();
        assert_eq!(sidecar.process.wait().await.unwrap().code(), Some(code));
        for (_connection, response) in streams.0 {
            assert!(response.into_body().collect().await.is_err(), "a clean end");
        }
    }
}

/// Upstreams whose URLs are variables' values: these stay what they were at the start, for a file that names one later, too.
#[tokio::test]
async fn variables_that_upstreams_come_from_are_there_for_every_reload() {
    let lab = Lab::new().await;
    let (a, b) = (plain_upstream(&lab).await, plain_upstream(&lab).await);
    let text = |name: &str, more: &str| {
        let route =
            format!("name: backend, upstream: {{ env: TOKEN_SIDECAR_UPSTREAM_{name} }}{more}");
        config("", &[route])
    };
    let setup = lab
        .aks()
        .config(text("A", ""))
        .env("TOKEN_SIDECAR_UPSTREAM_A", format!("{}\n", a.url()))
        .env("TOKEN_SIDECAR_UPSTREAM_B", b.url());
    let sidecar = start(&setup).await;
    sidecar.ready().await.unwrap();
    let served = async |by: &Upstream| {
        let before = by.requests().len();
        assert_passes(&sidecar).await;
        assert_eq!(by.requests().len(), before + 1);
    };
    served(&a).await;
    sidecar
        .write_config(&text("A", ", replayBuffer: 1KiB"))
        .unwrap();
    reloads(&sidecar, "success", 2.0).await;
    served(&a).await;
    sidecar.write_config(&text("B", "")).unwrap();
    reloads(&sidecar, "success", 3.0).await;
    served(&b).await;
    sidecar.write_config(&text("C", "")).unwrap();
    reloads(&sidecar, "failure", 1.0).await;
    let told = "routes[0].upstream.env: TOKEN_SIDECAR_UPSTREAM_C is not set";
    sidecar.process.logged(told).await.unwrap();
    served(&b).await;
}
