//! `googleSts` -> its parameters.

use super::{
    super::{fields::Fields, parse},
    authority,
    subjects::Subjects,
};
use crate::token::params::{GoogleStsParams, ImpersonationParams};

/// What is asked for when no scope is configured; IAM roles decide what it is good for.
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

pub(super) fn google_sts(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<GoogleStsParams> {
    let fields = credential.map("googleSts", "credentials.*.googleSts")?;
    let audience = fields.value("audience", parse::google_audience);
    let scope = fields.list("scope", parse::scope);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = fields.value("subjectTokenType", parse::uri);
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let authority = authority(&fields, token_endpoint.as_ref());
    let impersonation = match fields.node("impersonation") {
        None => Some(None),
        Some(_) => impersonation(&fields).map(Some),
    };
    let mut scope = scope?;
    if scope.is_empty() {
        scope.push(CLOUD_PLATFORM.to_owned());
    }
    Some(GoogleStsParams {
        token_endpoint: token_endpoint?,
        audience: audience?,
        scope,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        impersonation: impersonation?,
        authority: authority?,
    })
}

fn impersonation(google: &Fields<'_>) -> Option<ImpersonationParams> {
    let fields = google.map("impersonation", "credentials.*.googleSts.impersonation")?;
    let service_account = fields.value("serviceAccount", parse::service_account);
    let lifetime = fields.value("lifetime", parse::duration_between("10m", "12h"));
    let endpoint = fields.value("endpoint", parse::authority_host);
    let authority = authority(&fields, endpoint.as_ref());
    Some(ImpersonationParams {
        endpoint: endpoint?,
        service_account: service_account?,
        lifetime: lifetime?,
        authority: authority?,
    })
}
