//! Google's workload identity federation: the subject token is exchanged at the Security Token Service (an RFC 8693 endpoint that wants no client
//! authentication), and the federated token, when a service account is named, for one of that account. Both in one attempt: the federated token
//! is kept nowhere.

mod impersonation;

use super::{
    Exchanger, IssuedToken, SubjectTokens, TokenType,
    error::ExchangeError,
    reply::{self, Expected, RawReply},
    wire::{Form, GRANT_TOKEN_EXCHANGE},
};
use crate::{
    net::client::{AuthorityClient, SetupError},
    token::params::GoogleStsParams,
};
use async_trait::async_trait;
use impersonation::Impersonation;
use sidecar_runtime::clock::Clock;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// All that a federated token needs to impersonate a service account.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

/// Gets tokens from Google.
#[derive(Debug)]
pub struct GoogleStsExchanger {
    params: GoogleStsParams,
    client: AuthorityClient,
    impersonation: Option<Impersonation>,
    clock: Clock,
}

impl GoogleStsExchanger {
    /// # Errors
    /// When a client cannot be set up (CA file, host).
    pub fn new(params: GoogleStsParams, clock: Clock) -> Result<Self, SetupError> {
        let client = AuthorityClient::new(
            &params.token_endpoint,
            params.authority.ca_file.as_deref(),
            params.authority.proxy.as_ref(),
        )?;
        let impersonation = params
            .impersonation
            .as_ref()
            .map(|p| Impersonation::new(p, &params.scope))
            .transpose()?;
        Ok(Self {
            params,
            client,
            impersonation,
            clock,
        })
    }

    /// The exchange proper. No `Authorization` goes with it: the endpoint refuses one.
    async fn federated(&self, tokens: &SubjectTokens) -> Result<IssuedToken, ExchangeError> {
        let p = &self.params;
        let scope = match self.impersonation {
            Some(_) => IAM_SCOPE.to_owned(),
            None => p.scope.join(" "),
        };
        let form = Form::new()
            .with("grant_type", GRANT_TOKEN_EXCHANGE)
            .with("audience", &p.audience)
            .with("scope", &scope)
            .with("requested_token_type", ACCESS_TOKEN)
            .with("subject_token", tokens.named(&p.subject_token)?.expose())
            .with("subject_token_type", &p.subject_token_type);
        let reply = self
            .client
            .post_form(p.token_endpoint.path(), &[], form.finish())
            .await
            .map_err(|e| ExchangeError::transport(&e))?;
        reply::parse(
            RawReply::from(&reply),
            Expected::Exchanged(Some(ACCESS_TOKEN)),
            TokenType::Bearer,
            self.clock.unix_now(),
        )
    }
}

#[async_trait]
impl Exchanger for GoogleStsExchanger {
    fn takes_claims(&self) -> bool {
        false
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let federated = self.federated(tokens).await?;
        match &self.impersonation {
            None => Ok(federated),
            Some(impersonation) => impersonation.generate(&federated, &self.clock).await,
        }
    }
}

#[cfg(test)]
#[path = "google_sts_tests.rs"]
mod tests;
