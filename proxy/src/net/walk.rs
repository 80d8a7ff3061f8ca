//! A connection opened layer by layer, with what was seen at each: for telling people at which layer it fails, and why. The layers are those of `dial` and `proxy`, which do
//! the work; this gives each a timeout of its own, and keeps what they found.

use super::{
    dial::{self, DialError, Stream, Target},
    gather::Tcp,
    proxy::{Proxy, TunnelError},
};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A layer, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The name's addresses.
    Dns,
    /// TCP, or the Unix socket.
    Connect,
    /// The forward proxy: its name, its connection, its TLS, and its answer to CONNECT. It stands in place of the two before.
    Proxy,
    /// The handshake.
    Tls,
}

/// Why a layer is the last.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// As when it is dialled.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The proxy opens no tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// It took too long.
    #[error("nothing came back in time")]
    Timeout,
}

/// How far it went.
#[derive(Debug)]
pub struct Walk {
    /// What the name resolves to. Empty when it was not asked for: an address, a Unix socket, a proxy that does it.
    pub addresses: Vec<IpAddr>,
    /// The other end, and how long it took to get there.
    pub peer: Option<(SocketAddr, Duration)>,
    /// The connection; without one, why not, and at which layer.
    pub end: Result<Stream, (Layer, Stop)>,
}

/// Opens a connection to a target, perhaps through a proxy. Each layer may take as long as `within`.
pub async fn walk(target: &Target, proxy: Option<&Proxy>, within: Duration) -> Walk {
    let mut walk = Walk {
        addresses: vec![],
        peer: None,
        // What it is until something was done: never seen by anybody.
        end: Err((Layer::Dns, Stop::Timeout)),
    };
    let opened = match (proxy, &target.tls, &target.unix) {
        (_, _, Some(path)) => {
            let connected = layer(Layer::Connect, within, async {
                tokio::net::UnixStream::connect(path)
                    .await
                    .map_err(|source| unix(target, source))
            });
            connected.await.map(Stream::Unix)
        }
        // Plain http is loopback only, which is never proxied.
        (Some(proxy), Some(_), None) => {
            let tunnel = proxy.tunnel(&target.host, target.port);
            layer(Layer::Proxy, within, tunnel).await
        }
        _ => walk.connect(target, within).await,
    };
    walk.end = match (opened, &target.tls) {
        (Ok(stream), Some(tls)) if target.unix.is_none() => {
            let handshake = dial::tls_over(stream, tls, &target.host, target.port);
            layer(Layer::Tls, within, handshake).await
        }
        (opened, _) => opened,
    };
    walk
}

impl Walk {
    async fn connect(
        &mut self,
        target: &Target,
        within: Duration,
    ) -> Result<Stream, (Layer, Stop)> {
        let addresses = layer(Layer::Dns, within, dial::resolve(target)).await?;
        if target.host.parse::<IpAddr>().is_err() {
            self.addresses = addresses.iter().map(SocketAddr::ip).collect();
        }
        let began = Instant::now();
        let stream = layer(Layer::Connect, within, dial::connect_to(target, addresses));
        // That there is no address, or none that is allowed, is the name's doing.
        let stream = stream.await.map_err(|(layer, stop)| match stop {
            Stop::Dial(DialError::NoAddress { .. } | DialError::Forbidden { .. }) => {
                (Layer::Dns, stop)
            }
            stop => (layer, stop),
        })?;
        self.peer = stream.peer_addr().ok().map(|peer| (peer, began.elapsed()));
        Ok(Stream::Plain(Tcp(stream)))
    }
}

fn unix(target: &Target, source: io::Error) -> DialError {
    let path = target.unix.as_deref().unwrap_or("".as_ref());
    DialError::Connect {
        host: path.display().to_string(),
        port: target.port,
        source,
    }
}

