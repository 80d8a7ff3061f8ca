//! Whether what a client authenticates with is there and fit for use, without asking anybody: the same files, read in the same way as for an exchange. For the doctor.

use super::{
    super::error::ExchangeError, certificate, private_key_jwt, rotating, secret,
    signing_key::SigningKey,
};
use crate::{net::tls::ClientCertificate, token::params::ClientAuthentication};

/// What a client authenticates with, as far as its files tell.
#[derive(Debug)]
pub enum Proof {
    /// No files: nothing, or a subject token.
    Nothing,
    /// A secret.
    Secret,
    /// A key that signs assertions.
    Key {
        /// `an RSA key of 2048 bits`, …
        kind: String,
        /// `alg`.
        algorithm: &'static str,
        /// `kid`, when one is sent.
        key_id: Option<String>,
        /// The key's certificate (DER), when one is named.
        certificate: Option<Vec<u8>>,
    },
    /// A certificate with its key.
    Certificate(ClientCertificate),
}

/// Reads the files.
///
/// # Errors
/// [`ExchangeError`], as an exchange would end with.
pub fn inspect(authentication: &ClientAuthentication) -> Result<Proof, ExchangeError> {
    let read = |file, code| rotating::read(file).map_err(|_| ExchangeError::local(code));
    Ok(match authentication {
        ClientAuthentication::None { .. } | ClientAuthentication::ClientAssertion { .. } => {
            Proof::Nothing
        }
        ClientAuthentication::ClientSecretBasic {
            client_secret_file, ..
        }
        | ClientAuthentication::ClientSecretPost {
            client_secret_file, ..
        } => {
            secret(client_secret_file)?;
            Proof::Secret
        }
        ClientAuthentication::PrivateKeyJwt(p) => {
            let content = read(&p.key_file, "client_key_unreadable")?;
            let key = private_key_jwt::parse(&content, p.algorithm)?;
            let certificate = match &p.certificate_file {
                None => None,
                Some(file) => {
                    let pem = read(file, "client_certificate_unreadable")?;
                    Some(private_key_jwt::certificate(&pem, &key)?.to_vec())
                }
            };
            Proof::Key {
                kind: kind(&key),
                algorithm: key.algorithm().name(),
                key_id: p.key_id.clone().or_else(|| key.id().map(str::to_owned)),
                certificate,
            }
        }
        ClientAuthentication::Tls(p) => {
            let chain = read(&p.certificate_file, "client_certificate_unreadable")?;
            let key = read(&p.key_file, "client_key_unreadable")?;
            Proof::Certificate(certificate::pair(&chain, &key)?)
        }
    })
}

fn kind(key: &SigningKey) -> String {
    match key.bits() {
        Some(bits) => format!("an RSA key of {bits} bits"),
        None => "an EC key".to_owned(),
    }
}
