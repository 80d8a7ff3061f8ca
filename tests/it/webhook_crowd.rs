//! Whoever reaches the webhook can keep nobody from being answered: announced bytes, idle connections, silence. In process, with small limits that
//! nothing but what is tested can end.

use crate::webhook_lab::{certify, recorded, samples};
use harness::{
    body,
    certs::{Alpn, Ca},
    client::{Answer, Client},
    temp::TempDir,
    wait::within,
};
use http::Request;
use prometheus::{Registry, TextEncoder};
use rustls::ClientConfig;
use sidecar_runtime::{
    listener::{BindOptions, ListenAddr, Listener},
    shutdown::{DrainTrigger, drain},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use token_sidecar::{
    admission::webhook::{Limits, Webhook, serve},
    config::{
        Document,
        profiles::{check, load_profiles},
    },
    metrics::admission::AdmissionMetrics,
    net::tls_server::ServingCertificate,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const HOUR: Duration = Duration::from_secs(3600);

/// Nothing ends by itself.
fn patient() -> Limits {
    Limits {
        first_request: HOUR,
        piece: HOUR,
        review: HOUR,
        answer: HOUR,
        ..Limits::default()
    }
}

/// A webhook in this process.
struct Served {
    ca: Ca,
    config: Arc<ClientConfig>,
    address: SocketAddr,
    registry: Registry,
    _dir: TempDir,
    _trigger: DrainTrigger,
}

impl Served {
    fn with(limits: Limits) -> Self {
        let (ca, dir) = (
            Ca::new().unwrap(),
            TempDir::new("token-sidecar-crowd").unwrap(),
        );
        certify(&ca, dir.path());
        let certificate =
            ServingCertificate::load(&dir.join("tls.crt"), &dir.join("tls.key")).unwrap();
        let registry = Registry::new();
        let profiles = load_profiles(Document::File(samples().join("profiles.yaml"))).unwrap();
        let metrics = AdmissionMetrics::register(&registry).unwrap();
        let webhook = Webhook::new(profiles, Box::new(check), None, metrics);
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&any, BindOptions::default()).unwrap();
        let ListenAddr::Tcp(address) = listener.local_addr() else {
            panic!("not TCP")
        };
        let (trigger, watch) = drain();
        drop(sidecar_runtime::spawn(
            "webhook",
            serve(
                listener.into_tokio().unwrap(),
                certificate.server_config().unwrap(),
                Arc::new(webhook),
                limits,
                watch,
            ),
        ));
        Self {
            config: ca.client(Alpn::Http1).unwrap(),
            ca,
            address,
            registry,
            _dir: dir,
            _trigger: trigger,
        }
    }

    /// A review, on a connection of its own.
    async fn reviewed(&self) -> Answer {
        let request = Request::post("/mutate").header("content-type", "application/json");
        let review = recorded("deployment").to_string();
        let client = Client::new(self.address).tls(&self.ca).unwrap();
        client
            .send(request.body(body::full(review)).unwrap())
            .await
            .unwrap()
    }

    /// Another pod's connection, from another address.
    async fn from(&self, source: &str) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        TlsConnector::from(Arc::clone(&self.config))
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }

    fn closed(&self, reason: &str) -> String {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let series =
            format!("token_sidecar_admission_connections_closed_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|l| l.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    }
}

/// What still comes until the connection ends.
async fn ended(what: &str, stream: &mut TlsStream<TcpStream>) -> String {
    within(Duration::from_secs(30), what, async {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        String::from_utf8_lossy(&rest).into_owned()
    })
    .await
    .unwrap()
}

/// Linux has all of 127.0.0.0/8 on loopback.
const STRANGER: &str = "127.0.0.2";

#[tokio::test]
async fn what_is_announced_takes_no_room() {
    let served = Served::with(patient());
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8388608\r\n\r\n{";
    let mut announcing = Vec::new();
    for i in 0..9 {
        // One address alone could not take all, whatever was announced.
        let mut stream = served.from(["127.0.0.2", "127.0.0.3"][i % 2]).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        announcing.push(stream);
    }
    assert_eq!(served.reviewed().await.status, 200);
}

#[tokio::test]
async fn idle_connections_make_room() {
    let served = Served::with(Limits {
        connections: 4,
        connections_of_one: 3,
        ..patient()
    });
    let mut idle = vec![
        served.from(STRANGER).await,
        served.from(STRANGER).await,
        served.from(STRANGER).await,
        served.from("127.0.0.3").await,
    ];
    // All places are taken: who has the most gives one away, the oldest first.
    assert_eq!(served.reviewed().await.status, 200);
    assert_eq!(ended("the oldest to be closed", &mut idle[0]).await, "");
    assert_eq!(served.closed("crowded"), "1");
    // The review's own connection is gone by now, or goes as well as another: whoever comes is served.
    for _ in 0..8 {
        assert_eq!(served.reviewed().await.status, 200);
    }
    // A fourth of one address is at that address' own expense.
    idle.push(served.from(STRANGER).await);
    idle.push(served.from(STRANGER).await);
    assert_eq!(ended("the next to be closed", &mut idle[1]).await, "");
}

#[tokio::test]
async fn silence_is_short() {
    let served = Served::with(Limits {
        // Long enough for a handshake and a request on a busy machine.
        first_request: Duration::from_secs(3),
        ..patient()
    });
    let mut asked = Client::new(served.address)
        .tls(&served.ca)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let ask = || Request::get("/").body(body::full("")).unwrap();
    assert_eq!(asked.send(ask()).await.unwrap().status, 404);
    // With TLS and without; what has asked once may idle.
    let mut silent = served.from(STRANGER).await;
    let mut raw = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(ended("silence to be ended", &mut silent).await, "");
    let mut rest = Vec::new();
    within(
        Duration::from_secs(30),
        "the handshake to be given up",
        raw.read_to_end(&mut rest),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(served.closed("silent"), "2");
    assert_eq!(asked.send(ask()).await.unwrap().status, 404);
}

#[tokio::test]
async fn a_review_that_stops_coming_is_ended() {
    let served = Served::with(Limits {
        piece: Duration::from_millis(100),
        ..patient()
    });
    let mut stream = served.from(STRANGER).await;
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = ended("the answer", &mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.ends_with("did not come in time\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn many_values_in_few_bytes_are_refused() {
    let served = Served::with(patient());
    let mut stream = served.from(STRANGER).await;
    let body = format!("[{}0]", "0,".repeat(500_000));
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = ended("the answer", &mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.ends_with("more than 500000 values\n"),
        "{answer}"
    );
}

/// What is refused before it is read: with a body that does not come the end of the connection is announced, and a large one does not cost the answer.
#[tokio::test]
async fn a_body_that_is_left_unread_ends_the_connection_and_the_answer_says_so() {
    let served = Served::with(patient());
    let large = vec![b'x'; 9 << 20];
    let framed = |framing: &str, comes: &[u8]| (framing.to_owned(), comes.to_owned());
    for (status, head) in [
        ("404", "POST /other HTTP/1.1\r\nhost: x\r\n"),
        ("405", "PUT /mutate HTTP/1.1\r\nhost: x\r\n"),
        ("415", "POST /mutate HTTP/1.1\r\nhost: x\r\n"),
        (
            "413",
            "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n",
        ),
    ] {
        for (framing, comes) in [
            framed("content-length: 9437184\r\n\r\n", &large),
            framed("transfer-encoding: chunked\r\n\r\n900000\r\n", &large),
            framed("content-length: 9437184\r\n\r\n", b""),
            framed(
                "content-length: 9437184\r\nexpect: 100-continue\r\n\r\n",
                b"",
            ),
        ] {
            let mut stream = served.from(STRANGER).await;
            stream
                .write_all(format!("{head}{framing}").as_bytes())
                .await
                .unwrap();
            stream.write_all(&comes).await.unwrap();
            stream.flush().await.unwrap();
            let answer = ended("the answer", &mut stream).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} "))
                    && answer.contains("\r\nconnection: close\r\n"),
                "{framing}: {answer}"
            );
        }
    }
    // What has come in whole costs nothing.
    let mut stream = served.from(STRANGER).await;
    let refused = "PUT /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let last = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream
        .write_all(format!("{refused}{refused}{last}").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    let answers = ended("the answers", &mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 405 ").count(), 2, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 1, "{answers}");
}
