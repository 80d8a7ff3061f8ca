//! Tests of the admin port: the answers, and the server over a real socket.

use http_body_util::BodyExt as _;
use prometheus::IntCounter;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

use super::*;
use crate::listener::{BindOptions, ListenAddr};

const BOUND: Duration = Duration::from_secs(60);

fn admin() -> Admin {
    Admin {
        title: "test-process",
        registry: Registry::new(),
        readiness: Readiness::new(),
        liveness: Liveness::new(),
    }
}

async fn get(admin: &Admin, path: &str, accept: Option<&'static str>) -> (u16, String) {
    let accept = accept.map(HeaderValue::from_static);
    let response = admin.respond(&Method::GET, path, accept.as_ref()).unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn readyz_names_what_is_pending() {
    let admin = admin();
    let expected = "[-] nothing registered\nnot ready\n".to_owned();
    assert_eq!(get(&admin, "/readyz", None).await, (503, expected));
    let file = admin.readiness.register("subject token pod");
    let token = admin.readiness.register("credential arm");
    file.ready();
    token.pending("no token yet");
    let expected =
        "[-] credential arm pending: no token yet\n[+] subject token pod ready\nnot ready\n";
    assert_eq!(
        get(&admin, "/readyz", None).await,
        (503, expected.to_owned())
    );
    token.ready();
    let expected = "[+] credential arm ready\n[+] subject token pod ready\nready\n";
    assert_eq!(
        get(&admin, "/readyz", None).await,
        (200, expected.to_owned())
    );
    admin.readiness.set_draining();
    let (status, text) = get(&admin, "/readyz", None).await;
    assert_eq!(status, 503);
    assert!(text.ends_with("[-] draining\nnot ready\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn readyz_speaks_json_when_asked() {
    let admin = admin();
    let token = admin.readiness.register("credential arm");
    let (status, body) = get(&admin, "/readyz", Some("application/json")).await;
    let mut body: Value = serde_json::from_str(&body).unwrap();
    let since = body["conditions"][0]["since"].take();
    assert!(since.as_str().unwrap().ends_with('Z'), "{since}");
    let condition = json!({ "name": "credential arm", "ready": false, "reason": "starting", "since": null, "until": null, "warning": null });
    let expected = json!({ "ready": false, "draining": false, "conditions": [condition] });
    assert_eq!((status, body), (503, expected));
    token.ready();
    let (status, body) = get(&admin, "/readyz", Some("application/json")).await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""ready":true"#), "{body}");
}

#[tokio::test(start_paused = true)]
async fn startupz_latches_and_livez_names_silence() {
    let admin = admin();
    let token = admin.readiness.register("t");
    let beat = admin.liveness.register("renewer", Duration::from_secs(5));
    assert_eq!(get(&admin, "/startupz", None).await.0, 503);
    token.ready();
    let (status, text) = get(&admin, "/startupz", None).await;
    assert_eq!((status, text.as_str()), (200, "[+] t ready\nstarted\n"));
    token.pending("expired");
    assert_eq!(get(&admin, "/startupz", None).await.0, 200);
    assert_eq!(get(&admin, "/livez", None).await, (200, "alive\n".into()));
    tokio::time::advance(Duration::from_secs(7)).await;
    let expected = "[-] renewer silent for 7 s\nnot alive\n".to_owned();
    assert_eq!(get(&admin, "/livez", None).await, (503, expected));
    let (_, body) = get(&admin, "/livez", Some("application/json")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let silent = json!([{ "name": "renewer", "silent_for_seconds": 7 }]);
    assert_eq!(body, json!({ "alive": false, "silent": silent }));
    beat.beat();
    assert_eq!(get(&admin, "/livez", None).await.0, 200);
}

#[tokio::test]
async fn other_methods_and_paths() {
    let admin = admin();
    let refused = admin.respond(&Method::POST, "/readyz", None).unwrap();
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
    assert!(admin.respond(&Method::GET, "/", None).is_none());
    assert!(admin.respond(&Method::GET, "/metrics/", None).is_none());
}

/// Serves `admin` on loopback; returns its address, the way to stop it, and its end.
fn start(
    admin: Admin,
) -> (
    std::net::SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<(), io::Error>>,
) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&any, BindOptions::default()).unwrap();
    let ListenAddr::Tcp(addr) = listener.local_addr() else {
        panic!("not TCP")
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let served = crate::spawn("admin", async move {
        let stop = async move { drop(stopped.await) };
        admin.serve(listener, stop).await
    });
    (addr, stop, served)
}

async fn exchange(addr: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(BOUND, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn serves_over_a_real_socket_and_stops() {
    let admin = admin();
    let counter = IntCounter::new("test_things_total", "Things.").unwrap();
    admin.registry.register(Box::new(counter.clone())).unwrap();
    counter.inc_by(3);
    let (addr, stop, served) = start(admin);
    let close = "host: x\r\nconnection: close\r\n\r\n";
    let metrics = exchange(addr, &format!("GET /metrics HTTP/1.1\r\n{close}")).await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(
        metrics.ends_with("# TYPE test_things_total counter\ntest_things_total 3\n"),
        "{metrics}"
    );
    let head = exchange(addr, &format!("HEAD /readyz HTTP/1.1\r\n{close}")).await;
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let other = exchange(addr, &format!("GET /secrets HTTP/1.1\r\n{close}")).await;
    assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
    assert!(
        other.ends_with("test-process: /livez /startupz /readyz /metrics\n"),
        "{other}"
    );
    let large = format!(
        "GET /livez HTTP/1.1\r\nx: {}\r\n{close}",
        "y".repeat(20_000)
    );
    assert!(exchange(addr, &large).await.starts_with("HTTP/1.1 431 "));
    // An idle connection does not hold up the end.
    let _idle = TcpStream::connect(addr).await.unwrap();
    stop.send(()).unwrap();
    timeout(BOUND, served).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

/// The clock is paused: it moves only when nothing else can happen, to the one timer there is.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let (addr, _stop, _served) = start(admin());
    let began = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let closed = silent.read(&mut [0; 16]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let took = began.elapsed();
    assert!(
        took >= OPTIONS.header_timeout && took < 2 * OPTIONS.header_timeout,
        "{took:?}"
    );
}

#[tokio::test]
async fn connections_are_bounded() {
    let (addr, _stop, _served) = start(admin());
    let mut held = Vec::new();
    for _ in 0..OPTIONS.max_connections {
        held.push(TcpStream::connect(addr).await.unwrap());
    }
    // One more is not refused: it gets its turn when the silent ones are closed.
    let close = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(exchange(addr, close).await.starts_with("HTTP/1.1 200 "));
}
