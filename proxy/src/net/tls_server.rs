//! A serving certificate that is read from files and can be read anew while connections are served. Same provider as the clients.

use super::{
    tls::{TlsError, provider},
    x509::{self, Validity},
};
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
struct Current(ArcSwap<Pair>);

/// A certificate with its key, and when its chain is good.
struct Pair {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
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

    /// Reads the files anew; handshakes from now on get what is in them. `now`: seconds since the epoch.
    ///
    /// # Errors
    /// As [`Self::load`], and when they hold an expired certificate in the place of one that is good; then everything stays as it is.
    pub fn reload(&self, now: i64) -> Result<(), TlsError> {
        let new = read(&self.certificate, &self.key)?;
        if new.validity.not_after < now && now <= self.validity().not_after {
            return Err(TlsError::Serving {
                path: self.certificate.clone(),
                cause: "it has expired, and the one before has not".into(),
            });
        }
        self.current.0.store(Arc::new(new));
        Ok(())
    }

    /// When clients take what is served: from the server's own certificate's first moment to the last one of the first of its chain to end.
    pub fn validity(&self) -> Validity {
        self.current.0.load().validity
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

fn read(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let bad = |path: &Path, cause: String| TlsError::Serving {
        path: path.to_owned(),
        cause,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(certificate, e.to_string()))?;
    let validity = chain
        .iter()
        .map(|c| x509::validity(c).ok_or_else(|| bad(certificate, "it is no X.509".into())))
        .reduce(|own, next| {
            let (own, next) = (own?, next?);
            Ok(Validity {
                not_after: own.not_after.min(next.not_after),
                ..own
            })
        })
        .ok_or_else(|| bad(certificate, "it holds no certificate".into()))??;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
    let key = CertifiedKey::from_der(chain, private, &provider()).map_err(|e| match e {
        rustls::Error::InvalidCertificate(e) => bad(certificate, refused(&e.to_string())),
        e => bad(key, e.to_string()),
    })?;
    Ok(Pair {
        key: Arc::new(key),
        validity,
    })
}

/// Why the provider takes no such certificate, given its words. It has no kind of its own for the version.
fn refused(words: &str) -> String {
    if words.contains("UnsupportedCertVersion") {
        "it is an X.509 version 1 certificate, without the names that API servers want: sign it with \
         subjectAltName=DNS:SERVICE.NAMESPACE.svc"
            .into()
    } else {
        words.into()
    }
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
        let served = || serving.current.0.load().key.cert.first().cloned();
        assert_eq!(served().as_ref(), Some(first.cert.der()));
        std::fs::write(&certificate, second.cert.pem()).unwrap();
        let e = serving.reload(0).unwrap_err().to_string();
        assert!(e.contains("tls.key") && e.contains("belong"), "{e}");
        assert_eq!(served().as_ref(), Some(first.cert.der()));
        std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        serving.reload(0).unwrap();
        assert_eq!(served().as_ref(), Some(second.cert.der()));
        assert!(!format!("{serving:?}").contains("BEGIN"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// What `openssl x509 -req` makes when it is told of no extensions.
    #[test]
    fn a_certificate_of_version_1_is_called_so() {
        let dir =
            std::env::temp_dir().join(format!("token-sidecar-version-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        // Names long enough that both lengths below take two bytes.
        let names: Vec<String> = (0..8).map(|i| format!("{i}{}", "x".repeat(50))).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let mut der = made.cert.der().to_vec();
        assert_eq!(
            (&der[..2], &der[4..6]),
            (&[0x30, 0x82][..], &[0x30, 0x82][..])
        );
        let version: Vec<u8> = der.drain(8..13).collect();
        assert_eq!(version, [0xa0, 3, 2, 1, 2]);
        for at in [2, 6] {
            let length = u16::from_be_bytes([der[at], der[at + 1]]) - 5;
            der[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = STANDARD.encode(der);
        std::fs::write(
            &certificate,
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
        )
        .unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let e = ServingCertificate::load(&certificate, &key)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("tls.crt cannot be used: it is an X.509 version 1 certificate, "),
            "{e}"
        );
        assert!(
            e.contains("subjectAltName=DNS:SERVICE.NAMESPACE.svc"),
            "{e}"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_chain_is_good_until_the_first_of_it_ends() {
        use rcgen::{CertificateParams, KeyPair, date_time_ymd};
        let dir = std::env::temp_dir().join(format!("token-sidecar-chain-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let made = |from: i32, to: i32| {
            let mut params = CertificateParams::new(vec!["webhook".into()]).unwrap();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            params.self_signed(&key).unwrap().pem()
        };
        std::fs::write(dir.join("key"), key.serialize_pem()).unwrap();
        let year = |y| date_time_ymd(y, 1, 1).unix_timestamp();
        for (chain, not_after) in [
            (made(2024, 2030), 2030),
            (made(2024, 2030) + &made(2020, 2026), 2026),
            (made(2024, 2030) + &made(2020, 2040), 2030),
        ] {
            std::fs::write(dir.join("chain"), chain).unwrap();
            let serving = ServingCertificate::load(&dir.join("chain"), &dir.join("key")).unwrap();
            let expected = Validity {
                not_before: year(2024),
                not_after: year(not_after),
            };
            assert_eq!(serving.validity(), expected);
            // An old one does not take the place of a good one, but of another old one.
            std::fs::write(dir.join("chain"), made(2020, 2022)).unwrap();
            let e = serving.reload(year(2024)).unwrap_err().to_string();
            assert!(e.contains("it has expired"), "{e}");
            assert_eq!(serving.validity(), expected);
            serving.reload(year(2050)).unwrap();
            assert_eq!(serving.validity().not_after, year(2022));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
