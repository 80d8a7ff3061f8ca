//! The token proxy of AKS identity bindings: a TLS server that is known by a name of its own and takes tokens of the audience
//! `api://AKSIdentityBinding`, which Entra itself does not. It answers in Entra's words.

use super::{Authority, answer};
use crate::{
    Result,
    certs::{Alpn, Ca},
    record::Record,
    serve::{self, Server},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The audience of the tokens that it takes.
pub const BINDING_AUDIENCE: &str = "api://AKSIdentityBinding";

/// A running token proxy.
pub struct TokenProxy {
    server: Server,
    names: Arc<Names>,
}

/// Shows its certificate to those who ask for it by its name, and records by which names it was asked.
struct Names {
    name: String,
    certificate: Mutex<Arc<CertifiedKey>>,
    asked: Record<Option<String>>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_owned);
        self.asked.push(asked.clone());
        (asked.as_deref() == Some(&*self.name)).then(|| {
            let certificate = self
                .certificate
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&certificate)
        })
    }
}

impl TokenProxy {
    /// Starts one before `authority`, on a free loopback port, with a certificate of `ca` for `name`.
    ///
    /// # Errors
    /// When no port can be bound or a key cannot be made.
    pub async fn start(authority: &Authority, ca: &Ca, name: &str) -> Result<Self> {
        let names = Arc::new(Names {
            name: name.to_owned(),
            certificate: Mutex::new(ca.certified_key(&[name])?),
            asked: Record::new(),
        });
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&names) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = Alpn::Both.protocols();
        let shared = Arc::clone(&authority.shared);
        let handler = serve::handler(move |request, connection| {
            answer(Arc::clone(&shared), request, connection, true)
        });
        Ok(Self {
            server: Server::start(Some(Arc::new(config)), handler).await?,
            names,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// By which server names it was asked for a certificate, in order.
    pub fn asked(&self) -> &Record<Option<String>> {
        &self.names.asked
    }

    /// From now on its certificate is one of `ca`.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn rotate(&self, ca: &Ca) -> Result<()> {
        let certificate = ca.certified_key(&[&self.names.name])?;
        *self
            .names
            .certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }
}
