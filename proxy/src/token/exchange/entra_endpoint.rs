//! Entra's token endpoint of one tenant, asked directly or through a cluster's token proxy. Sends forms and reads replies; which grant
//! a form is for is not decided here.

use super::{
    IssuedToken, TokenType,
    error::ExchangeError,
    reply::{self, Expected},
    wire::Form,
};
use crate::{
    net::{
        client::{AuthorityClient, ClientError, Reply, SetupError},
        token_proxy::TokenProxy,
    },
    token::params::TenantParams,
};
use http::{HeaderName, HeaderValue};
use sidecar_runtime::clock::Clock;
use zeroize::Zeroizing;

/// The token endpoint of one tenant.
#[derive(Debug)]
pub(super) struct EntraEndpoint {
    way: Way,
    path: String,
    clock: Clock,
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
    pub(super) fn new(tenant: &TenantParams, clock: Clock) -> Result<Self, SetupError> {
        let TenantParams {
            authority_host,
            tenant_id,
            identity_binding,
            authority,
        } = tenant;
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
            clock,
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

    /// Posts a form to the tenant's token endpoint, and reads the reply.
    pub(super) async fn request(&self, form: Form) -> Result<IssuedToken, ExchangeError> {
        let reply = self.post_raw(&self.path, &[], form.finish()).await;
        self.read(&reply.map_err(|e| ExchangeError::transport(&e))?)
    }

    /// Reads a reply to [`EntraEndpoint::post_raw`].
    pub(super) fn read(&self, reply: &Reply) -> Result<IssuedToken, ExchangeError> {
        reply::parse(
            reply.into(),
            Expected::AccessToken,
            TokenType::Bearer,
            self.clock.unix_now(),
        )
    }
}
