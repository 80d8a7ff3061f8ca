//! Examines a subject token's file: can it be read, will it be renewed, how old is it, and are its issuer, subject and audience such as its authority will want. The
//! signature is the authority's business; the token is never shown.

mod odd;
mod told;

use super::{
    commands::{
        entra::{AUDIENCE, BINDING_AUDIENCE},
        kubernetes, oauth,
    },
    facts::Facts,
    files,
    report::Step,
};
use crate::token::{
    file, mount,
    params::{CredentialParams, EndpointParams, SubjectTokenParams},
    subject::{SubjectError, SubjectToken},
};
use sidecar_runtime::clock::Clock;
use std::{path::Path, sync::Arc, time::Duration};
use told::Told;

/// The kubelet rotates at 80 % of a token's life, or once it is a day old, and looks about once a minute.
const ROTATED_AT: f64 = 0.8;
const ROTATED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
const ROTATION_SLACK: Duration = Duration::from_secs(300);
/// Authorities allow about five minutes; more than half a minute is worth a word.
const SKEW: Duration = Duration::from_secs(30);

/// A subject token, as far as it could be got.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// The token, when it is usable.
    pub(super) token: Option<Arc<SubjectToken>>,
    /// What commands are filled in with.
    pub(super) facts: Facts,
    /// The step that failed, when it is not usable.
    pub(super) failed: Option<String>,
}

/// What the credentials that use a subject token want of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expectations {
    /// Entra takes it as a federated assertion.
    pub(super) entra: bool,
    /// A cluster's token proxy does (identity bindings).
    pub(super) binding: bool,
    /// The audiences of which Keycloak's realms, whose token endpoints are known, want one when it proves a client.
    pub(super) realms: Vec<String>,
}

/// What all credentials together want of a subject token.
pub(super) fn expectations(
    params: &SubjectTokenParams,
    credentials: &[CredentialParams],
) -> Expectations {
    let mut wanted = Expectations::default();
    for credential in credentials {
        match credential.grant.tenant() {
            Some((tenant, _, name)) if *name == params.name => match tenant.identity_binding {
                Some(_) => wanted.binding = true,
                None => wanted.entra = true,
            },
            _ => {}
        }
        for endpoint in credential.grant.endpoints() {
            wanted.realm(endpoint, params);
        }
    }
    wanted
}

impl Expectations {
    fn realm(&mut self, endpoint: &EndpointParams, params: &SubjectTokenParams) {
        if endpoint.client_authentication.subject_token() == Some(&params.name)
            && let Some((_, issuer)) = oauth::keycloak(&endpoint.url)
            && !self.realms.contains(&issuer)
        {
            self.realms.push(issuer);
        }
    }
}

/// The steps of one subject token, and what came of them. `around` is what is known besides.
pub(super) fn examine(
    params: &SubjectTokenParams,
    wanted: &Expectations,
    around: &Facts,
    clock: &Clock,
) -> (Vec<Step>, Subject) {
    let of = format!("subject token {}", params.name);
    let now = clock.unix_now();
    let content = file::read(&params.file);
    let told = content.as_ref().ok().and_then(|bytes| Told::read(bytes));
    let facts = told.as_ref().map_or_else(
        || around.clone(),
        |told| Facts {
            issuer: told.issuer.clone(),
            subject: told.subject.clone(),
            audiences: told.audiences.clone(),
            pod: told.pod.clone().or_else(|| around.pod.clone()),
            node: told.node.clone(),
            ..around.clone()
        },
    );
    let parsed = content
        .as_ref()
        .map_err(|e| *e)
        .and_then(|bytes| SubjectToken::parse(bytes, now));
    let mut steps = Vec::new();
    let token = match parsed {
        Ok(token) => {
            let left = token.claims().exp.saturating_sub(now);
            steps.push(Step::pass(
                &of,
                "file",
                format!(
                    "{}: a JWT (fingerprint {}), valid for another {}",
                    params.file.display(),
                    token.fingerprint(),
                    span(left)
                ),
            ));
            Some(Arc::new(token))
        }
        Err(error) => {
            let bytes = content.as_deref().map_or(&[][..], Vec::as_slice);
            steps.push(unusable(
                &of,
                &params.file,
                error,
                bytes,
                told.as_ref(),
                wanted,
                &facts,
                now,
            ));
            None
        }
    };
    let failed = token.is_none().then(|| format!("{of}: file"));
    if let Some(told) = &told {
        if token.is_some() {
            steps.push(rotation(
                &of,
                &params.file,
                told,
                around.pod.is_some(),
                &facts,
            ));
            steps.push(age(&of, told, &facts, now));
        }
        steps.push(issuer(&of, told, wanted, &facts));
        steps.push(service_account(&of, told, wanted));
        steps.push(audience(&of, told, wanted, &facts));
    }
    (
        steps,
        Subject {
            token,
            facts,
            failed,
        },
    )
}

