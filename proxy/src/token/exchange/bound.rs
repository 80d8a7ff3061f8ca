//! What a token request says about how the token will be used: of which type it must be, and, for one that is bound by DPoP (RFC 9449 section 5), the proof of
//! the key, once more when the authority wants a nonce in it (section 8).

use super::{TokenType, error::ExchangeError, wire::Form};
use crate::{
    net::client::{AuthorityClient, Reply},
    token::{
        dpop::{DPOP, Prover, USE_NONCE},
        injection::Injection,
    },
};
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use std::sync::Arc;
use url::Url;

/// How a token will be used.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Its type.
    pub token_type: TokenType,
    /// Makes proofs, when it is to be bound.
    pub prover: Option<Arc<Prover>>,
}

impl Default for Binding {
    /// A bearer token.
    fn default() -> Self {
        Self {
            token_type: TokenType::Bearer,
            prover: None,
        }
    }
}

impl Binding {
    /// For a token that is put on requests by `injection`; `prover` is used when that binds it.
    pub fn of(injection: &Injection, prover: Option<&Arc<Prover>>) -> Self {
        Self {
            token_type: injection.token_type,
            prover: prover
                .filter(|_| injection.token_type == TokenType::DPoP)
                .cloned(),
        }
    }

    /// Posts a form to the token endpoint, with what the binding needs. `request` makes form and headers, once for each time that they are sent.
    ///
    /// # Errors
    /// When there is no reply, no proof can be made, or `request` fails.
    pub async fn post(
        &self,
        client: &AuthorityClient,
        endpoint: &Url,
        path_and_query: &str,
        request: impl Fn() -> Result<(Form, Vec<(HeaderName, HeaderValue)>), ExchangeError>,
    ) -> Result<Reply, ExchangeError> {
        let Some(prover) = &self.prover else {
            let (form, headers) = request()?;
            return client
                .post_form(path_and_query, &headers, form.finish())
                .await
                .map_err(|e| ExchangeError::transport(&e));
        };
        let mut again = true;
        loop {
            let (form, mut headers) = request()?;
            let proof = prover
                .proof(&Method::POST, endpoint, None)
                .ok_or_else(|| ExchangeError::local("dpop_proof"))?;
            headers.push((DPOP, proof));
            let reply = client
                .post_form(path_and_query, &headers, form.finish())
                .await
                .map_err(|e| ExchangeError::transport(&e))?;
            let news = prover.note(endpoint, &reply.headers);
            // Only a nonce that is another one is worth another request.
            if !(again && news && wants_nonce(&reply)) {
                return Ok(reply);
            }
            again = false;
        }
    }
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    error: std::borrow::Cow<'a, str>,
}

fn wants_nonce(reply: &Reply) -> bool {
    (400..500).contains(&reply.status)
        && serde_json::from_slice::<ErrorBody<'_>>(&reply.body).is_ok_and(|b| b.error == USE_NONCE)
}
