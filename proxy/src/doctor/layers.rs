//! The layers of one connection as steps: what each settled on, or why it is the last, with the mend of that very failure. Who is connected to is the caller's business.

use super::{
    commands::network,
    facts::Facts,
    report::Step,
    subject::span,
    trust::{self, Handshake},
};
use crate::net::{
    dial::{DialError, Stream},
    observe::Presented,
    proxy::TunnelError,
    walk::{Layer, Stop, Walk},
    x509,
};
use sidecar_runtime::telemetry::chain;
use std::time::Duration;

/// A certificate that ends so soon is worth a word.
const ENDS_SOON: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The layers below HTTP; the connection, when there is one.
#[expect(
    clippy::too_many_arguments,
    reason = "all that is known of one connection"
)]
pub(super) fn layers(
    of: &str,
    walk: Walk,
    through: Option<&str>,
    within: Duration,
    shake: &Handshake<'_>,
    presented: &Presented,
    facts: &Facts,
    steps: &mut Vec<Step>,
) -> Option<Stream> {
    if !walk.addresses.is_empty() {
        let mut addresses: Vec<_> = walk
            .addresses
            .iter()
            .take(4)
            .map(ToString::to_string)
            .collect();
        if walk.addresses.len() > addresses.len() {
            addresses.push(format!(
                "and {} more",
                walk.addresses.len() - addresses.len()
            ));
        }
        // That the name has an address which is not allowed is the failure of this very step.
        if !matches!(walk.end, Err((Layer::Dns, _))) {
            steps.push(Step::pass(
                of,
                "dns",
                format!("{}: {}", shake.host, addresses.join(", ")),
            ));
        }
    }
    if let Some((peer, took)) = walk.peer {
        steps.push(Step::pass(
            of,
            "connect",
            format!("{peer}, in {} ms", took.as_millis()),
        ));
    }
    if let (Some(through), Ok(_) | Err((Layer::Tls, _))) = (through, &walk.end) {
        steps.push(Step::pass(
            of,
            "proxy",
            format!(
                "{through} opens a tunnel to {}:{}",
                shake.host,
                facts.port.unwrap_or(443)
            ),
        ));
    }
    match walk.end {
        Ok(stream) => {
            steps.extend(secured(of, &stream, shake, presented));
            Some(stream)
        }
        Err((layer, stop)) => {
            steps.push(stopped(of, layer, &stop, within, through, shake, facts));
            None
        }
    }
}

/// What the handshake settled on, and how long the certificate is good.
fn secured(
    of: &str,
    stream: &Stream,
    shake: &Handshake<'_>,
    presented: &Presented,
) -> Option<Step> {
    let tls = stream.tls()?;
    let version = tls.protocol_version().map_or("TLS", |v| match v {
        rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
        rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS",
    });
    let http = match stream.alpn_h2() {
        true => "HTTP/2",
        false => "HTTP/1.1",
    };
    let leaf = presented.chain().first().and_then(|c| x509::summary(c));
    let Some(leaf) = leaf else {
        return Some(Step::pass(of, "tls", format!("{version}, {http}")));
    };
    let left = leaf.not_after.saturating_sub(shake.now);
    let detail = format!(
        "{version}, {http}; certificate of {}, signed by {}, good for another {}",
        leaf.subject,
        leaf.issuer,
        span(left)
    );
    Some(if left < ENDS_SOON {
        Step::warn(of, "tls", "certificate_ends_soon", detail)
            .mend("see that it is renewed at the other end before then")
    } else {
        Step::pass(of, "tls", detail)
    })
}

/// The layer that is the last.
fn stopped(
    of: &str,
    layer: Layer,
    stop: &Stop,
    within: Duration,
    through: Option<&str>,
    shake: &Handshake<'_>,
    facts: &Facts,
) -> Step {
    let host = shake.host;
    match (layer, stop) {
        (_, Stop::Tunnel(error)) => tunnel(of, error, through, shake, facts),
        (Layer::Proxy, _) => Step::fail(
            of,
            "proxy",
            "proxy_timeout",
            format!("the proxy {} opens no tunnel within {}", through.unwrap_or_default(), span(within)),
        )
        .mend("check HTTPS_PROXY and whether the proxy runs, or list the host in NO_PROXY when it needs none")
        .run(network::unreachable("proxy_timeout", facts)),
        (Layer::Dns, Stop::Dial(error)) => dns(of, error, facts),
        (Layer::Dns, Stop::Timeout) => Step::fail(
            of,
            "dns",
            "dns_timeout",
            format!("nobody says within {} what {host} is: the pod's DNS does not answer", span(within)),
        )
        .mend("let the pod reach the cluster's DNS (port 53, UDP and TCP), and see that CoreDNS runs")
        .run(network::unreachable("dns_silent", facts)),
        (Layer::Connect, Stop::Dial(error)) => connect(of, error, facts),
        (Layer::Connect, Stop::Timeout) => Step::fail(
            of,
            "connect",
            "connection_timeout",
            format!("no connection to {host} within {}: a network policy or a firewall drops the packets", span(within)),
        )
        .mend("let the pod's egress through: network policies, then the subnet's firewall and routes; or set HTTPS_PROXY where a proxy is needed")
        .run(network::unreachable("connection_timeout", facts)),
        (Layer::Tls, Stop::Dial(DialError::Tls { source, .. })) => {
            trust::failed(of, source, shake, facts)
        }
        (Layer::Tls, _) => Step::fail(
            of,
            "tls",
            "tls_timeout",
            format!("connected to {host}, and no handshake within {}", span(within)),
        )
        .mend("see what stands in between: a firewall that goes by names often swallows the handshake")
        .run(network::unreachable("tls_timeout", facts)),
    }
}

