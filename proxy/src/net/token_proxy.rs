//! The client of a cluster's token proxy (AKS identity bindings): token requests go to an address in the cluster, under a TLS server name of its own,
//! trusted by roots of its own, instead of to the authority. Of those roots the file is looked at anew for each request: the cluster rotates it.
//!
//! Not a forward proxy: nothing is tunnelled, the proxy itself answers in the authority's words. `HTTPS_PROXY` does not apply to it.

use super::{
    client::{AuthorityClient, ClientError, Reply, SetupError},
    observe::{self, Presented},
    tls::{self, Alpn, TlsError},
};
use http::{HeaderName, HeaderValue};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use url::Url;
use zeroize::Zeroizing;

/// Where the proxy is and how it is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenProxyParams {
    /// https; the request's path is put behind its own.
    pub url: Url,
    /// The TLS server name (SNI), which the certificate must carry; the URL's host without it.
    pub server_name: Option<String>,
    /// Whose certificates are trusted, and nobody else's.
    pub roots: Roots,
}

/// The roots to trust.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Roots {
    /// The system's.
    System,
    /// Those of a PEM file, which may change.
    File(PathBuf),
    /// These, PEM.
    Pem(String),
}

/// A client of a token proxy.
#[derive(Debug)]
pub struct TokenProxy {
    params: TokenProxyParams,
    base_path: String,
    built: Mutex<Option<Built>>,
}

/// The client that was built last, and of which roots.
#[derive(Debug)]
struct Built {
    pem: Vec<u8>,
    client: Arc<AuthorityClient>,
}

impl TokenProxy {
    /// Roots that are given as text are checked here; a file may come later.
    ///
    /// # Errors
    /// [`SetupError`], which names what to change.
    pub fn new(params: TokenProxyParams) -> Result<Self, SetupError> {
        let this = Self {
            base_path: params.url.path().trim_end_matches('/').to_owned(),
            params,
            built: Mutex::default(),
        };
        match &this.params.roots {
            Roots::File(_) => {
                // The host and the server name can be judged without it.
                this.build(tls::client_config(None, Alpn::Http1And2)?)?;
            }
            Roots::System | Roots::Pem(_) => {
                this.client()?;
            }
        }
        Ok(this)
    }

    /// A client of the proxy as it is now, for looking at the way there, and the certificates that it shows.
    ///
    /// # Errors
    /// [`SetupError`]; also when there are no roots to trust.
    pub fn observing(
        params: &TokenProxyParams,
    ) -> Result<(AuthorityClient, Arc<Presented>), SetupError> {
        let alpn = Alpn::Http1And2;
        let (config, presented) = match &params.roots {
            Roots::System => observe::client_config_as(None, alpn, None)?,
            Roots::File(path) => observe::exclusive_config(&read(path)?, path, alpn)?,
            Roots::Pem(text) => observe::exclusive_config(text.as_bytes(), CA_DATA.as_ref(), alpn)?,
        };
        let client = AuthorityClient::over_tls(&params.url, params.server_name.as_deref(), config)?;
        Ok((client, presented))
    }

    /// As [`AuthorityClient::post_form`]; the path is one of the authority's.
    ///
    /// # Errors
    /// [`ClientError`]; also when there are no roots to trust.
    pub async fn post_form(
        &self,
        path_and_query: &str,
        extra: &[(HeaderName, HeaderValue)],
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Reply, ClientError> {
        let client = self.client()?;
        let path = format!("{}{path_and_query}", self.base_path);
        client.post_form(&path, extra, body).await
    }

    /// The client for the roots as they are now.
    fn client(&self) -> Result<Arc<AuthorityClient>, SetupError> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let pem = match &self.params.roots {
            Roots::System => Vec::new(),
            Roots::Pem(text) => text.clone().into_bytes(),
            Roots::File(path) => read(path)?,
        };
        let from_file = matches!(self.params.roots, Roots::File(_));
        match &*built {
            // Empty in the middle of a rotation.
            Some(last) if last.pem == pem || from_file && pem.trim_ascii().is_empty() => {
                return Ok(Arc::clone(&last.client));
            }
            _ => {}
        }
        let config = match &self.params.roots {
            Roots::System => tls::client_config(None, Alpn::Http1And2)?,
            Roots::File(path) => tls::exclusive_config(&pem, path, Alpn::Http1And2)?,
            Roots::Pem(_) => tls::exclusive_config(&pem, CA_DATA.as_ref(), Alpn::Http1And2)?,
        };
        let client = Arc::new(self.build(config)?);
        *built = Some(Built {
            pem,
            client: Arc::clone(&client),
        });
        Ok(client)
    }

    fn build(&self, config: Arc<rustls::ClientConfig>) -> Result<AuthorityClient, SetupError> {
        AuthorityClient::over_tls(&self.params.url, self.params.server_name.as_deref(), config)
    }
}

/// Where roots that are given as text come from, for errors.
const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|e| TlsError::CaFile {
        path: path.to_owned(),
        cause: e.to_string(),
    })
}

#[cfg(test)]
#[path = "token_proxy_tests.rs"]
mod tests;
