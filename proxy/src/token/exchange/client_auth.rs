//! Client authentication at a token endpoint, for every grant: what it adds to the form and to the headers. How mutual TLS gets into the
//! connection is `endpoint`'s, with `certificate`; what a grant asks for is the grant's.

mod certificate;
pub(super) mod inspect;
mod private_key_jwt;
mod rotating;
mod signing_key;

pub(super) use certificate::CertifiedClient;

use super::{
    SubjectTokens,
    error::ExchangeError,
    wire::{self, CLIENT_ASSERTION_JWT_BEARER, Form},
};
use crate::token::params::ClientAuthentication;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use private_key_jwt::PrivateKeyJwt;
use sidecar_runtime::clock::Clock;
use std::path::Path;
use zeroize::Zeroizing;

/// Authenticates one client.
#[derive(Debug)]
pub(super) struct ClientAuth {
    params: ClientAuthentication,
    assertion: Option<PrivateKeyJwt>,
}

impl ClientAuth {
    /// `clock` dates the assertions that are signed here.
    pub(super) fn new(params: &ClientAuthentication, clock: Clock) -> Self {
        Self {
            assertion: match params {
                ClientAuthentication::PrivateKeyJwt(p) => {
                    Some(PrivateKeyJwt::new(p.clone(), clock))
                }
                _ => None,
            },
            params: params.clone(),
        }
    }

    /// Adds what authenticates the client to a form, and gives the headers that do.
    ///
    /// # Errors
    /// [`ExchangeError`] when a secret, key or subject token cannot be used.
    pub(super) fn apply(
        &self,
        form: Form,
        tokens: &SubjectTokens,
    ) -> Result<(Form, Vec<(HeaderName, HeaderValue)>), ExchangeError> {
        let mut headers = Vec::new();
        let form = match &self.params {
            ClientAuthentication::None { client_id } => {
                form.with_some("client_id", client_id.as_deref())
            }
            ClientAuthentication::ClientSecretBasic {
                client_id,
                client_secret_file,
            } => {
                let value = wire::client_basic(client_id, &secret(client_secret_file)?)
                    .ok_or_else(|| ExchangeError::local("client_basic"))?;
                headers.push((AUTHORIZATION, value));
                form
            }
            ClientAuthentication::ClientSecretPost {
                client_id,
                client_secret_file,
            } => form
                .with("client_id", client_id)
                .with("client_secret", &secret(client_secret_file)?),
            ClientAuthentication::ClientAssertion {
                client_id,
                subject_token,
            } => form
                .with_some("client_id", client_id.as_deref())
                .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
                .with("client_assertion", tokens.named(subject_token)?.expose()),
            ClientAuthentication::PrivateKeyJwt(p) => {
                let assertion = match &self.assertion {
                    Some(assertion) => assertion.sign()?,
                    None => return Err(ExchangeError::local("client_key_unusable")),
                };
                form.with("client_id", &p.client_id)
                    .with("client_assertion_type", CLIENT_ASSERTION_JWT_BEARER)
                    .with("client_assertion", &assertion)
            }
            // The certificate says the rest (RFC 8705 section 2).
            ClientAuthentication::Tls(p) => form.with("client_id", &p.client_id),
        };
        Ok((form, headers))
    }
}

/// A client secret, read anew each time: its file may be rotated too. White space at the end (editors put it there) is not part of it.
fn secret(file: &Path) -> Result<Zeroizing<String>, ExchangeError> {
    let unreadable = || ExchangeError::local("client_secret_unreadable");
    let content = rotating::read(file).map_err(|_| unreadable())?;
    let text = std::str::from_utf8(&content)
        .map_err(|_| unreadable())?
        .trim_end();
    if text.is_empty() {
        return Err(unreadable());
    }
    Ok(Zeroizing::new(text.to_owned()))
}
