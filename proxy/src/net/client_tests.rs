//! The client against small servers on loopback: plain, TLS with a private CA, HTTP/2, a proxy.

use super::*;
use crate::net::raw_server::{RawServer, TestDir, closed, read_request, reply};
use hyper::service::service_fn;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

fn form(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

async fn post(client: &AuthorityClient) -> Result<Reply, ClientError> {
    client.post_form("/t/token?x=1", &[], form("a=b")).await
}

fn plain(server: &RawServer) -> AuthorityClient {
    AuthorityClient::new(&server.url(), None, None).unwrap()
}

/// A certificate for localhost, and the file with its root.
struct Tls {
    dir: TestDir,
    acceptor: TlsAcceptor,
}

impl Tls {
    fn new(alpn: &[&[u8]]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let dir = TestDir::new();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self {
            dir,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

/// Answers every request with what it saw: version, authority, path.
async fn tls_server(tls: &Tls, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls.acceptor.clone();
    tasks.spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that does not trust us leaves.
            let Ok(stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(|request: Request<Incoming>| async move {
                let host = request
                    .headers()
                    .get(HOST)
                    .map(|h| h.to_str().unwrap().to_owned());
                let authority = request.uri().authority().map(ToString::to_string);
                let body = format!(
                    "{:?} {} {}",
                    request.version(),
                    authority.or(host).unwrap(),
                    request.uri().path()
                );
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(body))))
            });
            let io = TokioIo::new(stream);
            let served = if h2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await
            } else {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await
            };
            served.ok();
        }
    });
    address
}

fn https(address: SocketAddr) -> Url {
    Url::parse(&format!("https://localhost:{}/", address.port())).unwrap()
}

