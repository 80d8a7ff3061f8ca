//! Why a TLS handshake failed, for a person: who signed what was shown, for which names it is, since when it is no good, or what the other end does not like of us.
//! Nothing is trusted, or not, by what stands here.

use super::{
    commands::{kubernetes, network},
    facts::Facts,
    report::Step,
    subject::span,
};
use crate::net::{dial::tls_error, x509};
use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::{io, path::Path, time::Duration};

/// Hosts whose certificates are signed by public authorities: another signature means that somebody is in between.
const PUBLIC: &[&str] = &[
    "microsoftonline.com",
    "microsoftonline.us",
    "chinacloudapi.cn",
    "windows.net",
    "azure.com",
    "microsoft.com",
    "googleapis.com",
];

/// What is known of one handshake.
pub(super) struct Handshake<'a> {
    /// Whose certificate it should be.
    pub(super) host: &'a str,
    /// What was shown, the server's own first.
    pub(super) chain: &'a [CertificateDer<'static>],
    /// The file of further roots.
    pub(super) ca_file: Option<&'a Path>,
    /// The key of the configuration that names such a file.
    pub(super) ca_key: &'a str,
    /// This node's time.
    pub(super) now: Duration,
}

/// What was found, and what mends it.
struct Finding {
    code: &'static str,
    cause: String,
    mend: String,
    clock: bool,
}

/// The step of a handshake that failed.
pub(super) fn failed(of: &str, error: &io::Error, shake: &Handshake<'_>, facts: &Facts) -> Step {
    let found = match tls_error(error) {
        Some(error) => of_tls(error, shake),
        None => Finding::new(
            "tls_protocol_error",
            format!("the connection broke off in the handshake ({error})"),
            "see what stands in between: a firewall that goes by names, or a port that speaks no TLS",
        ),
    };
    let commands = match found.clock {
        true => kubernetes::clock(facts),
        false => network::unreachable("tls_certificate_error", facts),
    };
    Step::fail(of, "tls", found.code, found.cause)
        .mend(found.mend)
        .run(commands)
}

/// Cause and mend of what TLS said after the handshake.
pub(super) fn told_late(error: &Error, shake: &Handshake<'_>) -> (&'static str, String, String) {
    let found = of_tls(error, shake);
    (found.code, found.cause, found.mend)
}

impl Finding {
    fn new(code: &'static str, cause: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            code,
            cause: cause.into(),
            mend: mend.into(),
            clock: false,
        }
    }
}

fn of_tls(error: &Error, shake: &Handshake<'_>) -> Finding {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, shake),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => Finding::new(
            "tls_protocol_error",
            "what answers speaks no TLS (plain http, or another protocol)",
            "check the port, and http or https in the URL",
        ),
        Error::PeerIncompatible(what) => Finding::new(
            "tls_protocol_error",
            format!("no common version or cipher ({what:?}); TLS 1.2 and 1.3 are spoken here"),
            "update what answers, or what stands in between",
        ),
        other => Finding::new(
            "tls_protocol_error",
            format!("TLS failed: {other}"),
            "see what stands in between",
        ),
    }
}

fn of_alert(alert: AlertDescription) -> Finding {
    use AlertDescription as A;
    let (cause, mend) = match alert {
        A::CertificateRequired => (
            "the other end wants a certificate of ours",
            "set clientAuthentication.tls, or see why the other end wants mutual TLS",
        ),
        A::BadCertificate
        | A::UnknownCA
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => (
            "the other end does not take the certificate that it was shown",
            "let it trust the certificate's issuer, and see that the certificate is the client's that is registered there",
        ),
        A::CertificateExpired | A::CertificateRevoked | A::UnsupportedCertificate => (
            "the other end finds the certificate that it was shown expired, revoked or of an unusable kind",
            "renew the client's certificate",
        ),
        A::UnrecognisedName => (
            "the other end serves nothing by this name",
            "check the host in the URL, or set serverName (of a route)",
        ),
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => (
            "no common version or cipher; TLS 1.2 and 1.3 are spoken here",
            "update what answers, or what stands in between",
        ),
        A::NoApplicationProtocol => (
            "the other end speaks neither of the HTTP versions that were offered",
            "check `http` of the route",
        ),
        _ => ("the other end ended the handshake", "look at its log"),
    };
    Finding::new(
        "tls_alert_received",
        format!("{cause} (alert {alert:?})"),
        mend,
    )
}

