//! What the development authority knows: tenants, applications with their federated credentials, resources, exchange clients, lifetimes.

use super::google::GoogleOptions;
use crate::{certs::Alpn, issuer::ENTRA_AUDIENCE};
use http::HeaderValue;
use jsonwebtoken::{Algorithm, jwk::JwkSet};
use std::{collections::HashSet, time::Duration};

/// The tenant of the default options.
pub const TENANT: &str = "11111111-1111-4111-8111-111111111111";
/// The application of the default options.
pub const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
/// The agent identity of the default options; its blueprint is [`CLIENT`].
pub const AGENT: &str = "55555555-5555-4555-8555-555555555555";
/// The resource of the default options; its scope is [`SCOPE`].
pub const RESOURCE: &str = "api://backend";
/// The scope of the default options.
pub const SCOPE: &str = "api://backend/.default";

/// What the authority knows. Change it while it runs with [`super::Authority::configure`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The one tenant.
    pub tenant: String,
    /// Its applications.
    pub applications: Vec<Application>,
    /// Application id URIs of the resources that tokens are issued for; each is also an audience and a resource of the RFC 8693 endpoint.
    pub resources: Vec<String>,
    /// Who may exchange tokens at the RFC 8693 endpoint, and how they authenticate.
    pub sts_client: StsClient,
    /// Who may redeem ID-JAGs at the endpoint of the resource's authorization server.
    pub resource_client: StsClient,
    /// What happens to client certificates of its own CA (mutual TLS). Decided at the start.
    pub certificates: Certificates,
    /// `Date` of its answers, when it is not the true one.
    pub date: Option<HeaderValue>,
    /// Audiences that a subject token may have at the RFC 8693 endpoint.
    pub sts_subject_audiences: Vec<String>,
    /// Scopes that the RFC 8693 endpoint grants.
    pub sts_scopes: Vec<String>,
    /// The tenant's agent identities.
    pub agent_identities: Vec<AgentIdentity>,
    /// What holds for users when something is done on their behalf.
    pub users: UserPolicies,
    /// What Google's endpoints know.
    pub google: GoogleOptions,
    /// How long issued tokens live.
    pub access_token_lifetime: Duration,
    /// `refresh_in` of the replies; left out when `None`.
    pub refresh_in: Option<Duration>,
    /// Issue this literal instead of signed tokens, and accept nothing else (for benchmarks).
    pub fixed_access_token: Option<String>,
    /// Names of the authority's certificate beside localhost (a cloud's host name, reached through a forward proxy).
    pub names: Vec<String>,
    /// What its listener negotiates.
    pub alpn: Alpn,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tenant: TENANT.into(),
            applications: vec![Application {
                client_id: CLIENT.into(),
                federated: vec![FederatedCredential::default()],
            }],
            resources: vec![
                RESOURCE.into(),
                "https://orders.example.com".into(),
                "orders".into(),
            ],
            sts_client: StsClient::None,
            resource_client: StsClient::None,
            certificates: Certificates::Ignored,
            date: None,
            sts_subject_audiences: vec![ENTRA_AUDIENCE.into()],
            sts_scopes: vec!["orders.read".into(), "orders.write".into()],
            agent_identities: vec![AgentIdentity {
                client_id: AGENT.into(),
                blueprint: CLIENT.into(),
            }],
            users: UserPolicies::default(),
            google: GoogleOptions::default(),
            access_token_lifetime: Duration::from_secs(3600),
            refresh_in: None,
            fixed_access_token: None,
            names: vec![],
            alpn: Alpn::Both,
        }
    }
}

/// What a server does about certificates of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// None are asked for.
    Ignored,
    /// They are asked for; none need be shown.
    Asked,
    /// Without one there is no connection.
    Demanded,
}

/// An agent identity (Entra Agent ID).
#[derive(Debug, Clone)]
pub struct AgentIdentity {
    /// Its client id.
    pub client_id: String,
    /// Client id of its blueprint, which must be an application.
    pub blueprint: String,
}

/// What the tenant's policies say of users.
#[derive(Debug, Clone)]
pub struct UserPolicies {
    /// They have consented to what clients ask for on their behalf (else AADSTS65001).
    pub consented: bool,
    /// They must have signed in with a second factor, or the claims challenge be answered (else AADSTS50079).
    pub strong_only: bool,
    /// Conditional Access blocks them (AADSTS53003).
    pub blocked: bool,
    /// Users whose sessions were revoked (AADSTS50173).
    pub revoked: HashSet<String>,
}

impl Default for UserPolicies {
    fn default() -> Self {
        Self {
            consented: true,
            strong_only: false,
            blocked: false,
            revoked: HashSet::new(),
        }
    }
}

/// An application (or managed identity) of the tenant.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its client id.
    pub client_id: String,
    /// Which assertions stand for it; matched exactly, case included.
    pub federated: Vec<FederatedCredential>,
}

/// A federated identity credential.
#[derive(Debug, Clone)]
pub struct FederatedCredential {
    /// `iss`; `None`: the authority's own cluster issuer.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audience: String,
}

impl Default for FederatedCredential {
    fn default() -> Self {
        Self {
            issuer: None,
            subject: crate::issuer::ProjectedToken::default().subject(),
            audience: ENTRA_AUDIENCE.into(),
        }
    }
}

/// Client authentication at the RFC 8693 endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2). Nothing else is accepted.
#[derive(Debug, Clone)]
pub enum StsClient {
    /// Nobody authenticates; an `Authorization` header is an error, as at Google's endpoint.
    None,
    /// HTTP Basic, both parts form-encoded.
    Basic {
        /// `client_id`.
        id: String,
        /// The secret.
        secret: String,
    },
    /// `client_id` and `client_secret` in the form.
    Post {
        /// `client_id`.
        id: String,
        /// The secret.
        secret: String,
    },
    /// `client_assertion` that the client signed with its own key.
    PrivateKeyJwt(KeyClient),
    /// Mutual TLS: `client_id` in the form, and a certificate of the client's on the connection.
    Tls {
        /// `client_id`.
        id: String,
        /// `x5t#S256` of each certificate that is the client's.
        certificates: Vec<String>,
    },
    /// `client_assertion`: a token of the cluster issuer with this subject and audience.
    Assertion {
        /// `sub`.
        subject: String,
        /// `aud`.
        audience: String,
    },
}

impl StsClient {
    /// The client's id.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Basic { id, .. } | Self::Post { id, .. } | Self::Tls { id, .. } => Some(id),
            Self::PrivateKeyJwt(client) => Some(&client.id),
            Self::Assertion { subject, .. } => Some(subject),
        }
    }
}

/// A client that signs its assertions, as it was registered.
#[derive(Debug, Clone)]
pub struct KeyClient {
    /// `client_id`, `iss` and `sub`.
    pub id: String,
    /// Its public keys.
    pub keys: JwkSet,
    /// The one `alg` it may use.
    pub algorithm: Algorithm,
    /// The `kid` that its header must name, if one must.
    pub key_id: Option<String>,
    /// The `x5t#S256` that its header must name, if one must.
    pub certificate: Option<String>,
}