async fn layer<T, E: Into<Stop>>(
    layer: Layer,
    within: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, (Layer, Stop)> {
    match timeout(within, work).await {
        Ok(result) => result.map_err(|error| (layer, error.into())),
        Err(_) => Err((layer, Stop::Timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        dial::TlsTarget,
        guard::Guard,
        observe,
        raw_server::{RawServer, TestDir, closed, reply},
        tls::{self, Alpn},
        tls_server::ServingCertificate,
    };
    use rustls_pki_types::ServerName;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(10);

    fn target(host: &str, port: u16) -> Target {
        Target {
            host: host.into(),
            port,
            unix: None,
            tls: None,
            guard: Guard::LoopbackToo,
        }
    }

    fn stopped(walk: &Walk) -> (Layer, String) {
        let (layer, stop) = walk.end.as_ref().unwrap_err();
        (*layer, format!("{stop:?}"))
    }

    #[tokio::test]
    async fn each_layer_fails_by_itself() {
        let nowhere = walk(&target("no-such-host.invalid", 443), None, SOON).await;
        let (layer, why) = stopped(&nowhere);
        assert_eq!(layer, Layer::Dns);
        assert!(why.contains("Resolve"), "{why}");
        let metadata = walk(&target("169.254.169.254", 80), None, SOON).await;
        let (layer, why) = stopped(&metadata);
        assert_eq!(layer, Layer::Dns);
        assert!(why.contains("Forbidden"), "{why}");
        let (_held, closed) = closed();
        let refused = walk(&target("localhost", closed.port()), None, SOON).await;
        assert_eq!(stopped(&refused).0, Layer::Connect);
        assert!(!refused.addresses.is_empty() && refused.peer.is_none());
        let mut socket = target("localhost", 80);
        socket.unix = Some("/nonexistent/socket".into());
        assert_eq!(stopped(&walk(&socket, None, SOON).await).0, Layer::Connect);
    }

    #[tokio::test]
    async fn what_hangs_is_told_by_its_layer() {
        // It accepts, and never answers the handshake.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut slow = target("127.0.0.1", listener.local_addr().unwrap().port());
        slow.tls = Some(TlsTarget {
            config: observe::client_config_as(Some(&root().1), Alpn::Http1, None)
                .unwrap()
                .0,
            server_name: ServerName::try_from("localhost").unwrap(),
        });
        let walk = walk(&slow, None, Duration::from_millis(50)).await;
        assert_eq!(stopped(&walk), (Layer::Tls, "Timeout".to_owned()));
        assert!(walk.peer.is_some());
    }

    /// A certificate for localhost that is its own root, in files that go away with the directory.
    fn root() -> (TestDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = TestDir::new();
        let new = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        std::fs::write(&certificate, new.cert.pem()).unwrap();
        std::fs::write(&key, new.signing_key.serialize_pem()).unwrap();
        (dir, certificate, key)
    }

    async fn tls_server(certificate: &std::path::Path, key: &std::path::Path) -> u16 {
        let config = ServingCertificate::load(certificate, key)
            .unwrap()
            .server_config()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(sidecar_runtime::spawn("test", async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                // Refused by some of those who call.
                drop(acceptor.accept(stream).await);
            }
        }));
        port
    }

    /// The configuration that listens accepts and refuses what the other one does, and has seen the certificates either way.
    #[tokio::test]
    async fn to_observe_is_not_to_trust() {
        let (_dir, certificate, key) = root();
        let (_other_dir, other, _) = root();
        let port = tls_server(&certificate, &key).await;
        for (ca, name, trusted) in [
            (&certificate, "localhost", true),
            (&certificate, "elsewhere.example", false),
            (&other, "localhost", false),
        ] {
            let plain = tls::client_config(Some(ca), Alpn::Http1).unwrap();
            let (observing, presented) =
                observe::client_config_as(Some(ca), Alpn::Http1, None).unwrap();
            assert!(presented.chain().is_empty());
            let mut seen = Vec::new();
            for config in [plain, observing] {
                let mut target = target("127.0.0.1", port);
                target.tls = Some(TlsTarget {
                    config,
                    server_name: ServerName::try_from(name).unwrap(),
                });
                let walk = walk(&target, None, SOON).await;
                assert_eq!(walk.end.is_ok(), trusted, "{name}");
                seen.push(walk.end.err().map(|(_, stop)| format!("{stop:?}")));
            }
            assert_eq!(seen[0], seen[1]);
            assert_eq!(presented.chain().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_stands_in_for_the_first_layers() {
        let server = RawServer::start(|_| reply("403 Forbidden", "", "")).await;
        let proxy = Proxy::new(&server.url(), None).unwrap();
        let (_dir, certificate, _) = root();
        let mut target = target("login.example", 443);
        target.tls = Some(TlsTarget {
            config: tls::client_config(Some(&certificate), Alpn::Http1).unwrap(),
            server_name: ServerName::try_from("login.example").unwrap(),
        });
        let walk = walk(&target, Some(&proxy), SOON).await;
        assert_eq!(stopped(&walk).0, Layer::Proxy);
        assert!(walk.addresses.is_empty());
    }
}
