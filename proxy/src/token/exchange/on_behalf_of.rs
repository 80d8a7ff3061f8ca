//! Entra's on-behalf-of grant without a secret: the pod's token proves the client, the caller's token is what is exchanged. It takes both by name and
//! does not know who the caller is.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    entra_endpoint::EntraEndpoint,
    error::ExchangeError,
    wire::{CLIENT_ASSERTION_JWT_BEARER, Form, GRANT_JWT_BEARER},
};
use crate::{net::client::SetupError, token::params::EntraOnBehalfOfParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// Gets tokens on behalf of a caller.
#[derive(Debug)]
pub struct OnBehalfOfExchanger {
    params: EntraOnBehalfOfParams,
    endpoint: EntraEndpoint,
}

impl OnBehalfOfExchanger {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(params: EntraOnBehalfOfParams, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: EntraEndpoint::new(&params.tenant, clock)?,
            params,
        })
    }
}

#[async_trait]
impl Exchanger for OnBehalfOfExchanger {
    fn takes_claims(&self) -> bool {
        true
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let p = &self.params;
        let form = Form::new()
            .with("client_id", &p.client_id)
            .with("grant_type", GRANT_JWT_BEARER)
            .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
            .with(
                "client_assertion",
                tokens.named(&p.client_assertion)?.expose(),
            )
            .with("assertion", tokens.named(&p.assertion)?.expose())
            .with("requested_token_use", "on_behalf_of")
            .with("scope", &p.scope)
            .with_some("claims", claims);
        self.endpoint.request(form).await
    }
}

#[cfg(test)]
#[path = "on_behalf_of_tests.rs"]
mod tests;
