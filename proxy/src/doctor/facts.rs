//! What the doctor knows of the case at hand: the values that commands are filled in with. No command is written here.

use crate::token::params::{ClientAuthentication, GrantParams};
use url::Url;

/// Values to fill in. What is not known stays `None`, and a placeholder in the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `iss` of the subject token.
    pub(super) issuer: Option<String>,
    /// `sub` of the subject token.
    pub(super) subject: Option<String>,
    /// `aud` of the subject token.
    pub(super) audiences: Vec<String>,
    /// The pod, by the subject token or by the environment.
    pub(super) pod: Option<String>,
    /// The node, by the subject token.
    pub(super) node: Option<String>,
    /// The credential's client id.
    pub(super) client_id: Option<String>,
    /// The credential's tenant.
    pub(super) tenant_id: Option<String>,
    /// The credential's scope.
    pub(super) scope: Option<String>,
    /// The token endpoint, or the authority's host.
    pub(super) authority: Option<Url>,
    /// The other end's host.
    pub(super) host: Option<String>,
    /// The other end's port.
    pub(super) port: Option<u16>,
    /// A cluster's token proxy is asked in Entra's place (identity bindings).
    pub(super) binding: bool,
    /// Only an application registration can do what is asked for: no managed identity.
    pub(super) application: bool,
    /// The credential whose token is the assertion.
    pub(super) parent: Option<String>,
    /// How the client authenticates.
    pub(super) client: Client,
    /// Google's workload identity provider (`audience`).
    pub(super) provider: Option<String>,
    /// Google's service account.
    pub(super) service_account: Option<String>,
}

/// How a client authenticates, as far as commands differ by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Client {
    /// Not at all, or nobody knows.
    #[default]
    Unknown,
    /// By a secret.
    Secret,
    /// By the subject token.
    Assertion,
    /// By a key that signs assertions.
    Key,
    /// By a certificate on the connection.
    Certificate,
}

impl Facts {
    /// Namespace and service account of the subject token.
    pub(super) fn account(&self) -> Option<(&str, &str)> {
        self.subject
            .as_deref()
            .and_then(|s| s.strip_prefix("system:serviceaccount:"))
            .and_then(|s| s.split_once(':'))
            .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
    }

    /// The same, with what a credential says of itself.
    pub(super) fn of_grant(mut self, grant: &GrantParams) -> Self {
        self.authority = grant.authority().cloned();
        if let Some((tenant, client_id, _)) = grant.tenant() {
            self.client_id = Some(client_id.to_owned());
            self.tenant_id = Some(tenant.tenant_id.clone());
            // Also when a cluster's token proxy is asked in its place.
            self.authority = Some(tenant.authority_host.clone());
            self.binding = tenant.identity_binding.is_some();
        }
        if let Some(endpoint) = grant.endpoints().first() {
            self.client(&endpoint.client_authentication);
        }
        match grant {
            GrantParams::EntraClientAssertion(p) => self.scope = Some(p.scope.clone()),
            GrantParams::EntraOnBehalfOf(p) => {
                self.scope = Some(p.scope.clone());
                self.application = true;
            }
            GrantParams::EntraAgentBlueprint(_) => self.application = true,
            GrantParams::GoogleSts(p) => {
                self.provider = Some(p.audience.clone());
                self.service_account = p.impersonation.as_ref().map(|i| i.service_account.clone());
            }
            GrantParams::TokenExchange(p) => self.scope.clone_from(&p.target.scope),
            GrantParams::ClientCredentials(p) => self.scope.clone_from(&p.target.scope),
            GrantParams::JwtBearer(p) => self.scope.clone_from(&p.target.scope),
            GrantParams::IdentityAssertion(p) => {
                self.scope.clone_from(&p.authorization_server.scope);
            }
            GrantParams::StaticSecret(_) => {}
        }
        self
    }

    fn client(&mut self, authentication: &ClientAuthentication) {
        let (id, client) = match authentication {
            ClientAuthentication::None { client_id } => (client_id.clone(), Client::Unknown),
            ClientAuthentication::ClientSecretBasic { client_id, .. }
            | ClientAuthentication::ClientSecretPost { client_id, .. } => {
                (Some(client_id.clone()), Client::Secret)
            }
            ClientAuthentication::ClientAssertion { client_id, .. } => {
                (client_id.clone(), Client::Assertion)
            }
            ClientAuthentication::PrivateKeyJwt(p) => (Some(p.client_id.clone()), Client::Key),
            ClientAuthentication::Tls(p) => (Some(p.client_id.clone()), Client::Certificate),
        };
        self.client_id = id;
        self.client = client;
    }
}
