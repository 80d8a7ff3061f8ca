//! `entraClientAssertion` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    EMPTY, authority,
    subjects::Subjects,
};
use crate::token::params::EntraClientAssertionParams;

pub(super) fn entra(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<EntraClientAssertionParams> {
    let fields = credential.map(
        "entraClientAssertion",
        "credentials.*.entraClientAssertion",
        EMPTY,
    )?;
    let scope = fields.value("scope", parse::entra_scope);
    let tenant_id = fields.value("tenantId", parse::tenant);
    let client_id = fields.value("clientId", parse::word);
    let authority_host = fields.value("authorityHost", parse::authority_host);
    let subject_token = subjects.named(&fields, "subjectToken");
    let authority = authority(&fields, authority_host.as_ref());
    Some(EntraClientAssertionParams {
        authority_host: authority_host?,
        tenant_id: tenant_id?,
        client_id: client_id?,
        scope: scope?,
        subject_token: subject_token?,
        identity_binding: None,
        authority: authority?,
    })
}
