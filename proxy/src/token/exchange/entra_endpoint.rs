//! Entra's token endpoint of one tenant, asked directly or through a cluster's token proxy. Sends forms and gives back raw replies; which grant it is,
//! and what a reply means, is not decided here.

use super::{
    IssuedToken, TokenType,
    error::ExchangeError,
    reply::{self, Expected, RawReply},
    wire::Form,
};
use crate::{
    net::{
        client::{AuthorityClient, ClientError, Reply, SetupError},
        token_proxy::{TokenProxy, TokenProxyParams},
    },
    token::params::AuthorityParams,
};
use http::{HeaderName, HeaderValue};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// The token endpoint of one tenant.
#[derive(Debug)]
pub(super) struct EntraEndpoint {
    way: Way,
    path: String,
}

#[derive(Debug)]
enum Way {
    Direct(AuthorityClient),
    TokenProxy(TokenProxy),
}

impl EntraEndpoint {
    /// With an identity binding the token proxy is asked, and the authority never.
    ///
    /// # Errors
    /// When the client cannot be set up (CA file, host).
    pub(super) fn new(
        authority_host: &Url,
        tenant_id: &str,
        authority: &AuthorityParams,
        identity_binding: Option<&TokenProxyParams>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            way: match identity_binding {
                Some(params) => Way::TokenProxy(TokenProxy::new(params.clone())?),
                None => Way::Direct(AuthorityClient::new(
                    authority_host,
                    authority.ca_file.as_deref(),
                    authority.proxy.as_ref(),
                )?),
            },
            path: format!("/{tenant_id}/oauth2/v2.0/token"),
        })
    }

    /// Posts a form as it is to a path of the authority.
    pub(super) async fn post_raw(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Reply, ClientError> {
        match &self.way {
            Way::Direct(client) => client.post_form(path, headers, body).await,
            Way::TokenProxy(proxy) => proxy.post_form(path, headers, body).await,
        }
    }

    /// Posts a form to the tenant's token endpoint.
    pub(super) async fn post(&self, form: Form) -> Result<Reply, ExchangeError> {
        self.post_raw(&self.path, &[], form.finish())
            .await
            .map_err(|e| ExchangeError::transport(&e))
    }
}

/// Reads a reply of Entra's.
pub(super) fn read(reply: &Reply, now: Duration) -> Result<IssuedToken, ExchangeError> {
    reply::parse(
        RawReply {
            status: reply.status,
            headers: &reply.headers,
            body: &reply.body,
        },
        Expected::AccessToken,
        TokenType::Bearer,
        now,
    )
}
