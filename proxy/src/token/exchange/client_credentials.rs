//! Client credentials (RFC 6749 section 4.4): the client asks for itself. How it authenticates is `client_auth`'s; Entra's variant with a
//! projected token is `entra`.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    bound::Binding,
    endpoint::TokenEndpoint,
    error::ExchangeError,
    reply::Expected,
    wire::{Form, GRANT_CLIENT_CREDENTIALS},
};
use crate::{net::client::SetupError, token::params::ClientCredentialsParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// Gets tokens for the client itself.
#[derive(Debug)]
pub struct ClientCredentialsExchanger {
    params: ClientCredentialsParams,
    endpoint: TokenEndpoint,
}

impl ClientCredentialsExchanger {
    /// For a token that will be used as `binding` says.
    ///
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(
        params: ClientCredentialsParams,
        binding: Binding,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: TokenEndpoint::new(&params.endpoint, binding, clock)?,
            params,
        })
    }
}

#[async_trait]
impl Exchanger for ClientCredentialsExchanger {
    /// No specification gives this request such a field.
    fn takes_claims(&self) -> bool {
        false
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let p = &self.params;
        let form = Form::new()
            .with("grant_type", GRANT_CLIENT_CREDENTIALS)
            .with_target(&p.target);
        self.endpoint
            .request(form, tokens, Expected::AccessToken)
            .await
    }
}

#[cfg(test)]
#[path = "client_credentials_tests.rs"]
mod tests;
