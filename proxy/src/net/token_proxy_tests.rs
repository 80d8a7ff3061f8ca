//! The token proxy's client against a TLS server on loopback that is known by another name than its address.

use super::*;
use crate::net::raw_server::{TestDir, read_request, reply};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor};

const NAME: &str = "abc.ests.aks";

/// A certificate for one name that is its own root.
struct Identity {
    pem: String,
    server: Arc<ServerConfig>,
}

impl Identity {
    fn of(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
        Self {
            pem: cert.pem(),
            server: Arc::new(server),
        }
    }
}

/// A server name and the request that came under it.
type Seen = (Option<String>, String);

/// A proxy that records what it sees.
struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let config = Arc::new(Mutex::new(Arc::clone(&identity.server)));
        let (record, configured) = (Arc::clone(&seen), Arc::clone(&config));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(hello) = LazyConfigAcceptor::new(Acceptor::default(), tcp).await else {
                    continue;
                };
                let name = hello.client_hello().server_name().map(str::to_owned);
                let config = Arc::clone(&configured.lock().unwrap());
                // A client that does not trust us leaves.
                let Ok(mut stream) = hello.into_stream(config).await else {
                    continue;
                };
                let request = read_request(&mut stream).await;
                record.lock().unwrap().push((name, request));
                let answer = reply("307 Temporary Redirect", "Location: /elsewhere\r\n", "{}");
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self {
            address,
            seen,
            config,
            _tasks: tasks,
        }
    }

    fn client(&self, path: &str, server_name: Option<&str>, roots: Roots) -> TokenProxy {
        TokenProxy::new(TokenProxyParams {
            url: Url::parse(&format!("https://{}{path}", self.address)).unwrap(),
            server_name: server_name.map(str::to_owned),
            roots,
        })
        .unwrap()
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn post(client: &TokenProxy) -> Result<Reply, ClientError> {
    let body = Zeroizing::new(b"a=b".to_vec());
    client
        .post_form("/tenant/oauth2/v2.0/token", &[], body)
        .await
}

#[tokio::test]
async fn the_server_name_is_its_own_and_the_host_is_the_proxys() {
    let identity = Identity::of(NAME);
    let proxy = Proxy::start(&identity).await;
    for (path, before) in [("", ""), ("/", ""), ("/proxy/", "/proxy")] {
        let client = proxy.client(path, Some(NAME), Roots::Pem(identity.pem.clone()));
        let answer = post(&client).await.unwrap();
        assert_eq!(answer.status, 307, "a redirect is an answer like any other");
        let (name, request) = proxy.seen.lock().unwrap().pop().unwrap();
        assert_eq!(name.as_deref(), Some(NAME));
        assert!(
            request.starts_with(&format!(
                "POST {before}/tenant/oauth2/v2.0/token HTTP/1.1\r\n"
            )),
            "{request}"
        );
        assert!(
            request.contains(&format!("host: {}\r\n", proxy.address)),
            "{request}"
        );
        assert_eq!(proxy.requests(), 0, "the redirect is not followed");
    }
}

#[tokio::test]
async fn only_its_own_roots_and_its_own_name_are_trusted() {
    let (identity, other) = (Identity::of(NAME), Identity::of(NAME));
    let proxy = Proxy::start(&identity).await;
    for (name, roots) in [
        (NAME, Roots::Pem(other.pem.clone())),
        (NAME, Roots::System),
        ("other.ests.aks", Roots::Pem(identity.pem.clone())),
    ] {
        let error = post(&proxy.client("", Some(name), roots))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "tls_certificate_error", "{name}");
    }
    // Without a name of its own, the certificate must be for the address.
    let error = post(&proxy.client("", None, Roots::Pem(identity.pem.clone())))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "tls_certificate_error");
    assert_eq!(proxy.requests(), 0, "nothing was sent");
    let by_address = Identity::of("127.0.0.1");
    *proxy.config.lock().unwrap() = Arc::clone(&by_address.server);
    post(&proxy.client("", None, Roots::Pem(by_address.pem)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rotated_roots_file_is_seen_at_the_next_request_and_an_empty_one_keeps_the_old() {
    let (first, second) = (Identity::of(NAME), Identity::of(NAME));
    let proxy = Proxy::start(&first).await;
    let dir = TestDir::new();
    let file = dir.path().join("ca.crt");
    // It may come later than we do.
    let client = proxy.client("", Some(NAME), Roots::File(file.clone()));
    let error = post(&client).await.unwrap_err();
    assert_eq!(error.code(), "tls_setup");
    assert!(error.to_string().contains("ca.crt"), "{error}");
    fs::write(&file, "").unwrap();
    assert_eq!(post(&client).await.unwrap_err().code(), "tls_setup");
    fs::write(&file, &first.pem).unwrap();
    post(&client).await.unwrap();

    fs::write(&file, "\n").unwrap();
    post(&client).await.unwrap();
    assert_eq!(proxy.requests(), 2);

    *proxy.config.lock().unwrap() = Arc::clone(&second.server);
    assert_eq!(
        post(&client).await.unwrap_err().code(),
        "tls_certificate_error"
    );
    fs::write(&file, &second.pem).unwrap();
    post(&client).await.unwrap();
    // The old roots are not trusted beside the new ones.
    *proxy.config.lock().unwrap() = Arc::clone(&first.server);
    assert_eq!(
        post(&client).await.unwrap_err().code(),
        "tls_certificate_error"
    );
    fs::write(&file, "garbage").unwrap();
    assert_eq!(post(&client).await.unwrap_err().code(), "tls_setup");
}

#[test]
fn what_can_be_judged_at_once_is_refused_at_once() {
    let params = |roots, name: Option<&str>| TokenProxyParams {
        url: Url::parse("https://10.0.0.1:6443").unwrap(),
        server_name: name.map(str::to_owned),
        roots,
    };
    let error = TokenProxy::new(params(Roots::Pem("garbage".into()), None)).unwrap_err();
    assert!(
        error.to_string().contains("AZURE_KUBERNETES_CA_DATA"),
        "{error}"
    );
    let pem = Identity::of(NAME).pem;
    let error = TokenProxy::new(params(Roots::Pem(pem), Some("no name"))).unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
    let file = Roots::File("/nonexistent/ca.crt".into());
    assert!(TokenProxy::new(params(file.clone(), Some("no name"))).is_err());
    assert!(TokenProxy::new(params(file, Some(NAME))).is_ok());
}
