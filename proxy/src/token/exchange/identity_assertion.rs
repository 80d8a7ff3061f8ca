//! Identity assertion JWT authorization grant (ID-JAG; a draft: draft-ietf-oauth-identity-assertion-authz-grant). The identity provider exchanges
//! the subject token for an assertion about its user (RFC 8693), which another domain's authorization server takes as a grant (RFC 7523).

use super::{
    Exchanger, IssuedToken, SubjectTokens, TokenType,
    bound::Binding,
    endpoint::TokenEndpoint,
    error::ExchangeError,
    reply::Expected,
    wire::{Form, GRANT_JWT_BEARER, GRANT_TOKEN_EXCHANGE, TOKEN_TYPE_ID_JAG},
};
use crate::{net::client::SetupError, token::params::IdentityAssertionParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// Gets tokens of another domain in two steps. The assertion between them is used once and kept nowhere.
#[derive(Debug)]
pub struct IdentityAssertionExchanger {
    params: IdentityAssertionParams,
    identity_provider: TokenEndpoint,
    authorization_server: TokenEndpoint,
}

impl IdentityAssertionExchanger {
    /// For a token of the second step that will be used as `binding` says.
    ///
    /// # Errors
    /// When the client for one of the two cannot be set up (CA file, host).
    pub fn new(
        params: IdentityAssertionParams,
        binding: Binding,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        // An ID-JAG is no access token, and is not for any request of ours.
        let id_jag = Binding {
            token_type: TokenType::NotAccess,
            prover: None,
        };
        let (first, second) = (&params.identity_provider, &params.authorization_server);
        Ok(Self {
            identity_provider: TokenEndpoint::new(&first.endpoint, id_jag, clock.clone())?,
            authorization_server: TokenEndpoint::new(&second.endpoint, binding, clock)?,
            params,
        })
    }

    /// The first step: the subject token for an ID-JAG, which is no access token (`N_A`).
    async fn assertion(&self, tokens: &SubjectTokens) -> Result<IssuedToken, ExchangeError> {
        let p = &self.params.identity_provider;
        let form = Form::new()
            .with("grant_type", GRANT_TOKEN_EXCHANGE)
            .with("requested_token_type", TOKEN_TYPE_ID_JAG)
            .with("audience", &p.audience)
            .with_each("resource", &p.resource)
            .with_some("scope", p.scope.as_deref())
            .with("subject_token", tokens.named(&p.subject_token)?.expose())
            .with("subject_token_type", &p.subject_token_type);
        self.identity_provider
            .request(form, tokens, Expected::Exchanged(Some(TOKEN_TYPE_ID_JAG)))
            .await
            .map_err(|e| e.in_step("identity provider"))
    }
}

#[async_trait]
impl Exchanger for IdentityAssertionExchanger {
    /// The draft knows no such field.
    fn takes_claims(&self) -> bool {
        false
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let assertion = self.assertion(tokens).await?;
        let p = &self.params.authorization_server;
        let form = Form::new()
            .with("grant_type", GRANT_JWT_BEARER)
            .with("assertion", &assertion.token)
            .with_some("scope", p.scope.as_deref());
        self.authorization_server
            .request(form, tokens, Expected::AccessToken)
            .await
            .map_err(|e| e.in_step("authorization server"))
    }
}

#[cfg(test)]
#[path = "identity_assertion_tests.rs"]
mod tests;
