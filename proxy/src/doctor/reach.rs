//! Examines the way to one place layer by layer: name, connection (or proxy), TLS, an answer over HTTP, and the other end's clock by the `Date` of it. The chain ends at
//! the first layer that fails: what lies above it cannot be known.

use super::{
    commands::{kubernetes, network},
    facts::Facts,
    files, layers,
    place::Place,
    report::{Status, Step},
    subject::span,
    trust::{self, Handshake},
};
use crate::{
    net::{
        client::{AuthorityClient, ClientError, Reply, SetupError},
        dial::tls_error,
        tls::{ClientCertificate, TlsError},
        token_proxy::TokenProxy,
    },
    token::{
        exchange::{Proof, inspect},
        params::ClientAuthentication,
    },
};
use http::header::{CONTENT_TYPE, DATE, LOCATION};
use sidecar_runtime::{clock::Clock, telemetry::chain};
use std::time::{Duration, UNIX_EPOCH};
use tokio::{io::AsyncReadExt as _, time::timeout};

/// Authorities allow about five minutes of clock skew; more than half a minute is worth a word.
const SKEW_WARN: Duration = Duration::from_secs(30);
const SKEW_FAIL: Duration = Duration::from_secs(300);

/// An alert follows a handshake at once.
const ALERT: Duration = Duration::from_secs(2);

/// What came of a place.
pub(super) struct Reached {
    /// Its steps.
    pub(super) steps: Vec<Step>,
    /// The step that failed, if one did.
    pub(super) failed: Option<String>,
}

/// The steps of one place.
pub(super) async fn examine(place: &Place, facts: &Facts, clock: &Clock) -> Reached {
    let facts = Facts {
        host: place.url.host_str().map(str::to_owned),
        port: place.url.port_or_known_default(),
        ..facts.clone()
    };
    let mut steps = Vec::new();
    walk_up(place, &facts, clock, &mut steps).await;
    let failed = steps
        .iter()
        // A wrong clock is in nobody's way.
        .find(|s| s.status == Status::Fail && s.step != "clock")
        .map(Step::name);
    Reached { steps, failed }
}

async fn walk_up(place: &Place, facts: &Facts, clock: &Clock, steps: &mut Vec<Step>) {
    let of = &place.name;
    let certificate = certificate(place);
    let built = match &place.token_proxy {
        Some(proxy) => TokenProxy::observing(proxy),
        None => AuthorityClient::observing(
            &place.url,
            place.authority.ca_file.as_deref(),
            place.authority.proxy.as_ref(),
            certificate.as_ref(),
        ),
    };
    let (client, presented) = match built {
        Ok(built) => built,
        Err(error) => {
            steps.push(setup(of, &error, facts));
            return;
        }
    };
    let walk = client.walk(place.within).await;
    let shown = presented.chain();
    let shake = Handshake {
        host: facts.host.as_deref().unwrap_or_default(),
        chain: &shown,
        ca_file: place.authority.ca_file.as_deref(),
        ca_key: match place.token_proxy {
            Some(_) => "AZURE_KUBERNETES_CA_FILE",
            None => "caFile",
        },
        now: clock.unix_now(),
    };
    let through = place.authority.proxy.as_ref().map(|proxy| {
        format!(
            "{}:{}",
            proxy.host_str().unwrap_or_default(),
            proxy.port_or_known_default().unwrap_or(80)
        )
    });
    let Some(stream) = layers::layers(
        of,
        walk,
        through.as_deref(),
        place.within,
        &shake,
        &presented,
        facts,
        steps,
    ) else {
        return;
    };
    let Some(document) = &place.document else {
        return;
    };
    if place.certificate.is_some() && certificate.is_none() {
        steps.push(Step::skip(
            of,
            "http",
            "not asked without the client's certificate, which cannot be used",
        ));
        return;
    }
    match timeout(place.within, client.get_over(stream, document)).await {
        Ok(Ok(reply)) => {
            steps.push(answered(place, &reply, facts));
            steps.extend(skew(of, &reply, facts, clock));
        }
        Ok(Err(error)) => {
            let alert = alert(&client, place.within).await;
            let step = broken(of, &error, alert, &shake, facts);
            // What the handshake seemed to have settled on is taken back.
            steps.retain(|s| s.step != step.step);
            steps.push(step);
        }
        Err(_) => steps.push(
            Step::fail(
                of,
                "http",
                "timeout",
                format!("connected, and no answer within {}", span(place.within)),
            )
            .mend("see how the authority fares, and what stands in between")
            .run(network::unreachable("tls_timeout", facts)),
        ),
    }
}

/// The certificate of a place that is shown one; the credential's own step says what is wrong with it.
fn certificate(place: &Place) -> Option<ClientCertificate> {
    let tls = place.certificate.clone()?;
    match inspect(&ClientAuthentication::Tls(tls)) {
        Ok(Proof::Certificate(certificate)) => Some(certificate),
        _ => None,
    }
}

/// No client can be made: the roots, or the URL.
pub(super) fn setup(of: &str, error: &SetupError, facts: &Facts) -> Step {
    let step = Step::fail(of, "tls", "tls_setup", chain(error).to_string());
    let SetupError::Tls(TlsError::CaFile { path, .. }) = error else {
        return step;
    };
    let seen = files::unreadable(path).or_else(|| {
        let content = std::fs::read(path).ok()?;
        let odd = files::pem_oddity(&content).unwrap_or("it holds no certificate");
        Some(format!("{}: {odd}", path.display()))
    });
    Step {
        detail: seen.unwrap_or(step.detail),
        ..step
    }
    .mend("let it be a readable PEM file with at least one CERTIFICATE block, mounted into this container")
    .run(kubernetes::secret_file(facts))
}

