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
    /// For a token that will be used as `binding` says.
    ///
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(
        params: JwtBearerParams,
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
            .with_target(&p.target);
        self.endpoint
            .request(form, tokens, Expected::AccessToken)
            .await
    }
}

#[cfg(test)]
#[path = "jwt_bearer_tests.rs"]
mod tests;