#[expect(clippy::too_many_arguments, reason = "all that is known of one file")]
fn unusable(
    of: &str,
    path: &Path,
    error: SubjectError,
    content: &[u8],
    told: Option<&Told>,
    wanted: &Expectations,
    facts: &Facts,
    now: Duration,
) -> Step {
    let seen = match error {
        SubjectError::Missing | SubjectError::Unreadable => files::unreadable(path),
        SubjectError::Expired => told.and_then(|t| t.expires).map(|expired| {
            format!(
                "{}: it expired {} ago",
                path.display(),
                span(now.saturating_sub(expired))
            )
        }),
        SubjectError::Empty | SubjectError::TooLarge | SubjectError::NotAJwt => {
            odd::content(content).map(|odd| format!("{}: {odd}", path.display()))
        }
    };
    let (cause, mend) = words(error);
    let detail = match seen {
        Some(seen) => seen,
        None => format!("{}: {cause}", path.display()),
    };
    let mend = match (error, files::elsewhere(path)) {
        (SubjectError::Missing, Some(place)) => format!(
            "there is a token at {}: let AZURE_FEDERATED_TOKEN_FILE (or subjectTokens.*.file) name that",
            place.display()
        ),
        _ => mend.to_owned(),
    };
    let webhook = (wanted.entra || wanted.binding) && path.starts_with("/var/run/secrets/azure");
    Step::fail(of, "file", error.reason(), detail)
        .mend(mend)
        .run(kubernetes::subject(error, webhook, facts))
}

/// Cause and mend of a file that is not usable.
const fn words(error: SubjectError) -> (&'static str, &'static str) {
    match error {
        SubjectError::Missing => (
            "there is no such file",
            "mount the projected token into this container: by AKS' webhook (the pod's label azure.workload.identity/use: \"true\", and this container not among azure.workload.identity/skip-containers), or a projected serviceAccountToken volume",
        ),
        SubjectError::Unreadable => (
            "the file cannot be read",
            "run this container as the file's owner (runAsUser), or set the pod's fsGroup",
        ),
        SubjectError::Empty => (
            "the file is empty",
            "see who writes it: the kubelet never writes an empty one",
        ),
        SubjectError::TooLarge => (
            "the file is larger than 64 KiB, which no token is",
            "let the path name a projected service-account token",
        ),
        SubjectError::NotAJwt => (
            "the content is not a JWT with an `exp` claim",
            "let the path name a projected service-account token",
        ),
        SubjectError::Expired => (
            "the token has expired",
            "the kubelet has not renewed it: see what it says, or make a new pod; when the token is fresh, this node's clock is wrong",
        ),
    }
}

/// Whether the kubelet's renewals reach this file: they come by a link in the volume's root, which a mount with `subPath` does not have.
fn rotation(of: &str, path: &Path, told: &Told, in_a_pod: bool, facts: &Facts) -> Step {
    const STEP: &str = "mount";
    let root = mount::root_of(path);
    if root.join("..data").symlink_metadata().is_ok() {
        return Step::pass(
            of,
            STEP,
            format!("{}: a volume that is renewed as a whole", root.display()),
        );
    }
    // Elsewhere it may be a copy, to look at.
    if in_a_pod && told.pod.is_some() {
        return Step::warn(
            of,
            STEP,
            "sub_path",
            format!(
                "{} is not in a volume that the kubelet renews: mounted with subPath, a token stays what it was when the container started, and exchanges fail from its expiry on",
                path.display()
            ),
        )
        .mend("mount the volume as a whole, without subPath")
        .run(kubernetes::sub_path(facts));
    }
    Step::pass(
        of,
        STEP,
        format!(
            "{}: no projected volume; whoever writes the file must renew it",
            root.display()
        ),
    )
}

fn age(of: &str, told: &Told, facts: &Facts, now: Duration) -> Step {
    const STEP: &str = "age";
    let (Some(issued), Some(expires)) = (told.issued, told.expires) else {
        return Step::pass(of, STEP, "the token does not say when it was issued");
    };
    if issued > now + SKEW {
        return Step::fail(
            of,
            STEP,
            "clock_behind",
            format!(
                "issued {} from now: this node's clock is behind the API server's, and authorities refuse assertions from the future",
                span(issued - now)
            ),
        )
        .mend("set the node's clock, or replace the node")
        .run(kubernetes::clock(facts));
    }
    let age = now.saturating_sub(issued);
    let life = expires.saturating_sub(issued);
    let due = life.mul_f64(ROTATED_AT).min(ROTATED_AFTER) + ROTATION_SLACK;
    if age > due && told.pod.is_some() {
        return Step::warn(
            of,
            STEP,
            "not_rotated",
            format!(
                "{} old of a life of {}: the kubelet should have renewed it after {}; exchanges fail from its expiry on",
                span(age),
                span(life),
                span(due - ROTATION_SLACK)
            ),
        )
        .mend("see why the node's kubelet gets no new token; a new pod gets one")
        .run(kubernetes::rotation(facts));
    }
    Step::pass(
        of,
        STEP,
        format!("{} old of a life of {}", span(age), span(life)),
    )
}

