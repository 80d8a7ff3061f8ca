//! The one TLS provider (aws-lc, chosen by name, never through a process-wide default), and client configurations built on it.

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs::sign::any_supported_type},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use zeroize::Zeroizing;

/// Which protocols a client offers by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// None at all.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2` and `http/1.1`, the first preferred.
    Http1And2,
    /// `h2` only.
    Http2,
}

/// Why a TLS client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file is missing, unreadable, or not PEM.
    #[error(
        "the CA file {path} cannot be used: {cause}; it must be a readable PEM file with at least one CERTIFICATE block"
    )]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A serving certificate or its key is missing, unreadable, not PEM, or they are not a pair.
    #[error(
        "the serving certificate's file {path} cannot be used: {cause}; the certificate must be a PEM chain that begins with the server's own, and \
         the key the PEM key that belongs to it"
    )]
    Serving {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// There are no roots at all.
    #[error(
        "no CA certificates: the system has none and no caFile is configured; install ca-certificates in the image, set SSL_CERT_FILE, or set caFile"
    )]
    NoRoots,
    /// The provider cannot do what is asked.
    #[error("TLS provider: {0}")]
    Provider(#[from] rustls::Error),
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// A client configuration: TLS 1.2 and 1.3, the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and, in addition, those of `ca_file`.
///
/// # Errors
/// [`TlsError`], which names the file and the mend.
pub fn client_config(ca_file: Option<&Path>, alpn: Alpn) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_as(ca_file, alpn, None)
}

/// As [`client_config`], for a client that shows a certificate when the server asks for one.
///
/// # Errors
/// [`TlsError`], which names the file and the mend.
pub fn client_config_as(
    ca_file: Option<&Path>,
    alpn: Alpn,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, TlsError> {
    config(roots(ca_file)?, alpn, certificate)
}

/// The system's roots and those of `ca_file`; never none.
pub(super) fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = system_roots();
    if let Some(path) = ca_file {
        add_file(Arc::make_mut(&mut roots), path)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

/// As [`client_config`], but with the roots of a PEM text alone. `named` says in errors where the text came from.
///
/// # Errors
/// [`TlsError::CaFile`] when there is no certificate in it.
pub fn exclusive_config(
    pem: &[u8],
    named: &Path,
    alpn: Alpn,
) -> Result<Arc<ClientConfig>, TlsError> {
    config(exclusive_roots(pem, named)?, alpn, None)
}

/// The roots of a PEM text alone; never none.
pub(super) fn exclusive_roots(pem: &[u8], named: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, named, CertificateDer::pem_slice_iter(pem))?;
    Ok(roots.into())
}

pub(super) fn config(
    roots: Arc<RootCertStore>,
    alpn: Alpn,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate(pair)) => {
            let pair = SingleCertAndKey::from(CertifiedKey::clone(pair));
            builder.with_client_cert_resolver(Arc::new(pair))
        }
    };
    config.alpn_protocols = match alpn {
        Alpn::None => vec![],
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http1And2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// A client's certificate chain with its key, fit for one another. Its key is neither shown nor given out.
pub struct ClientCertificate(CertifiedKey);

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate")
    }
}

/// Why two files are no client certificate with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateError {
    /// No PEM with certificates.
    Certificate,
    /// No PEM with an unencrypted private key of a type that TLS knows.
    Key,
    /// The key is not the first certificate's.
    Pair,
}

impl ClientCertificate {
    /// The client's own certificate (DER), for messages.
    pub fn certificate(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], |c| c)
    }

    /// From the contents of two PEM files: the client's certificate followed by what leads from it to the root, and its key (PKCS#8, PKCS#1 or
    /// SEC 1). They may be one file.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CertificateError::Certificate)?;
        if chain.is_empty() {
            return Err(CertificateError::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Key)?;
        let key = any_supported_type(&Zeroizing::new(key)).map_err(|_| CertificateError::Key)?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(Self(pair)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Pair),
            Err(_) => Err(CertificateError::Certificate),
        }
    }
}

/// The system's roots, read once and held once: they come with the image, parsing them takes as long as the rest of the start, and a copy for each
/// upstream would be most of the memory of a sidecar with many. A `ca_file` is read anew by each configuration.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Unusable certificates are skipped: one exotic root must not keep the pod from starting.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.into()
    });
    Arc::clone(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(path, &e))?;
    add(roots, path, certificates)
}

fn add(
    roots: &mut RootCertStore,
    named: &Path,
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
) -> Result<(), TlsError> {
    let mut found = false;
    for certificate in certificates {
        roots
            .add(certificate.map_err(|e| unusable(named, &e))?)
            .map_err(|e| unusable(named, &e))?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(unusable(named, &"it holds no certificate"))
    }
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> TlsError {
    TlsError::CaFile {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_roots_are_held_once() {
        if system_roots().is_empty() {
            let error = client_config(None, Alpn::Http1).unwrap_err();
            assert!(matches!(error, TlsError::NoRoots), "{error}");
            return;
        }
        let held: Vec<_> = (0..100)
            .map(|_| client_config(None, Alpn::Http1).unwrap())
            .collect();
        assert!(Arc::strong_count(&system_roots()) > held.len());
    }

    #[test]
    fn a_missing_or_empty_ca_file_is_named() {
        let e = client_config(Some(Path::new("/nonexistent/ca.pem")), Alpn::Http1)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("/nonexistent/ca.pem") && e.contains("PEM"),
            "{e}"
        );
        let e = client_config(Some(Path::new("/dev/null")), Alpn::Http1)
            .unwrap_err()
            .to_string();
        assert!(e.contains("no certificate"), "{e}");
    }
}