fn of_certificate(error: &CertificateError, shake: &Handshake<'_>) -> Finding {
    let found = |cause: String, mend: String| Finding::new("tls_certificate_error", cause, mend);
    match error {
        CertificateError::UnknownIssuer => untrusted(shake, false),
        CertificateError::BadSignature => untrusted(shake, true),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(6).map(|n| plain_name(n)).collect();
            found(
                format!(
                    "the certificate is not for {} but for {}",
                    shake.host,
                    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
                ),
                "call it by a name that it has, or set serverName (of a route) to one; when it is another's altogether, see where the name resolves to".into(),
            )
        }
        CertificateError::NotValidForName => found(
            format!("the certificate is not for {}", shake.host),
            "call it by a name that it has, or set serverName (of a route) to one".into(),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Finding {
            clock: true,
            ..found(
                format!(
                    "{} expired {} ago, by this node's clock",
                    whose(shake),
                    ends(shake).map_or_else(|| "some time".into(), |end| span(shake.now.saturating_sub(end)))
                ),
                "have it renewed at the other end; when others still connect, this node's clock is wrong".into(),
            )
        },
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Finding {
            clock: true,
            ..found(
                format!("{} is not good yet, by this node's clock", whose(shake)),
                "set the node's clock, or replace the node".into(),
            )
        },
        CertificateError::Revoked => found(
            format!("{} is revoked", whose(shake)),
            "have it replaced at the other end".into(),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => found(
            format!("{} is not one for servers", whose(shake)),
            "have it replaced at the other end by one with the extended key usage serverAuth".into(),
        ),
        other => found(
            format!("{} cannot be used: {other}", whose(shake)),
            "have it replaced at the other end".into(),
        ),
    }
}

/// Nobody that is trusted here signed it: who did, and what that means. `namesake`: somebody of that name is trusted, with another key.
fn untrusted(shake: &Handshake<'_>, namesake: bool) -> Finding {
    let summary = |c: Option<&CertificateDer<'_>>| c.and_then(|c| x509::summary(c));
    let (leaf, top) = (summary(shake.chain.first()), summary(shake.chain.last()));
    let (Some(leaf), Some(top)) = (leaf, top) else {
        return Finding::new(
            "tls_certificate_error",
            "the certificate is signed by nobody that is trusted here",
            format!("set {} to the root of whoever signed it", shake.ca_key),
        );
    };
    let public = PUBLIC
        .iter()
        .any(|name| shake.host == *name || shake.host.ends_with(&format!(".{name}")));
    let trusted = shake.ca_file.map_or_else(String::new, |file| {
        format!("; {} {} has: {}", shake.ca_key, file.display(), roots(file))
    });
    let signed = format!(
        "the certificate of {} is signed by {}, who is not trusted here{trusted}",
        leaf.subject, top.issuer
    );
    let (cause, mend) = if public {
        (
            format!(
                "{signed}: {}'s own is signed by a public authority, so something in between opens the connection (an inspecting proxy or firewall)",
                shake.host
            ),
            format!(
                "have {} exempted from inspection, or trust the inspector's root: {} or SSL_CERT_FILE",
                shake.host, shake.ca_key
            ),
        )
    } else if namesake {
        (
            format!(
                "the certificate of {} is signed by {}; one of that name is trusted here, but with another key",
                leaf.subject, top.issuer
            ),
            format!(
                "{} was made anew since: set {} to the present one",
                top.issuer, shake.ca_key
            ),
        )
    } else if leaf.self_issued {
        (
            format!(
                "the certificate of {} is signed by itself and not trusted here{trusted}",
                leaf.subject
            ),
            format!(
                "set {} to a file with this very certificate, or have it replaced by one of an authority",
                shake.ca_key
            ),
        )
    } else if shake.chain.len() == 1 {
        (
            format!("{signed}; the other end shows no further certificate"),
            format!(
                "when {} is a private authority's root, set {} to it; when it is an intermediate, let the other end send its whole chain",
                top.issuer, shake.ca_key
            ),
        )
    } else {
        (
            signed,
            format!("set {} to the root of {}", shake.ca_key, top.issuer),
        )
    };
    Finding::new("tls_certificate_error", cause, mend)
}

/// Whose the certificate is that was shown.
fn whose(shake: &Handshake<'_>) -> String {
    let leaf = shake.chain.first().and_then(|c| x509::summary(c));
    match leaf {
        Some(leaf) => format!(
            "the certificate of {} (signed by {})",
            leaf.subject, leaf.issuer
        ),
        None => "the certificate".to_owned(),
    }
}

/// When the first of the chain's certificates ends.
fn ends(shake: &Handshake<'_>) -> Option<Duration> {
    let ends = shake.chain.iter().filter_map(|c| x509::summary(c));
    ends.map(|s| s.not_after).min()
}

/// Whose roots a file holds.
pub(super) fn roots(file: &Path) -> String {
    let Ok(certificates) = CertificateDer::pem_file_iter(file) else {
        return "nothing that can be read".to_owned();
    };
    let names: Vec<_> = certificates
        .flatten()
        .filter_map(|c| x509::summary(&c))
        .map(|s| s.subject)
        .take(4)
        .collect();
    match names.is_empty() {
        true => "no certificate".to_owned(),
        false => names.join(", "),
    }
}

/// A name of a certificate, as rustls writes it: `DnsName("a")`, `IpAddress(…)`.
fn plain_name(name: &str) -> String {
    let inner = name
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"));
    let text = inner.unwrap_or(name);
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    const HOST: &str = "sts.internal";

    /// A server's certificate, good until 2030, and the intermediate above it, which ends in 2020; the root is not shown.
    fn chain() -> [CertificateDer<'static>; 2] {
        let named = |name: &str, until: i32| {
            let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_after = date_time_ymd(until, 1, 1);
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = Issuer::new(named("the root", 2040), key());
        let middle_key = key();
        let middle = named("the middle", 2020);
        let shown = middle.signed_by(&middle_key, &root).unwrap();
        let middle = Issuer::new(middle, middle_key);
        let leaf = named(HOST, 2030).signed_by(&key(), &middle).unwrap();
        [leaf.der().clone(), shown.der().clone()]
    }

    fn shake<'a>(chain: &'a [CertificateDer<'static>], now: Duration) -> Handshake<'a> {
        Handshake {
            host: HOST,
            chain,
            ca_file: None,
            ca_key: "caFile",
            now,
        }
    }

    /// What is to be trusted is who signed the last one that was shown.
    #[test]
    fn the_issuer_at_the_chains_end_is_named_as_what_is_not_trusted() {
        let chain = chain();
        let unknown = CertificateError::UnknownIssuer;
        let found = of_certificate(&unknown, &shake(&chain, Duration::ZERO));
        assert_eq!(
            found.cause,
            "the certificate of sts.internal is signed by the root, who is not trusted here"
        );
        assert_eq!(found.mend, "set caFile to the root of the root");
        // One alone may lack an intermediate.
        let found = of_certificate(&unknown, &shake(&chain[..1], Duration::ZERO));
        assert!(found.cause.contains("signed by the middle, who"));
        assert!(found.cause.contains("shows no further certificate"));
    }

    #[test]
    fn a_chain_has_ended_with_the_first_of_its_certificates() {
        let chain = chain();
        let day = Duration::from_secs(86_400);
        // Since 2020-01-01.
        let now = Duration::from_secs(1_577_836_800) + 3 * day;
        let found = of_certificate(&CertificateError::Expired, &shake(&chain, now));
        let ago = format!("expired {} ago", span(3 * day));
        assert!(found.cause.contains(&ago), "{}", found.cause);
        assert!(found.clock);
    }
}