/// What a server says that ends the connection when the handshake is over, as one that does not like the client's certificate does (TLS 1.3). HTTP often does not hear it:
/// it finds the connection closed while it writes. Here nothing is written.
async fn alert(client: &AuthorityClient, within: Duration) -> Option<rustls::Error> {
    let mut stream = client.walk(within).await.end.ok()?;
    let read = timeout(within.min(ALERT), stream.read_u8()).await.ok()?;
    tls_error(&read.err()?).cloned()
}

/// Connected, and HTTP broke down.
fn broken(
    of: &str,
    error: &ClientError,
    alert: Option<rustls::Error>,
    shake: &Handshake<'_>,
    facts: &Facts,
) -> Step {
    if let Some(said) = &alert {
        let (code, cause, mend) = trust::told_late(said, shake);
        return Step::fail(of, "tls", code, cause).mend(mend);
    }
    Step::fail(of, "http", error.code(), chain(error).to_string())
        .mend(error.mend())
        .run(network::unreachable("tls_protocol_error", facts))
}

/// That something answers is enough; what it answers tells whether it is who it should be.
fn answered(place: &Place, reply: &Reply, facts: &Facts) -> Step {
    let of = &place.name;
    let header = |name| {
        let value = reply.headers.get(name)?.to_str().ok()?;
        Some(value.chars().take(120).collect::<String>())
    };
    let html = header(CONTENT_TYPE).is_some_and(|t| t.starts_with("text/html"));
    let status = reply.status;
    let between =
        "see what stands in between: a captive portal, or the block page of a proxy or firewall";
    match status {
        300..=399 => {
            let to = header(LOCATION)
                .and_then(|l| url::Url::parse(&l).ok())
                .map_or_else(String::new, |url| {
                    format!(" to {}", url.origin().ascii_serialization())
                });
            Step::warn(
                of,
                "http",
                "http_3xx",
                format!("answers {status}, a redirect{to}, which is never followed"),
            )
            .mend(format!("correct the URL, or {between}"))
        }
        _ if html && (place.entra || status == 403) => Step::warn(
            of,
            "http",
            "not_an_authority",
            format!("answers {status} with a web page, which an authority does not"),
        )
        .mend(between)
        .run(network::unreachable("tls_certificate_error", facts)),
        500.. => Step::warn(of, "http", "http_5xx", format!("answers {status}"))
            .mend("see how it fares, or what stands in between; the exchange says more"),
        _ => Step::pass(of, "http", format!("answers ({status})")),
    }
}

/// Our clock against the authority's. `Date` has whole seconds, so small differences mean nothing.
fn skew(of: &str, reply: &Reply, facts: &Facts, clock: &Clock) -> Option<Step> {
    const STEP: &str = "clock";
    let date = reply.headers.get(DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    let ours = clock.unix_now();
    let (apart, direction) = if ours >= theirs {
        (ours - theirs, "ahead of")
    } else {
        (theirs - ours, "behind")
    };
    let detail = format!(
        "this node's clock is {} {direction} the authority's",
        span(apart)
    );
    let mend = "set the node's clock, or replace the node";
    Some(if apart > SKEW_FAIL {
        Step::fail(
            of,
            STEP,
            "clock_skew",
            format!("{detail}: assertions are outside their time range there (AADSTS700024)"),
        )
        .mend(mend)
        .run(kubernetes::clock(facts))
    } else if apart > SKEW_WARN {
        Step::warn(of, STEP, "clock_skew", detail)
            .mend(mend)
            .run(kubernetes::clock(facts))
    } else if apart < Duration::from_secs(1) {
        Step::pass(of, STEP, "this node's clock and the authority's agree")
    } else {
        Step::pass(of, STEP, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use zeroize::Zeroizing;

    #[test]
    fn a_wrong_clock_is_told_by_the_answers_date() {
        let theirs = Duration::from_secs(1_800_000_000);
        let mut headers = HeaderMap::new();
        let date = httpdate::fmt_http_date(UNIX_EPOCH + theirs);
        headers.insert(DATE, date.parse().unwrap());
        let reply = Reply {
            status: 404,
            headers,
            body: Zeroizing::default(),
        };
        for (ahead, status, said) in [
            (0_i64, Status::Pass, "agree"),
            (-20, Status::Pass, "20 s behind"),
            (45, Status::Warn, "45 s ahead of"),
            (-45, Status::Warn, "45 s behind"),
            (400, Status::Fail, "6 min ahead of"),
            (-400, Status::Fail, "6 min behind"),
        ] {
            let ours = Duration::from_secs(theirs.as_secs().saturating_add_signed(ahead));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let step = runtime
                .block_on(async { skew("x", &reply, &Facts::default(), &Clock::anchored(ours)) });
            let step = step.unwrap();
            assert_eq!(step.status, status, "{ahead}");
            assert!(step.detail.contains(said), "{ahead}: {}", step.detail);
        }
        let silent = Reply {
            status: 200,
            headers: HeaderMap::new(),
            body: Zeroizing::default(),
        };
        assert!(skew("x", &silent, &Facts::default(), &Clock::system()).is_none());
    }
}
