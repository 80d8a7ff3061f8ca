//! Token exchange (RFC 8693) at any authorization server, with the ways of client authentication that need no key of our own.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    bound::Binding,
    error::ExchangeError,
    reply::{self, Expected, RawReply},
    wire::{self, CLIENT_ASSERTION_JWT_BEARER, Form, GRANT_TOKEN_EXCHANGE},
};
use crate::{
    net::client::{AuthorityClient, SetupError},
    token::params::{ClientAuthentication, TokenExchangeParams},
};
use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use sidecar_runtime::clock::Clock;
use std::path::Path;
use zeroize::Zeroizing;

/// Exchanges tokens by RFC 8693.
#[derive(Debug)]
pub struct TokenExchanger {
    params: TokenExchangeParams,
    client: AuthorityClient,
    clock: Clock,
    binding: Binding,
}

impl TokenExchanger {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(params: TokenExchangeParams, clock: Clock) -> Result<Self, SetupError> {
        let client = AuthorityClient::new(
            &params.token_endpoint,
            params.authority.ca_file.as_deref(),
            params.authority.proxy.as_ref(),
        )?;
        Ok(Self {
            params,
            client,
            clock,
            binding: Binding::default(),
        })
    }

    /// The same, for a token that will be used as `binding` says.
    #[must_use]
    pub fn bound(mut self, binding: Binding) -> Self {
        self.binding = binding;
        self
    }

    /// The form of RFC 8693 section 2.1 and the headers of the client's authentication.
    fn request(
        &self,
        tokens: &SubjectTokens,
    ) -> Result<(Form, Vec<(HeaderName, HeaderValue)>), ExchangeError> {
        let p = &self.params;
        let mut form = Form::new()
            .with("grant_type", GRANT_TOKEN_EXCHANGE)
            .with_each("resource", &p.resource)
            .with_each("audience", &p.audience)
            .with_some("scope", p.scope.as_deref())
            .with_some("requested_token_type", p.requested_token_type.as_deref())
            .with("subject_token", tokens.named(&p.subject_token)?.expose())
            .with("subject_token_type", &p.subject_token_type);
        if let Some(actor) = &p.actor_token {
            form = form
                .with("actor_token", tokens.named(&actor.subject_token)?.expose())
                .with("actor_token_type", &actor.token_type);
        }
        for (name, value) in &p.parameters {
            form = form.with(name, value);
        }
        let mut headers = Vec::new();
        match &p.client_authentication {
            ClientAuthentication::None { client_id } => {
                form = form.with_some("client_id", client_id.as_deref());
            }
            ClientAuthentication::ClientSecretBasic {
                client_id,
                client_secret_file,
            } => {
                let value = wire::client_basic(client_id, &secret(client_secret_file)?)
                    .ok_or_else(|| ExchangeError::local("client_basic"))?;
                headers.push((AUTHORIZATION, value));
            }
            ClientAuthentication::ClientSecretPost {
                client_id,
                client_secret_file,
            } => {
                form = form
                    .with("client_id", client_id)
                    .with("client_secret", &secret(client_secret_file)?);
            }
            ClientAuthentication::ClientAssertion {
                client_id,
                subject_token,
            } => {
                form = form
                    .with_some("client_id", client_id.as_deref())
                    .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
                    .with("client_assertion", tokens.named(subject_token)?.expose());
            }
        }
        Ok((form, headers))
    }

    fn path_and_query(&self) -> String {
        let url = &self.params.token_endpoint;
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }
}

#[async_trait]
impl Exchanger for TokenExchanger {
    /// RFC 8693 section 2.1 knows no such field.
    fn takes_claims(&self) -> bool {
        false
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let (form, headers) = self.request(tokens)?;
        let path = self.path_and_query();
        let endpoint = &self.params.token_endpoint;
        let reply = self
            .binding
            .post(&self.client, endpoint, &path, headers, form.finish())
            .await?;
        reply::parse(
            RawReply {
                status: reply.status,
                headers: &reply.headers,
                body: &reply.body,
            },
            Expected::Exchanged(self.params.requested_token_type.as_deref()),
            self.binding.token_type,
            self.clock.unix_now(),
        )
    }
}

/// A client secret, read anew each time: its file may be rotated too. White space at the end (editors put it there) is not part of it.
fn secret(file: &Path) -> Result<Zeroizing<String>, ExchangeError> {
    let unreadable = || ExchangeError::local("client_secret_unreadable");
    let content = Zeroizing::new(std::fs::read(file).map_err(|_| unreadable())?);
    let text = std::str::from_utf8(&content)
        .map_err(|_| unreadable())?
        .trim_end();
    if text.is_empty() {
        return Err(unreadable());
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
#[path = "token_exchange_tests.rs"]
mod tests;
