//! Entra's grants -> their parameters.

use super::{
    super::{fields::Fields, parse},
    authority,
    identity_binding::IdentityBinding,
    subjects::Subjects,
};
use crate::token::params::{
    EntraAgentBlueprintParams, EntraClientAssertionParams, EntraOnBehalfOfParams, TenantParams,
};
use std::sync::Arc;

/// What all of Entra's grants say about where they ask.
fn tenant(fields: &Fields<'_>, binding: &IdentityBinding<'_>) -> Option<TenantParams> {
    let tenant_id = fields.value("tenantId", parse::tenant);
    let authority_host = fields.value("authorityHost", parse::authority_host);
    let identity_binding = binding.of(fields);
    let authority = authority(fields, authority_host.as_ref());
    Some(TenantParams {
        authority_host: authority_host?,
        tenant_id: tenant_id?,
        identity_binding: identity_binding?,
        authority: authority?,
    })
}

pub(super) fn client_assertion(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
    binding: &IdentityBinding<'_>,
) -> Option<EntraClientAssertionParams> {
    let fields = credential.map("entraClientAssertion", "credentials.*.entraClientAssertion")?;
    let scope = fields.value("scope", parse::entra_scope);
    let tenant = tenant(&fields, binding);
    let client_id = fields.value("clientId", parse::word);
    let subject_token = subjects.named(&fields, "subjectToken");
    Some(EntraClientAssertionParams {
        tenant: tenant?,
        client_id: client_id?,
        scope: scope?,
        subject_token: subject_token?,
    })
}

pub(super) fn on_behalf_of(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
    binding: &IdentityBinding<'_>,
) -> Option<EntraOnBehalfOfParams> {
    let fields = credential.map("entraOnBehalfOf", "credentials.*.entraOnBehalfOf")?;
    let scope = fields.value("scope", parse::delegated_scopes);
    let tenant = tenant(&fields, binding);
    let client_id = fields.value("clientId", parse::word);
    let client_assertion = subjects.named(&fields, "clientAssertion");
    let assertion = subjects.named(&fields, "assertion");
    Some(EntraOnBehalfOfParams {
        tenant: tenant?,
        client_id: client_id?,
        scope: scope?,
        client_assertion: client_assertion?,
        assertion: assertion?,
    })
}

/// An agent identity: how its blueprint is asked, and how it signs in with what the blueprint got.
pub(super) struct AgentIdentity {
    pub(super) blueprint: EntraAgentBlueprintParams,
    pub(super) agent: Agent,
}

/// Whose token the agent identity gets.
pub(super) enum Agent {
    /// Its own.
    Autonomous(EntraClientAssertionParams),
    /// A caller's, through it.
    OnBehalfOf(EntraOnBehalfOfParams),
}

/// `parent`: the name of the subject token that is the blueprint's.
pub(super) fn agent_identity(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
    binding: &IdentityBinding<'_>,
    parent: &Arc<str>,
) -> Option<AgentIdentity> {
    let fields = credential.map("entraAgentIdentity", "credentials.*.entraAgentIdentity")?;
    let tenant = tenant(&fields, binding);
    let blueprint_id = fields.value("blueprintClientId", parse::word);
    let agent_id = fields.value("agentIdentityClientId", parse::word);
    let client_assertion = subjects.named(&fields, "clientAssertion");
    let on_behalf_of = match fields.node("onBehalfOf") {
        None => Some(None),
        Some(_) => subjects.named(&fields, "onBehalfOf").map(Some),
    };
    // Delegated scopes are for people; an application gets all that it was granted.
    let scope = match &on_behalf_of {
        Some(None) => fields.value("scope", parse::entra_scope),
        _ => fields.value("scope", parse::delegated_scopes),
    };
    let (tenant, agent_id, scope) = (tenant?, agent_id?, scope?);
    let blueprint = EntraAgentBlueprintParams {
        tenant: tenant.clone(),
        client_id: blueprint_id?,
        agent_identity: agent_id.clone(),
        client_assertion: client_assertion?,
    };
    // The second step's assertion is Entra's own token: a token proxy has no part in it.
    let tenant = TenantParams {
        identity_binding: None,
        ..tenant
    };
    let agent = match on_behalf_of? {
        None => Agent::Autonomous(EntraClientAssertionParams {
            tenant,
            client_id: agent_id,
            scope,
            subject_token: Arc::clone(parent),
        }),
        Some(assertion) => Agent::OnBehalfOf(EntraOnBehalfOfParams {
            tenant,
            client_id: agent_id,
            scope,
            client_assertion: Arc::clone(parent),
            assertion,
        }),
    };
    Some(AgentIdentity { blueprint, agent })
}
