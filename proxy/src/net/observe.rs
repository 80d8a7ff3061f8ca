//! TLS client configurations that remember which certificates a server showed, also when they were refused: for telling people why. What is trusted is the same as
//! without, to the letter: the verifier of rustls decides, and this one only listens.

use super::tls::{self, Alpn, ClientCertificate, TlsError};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The certificates that the last server showed, its own first.
#[derive(Debug, Default)]
pub struct Presented(Mutex<Vec<CertificateDer<'static>>>);

impl Presented {
    /// The chain; empty before there was one.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn remember(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) {
        let chain = std::iter::once(leaf).chain(rest);
        let chain = chain.map(|c| c.clone().into_owned()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
    }
}

/// As [`tls::client_config_as`], and what it saw.
///
/// # Errors
/// [`TlsError`], which names the file and the mend.
pub fn client_config_as(
    ca_file: Option<&Path>,
    alpn: Alpn,
    certificate: Option<&ClientCertificate>,
) -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    observed(tls::roots(ca_file)?, alpn, certificate)
}

/// As [`tls::exclusive_config`], and what it saw.
///
/// # Errors
/// [`TlsError::CaFile`] when there is no certificate in it.
pub fn exclusive_config(
    pem: &[u8],
    named: &Path,
    alpn: Alpn,
) -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    observed(tls::exclusive_roots(pem, named)?, alpn, None)
}

fn observed(
    roots: Arc<RootCertStore>,
    alpn: Alpn,
    certificate: Option<&ClientCertificate>,
) -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    let presented = Arc::new(Presented::default());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), tls::provider())
        .build()
        .map_err(|_| TlsError::NoRoots)?;
    let mut config = ClientConfig::clone(&*tls::config(roots, alpn, certificate)?);
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Observing {
            verifier,
            presented: Arc::clone(&presented),
        }));
    Ok((Arc::new(config), presented))
}

#[derive(Debug)]
struct Observing {
    verifier: Arc<WebPkiServerVerifier>,
    presented: Arc<Presented>,
}

impl ServerCertVerifier for Observing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.presented.remember(end_entity, intermediates);
        self.verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
