//! Client authentication at a token endpoint: which method, with what. Secrets are only ever paths of files.

use std::{path::PathBuf, sync::Arc};

/// Client authentication at a token endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2, RFC 8705 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientAuthentication {
    /// None; `client_id` is sent when given (public client).
    None {
        /// `client_id`, when the server wants one.
        client_id: Option<String>,
    },
    /// HTTP Basic, both parts form-encoded first (RFC 6749 section 2.3.1).
    ClientSecretBasic {
        /// `client_id`.
        client_id: String,
        /// File that holds the secret; read at each exchange.
        client_secret_file: PathBuf,
    },
    /// `client_id` and `client_secret` in the form.
    ClientSecretPost {
        /// `client_id`.
        client_id: String,
        /// File that holds the secret; read at each exchange.
        client_secret_file: PathBuf,
    },
    /// `client_assertion` taken from a subject token (federated client authentication).
    ClientAssertion {
        /// `client_id`, when the server wants one beside the assertion.
        client_id: Option<String>,
        /// Name of the subject token.
        subject_token: Arc<str>,
    },
    /// `client_assertion` signed with a key of our own (`private_key_jwt`, OpenID Connect Core section 9).
    PrivateKeyJwt(PrivateKeyJwtParams),
    /// Mutual TLS (RFC 8705 section 2); `client_id` in the form.
    Tls(TlsClientParams),
}

impl ClientAuthentication {
    /// The name of the subject token that it sends, if it sends one.
    pub const fn subject_token(&self) -> Option<&Arc<str>> {
        match self {
            Self::ClientAssertion { subject_token, .. } => Some(subject_token),
            _ => None,
        }
    }

    /// Leaves the client as it is, and forgets where what proves it lies.
    pub(super) fn forget_files(&mut self) {
        match self {
            Self::ClientSecretBasic {
                client_secret_file, ..
            }
            | Self::ClientSecretPost {
                client_secret_file, ..
            } => client_secret_file.clear(),
            Self::PrivateKeyJwt(p) => {
                p.key_file.clear();
                p.certificate_file = None;
            }
            Self::Tls(p) => {
                p.key_file.clear();
                p.certificate_file.clear();
            }
            Self::None { .. } | Self::ClientAssertion { .. } => {}
        }
    }
}

/// Parameters of `private_key_jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrivateKeyJwtParams {
    /// `client_id`, `iss` and `sub`.
    pub client_id: String,
    /// PEM (PKCS#8, PKCS#1, SEC 1) or a private JWK; read at each exchange.
    pub key_file: PathBuf,
    /// `alg`; without it the JWK's, else RS256 for an RSA key and the curve's own for an EC key.
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`; without it the JWK's, else none.
    pub key_id: Option<String>,
    /// PEM file with the certificate of the key, for `x5t#S256`; read at each exchange.
    pub certificate_file: Option<PathBuf>,
    /// `aud`.
    pub audience: String,
}

/// Parameters of mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsClientParams {
    /// `client_id`.
    pub client_id: String,
    /// PEM file with the client's certificate and what leads from it to the root; read at each exchange.
    pub certificate_file: PathBuf,
    /// PEM file with the certificate's key; read at each exchange.
    pub key_file: PathBuf,
}

/// How a client assertion is signed (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of RFC 7518")]
pub enum SigningAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
    ];

    /// `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}
