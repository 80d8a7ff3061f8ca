//! The TLS client of a client that authenticates by mutual TLS (RFC 8705 section 2): with the certificate and key that are in its files now.

use super::{super::error::ExchangeError, rotating::Rotating};
use crate::{
    net::{
        client::{AuthorityClient, SetupError},
        tls::{CertificateError, ClientCertificate},
    },
    token::params::{AuthorityParams, TlsClientParams},
};
use std::{fmt, sync::Arc};
use url::Url;

/// A client for one authority, made anew when its certificate or key is rotated.
pub(in super::super) struct CertifiedClient {
    endpoint: Url,
    authority: AuthorityParams,
    client: Rotating<AuthorityClient>,
}

impl fmt::Debug for CertifiedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedClient")
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

impl CertifiedClient {
    /// # Errors
    /// When no client for the authority can be set up, whatever the certificate (CA file, host). The certificate's files may come later.
    pub(in super::super) fn new(
        endpoint: &Url,
        authority: &AuthorityParams,
        params: &TlsClientParams,
    ) -> Result<Self, SetupError> {
        AuthorityClient::new(
            endpoint,
            authority.ca_file.as_deref(),
            authority.proxy.as_ref(),
        )?;
        Ok(Self {
            endpoint: endpoint.clone(),
            authority: authority.clone(),
            client: Rotating::new(vec![
                (
                    params.certificate_file.clone(),
                    "client_certificate_unreadable",
                ),
                (params.key_file.clone(), "client_key_unreadable"),
            ]),
        })
    }

    /// The client for what is in the files now.
    ///
    /// # Errors
    /// [`ExchangeError`] `client_key_…` or `client_certificate_…`, when there never was a good pair.
    pub(in super::super) fn current(&self) -> Result<Arc<AuthorityClient>, ExchangeError> {
        self.client.current(|contents| {
            let [certificate, key] = contents else {
                return Err(ExchangeError::local("client_certificate_unreadable"));
            };
            let certificate = pair(certificate, key)?;
            AuthorityClient::with_certificate(
                &self.endpoint,
                self.authority.ca_file.as_deref(),
                self.authority.proxy.as_ref(),
                &certificate,
            )
            .map_err(|_| ExchangeError::local("client_setup"))
        })
    }
}

/// A certificate with its key, from the contents of their files.
pub(super) fn pair(chain: &[u8], key: &[u8]) -> Result<ClientCertificate, ExchangeError> {
    ClientCertificate::from_pem(chain, key).map_err(|e| ExchangeError::local(code(e)))
}

const fn code(error: CertificateError) -> &'static str {
    match error {
        CertificateError::Certificate => "client_certificate_unusable",
        CertificateError::Key => "client_key_unusable",
        CertificateError::Pair => "client_certificate_other_key",
    }
}
