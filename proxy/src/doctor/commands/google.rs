//! Commands for what Google's Security Token Service and IAM Credentials API refuse.

use super::{Facts, embedded, or, quoted};

/// What a provider's name, `//iam.googleapis.com/projects/N/locations/L/workloadIdentityPools/POOL/providers/PROVIDER`, says.
struct Provider<'a> {
    project: &'a str,
    location: &'a str,
    pool: &'a str,
    name: &'a str,
}

fn provider(audience: Option<&str>) -> Provider<'_> {
    let part = |key: &str| {
        let mut parts = audience?.split('/').skip_while(|p| *p != key);
        parts.nth(1)
    };
    let or = |key, placeholder| embedded(part(key), placeholder);
    Provider {
        project: or("projects", "<project number>"),
        location: or("locations", "global"),
        pool: or("workloadIdentityPools", "<pool>"),
        name: or("providers", "<provider>"),
    }
}

/// Whether there is more to say of a code than of any authority's.
pub(in super::super) fn knows(code: &str) -> bool {
    !refused(code, &Facts::default()).is_empty()
}

/// For a refusal, by its code.
pub(in super::super) fn refused(code: &str, facts: &Facts) -> Vec<String> {
    let p = provider(facts.provider.as_deref());
    let account = or(facts.service_account.as_deref(), "<service account>");
    let look = format!(
        "gcloud iam workload-identity-pools providers describe {} --workload-identity-pool={} --location={} --project={}   # issuerUri, allowedAudiences, attributeMapping, attributeCondition",
        p.name, p.pool, p.location, p.project
    );
    match code {
        "google_permission_denied" => vec![
            format!(
                "gcloud iam service-accounts add-iam-policy-binding {account} --role=roles/iam.workloadIdentityUser --member={}",
                quoted(&format!(
                    "principal://iam.googleapis.com/projects/{}/locations/{}/workloadIdentityPools/{}/subject/{}",
                    p.project,
                    p.location,
                    p.pool,
                    facts.subject.as_deref().unwrap_or("<subject>")
                ))
            ),
            "gcloud services enable iamcredentials.googleapis.com --project=<project of the service account>".into(),
        ],
        "google_not_found" => vec![format!("gcloud iam service-accounts describe {account}")],
        "google_invalid_argument" => vec![
            "gcloud resource-manager org-policies describe constraints/iam.allowServiceAccountCredentialLifetimeExtension --organization=<organization>   # for a lifetime above 1h".into(),
        ],
        "google_unauthenticated" | "google_other" | "invalid_grant" | "invalid_token" | "invalid_request"
        | "invalid_target" | "unauthorized_client" | "access_denied" | "invalid_client" => vec![look],
        "google_resource_exhausted" | "google_unavailable" => vec![
            "curl -sS https://status.cloud.google.com/incidents.json   # the cloud's own trouble passes".into(),
        ],
        _ => vec![],
    }
}