fn dns(of: &str, error: &DialError, facts: &Facts) -> Step {
    let said = chain(error).to_string();
    let (detail, way, mend) = match error {
        DialError::Forbidden { .. } => (
            said,
            error.code(),
            "correct the URL, or the name's entry: link-local, metadata and (for a public name) loopback addresses are never connected to",
        ),
        // What the resolver says when it was not told anything: nobody answered, or a server failed.
        _ if said.contains("Temporary failure") || said.contains("Try again") => (
            said,
            "dns_silent",
            "let the pod reach the cluster's DNS (port 53, UDP and TCP), and see that CoreDNS runs and can ask on",
        ),
        _ => (
            said,
            error.code(),
            "correct the host in the URL; for a private name, see that the cluster's DNS knows its zone",
        ),
    };
    Step::fail(of, "dns", error.code(), detail)
        .mend(mend)
        .run(network::unreachable(way, facts))
}

fn connect(of: &str, error: &DialError, facts: &Facts) -> Step {
    let mend = match error.code() {
        "connection_refused" => {
            "see that the other end runs and listens on this port; a firewall that refuses (rather than drops) looks the same"
        }
        "destination_ip_unroutable" => {
            "see the pod's and the subnet's routes; an IPv6 address without IPv6 routes looks like this"
        }
        "connection_timeout" => {
            "let the pod's egress through: network policies, then the subnet's firewall and routes; or set HTTPS_PROXY where a proxy is needed"
        }
        _ => "see what stands in between: it broke the connection off",
    };
    Step::fail(of, "connect", error.code(), chain(error).to_string())
        .mend(mend)
        .run(network::unreachable(error.code(), facts))
}

fn tunnel(
    of: &str,
    error: &TunnelError,
    through: Option<&str>,
    shake: &Handshake<'_>,
    facts: &Facts,
) -> Step {
    let proxy = through.unwrap_or_default();
    // The proxy's own TLS: the certificates that were seen are not its.
    if let TunnelError::Dial(DialError::Tls { source, .. }) = error {
        let own = Handshake {
            chain: &[],
            host: proxy,
            ..*shake
        };
        let step = trust::failed(of, source, &own, facts);
        return Step {
            step: "proxy",
            detail: format!("the proxy {proxy} itself: {}", step.detail),
            ..step
        };
    }
    Step::fail(
        of,
        "proxy",
        "proxy_tunnel",
        format!("{proxy}: {}", chain(error)),
    )
    .mend(error.mend())
    .run(network::unreachable("proxy_tunnel", facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// A name that is wrong, a resolver that says nothing and an address that is never connected to have different mends, though it is one layer.
    #[test]
    fn a_wrong_name_is_told_from_a_silent_resolver_and_a_forbidden_address() {
        let host = || "a.example".to_owned();
        let resolve = |said: &str| DialError::Resolve {
            host: host(),
            source: io::Error::other(said.to_owned()),
        };
        let forbidden = DialError::Forbidden {
            host: host(),
            address: [169, 254, 169, 254].into(),
        };
        for (error, code, mend) in [
            (
                resolve("failed to lookup address information: Name or service not known"),
                "dns_error",
                "correct the host in the URL",
            ),
            (
                resolve(
                    "failed to lookup address information: Temporary failure in name resolution",
                ),
                "dns_error",
                "let the pod reach the cluster's DNS",
            ),
            (
                resolve("failed to lookup address information: Try again"),
                "dns_error",
                "let the pod reach the cluster's DNS",
            ),
            (
                forbidden,
                "destination_ip_prohibited",
                "are never connected to",
            ),
        ] {
            let step = dns("x", &error, &Facts::default());
            assert_eq!((step.step, step.code), ("dns", code));
            assert!(step.mend.contains(mend), "{error}: {}", step.mend);
        }
    }
    /// The name is there, and yet its layer is the last one: its address is not said to be fine beside.
    #[test]
    fn the_address_of_a_forbidden_destination_does_not_pass() {
        let address = [169, 254, 169, 254].into();
        let host = "a.example".to_owned();
        let walk = Walk {
            addresses: vec![address],
            peer: None,
            end: Err((
                Layer::Dns,
                Stop::Dial(DialError::Forbidden { host, address }),
            )),
        };
        let shake = Handshake {
            host: "a.example",
            chain: &[],
            ca_file: None,
            ca_key: "caFile",
            now: Duration::ZERO,
        };
        let (facts, mut steps) = (Facts::default(), Vec::new());
        let (presented, within) = (Presented::default(), Duration::from_secs(1));
        let end = layers(
            "x", walk, None, within, &shake, &presented, &facts, &mut steps,
        );
        assert!(end.is_none());
        let seen: Vec<_> = steps.iter().map(|s| (s.step, s.code)).collect();
        assert_eq!(seen, [("dns", "destination_ip_prohibited")]);
    }
}
