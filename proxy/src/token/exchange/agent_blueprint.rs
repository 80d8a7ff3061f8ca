//! Entra Agent ID, first step: an agent identity blueprint, proven by the pod's token, gets the token with which one of its agent identities signs in
//! (`fmi_path`). The second step is an ordinary grant that has that token as its client assertion.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    entra_endpoint::EntraEndpoint,
    error::ExchangeError,
    wire::{CLIENT_ASSERTION_JWT_BEARER, Form, GRANT_CLIENT_CREDENTIALS},
};
use crate::{net::client::SetupError, token::params::EntraAgentBlueprintParams};
use async_trait::async_trait;
use sidecar_runtime::clock::Clock;

/// What the token is for: to be exchanged, at Entra itself.
const SCOPE: &str = "api://AzureADTokenExchange/.default";

/// Gets the token of a blueprint for an agent identity.
#[derive(Debug)]
pub struct AgentBlueprintExchanger {
    params: EntraAgentBlueprintParams,
    endpoint: EntraEndpoint,
}

impl AgentBlueprintExchanger {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(params: EntraAgentBlueprintParams, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: EntraEndpoint::new(&params.tenant, clock)?,
            params,
        })
    }
}

#[async_trait]
impl Exchanger for AgentBlueprintExchanger {
    /// No upstream ever sees its token, so none can challenge it.
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
            .with("client_id", &p.client_id)
            .with("scope", SCOPE)
            .with("fmi_path", &p.agent_identity)
            .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
            .with(
                "client_assertion",
                tokens.named(&p.client_assertion)?.expose(),
            )
            .with("grant_type", GRANT_CLIENT_CREDENTIALS);
        self.endpoint.request(form).await
    }
}
