//! A JWT as authorization grant (RFC 7523 section 2.1): the `assertion` is a subject token. Not to be taken for a JWT that authenticates the
//! client (section 2.2), which is `client_auth`'s.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    bound::Binding,
    endpoint::TokenEndpoint,
    error::ExchangeError,
    reply::Expected,
    wire::{Form, GRANT_JWT_BEARER},
};
use crate::{net::client::SetupError, token::params::JwtBearerParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// Gets tokens for what a JWT says.
#[derive(Debug)]
pub struct JwtBearerExchanger {
    params: JwtBearerParams,
    endpoint: TokenEndpoint,
}

impl JwtBearerExchanger {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(params: JwtBearerParams, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: TokenEndpoint::new(
                &params.token_endpoint,
                &params.authority,
                &params.client_authentication,
                clock,
            )?,
            params,
        })
    }

    /// The same, for a token that will be used as `binding` says.
    #[must_use]
    pub fn bound(mut self, binding: Binding) -> Self {
        self.endpoint = self.endpoint.bound(binding);
        self
    }
}

#[async_trait]
impl Exchanger for JwtBearerExchanger {
    /// RFC 7523 knows no such field.
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
            .with("grant_type", GRANT_JWT_BEARER)
            .with("assertion", tokens.named(&p.assertion)?.expose())
            .with_each("resource", &p.resource)
            .with_each("audience", &p.audience)
            .with_some("scope", p.scope.as_deref())
            .with_pairs(&p.parameters);
        self.endpoint
            .request(form, tokens, Expected::AccessToken)
            .await
    }
}

#[cfg(test)]
#[path = "jwt_bearer_tests.rs"]
mod tests;
