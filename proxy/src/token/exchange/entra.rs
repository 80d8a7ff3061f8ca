//! Entra: client_credentials with the subject token as client assertion. azure_identity builds the request, from a fresh credential each time and
//! over our own transport; the reply is kept as it came and read by `reply`. What the library cannot say (claims) is built by `wire`.

use super::{
    Exchanger, IssuedToken, SubjectTokens,
    entra_endpoint::EntraEndpoint,
    error::ExchangeError,
    wire::{CLIENT_ASSERTION_JWT_BEARER, Form, GRANT_CLIENT_CREDENTIALS},
};
use crate::{
    net::client::{ClientError, Reply, SetupError},
    token::params::EntraClientAssertionParams,
};
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::TokenCredential as _,
    error::ErrorKind,
    http::{
        AsyncRawResponse, Body, ClientMethodOptions, ClientOptions, HttpClient, Request,
        RetryOptions, StatusCode, Transport, headers::Headers,
    },
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
};
use http::{HeaderName, HeaderValue};
use sidecar_runtime::clock::Clock;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// Gets tokens from Entra.
#[derive(Debug)]
pub struct EntraExchanger {
    params: EntraClientAssertionParams,
    endpoint: Arc<EntraEndpoint>,
}

impl EntraExchanger {
    /// # Errors
    /// When the client for the authority cannot be set up (CA file, host).
    pub fn new(params: EntraClientAssertionParams, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self {
            endpoint: Arc::new(EntraEndpoint::new(&params.tenant, clock)?),
            params,
        })
    }

    /// Through azure_identity.
    async fn through_library(&self, assertion: &str) -> Result<Reply, ExchangeError> {
        let transport = Arc::new(Recorder {
            endpoint: Arc::clone(&self.endpoint),
            outcome: Mutex::new(None),
        });
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority_host();
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::clone(&transport) as Arc<dyn HttpClient>)),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        };
        let credential = ClientAssertionCredential::new(
            self.params.tenant.tenant_id.clone(),
            self.params.client_id.clone(),
            Assertion(Zeroizing::new(assertion.to_owned())),
            Some(ClientAssertionCredentialOptions { client_options }),
        )
        .map_err(|_| ExchangeError::local("entra_request"))?;
        // What the library makes of it is of no interest; it gets a stand-in for the reply (see `Recorder`).
        let made = credential.get_token(&[&self.params.scope], None).await;
        match (transport.take(), made) {
            (Some(Ok(reply)), _) => Ok(reply),
            (Some(Err(error)), _) => Err(ExchangeError::transport(&error)),
            (None, _) => Err(ExchangeError::local("entra_request")),
        }
    }

    /// The same request with `claims`, which the library cannot send.
    async fn with_claims(
        &self,
        assertion: &str,
        claims: &str,
    ) -> Result<IssuedToken, ExchangeError> {
        let form = Form::new()
            .with("client_assertion", assertion)
            .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
            .with("client_id", &self.params.client_id)
            .with("grant_type", GRANT_CLIENT_CREDENTIALS)
            .with("scope", &self.params.scope)
            .with("claims", claims);
        self.endpoint.request(form).await
    }

    /// The library wants https and drops paths; the transport dials what was configured, whatever stands here.
    fn authority_host(&self) -> String {
        let url = &self.params.tenant.authority_host;
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => format!("https://{host}:{port}"),
            None => format!("https://{host}"),
        }
    }
}

#[async_trait::async_trait]
impl Exchanger for EntraExchanger {
    fn takes_claims(&self) -> bool {
        true
    }

    async fn exchange(
        &self,
        tokens: &SubjectTokens,
        claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        let assertion = tokens.named(&self.params.subject_token)?.expose();
        match claims {
            None => {
                let reply = self.through_library(assertion).await?;
                self.endpoint.read(&reply)
            }
            Some(claims) => self.with_claims(assertion, claims).await,
        }
    }
}

struct Assertion(Zeroizing<String>);

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.as_str().to_owned())
    }
}

/// The library's transport: sends its request through our client and keeps what came of it. The library itself is always shown the same small
/// success: it would keep copies of the token that nobody wipes, hide the status of replies that are not JSON, and overflow on an absurd
/// `expires_in`.
struct Recorder {
    endpoint: Arc<EntraEndpoint>,
    outcome: Mutex<Option<Result<Reply, ClientError>>>,
}

const STAND_IN: &[u8] = br#"{"token_type":"Bearer","expires_in":3600,"access_token":"-"}"#;

impl Recorder {
    fn take(&self) -> Option<Result<Reply, ClientError>> {
        self.outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpClient for Recorder {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(azure_core::Error::with_message(
                ErrorKind::Other,
                "a form has bytes",
            ));
        };
        // Our own client sets what a form needs; of the library's headers the request id is of use in support cases.
        let headers: Vec<_> = request
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str().ends_with("client-request-id"))
            .filter_map(|(name, value)| {
                Some((
                    HeaderName::from_bytes(name.as_str().as_bytes()).ok()?,
                    HeaderValue::from_str(value.as_str()).ok()?,
                ))
            })
            .collect();
        let outcome = self
            .endpoint
            .post_raw(
                request.url().path(),
                &headers,
                Zeroizing::new(body.to_vec()),
            )
            .await;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            STAND_IN,
        ))
    }
}

#[cfg(test)]
#[path = "entra_tests.rs"]
mod tests;
