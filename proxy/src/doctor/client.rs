//! Examines what a client authenticates with: secrets, keys and certificates in files. Whether the authority accepts them is the exchange's to find out.

use super::{
    commands::kubernetes,
    facts::Facts,
    files,
    report::{Status, Step},
    subject::span,
};
use crate::{
    net::x509,
    token::{
        exchange::{Proof, error::ExchangeError, inspect},
        file,
        params::{ClientAuthentication, GrantParams},
    },
};
use std::{path::Path, time::Duration};

/// A certificate that ends so soon is worth a word.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The steps of a credential's client authentication, and the one that failed, if one did. Nothing for clients without files.
pub(super) fn examine(
    of: &str,
    grant: &GrantParams,
    facts: &Facts,
    now: Duration,
) -> (Vec<Step>, Option<String>) {
    let steps: Vec<Step> = grant
        .endpoints()
        .into_iter()
        // Two at most: those of an identity assertion.
        .zip(["client", "second client"])
        .filter_map(|(endpoint, step)| one(of, step, &endpoint.client_authentication, facts, now))
        .collect();
    let failed = steps.iter().find(|s| s.status == Status::Fail);
    let failed = failed.map(Step::name);
    (steps, failed)
}

fn one(
    of: &str,
    step: &'static str,
    client: &ClientAuthentication,
    facts: &Facts,
    now: Duration,
) -> Option<Step> {
    let proof = match inspect(client) {
        Ok(proof) => proof,
        Err(error) => return Some(unusable(of, step, &error, client, facts)),
    };
    Some(match proof {
        Proof::Nothing => return None,
        Proof::Secret => secret(of, step, client, facts),
        Proof::Key {
            kind,
            algorithm,
            key_id,
            certificate,
        } => {
            let id = key_id.map_or_else(|| "no kid".to_owned(), |id| format!("kid {id}"));
            let detail = format!("{kind} signs the client's assertions ({algorithm}, {id})");
            match certificate {
                None => Step::pass(of, step, detail),
                Some(der) => certified(of, step, &detail, &der, now),
            }
        }
        Proof::Certificate(pair) => certified(
            of,
            step,
            "certificate and key are a pair",
            pair.certificate(),
            now,
        ),
    })
}

/// A secret that can be read, and what is odd about it.
fn secret(of: &str, step: &'static str, client: &ClientAuthentication, facts: &Facts) -> Step {
    let odd = files_of(client).first().and_then(|path| {
        let content = file::read(path).ok()?;
        files::oddity(&content)
    });
    match odd {
        None => Step::pass(of, step, "the client secret is there"),
        Some(odd) => Step::warn(of, step, "client_secret_odd", odd)
            .mend("write the secret alone into the file; a line end behind it does no harm")
            .run(kubernetes::replace_secret(facts)),
    }
}

/// A certificate's time.
fn certified(of: &str, step: &'static str, detail: &str, der: &[u8], now: Duration) -> Step {
    let Some(seen) = x509::summary(der) else {
        return Step::pass(of, step, detail);
    };
    let whose = format!(
        "{detail}; certificate of {}, signed by {}",
        seen.subject, seen.issuer
    );
    let renew = "have it renewed, and put certificate and key into their files together";
    if seen.not_after <= now {
        return Step::fail(
            of,
            step,
            "client_certificate_expired",
            format!("{whose}: it expired {} ago", span(now - seen.not_after)),
        )
        .mend(renew);
    }
    if seen.not_before > now {
        return Step::fail(
            of,
            step,
            "client_certificate_not_yet",
            format!(
                "{whose}: it is good only {} from now",
                span(seen.not_before - now)
            ),
        )
        .mend("wait, or see whether this node's clock is behind");
    }
    let left = seen.not_after - now;
    if left < ENDS_SOON {
        return Step::warn(
            of,
            step,
            "certificate_ends_soon",
            format!("{whose}: it is good for another {} only", span(left)),
        )
        .mend(renew);
    }
    Step::pass(
        of,
        step,
        format!("{whose}, good for another {}", span(left)),
    )
}

/// The files of a client, secret or key first.
fn files_of(client: &ClientAuthentication) -> Vec<&Path> {
    match client {
        ClientAuthentication::ClientSecretBasic {
            client_secret_file, ..
        }
        | ClientAuthentication::ClientSecretPost {
            client_secret_file, ..
        } => vec![client_secret_file],
        ClientAuthentication::PrivateKeyJwt(p) => std::iter::once(&*p.key_file)
            .chain(p.certificate_file.as_deref())
            .collect(),
        ClientAuthentication::Tls(p) => vec![&p.key_file, &p.certificate_file],
        ClientAuthentication::None { .. } | ClientAuthentication::ClientAssertion { .. } => vec![],
    }
}

/// What an exchange would end with, and what can be seen of the file.
fn unusable(
    of: &str,
    step: &'static str,
    error: &ExchangeError,
    client: &ClientAuthentication,
    facts: &Facts,
) -> Step {
    let certificate = error.code().starts_with("client_certificate");
    let files = files_of(client);
    let path = match certificate {
        true => files.last(),
        false => files.first(),
    };
    Step::fail(of, step, error.code(), seen(error, path.copied()))
        .mend(error.mend())
        .run(kubernetes::secret_file(facts))
}

/// The cause, with what can be seen of the file.
pub(super) fn seen(error: &ExchangeError, path: Option<&Path>) -> String {
    let Some(path) = path else {
        return error.cause().to_owned();
    };
    if let Some(why) = files::unreadable(path) {
        return why;
    }
    let content = file::read(path).unwrap_or_default();
    let odd = match error.code() {
        "client_secret_unreadable" | "static_secret_unreadable" => secret_oddity(&content),
        "client_key_unusable" | "client_certificate_unusable" => files::pem_oddity(&content),
        _ => None,
    };
    match odd {
        Some(odd) => format!("{}: {odd}", path.display()),
        None => format!("{}: {}", path.display(), error.cause()),
    }
}

/// Why a secret cannot be used at all.
fn secret_oddity(content: &[u8]) -> Option<&'static str> {
    if content.trim_ascii().is_empty() {
        return Some("it is empty");
    }
    if std::str::from_utf8(content).is_err() {
        return Some("it is not UTF-8");
    }
    files::oddity(content.trim_ascii()).or(Some(
        "it holds a space, a control character or one beyond ASCII",
    ))
}
