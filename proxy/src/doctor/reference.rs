//! Every code that a step can have, and the guide's table of those that authorities, and our own files, give. What a code is answered with is told where it is found.

use super::commands::every;
use crate::token::{exchange::error::all_known, subject::SubjectError};

/// What an exchange can end with beside what is in the table of errors: by the authority's reply, and by the request's making.
const EXCHANGE: &[&str] = &[
    "timeout",
    "dead_on_arrival",
    "reply_not_json",
    "reply_no_access_token",
    "reply_token_type",
    "reply_expires_in",
    "reply_expire_time",
    "reply_bad_characters",
    "reply_issued_token_type",
    "reply_too_large",
    "http_protocol_error",
    "request",
    "setup",
    "header",
    "token_type",
    "entra_request",
    "made_anew",
    "client_basic",
    "dpop_proof",
];
/// The doctor's own.
const OWN: &[&str] = &[
    // The configuration.
    "slip",
    "no_such_route",
    "not_of_this_route",
    // Subject tokens.
    "sub_path",
    "not_rotated",
    "clock_behind",
    "no_issuer",
    "issuer_not_public",
    "no_subject",
    "not_a_service_account",
    "no_audience",
    "audience",
    // The way.
    "dns_timeout",
    "tls_setup",
    "certificate_ends_soon",
    "not_an_authority",
    "clock_skew",
    // Clients.
    "client_secret_odd",
    "client_certificate_expired",
    "client_certificate_not_yet",
    "accepts_anything",
    // Requests to upstreams.
    "unauthorized",
    "forbidden",
    "not_found",
    "http_response_timeout",
    // Callers' issuers.
    "no_key_for_algorithms",
    "issuer_of_no_token",
    "status",
    "metadata",
    "other_issuer",
    "insecure",
    "not_a_jwk_set",
    "too_many_keys",
    "no_usable_key",
    // A sidecar that runs.
    "not_running",
    "not_ready",
    "ready_for_now",
    "not_a_sidecar",
    "no_metrics",
];

/// The codes that are in no table but these.
fn others() -> impl Iterator<Item = &'static str> {
    EXCHANGE
        .iter()
        .chain(OWN)
        .chain(&every::GOOGLE)
        // How the commands for it differ is no code of its own.
        .chain(every::NETWORK.iter().filter(|c| **c != "dns_silent"))
        .copied()
        .chain(SubjectError::ALL.map(SubjectError::reason))
}

/// Every code, each once, in order.
pub fn codes() -> Vec<&'static str> {
    let mut all: Vec<_> = all_known()
        .map(|known| known.code)
        .chain(others())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// As a Markdown table: the codes of authorities and of files, those that mean the same in one row, with what they mean and what mends them.
pub fn codes_markdown() -> String {
    let mut rows: Vec<(Vec<&str>, &str, &str)> = Vec::new();
    for known in all_known() {
        let same = rows
            .iter_mut()
            .find(|(_, cause, mend)| (*cause, *mend) == (known.cause, known.mend));
        match same {
            Some((codes, ..)) => codes.push(known.code),
            None => rows.push((vec![known.code], known.cause, known.mend)),
        }
    }
    // A word in angle brackets would be taken for HTML.
    let shown = |text: &str| text.replace('<', "\\<");
    let mut table = String::from("| code | because | mend |\n| --- | --- | --- |\n");
    for (codes, cause, mend) in rows {
        let codes: Vec<_> = codes.iter().map(|c| format!("`{c}`")).collect();
        table.push_str(&format!(
            "| {} | {} | {} |\n",
            codes.join(", "),
            shown(cause),
            shown(mend)
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_one_thing() {
        let known: Vec<_> = all_known().map(|known| known.code).collect();
        for code in others() {
            assert!(!known.contains(&code), "{code} is in two tables");
        }
        assert!(codes().len() > 150, "{}", codes().len());
        assert!(codes().iter().all(|c| {
            c.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }));
    }

    #[test]
    fn what_means_the_same_is_one_row() {
        let table = codes_markdown();
        assert!(
            table.contains(
                "| `aadsts_700016`, `aadsts_700011` | the application is not in this tenant |"
            ),
            "{table}"
        );
        for known in all_known() {
            assert_eq!(
                table.matches(&format!("`{}`", known.code)).count(),
                1,
                "{}",
                known.code
            );
        }
        assert!(!table.replace("\\<", "").contains('<'));
    }
}
