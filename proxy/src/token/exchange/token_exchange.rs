//! Token exchange (RFC 8693) at any authorization server. How the client authenticates is `client_auth`'s.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    bound::Binding,
    delegation,
    endpoint::TokenEndpoint,
    error::ExchangeError,
    reply::Expected,
    wire::{Form, GRANT_TOKEN_EXCHANGE},
};
use crate::{net::client::SetupError, token::params::TokenExchangeParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// Exchanges tokens by RFC 8693.
#[derive(Debug)]
pub struct TokenExchanger {
    params: TokenExchangeParams,
    endpoint: TokenEndpoint,
}

impl TokenExchanger {
    /// For a token that will be used as `binding` says.
    ///
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(
        params: TokenExchangeParams,
        binding: Binding,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: TokenEndpoint::new(&params.endpoint, binding, clock)?,
            params,
        })
    }

    /// The form of RFC 8693 section 2.1.
    fn form(&self, tokens: &SubjectTokens) -> Result<Form, ExchangeError> {
        let p = &self.params;
        let subject = tokens.named(&p.subject_token)?;
        let mut form = Form::new()
            .with("grant_type", GRANT_TOKEN_EXCHANGE)
            .with_target(&p.target)
            .with_some("requested_token_type", p.requested_token_type.as_deref())
            .with("subject_token", subject.expose())
            .with("subject_token_type", &p.subject_token_type);
        if let Some(actor) = &p.actor_token {
            let token = tokens.named(&actor.subject_token)?;
            delegation::check_may_act(subject, token)?;
            form = form
                .with("actor_token", token.expose())
                .with("actor_token_type", &actor.token_type);
        }
        Ok(form)
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
        let issued = self
            .endpoint
            .request(
                self.form(tokens)?,
                tokens,
                Expected::Exchanged(self.params.requested_token_type.as_deref()),
            )
            .await?;
        if let Some(actor) = self.params.actor_token.as_ref().filter(|a| a.require_act) {
            delegation::check_act(&issued.token, tokens.named(&actor.subject_token)?)?;
        }
        Ok(issued)
    }
}

#[cfg(test)]
#[path = "token_exchange_tests.rs"]
mod tests;
