//! Gets an issuer's keys over HTTP: from where the configuration says, or from where the issuer's own metadata says. Once a call: no schedule, no
//! cache, no retries (`jwks` has those), and no redirects.

use super::{
    jwk::{KeySet, KeySetError},
    params::{IssuerParams, KeysAt},
};
use crate::{
    net::{
        client::{AuthorityClient, ClientError, Reply, SetupError},
        guard::is_loopback_name,
    },
    token::params::AuthorityParams,
};
use async_trait::async_trait;
use serde::Deserialize;
use std::sync::Arc;
use url::Url;

/// A way to get an issuer's keys.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// One attempt, without a timeout of its own.
    ///
    /// # Errors
    /// [`FetchError`].
    async fn fetch(&self) -> Result<KeySet, FetchError>;
}

/// Why there are no keys. The texts name what the configuration names, never what came back.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL, or the CA file.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The way there.
    #[error("{mend}", mend = .0.mend())]
    Client(#[from] ClientError),
    /// The answer is not 200.
    #[error("the issuer answered {0}; check issuer and jwksUri")]
    Status(u16),
    /// The metadata is no JSON with `issuer` and `jwks_uri`.
    #[error(
        "the issuer's metadata is no JSON with `issuer` and `jwks_uri`; check issuer, or set jwksUri"
    )]
    Metadata,
    /// The metadata is another issuer's (OpenID Connect Discovery section 4.3, RFC 8414 section 3.3).
    #[error(
        "the metadata names another `issuer` than the one configured; write it exactly as the tokens' `iss` is"
    )]
    OtherIssuer,
    /// The metadata's `jwks_uri` is not https.
    #[error("the metadata's `jwks_uri` is not https; set jwksUri")]
    Insecure,
    /// No usable keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// It took too long.
    #[error("the issuer did not answer in time")]
    Timeout,
}

impl FetchError {
    /// A bounded code for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setup(_) => "setup",
            Self::Client(e) => e.code(),
            Self::Status(_) => "status",
            Self::Metadata => "metadata",
            Self::OtherIssuer => "other_issuer",
            Self::Insecure => "insecure",
            Self::Keys(KeySetError::NotASet) => "not_a_jwk_set",
            Self::Keys(KeySetError::TooMany) => "too_many_keys",
            Self::Keys(KeySetError::Empty) => "no_usable_key",
            Self::Timeout => "timeout",
        }
    }
}

/// The real one.
pub struct HttpSource {
    issuer: Arc<str>,
    keys: KeysAt,
    authority: AuthorityParams,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl HttpSource {
    /// For an issuer. Its CA file is read, so that an unusable one is reported at once; and again for each fetch.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(params: &IssuerParams) -> Result<Self, SetupError> {
        let source = Self {
            issuer: Arc::clone(&params.issuer),
            keys: params.keys.clone(),
            authority: params.authority.clone(),
        };
        let (KeysAt::Uri(url) | KeysAt::Metadata(url)) = &source.keys;
        source.client(url)?;
        Ok(source)
    }

    fn client(&self, url: &Url) -> Result<AuthorityClient, SetupError> {
        AuthorityClient::new(
            url,
            self.authority.ca_file.as_deref(),
            self.authority.proxy.as_ref(),
        )
    }

    async fn get(&self, url: &Url) -> Result<Reply, FetchError> {
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let reply = self.client(url)?.get(&path, &[]).await?;
        match reply.status {
            200 => Ok(reply),
            status => Err(FetchError::Status(status)),
        }
    }

    /// Where the metadata says that the keys are.
    async fn discover(&self, issuer: &Url) -> Result<Url, FetchError> {
        let [openid, oauth] = well_known(issuer);
        let reply = match self.get(&openid).await {
            Err(FetchError::Status(_)) => self.get(&oauth).await?,
            other => other?,
        };
        let metadata: Metadata =
            serde_json::from_slice(&reply.body).map_err(|_| FetchError::Metadata)?;
        if metadata.issuer != *self.issuer {
            return Err(FetchError::OtherIssuer);
        }
        let uri = Url::parse(&metadata.jwks_uri).map_err(|_| FetchError::Metadata)?;
        let local = |url: &Url| url.host_str().is_some_and(is_loopback_name);
        match uri.scheme() {
            "https" => Ok(uri),
            "http" if issuer.scheme() == "http" && local(issuer) && local(&uri) => Ok(uri),
            _ => Err(FetchError::Insecure),
        }
    }
}

#[async_trait]
impl KeySource for HttpSource {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let discovered;
        let uri = match &self.keys {
            KeysAt::Uri(uri) => uri,
            KeysAt::Metadata(issuer) => {
                discovered = self.discover(issuer).await?;
                &discovered
            }
        };
        let reply = self.get(uri).await?;
        Ok(KeySet::parse(&reply.body)?)
    }
}

/// OpenID Connect Discovery section 4 puts its path behind the issuer's, RFC 8414 section 3 in front of it.
fn well_known(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: &str| {
        let mut url = issuer.clone();
        url.set_path(path);
        url.set_query(None);
        url
    };
    [
        at(&format!("{path}/.well-known/openid-configuration")),
        at(&format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_standards_put_it() {
        let at = |issuer| well_known(&Url::parse(issuer).unwrap()).map(String::from);
        assert_eq!(
            at("https://i.example/tenant/v2.0"),
            [
                "https://i.example/tenant/v2.0/.well-known/openid-configuration",
                "https://i.example/.well-known/oauth-authorization-server/tenant/v2.0"
            ]
        );
        assert_eq!(
            at("https://i.example/"),
            [
                "https://i.example/.well-known/openid-configuration",
                "https://i.example/.well-known/oauth-authorization-server"
            ]
        );
    }
}
