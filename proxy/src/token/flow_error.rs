//! Why the token flow cannot be built. Of names in the configuration alone: no secret, no text of an authority.

use super::params::Circle;
use crate::net::client::SetupError;
use std::sync::Arc;

/// Why the token flow cannot be built as configured.
#[derive(Debug, thiserror::Error)]
pub enum TokenFlowError {
    /// A credential's authority cannot be set up.
    #[error("credential `{credential}`")]
    Authority {
        /// Which credential.
        credential: Arc<str>,
        /// What is wrong.
        #[source]
        source: SetupError,
    },
    /// A credential names a subject token that is not configured.
    #[error(
        "credential `{credential}` names the subject token `{subject_token}`, which is not configured; add it under subjectTokens"
    )]
    UnknownSubjectToken {
        /// Which credential.
        credential: Arc<str>,
        /// The name that is missing.
        subject_token: Arc<str>,
    },
    /// A subject token is to be the token of a credential that is not configured.
    #[error(
        "the subject token `{subject_token}` is to be the token of credential `{credential}`, which is not configured; add it under credentials"
    )]
    UnknownCredential {
        /// Which subject token.
        subject_token: Arc<str>,
        /// The name that is missing.
        credential: Arc<str>,
    },
    /// A subject token is to be the token of a credential that has one for each caller.
    #[error(
        "the subject token `{subject_token}` is to be the token of credential `{credential}`, which has no token of its own but one for each caller; name a credential that does not use the caller's token"
    )]
    ParentForCallers {
        /// Which subject token.
        subject_token: Arc<str>,
        /// The credential.
        credential: Arc<str>,
    },
    /// There is no key to bind tokens to.
    #[error("the system gives no randomness, so no key for DPoP can be made")]
    NoRandomness,
    /// A series could not be made.
    #[error("a metric is registered twice; this is a defect, please report it")]
    Metrics(#[source] prometheus::Error),
    /// Credentials wait for each other's tokens.
    #[error("credentials use each other's tokens in a circle: {0}; get one of them in another way")]
    Circle(Circle),
}
