//! A serving certificate that is read from files and can be read anew while connections are served. Same provider as the clients.

use super::tls::{TlsError, provider};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A certificate chain and its key, as they are in two PEM files.
#[derive(Debug, Clone)]
pub struct ServingCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
}

/// What new handshakes get. Its `Debug` is by hand: a key must not come near a log.
struct Current(ArcSwap<CertifiedKey>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServingCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them is not usable, or they do not belong together; the text names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = read(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: Arc::new(Current(ArcSwap::from_pointee(read))),
        })
    }

    /// Reads the files anew; handshakes from now on get what is in them.
    ///
    /// # Errors
    /// As [`Self::load`]; then everything stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current
            .0
            .store(Arc::new(read(&self.certificate, &self.key)?));
        Ok(())
    }

    /// A server's configuration with it: TLS 1.2 and 1.3, HTTP/1.1 by ALPN, no client certificates.
    ///
    /// # Errors
    /// When the provider cannot do that.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Current>::clone(&self.current);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let bad = |path: &Path, cause: String| TlsError::Serving {
        path: path.to_owned(),
        cause,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(bad(certificate, "it holds no certificate".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|e| bad(key, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let none = Path::new("/nonexistent/tls.crt");
        let e = ServingCertificate::load(none, none)
            .unwrap_err()
            .to_string();
        assert!(e.contains("/nonexistent/tls.crt"), "{e}");
        let e = ServingCertificate::load(Path::new("/dev/null"), none)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("/dev/null cannot be used: it holds no certificate"),
            "{e}"
        );
    }

    #[test]
    fn a_pair_that_does_not_belong_together_changes_nothing() {
        let dir =
            std::env::temp_dir().join(format!("token-sidecar-serving-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        let new = || rcgen::generate_simple_self_signed(vec!["webhook".into()]).unwrap();
        let (first, second) = (new(), new());
        std::fs::write(&certificate, first.cert.pem()).unwrap();
        std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        let serving = ServingCertificate::load(&certificate, &key).unwrap();
        let served = || serving.current.0.load().cert.first().cloned();
        assert_eq!(served().as_ref(), Some(first.cert.der()));
        std::fs::write(&certificate, second.cert.pem()).unwrap();
        let e = serving.reload().unwrap_err().to_string();
        assert!(e.contains("tls.key") && e.contains("belong"), "{e}");
        assert_eq!(served().as_ref(), Some(first.cert.der()));
        std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        serving.reload().unwrap();
        assert_eq!(served().as_ref(), Some(second.cert.der()));
        assert!(!format!("{serving:?}").contains("BEGIN"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
