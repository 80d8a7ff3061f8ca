//! Examines a subject token's file: can it be read, how old is it, and are its issuer, subject and audience such as its authority will want. The
//! signature is the authority's business; the token is never shown.

use super::{commands, facts, report::Step};
use crate::token::{
    file,
    params::{CredentialParams, GrantParams, SubjectTokenParams},
    subject::{Claims, SubjectToken},
};
use sidecar_runtime::clock::Clock;
use std::{sync::Arc, time::Duration};

/// The audience that Entra wants of a federated assertion, in every cloud (a managed identity's own federation aside).
const ENTRA_AUDIENCE: &str = "api://AzureADTokenExchange";
/// The audience of tokens for AKS identity bindings, which no federated credential takes.
const BINDING_AUDIENCE: &str = "api://AKSIdentityBinding";
/// The kubelet rotates at 80 % of a token's life, looked at about once a minute.
const ROTATED_AT: f64 = 0.8;
const ROTATION_SLACK: Duration = Duration::from_secs(300);
/// Authorities allow about five minutes; more than half a minute is worth a word.
const SKEW: Duration = Duration::from_secs(30);

/// A subject token, as far as it could be got.
#[derive(Debug)]
pub(super) struct Subject {
    /// The token, when it is usable.
    pub(super) token: Option<Arc<SubjectToken>>,
}

/// What the credentials that use a subject token want of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expectations {
    /// Entra takes it as a federated assertion.
    entra: bool,
}

pub(super) fn expectations(
    params: &SubjectTokenParams,
    credentials: &[CredentialParams],
) -> Expectations {
    let mut wanted = Expectations::default();
    for credential in credentials {
        if let GrantParams::EntraClientAssertion(p) = &credential.grant
            && p.subject_token == params.name
        {
            wanted.entra = true;
        }
    }
    wanted
}

pub(super) fn examine(
    params: &SubjectTokenParams,
    wanted: &Expectations,
    clock: &Clock,
) -> (Vec<Step>, Subject) {
    let of = format!("subject token {}", params.name);
    let now = clock.unix_now();
    let path = params.file.display();
    let read = file::read(&params.file).and_then(|bytes| SubjectToken::parse(&bytes, now));
    let token = match read {
        Ok(token) => Arc::new(token),
        Err(error) => {
            let step = Step::fail(
                of,
                "file",
                error.reason(),
                format!("{path}: {error}"),
                commands::subject(error),
            );
            return (vec![step], Subject { token: None });
        }
    };
    let claims = token.claims();
    let left = claims.exp.saturating_sub(now);
    let mut steps = vec![Step::pass(
        &of,
        "file",
        format!(
            "{path}: a JWT (fingerprint {}), valid for another {}",
            token.fingerprint(),
            span(left)
        ),
    )];
    let subject = Subject {
        token: Some(Arc::clone(&token)),
    };
    steps.push(age(&of, claims, now));
    steps.push(issuer(&of, claims, wanted, &subject));
    steps.push(service_account(&of, claims, wanted));
    steps.push(audience(&of, claims, wanted, &subject));
    (steps, subject)
}

fn age(of: &str, claims: &Claims, now: Duration) -> Step {
    const STEP: &str = "age";
    let Some(issued) = claims.iat else {
        return Step::pass(of, STEP, "the token does not say when it was issued");
    };
    if issued > now + SKEW {
        return Step::fail(
            of,
            STEP,
            "clock_behind",
            format!(
                "issued {} from now: this node's clock is behind the API server's; authorities refuse assertions from the future",
                span(issued - now)
            ),
            commands::clock(),
        );
    }
    let age = now.saturating_sub(issued);
    let life = claims.exp.saturating_sub(issued);
    if age > life.mul_f64(ROTATED_AT) + ROTATION_SLACK {
        return Step::warn(
            of,
            STEP,
            "not_rotated",
            format!(
                "{} old of a life of {}: the kubelet should have rotated it by now; when it does not, exchanges fail from its expiry on",
                span(age),
                span(life)
            ),
            commands::rotation(),
        );
    }
    Step::pass(
        of,
        STEP,
        format!("{} old of a life of {}", span(age), span(life)),
    )
}

fn issuer(of: &str, claims: &Claims, wanted: &Expectations, subject: &Subject) -> Step {
    const STEP: &str = "issuer";
    let Some(issuer) = claims.iss.as_deref().map(shown) else {
        return Step::fail(
            of,
            STEP,
            "no_issuer",
            "the token has no `iss`; this is no projected service-account token",
            vec![],
        );
    };
    if !wanted.entra {
        return Step::pass(of, STEP, issuer);
    }
    let host = url::Url::parse(&issuer)
        .ok()
        .filter(|url| url.scheme() == "https")
        .and_then(|url| url.host_str().map(str::to_owned));
    let Some(host) = host else {
        return Step::fail(
            of,
            STEP,
            "issuer_not_public",
            format!(
                "{issuer} is no https URL: Entra must be able to fetch the issuer's keys; turn the cluster's OIDC issuer on"
            ),
            commands::issuer(&facts(Some(subject))),
        );
    };
    if host.starts_with("kubernetes.default") || host.ends_with(".cluster.local") {
        return Step::fail(
            of,
            STEP,
            "issuer_not_public",
            format!(
                "{issuer} is the cluster's own name, which Entra cannot reach; turn the cluster's OIDC issuer on, then recreate the pod"
            ),
            commands::issuer(&facts(Some(subject))),
        );
    }
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

fn service_account(of: &str, claims: &Claims, wanted: &Expectations) -> Step {
    const STEP: &str = "subject";
    let Some(subject) = claims.sub.as_deref().map(shown) else {
        return Step::fail(
            of,
            STEP,
            "no_subject",
            "the token has no `sub`; this is no projected service-account token",
            vec![],
        );
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
            format!(
                "{subject} is no service account's; the federated credential's subject must equal it to the letter"
            ),
            vec![],
        ),
        None => Step::pass(of, STEP, subject),
    }
}

fn audience(of: &str, claims: &Claims, wanted: &Expectations, subject: &Subject) -> Step {
    const STEP: &str = "audience";
    let list = claims
        .aud
        .iter()
        .map(|a| shown(a))
        .collect::<Vec<_>>()
        .join(", ");
    if list.is_empty() {
        return Step::fail(
            of,
            STEP,
            "no_audience",
            "the token has no `aud`; give the projected volume an `audience`",
            commands::audience(&facts(Some(subject))),
        );
    }
    if !wanted.entra || claims.aud.iter().any(|a| a == ENTRA_AUDIENCE) {
        return Step::pass(of, STEP, list);
    }
    let why = if claims.aud.iter().any(|a| a == BINDING_AUDIENCE) {
        "that is for AKS identity bindings, and Entra itself refuses it (AADSTS700212); remove the annotation azure.workload.identity/use-identity-binding, or use the binding's variables"
    } else {
        "Entra refuses it (AADSTS700212) unless the federated credential names it"
    };
    // A federated credential may name another audience (a managed identity's in a sovereign cloud): that is for the exchange to say.
    Step::warn(
        of,
        STEP,
        "audience",
        format!("{list}, not {ENTRA_AUDIENCE}: {why}"),
        commands::audience(&facts(Some(subject))),
    )
}

/// A claim for a person's terminal: it comes from a file that others write.
fn shown(claim: &str) -> String {
    claim
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect()
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
