//! Start, reload and stop of the real process: exit codes, drains, configurations that change under load.

use crate::lab::{Lab, assert_passes, program, start};
use harness::{
    authority::{Endpoint, Fault},
    body,
    client::Client,
    process::Sidecar,
    raw::Raw,
    wait::{until, within},
};
use http::Request;
use http_body_util::BodyExt;
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_bad_configuration_is_explained_whole_and_nothing_starts() {
    let lab = Lab::new().await;
    let config = lab
        .config()
        .replace("credential: backend", "credential: bakend")
        + "workres: 2\n";
    let mut sidecar = Sidecar::spawn(program(), &lab.aks().config(config)).unwrap();
    let status = sidecar.process.wait().await.unwrap();
    assert_eq!(status.code(), Some(64));
    until("both errors to be said", || {
        let output = sidecar.process.output();
        output.contains("bakend") && output.contains("workres")
    })
    .await
    .unwrap();
    assert!(lab.authority.requests().is_empty());
}

#[tokio::test]
async fn an_address_in_use_is_named_and_ends_the_start() {
    let lab = Lab::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = lab.config().replace("{listen}", &address.to_string());
    let mut sidecar = Sidecar::spawn(program(), &lab.aks().config(config)).unwrap();
    let status = sidecar.process.wait().await.unwrap();
    assert_eq!(status.code(), Some(71));
    until("the address to be named", || {
        sidecar.process.output().contains(&address.to_string())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_second_sidecar_on_the_same_port_is_refused() {
    let lab = Lab::new().await;
    let first = lab.ready_sidecar().await;
    let config = lab
        .config()
        .replace("{listen}", &first.listen().to_string());
    let mut second = Sidecar::spawn(program(), &lab.aks().config(config)).unwrap();
    assert_eq!(
        second.process.wait().await.unwrap().code(),
        Some(71),
        "{}",
        second.process.output()
    );
    assert_passes(&first).await;
}

/// Requests one after the other on several connections until told to stop; counts what did not get 200.
struct Load {
    stop: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (stop, passed, failed) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicUsize>::default(),
            Arc::<std::sync::Mutex<Vec<String>>>::default(),
        );
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (client, stop, passed, failed) = (
                client.clone(),
                Arc::clone(&stop),
                Arc::clone(&passed),
                Arc::clone(&failed),
            );
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    match client.get("/users/1").await {
                        Ok(answer) if answer.status == 200 => {
                            passed.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => failed.lock().unwrap().push(format!(
                            "{} {}",
                            answer.status,
                            answer.text()
                        )),
                        Err(error) => failed.lock().unwrap().push(error.to_string()),
                    }
                }
            });
        }
        Self {
            stop,
            passed,
            failed,
            tasks,
        }
    }

    async fn more(&self) {
        let seen = self.passed.load(Ordering::SeqCst);
        until("the load to go on", || {
            self.passed.load(Ordering::SeqCst) > seen + 20
        })
        .await
        .unwrap();
    }

    async fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.is_some() {}
        let failed = self.failed.lock().unwrap();
        failed.clone()
    }
}

/// How many reloads ended in this way so far (the start counts as one that succeeded).
async fn reloads(sidecar: &Sidecar, result: &str) -> f64 {
    let metrics = sidecar.metrics().await.unwrap();
    metrics
        .value(RELOADS, &[("result", result)])
        .unwrap_or_default()
}

/// Does something that makes the sidecar read its configuration anew, and waits until that has ended in this way.
pub(crate) async fn reload(sidecar: &Sidecar, result: &str, cause: impl FnOnce()) {
    let before = reloads(sidecar, result).await;
    cause();
    sidecar
        .metric(&format!("a reload with result {result}"), |metrics| {
            metrics
                .value(RELOADS, &[("result", result)])
                .is_some_and(|count| count > before)
        })
        .await
        .unwrap();
}

const RELOADS: &str = "token_sidecar_config_reloads_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_configuration_takes_over_and_drops_no_request() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    let load = Load::start(&sidecar.client());
    load.more().await;

    let more = |name: &str| {
        lab.config()
            + &format!(
                "  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: backend }}\n",
                lab.upstream.url()
            )
    };
    // By the file's change …
    reload(&sidecar, "success", || {
        sidecar.write_config(&more("status")).unwrap()
    })
    .await;
    let by_route = |metrics: &harness::process::Metrics, route: &str| {
        metrics
            .value("token_sidecar_requests_total", &[("route", route)])
            .unwrap_or(0.0)
    };
    assert_eq!(
        sidecar.client().get("/status/204").await.unwrap().status,
        204
    );
    assert_eq!(
        by_route(&sidecar.metrics().await.unwrap(), "status"),
        1.0,
        "the new route serves"
    );
    load.more().await;

    // … and by SIGHUP.
    reload(&sidecar, "success", || {
        sidecar.process.signal(Signal::HUP).unwrap()
    })
    .await;
    load.more().await;
    assert_eq!(load.end().await, Vec::<String>::new());
    assert_eq!(
        lab.authority.issued().len(),
        1,
        "an unchanged credential keeps its token"
    );
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_says_why() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    let bad = lab.config() + "workres: 2\n";
    reload(&sidecar, "failure", || sidecar.write_config(&bad).unwrap()).await;
    sidecar.process.logged("workres").await.unwrap();
    assert_passes(&sidecar).await;
    reload(&sidecar, "success", || {
        sidecar.write_config(&lab.config()).unwrap();
        sidecar.process.signal(Signal::HUP).unwrap();
    })
    .await;
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn a_reload_starts_new_credentials_and_stops_old_ones() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    let other = lab
        .config()
        .replace("backend: {", "other: {")
        .replace("credential: backend", "credential: other");
    reload(&sidecar, "success", || {
        sidecar.write_config(&other).unwrap()
    })
    .await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 2);
    let ready = sidecar.admin_get("/readyz").await.unwrap().text();
    assert!(
        ready.contains("other") && !ready.contains("credential backend"),
        "{ready}"
    );
    let metrics = sidecar.metrics().await.unwrap();
    assert_eq!(
        metrics.value(
            "token_sidecar_issued_token_expiry_timestamp_seconds",
            &[("credential", "backend")]
        ),
        None
    );
}

