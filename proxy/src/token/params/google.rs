//! Parameters of Google's token exchange.

use super::AuthorityParams;
use std::{sync::Arc, time::Duration};
use url::Url;

/// Parameters of workload identity federation: the subject token is exchanged at Google's Security Token Service, and the federated token perhaps
/// for one of a service account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GoogleStsParams {
    /// `https://sts.googleapis.com/v1/token`; https, or http on loopback.
    pub token_endpoint: Url,
    /// The workload identity pool provider: `//iam.googleapis.com/projects/…/providers/…`.
    pub audience: String,
    /// What the token that is issued in the end is for.
    pub scope: Vec<String>,
    /// Name of the subject token.
    pub subject_token: Arc<str>,
    /// `subject_token_type`, a URI.
    pub subject_token_type: String,
    /// The service account to impersonate.
    pub impersonation: Option<ImpersonationParams>,
    /// How the token endpoint is reached and trusted.
    pub authority: AuthorityParams,
}

/// Service account impersonation (`generateAccessToken` of the IAM Service Account Credentials API).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImpersonationParams {
    /// `https://iamcredentials.googleapis.com`; never a path; https, or http on loopback.
    pub endpoint: Url,
    /// The service account's e-mail address.
    pub service_account: String,
    /// How long the token shall live.
    pub lifetime: Duration,
    /// How the endpoint is reached and trusted.
    pub authority: AuthorityParams,
}
