//! A token endpoint: one form posted, the client authenticated, the reply read. What the form asks for is the grant's; when, the renewer's.

use super::{
    IssuedToken, SubjectTokens, TokenType,
    client_auth::{CertifiedClient, ClientAuth},
    error::ExchangeError,
    reply::{self, Expected, RawReply},
    wire::Form,
};
use crate::{
    net::client::{AuthorityClient, SetupError},
    token::params::{AuthorityParams, ClientAuthentication},
};
use sidecar_runtime::clock::Clock;
use std::sync::Arc;
use url::Url;

/// One token endpoint, as one client.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    path_and_query: String,
    client: Client,
    auth: ClientAuth,
    clock: Clock,
}

#[derive(Debug)]
enum Client {
    Plain(Arc<AuthorityClient>),
    Certified(Box<CertifiedClient>),
}

impl TokenEndpoint {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub(super) fn new(
        url: &Url,
        authority: &AuthorityParams,
        authentication: &ClientAuthentication,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        let client = match authentication {
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
            path_and_query: match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            },
            client,
            auth: ClientAuth::new(authentication, clock.clone()),
            clock,
        })
    }

    /// Posts a grant's form, with what authenticates the client added.
    ///
    /// # Errors
    /// [`ExchangeError`]: the client cannot be authenticated, the endpoint cannot be talked to or refused, or its reply is not as the
    /// specification says.
    pub(super) async fn request(
        &self,
        form: Form,
        tokens: &SubjectTokens,
        expected: Expected<'_>,
        token_type: TokenType,
    ) -> Result<IssuedToken, ExchangeError> {
        let client = match &self.client {
            Client::Plain(client) => Arc::clone(client),
            Client::Certified(certified) => certified.current()?,
        };
        let (form, headers) = self.auth.apply(form, tokens)?;
        let reply = client
            .post_form(&self.path_and_query, &headers, form.finish())
            .await
            .map_err(|e| ExchangeError::transport(&e))?;
        reply::parse(
            RawReply {
                status: reply.status,
                headers: &reply.headers,
                body: &reply.body,
            },
            expected,
            token_type,
            self.clock.unix_now(),
        )
    }
}