#[tokio::test]
async fn a_reload_keeps_the_token_that_stays_the_same() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    lab.authority
        .fail_always(Endpoint::Entra, Fault::status(500));
    let in_another_way = lab
        .config()
        .replace("backend: {", "backend: { exchangeTimeout: 7s,");
    reload(&sidecar, "success", || {
        sidecar.write_config(&in_another_way).unwrap()
    })
    .await;
    // Passes before, while and after the exchange fails.
    until("an exchange in the new way", || {
        lab.authority.requests().len() >= 2
    })
    .await
    .unwrap();
    assert_passes(&sidecar).await;
    sidecar.ready().await.unwrap();
    assert_eq!(lab.authority.issued().len(), 1);
    assert!(
        !sidecar
            .process
            .output()
            .contains("requests wait for its first exchange")
    );
}

#[tokio::test]
async fn sigterm_lets_a_request_finish_and_refuses_new_ones() {
    let lab = Lab::new().await;
    let config = lab.config() + "shutdown: { delay: 0s, deadline: 30s }\n";
    let mut sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let mut connection = sidecar.client().connect().await.unwrap();
    let streaming = connection
        .start(
            Request::get("/slow-body?n=20&ms=100")
                .body(body::empty())
                .unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(streaming.status(), 200);
    sidecar.process.signal(Signal::TERM).unwrap();
    until("new connections to be refused", || {
        std::net::TcpStream::connect(sidecar.listen()).is_err()
    })
    .await
    .unwrap();
    let body = within(
        Duration::from_secs(30),
        "the stream to end",
        streaming.into_body().collect(),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(body.to_bytes().len(), 20, "what was in flight finished");
    drop(connection);
    assert_eq!(
        sidecar.process.wait().await.unwrap().code(),
        Some(0),
        "{}",
        sidecar.process.output()
    );
}

/// A request that had begun to come in is answered, with the reason; the connection ends then.
#[tokio::test]
async fn a_request_that_comes_while_draining_is_told_so() {
    let lab = Lab::new().await;
    let config = lab.config() + "workers: 1\nshutdown: { delay: 0s, deadline: 30s }\n";
    let mut sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
    raw.send("GET /users/1 HTTP/1.1\r\nHost: loc")
        .await
        .unwrap();
    // The one worker has seen those bytes when it has answered what came after them.
    assert_passes(&sidecar).await;
    sidecar.process.signal(Signal::TERM).unwrap();
    until("new connections to be refused", || {
        std::net::TcpStream::connect(sidecar.listen()).is_err()
    })
    .await
    .unwrap();
    raw.send("alhost\r\n\r\n").await.unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status(), 503, "{}", answer.head);
    assert_eq!(answer.headers("retry-after"), ["1"]);
    assert_eq!(answer.headers("connection"), ["close"]);
    assert!(
        answer.text().contains("\"reason\":\"draining\""),
        "{}",
        answer.text()
    );
    assert!(raw.rest().await.unwrap().is_empty());
    assert_eq!(lab.upstream.requests().len(), 1, "something left");
    assert_eq!(sidecar.process.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn readiness_falls_before_the_listeners_close() {
    let lab = Lab::new().await;
    let config = lab.config() + "shutdown: { delay: 60s, deadline: 1s }\n";
    let mut sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    sidecar.process.signal(Signal::TERM).unwrap();
    sidecar.pending("draining").await.unwrap();
    assert_passes(&sidecar).await;
    sidecar.process.signal(Signal::TERM).unwrap();
    let status = sidecar.process.wait().await.unwrap();
    assert_eq!(
        status.code(),
        Some(143),
        "a second signal aborts: {}",
        sidecar.process.output()
    );
}

#[tokio::test]
async fn a_request_that_outlives_the_deadline_is_cut() {
    let lab = Lab::new().await;
    let config = lab.config() + "shutdown: { delay: 0s, deadline: 200ms }\n";
    let mut sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
    raw.send("GET /slow-body?n=100000&ms=100 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    raw.bytes(12).await.unwrap();
    sidecar.process.signal(Signal::TERM).unwrap();
    let status = sidecar.process.wait().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", sidecar.process.output());
    let rest = raw.rest().await.unwrap();
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "cut, not ended as if it were whole"
    );
}