#[tokio::test]
async fn a_document_is_got_without_a_form() {
    let server = RawServer::json("{}").await;
    let got = plain(&server).get("/keys?x=1", &[]).await.unwrap();
    assert_eq!((got.status, got.body.as_slice()), (200, &b"{}"[..]));
    let request = server.requests()[0].to_ascii_lowercase();
    assert!(
        request.starts_with("get /keys?x=1 http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("accept: application/json"), "{request}");
    assert!(!request.contains("content-type"), "{request}");
}

#[tokio::test]
async fn a_form_is_posted_and_the_reply_comes_back_whole() {
    let server = RawServer::start(|_| reply("418 I'm a teapot", "Retry-After: 7\r\n", "{}")).await;
    let reply = post(&plain(&server)).await.unwrap();
    assert_eq!(reply.status, 418);
    assert_eq!(reply.headers["retry-after"], "7");
    assert_eq!(&**reply.body, b"{}");
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /t/token?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    for line in [
        format!("host: {}\r\n", server.address),
        "content-type: application/x-www-form-urlencoded\r\n".into(),
        "content-length: 3\r\n".into(),
        "accept: application/json\r\n".into(),
        "\r\n\r\na=b".into(),
    ] {
        assert!(request.contains(&line), "{line:?} is not in {request}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server =
        RawServer::start(|_| reply("307 Temporary Redirect", "Location: /elsewhere\r\n", "")).await;
    assert_eq!(post(&plain(&server)).await.unwrap().status, 307);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_body_is_capped_and_ends_where_it_ends() {
    let server = RawServer::start(|n| match n {
        0 => reply("200 OK", "", &"x".repeat(MAX_BODY)),
        1 => reply("200 OK", "", &"x".repeat(MAX_BODY + 1)),
        2 => [
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            vec![b'x'; 10 * 1024 * 1024],
        ]
        .concat(),
        // Delimited by the end of the connection.
        3 => b"HTTP/1.1 200 OK\r\n\r\n{}".to_vec(),
        // Shorter than announced.
        4 => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".to_vec(),
        5 => vec![],
        _ => b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
    })
    .await;
    let client = plain(&server);
    assert_eq!(post(&client).await.unwrap().body.len(), MAX_BODY);
    for _ in 0..2 {
        assert_eq!(post(&client).await.unwrap_err().code(), "reply_too_large");
    }
    assert_eq!(&**post(&client).await.unwrap().body, b"{}");
    for _ in 0..3 {
        assert_eq!(
            post(&client).await.unwrap_err().code(),
            "http_protocol_error"
        );
    }
}

#[tokio::test]
async fn a_private_ca_is_trusted_when_named_and_alpn_chooses_the_version() {
    for (alpn, version) in [
        (&[&b"h2"[..], b"http/1.1"][..], "HTTP/2.0"),
        (&[b"http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let tls = Tls::new(alpn);
        let mut tasks = JoinSet::new();
        let address = tls_server(&tls, &mut tasks).await;
        let client = AuthorityClient::new(&https(address), Some(&tls.ca_file()), None).unwrap();
        let reply = post(&client).await.unwrap();
        assert_eq!(
            std::str::from_utf8(&reply.body).unwrap(),
            format!("{version} localhost:{} /t/token", address.port())
        );
        // Another CA: refused, and the mend names the key to set.
        let other = Tls::new(&[]);
        let client = AuthorityClient::new(&https(address), Some(&other.ca_file()), None).unwrap();
        let error = post(&client).await.unwrap_err();
        assert_eq!(error.code(), "tls_certificate_error");
        assert!(error.mend().contains("caFile"));
    }
}

#[tokio::test]
async fn a_closed_port_is_named_as_such() {
    let (_held, closed) = closed();
    let url = Url::parse(&format!("http://{closed}/")).unwrap();
    let client = AuthorityClient::new(&url, None, None).unwrap();
    assert_eq!(
        post(&client).await.unwrap_err().code(),
        "connection_refused"
    );
}

/// A proxy that lets CONNECT with the right credentials through to `to`, whatever name is asked for.
async fn proxy(
    to: SocketAddr,
    answer: &'static str,
    tasks: &mut JoinSet<()>,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_request(&mut stream).await;
            record.lock().unwrap().push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains(" 200 ") {
                let mut upstream = TcpStream::connect(to).await.unwrap();
                copy_bidirectional(&mut stream, &mut upstream).await.ok();
            }
        }
    });
    (address, seen)
}

#[tokio::test]
async fn an_authority_is_reached_through_a_proxy_with_credentials() {
    let tls = Tls::new(&[b"h2", b"http/1.1"]);
    let mut tasks = JoinSet::new();
    let to = tls_server(&tls, &mut tasks).await;
    let answer = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";
    let (address, seen) = proxy(to, answer, &mut tasks).await;
    let via = Url::parse(&format!("http://us%40er:p%3Aw@{address}")).unwrap();
    let client = AuthorityClient::new(&https(to), Some(&tls.ca_file()), Some(&via)).unwrap();
    let reply = post(&client).await.unwrap();
    assert!(reply.body.starts_with(b"HTTP/2.0 localhost:"));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    // echo -n 'us@er:p:w' | base64
    assert_eq!(
        seen[0],
        format!(
            "CONNECT localhost:{0} HTTP/1.1\r\nHost: localhost:{0}\r\nProxy-Authorization: Basic dXNAZXI6cDp3\r\n\r\n",
            to.port()
        )
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_what_to_do() {
    for (answer, mend) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "user:password",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "NO_PROXY"),
        ("garbage\r\n\r\n", "HTTPS_PROXY"),
    ] {
        let tls = Tls::new(&[]);
        let mut tasks = JoinSet::new();
        let to = tls_server(&tls, &mut tasks).await;
        let (address, _) = proxy(to, answer, &mut tasks).await;
        let via = Url::parse(&format!("http://user:hunter2@{address}")).unwrap();
        let client = AuthorityClient::new(&https(to), Some(&tls.ca_file()), Some(&via)).unwrap();
        let error = post(&client).await.unwrap_err();
        assert_eq!(error.code(), "proxy_tunnel", "{answer}");
        assert!(error.mend().contains(mend), "{answer}");
        let shown = format!("{client:?} {error} {error:?} {}", error.mend());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_ca_file_that_cannot_be_used_is_an_error_with_its_name() {
    let url = Url::parse("https://login.example.com").unwrap();
    let error =
        AuthorityClient::new(&url, Some(Path::new("/nonexistent/ca.pem")), None).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"));
}
