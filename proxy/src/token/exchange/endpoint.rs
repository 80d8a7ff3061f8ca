//! A token endpoint: one form posted, the client authenticated, the reply read. What the form asks for is the grant's; when, the renewer's.

use super::{
    IssuedToken, SubjectTokens,
    bound::Binding,
    client_auth::{CertifiedClient, ClientAuth},
    error::ExchangeError,
    reply::{self, Expected, RawReply},
    wire::Form,
};
use crate::{
    net::client::{AuthorityClient, SetupError},
    token::params::{ClientAuthentication, EndpointParams},
};
use sidecar_runtime::clock::Clock;
use std::sync::Arc;
use url::Url;

/// One token endpoint, as one client.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    url: Url,
    path_and_query: String,
    client: Client,
    auth: ClientAuth,
    parameters: Vec<(String, String)>,
    clock: Clock,
    binding: Binding,
}

#[derive(Debug)]
enum Client {
    Plain(Arc<AuthorityClient>),
    Certified(Box<CertifiedClient>),
}

impl TokenEndpoint {
    /// For tokens that will be used as `binding` says.
    ///
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub(super) fn new(
        params: &EndpointParams,
        binding: Binding,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        let EndpointParams {
            url,
            client_authentication,
            parameters,
            authority,
        } = params;
        let client = match client_authentication {
            ClientAuthentication::Tls(tls) => {
                Client::Certified(Box::new(CertifiedClient::new(url, authority, tls)?))
            }
            _ => Client::Plain(Arc::new(AuthorityClient::new(
                url,
                authority.ca_file.as_deref(),
                authority.proxy.as_ref(),
            )?)),
        };
        Ok(Self {
            url: url.clone(),
            path_and_query: match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            },
            client,
            auth: ClientAuth::new(client_authentication, clock.clone()),
            parameters: parameters.clone(),
            clock,
            binding,
        })
    }

    /// Posts a grant's form, with the extra form fields and what authenticates the client added.
    ///
    /// # Errors
    /// [`ExchangeError`]: the client cannot be authenticated, the endpoint cannot be talked to or refused, or its reply is not as the
    /// specification says.
    pub(super) async fn request(
        &self,
        form: Form,
        tokens: &SubjectTokens,
        expected: Expected<'_>,
    ) -> Result<IssuedToken, ExchangeError> {
        let client = match &self.client {
            Client::Plain(client) => Arc::clone(client),
            Client::Certified(certified) => certified.current()?,
        };
        let form = form.with_pairs(&self.parameters);
        // Anew for each request: an assertion is good once.
        let request = || self.auth.apply(form.clone(), tokens);
        let reply = self
            .binding
            .post(&client, &self.url, &self.path_and_query, request)
            .await?;
        reply::parse(
            RawReply::from(&reply),
            expected,
            self.binding.token_type,
            self.clock.unix_now(),
        )
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