fn issuer(of: &str, told: &Told, wanted: &Expectations, facts: &Facts) -> Step {
    const STEP: &str = "issuer";
    let Some(issuer) = told.issuer.as_deref() else {
        return Step::fail(
            of,
            STEP,
            "no_issuer",
            "the token has no `iss`: this is no projected service-account token",
        )
        .mend("let the path name a projected service-account token")
        .run(kubernetes::audience("api://AzureADTokenExchange", facts));
    };
    // An identity binding's token proxy is in the cluster itself.
    if !wanted.entra {
        return Step::pass(of, STEP, issuer);
    }
    let not_public = |why: &str| {
        Step::fail(of, STEP, "issuer_not_public", format!("{issuer} {why}"))
            .mend("turn the cluster's OIDC issuer on, then make the pod anew")
            .run(kubernetes::issuer(facts))
    };
    let host = url::Url::parse(issuer)
        .ok()
        .filter(|url| url.scheme() == "https")
        .and_then(|url| url.host_str().map(str::to_owned));
    match host {
        None => not_public("is no https URL: Entra must be able to fetch the issuer's keys"),
        Some(host)
            if host.starts_with("kubernetes.default") || host.ends_with(".cluster.local") =>
        {
            not_public("is the cluster's own name, which Entra cannot reach")
        }
        Some(_) => {
            let slash = if issuer.ends_with('/') {
                "its / at the end included"
            } else {
                "without a / at the end"
            };
            Step::pass(
                of,
                STEP,
                format!("{issuer} (the federated credential must say exactly this, {slash})"),
            )
        }
    }
}

fn service_account(of: &str, told: &Told, wanted: &Expectations) -> Step {
    const STEP: &str = "subject";
    let Some(subject) = told.subject.as_deref() else {
        return Step::fail(
            of,
            STEP,
            "no_subject",
            "the token has no `sub`: this is no projected service-account token",
        )
        .mend("let the path name a projected service-account token");
    };
    let account = subject
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    match account {
        Some((namespace, name)) => Step::pass(
            of,
            STEP,
            format!("{subject} (service account {name} in namespace {namespace})"),
        ),
        None if wanted.entra => Step::warn(
            of,
            STEP,
            "not_a_service_account",
            format!("{subject} is no service account's"),
        )
        .mend("let the federated credential's subject equal it to the letter"),
        None => Step::pass(of, STEP, subject),
    }
}

fn audience(of: &str, told: &Told, wanted: &Expectations, facts: &Facts) -> Step {
    const STEP: &str = "audience";
    let list = told.audiences.join(", ");
    let has = |audience: &str| told.audiences.iter().any(|a| a == audience);
    let expected: Vec<&str> = [(wanted.entra, AUDIENCE), (wanted.binding, BINDING_AUDIENCE)]
        .into_iter()
        .filter_map(|(wanted, audience)| wanted.then_some(audience))
        .chain(wanted.realms.iter().map(String::as_str))
        .collect();
    let first = expected.first().copied().unwrap_or(AUDIENCE);
    if list.is_empty() {
        return Step::fail(of, STEP, "no_audience", "the token has no `aud`")
            .mend("give the projected volume an `audience`")
            .run(kubernetes::audience(first, facts));
    }
    let Some(missing) = expected.iter().find(|audience| !has(audience)) else {
        return Step::pass(of, STEP, list);
    };
    let why = if told
        .audiences
        .iter()
        .any(|a| a.contains("kubernetes.default") || told.issuer.as_ref() == Some(a))
        && !wanted.realms.contains(&list)
    {
        "this is the pod's token for the API server, which no authority should get: mount a projected one with an audience of its own"
    } else if has(BINDING_AUDIENCE) && wanted.entra {
        "that is for identity bindings, and Entra itself refuses it (AADSTS700212): take the pod's annotation azure.workload.identity/use-identity-binding away, or give this container the AZURE_KUBERNETES_* variables"
    } else if has(AUDIENCE) && wanted.binding {
        "that is for federated credentials, and the cluster's token proxy refuses it: give the pod the annotation azure.workload.identity/use-identity-binding: \"true\", or take the AZURE_KUBERNETES_* variables away"
    } else if wanted.entra && *missing == AUDIENCE {
        "Entra refuses it (AADSTS700212) unless the federated credential names it"
    } else {
        "whoever it is shown to wants its own name there"
    };
    // A federated credential, a realm or a proxy may want another audience: that is for the exchange to say.
    Step::warn(
        of,
        STEP,
        "audience",
        format!("{list}, not {missing}: {why}"),
    )
    .mend(format!("set the projected token's audience to {missing}"))
    .run(kubernetes::audience(missing, facts))
}

/// A span of time in the two units that matter.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
