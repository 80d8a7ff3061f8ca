//! The one request that the doctor sends to an upstream, when it was asked to (`--request`): a GET with the route's own token, over the connection that was opened to the
//! route's own upstream, and what its status means. The body is not read.

use super::{
    commands::{entra, kubernetes},
    exchange::Exchanged,
    facts::Facts,
    report::Step,
    upstream,
};
use crate::{
    net::dial::Stream,
    request::{
        params::{HttpVersions, RouteParams},
        upstream::UpstreamSetup,
    },
    token::{
        dpop::{self, DPOP},
        injection::Injection,
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Version,
    header::{ACCEPT, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE},
};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sidecar_runtime::{clock::Clock, spawn, telemetry::chain};
use std::error::Error;
use tokio::time::timeout;
use url::Url;

const STEP: &str = "request";

/// A request that was asked for: of which route, and for which path with query. Without a route, of the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The route's name.
    pub route: Option<String>,
    /// The path, with query, as the workload would ask for it.
    pub path: String,
}

impl std::str::FromStr for Asked {
    type Err = &'static str;

    /// `[ROUTE=]/PATH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (route, path) = match text.split_once('=') {
            Some((route, path)) if !route.contains('/') => (Some(route.to_owned()), path),
            _ => (None, text),
        };
        let fine = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
        match fine {
            true => Ok(Self {
                route,
                path: path.to_owned(),
            }),
            false => Err("write [ROUTE=]/PATH, such as /health or orders=/v1/status?limit=1"),
        }
    }
}

/// Sends it. `stream` is a connection to the route's upstream.
pub(super) async fn examine(
    route: &RouteParams,
    injection: &Injection,
    path: &str,
    exchanged: &Exchanged,
    stream: Stream,
    clock: &Clock,
) -> Step {
    let of = format!("route {}", route.name);
    let facts = Facts {
        host: Some(route.upstream.host.clone()),
        port: Some(route.upstream.port),
        ..exchanged.facts.clone()
    };
    let answer = match once(route, injection, path, exchanged, stream).await {
        // Once more, over another connection, with the nonce that the upstream gave (RFC 9449 section 9).
        Ok((StatusCode::UNAUTHORIZED, headers)) if nonce(route, exchanged, &headers) => {
            match upstream::examine(route, &exchanged.facts, clock)
                .await
                .stream
            {
                Some(stream) => once(route, injection, path, exchanged, stream).await,
                None => Ok((StatusCode::UNAUTHORIZED, headers)),
            }
        }
        answer => answer,
    };
    match answer {
        Ok((status, headers)) => judged(&of, path, status, &headers, &facts),
        Err(Broken::Request(why)) => Step::fail(of, STEP, "request", why),
        Err(Broken::Http(why)) => Step::fail(
            of,
            STEP,
            "http_protocol_error",
            format!("GET {} broke off: {why}", shown(path)),
        )
        .mend("look at the upstream's log, and at what stands in between; check `http` of the route"),
        Err(Broken::Late) => Step::fail(
            of,
            STEP,
            "http_response_timeout",
            format!("GET {} got no answer within {:?}", shown(path), route.timeouts.response_header),
        )
        .mend("see how the upstream fares; raise timeouts.responseHeader of the route when it is known to be slow"),
    }
}

/// Why there is no answer.
enum Broken {
    Request(String),
    Http(String),
    Late,
}

async fn once(
    route: &RouteParams,
    injection: &Injection,
    path: &str,
    exchanged: &Exchanged,
    stream: Stream,
) -> Result<(StatusCode, HeaderMap), Broken> {
    let request = build(route, injection, path, exchanged, &stream).map_err(Broken::Request)?;
    let h2 = request.version() == Version::HTTP_2;
    match timeout(route.timeouts.response_header, send(stream, h2, request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Broken::Http(chain(&*error).to_string())),
        Err(_) => Err(Broken::Late),
    }
}

/// Takes over a nonce; whether the upstream refused for want of it.
fn nonce(route: &RouteParams, exchanged: &Exchanged, headers: &HeaderMap) -> bool {
    let (Some(prover), true) = (&exchanged.prover, dpop::asks_for_nonce(headers)) else {
        return false;
    };
    let Ok(setup) = UpstreamSetup::new(route.upstream.clone()) else {
        return false;
    };
    let url = Url::parse(&format!("{}://{}", setup.scheme(), setup.authority()));
    url.is_ok_and(|url| prover.note(&url, headers))
}

fn build(
    route: &RouteParams,
    injection: &Injection,
    path: &str,
    exchanged: &Exchanged,
    stream: &Stream,
) -> Result<Request<Empty<Bytes>>, String> {
    let fresh = exchanged.fresh.as_ref().ok_or("there is no token")?;
    let setup = UpstreamSetup::new(route.upstream.clone()).map_err(|e| e.to_string())?;
    let path = format!("{}{path}", route.upstream.base_path);
    let h2 = stream.alpn_h2() || route.upstream.http == HttpVersions::Http2;
    let mut uri = http::Uri::builder().path_and_query(&*path);
    if h2 {
        uri = uri
            .scheme(setup.scheme().clone())
            .authority(setup.authority().clone());
    }
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.build().map_err(|e| e.to_string())?;
    *request.version_mut() = match h2 {
        true => Version::HTTP_2,
        false => Version::HTTP_11,
    };
    let headers = request.headers_mut();
    if !h2 {
        headers.insert(HOST, setup.host().clone());
    }
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("token-sidecar/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(prover) = &exchanged.prover {
        let url = format!("{}://{}{path}", setup.scheme(), setup.authority());
        let url = Url::parse(&url).map_err(|e| e.to_string())?;
        let proof = prover
            .proof(&Method::GET, &url, Some(&fresh.issued.token))
            .ok_or("no proof (DPoP) can be made")?;
        headers.insert(DPOP, proof);
    }
    headers.insert(&injection.header, fresh.header.clone());
    Ok(request)
}

async fn send(
    stream: Stream,
    h2: bool,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, HeaderMap), Box<dyn Error + Send + Sync>> {
    let io = TokioIo::new(stream);
    // What drives the connection ends with it, and it with this answer.
    let response = if h2 {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(io)
            .await?;
        drop(spawn("doctor", async move {
            drop(connection.await);
        }));
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = http1::handshake(io).await?;
        drop(spawn("doctor", async move {
            drop(connection.await);
        }));
        sender.send_request(request).await?
    };
    Ok((response.status(), response.headers().clone()))
}

/// What the answer means.
fn judged(of: &str, path: &str, status: StatusCode, headers: &HeaderMap, facts: &Facts) -> Step {
    let got = format!("GET {} with the token: {}", shown(path), status.as_u16());
    // Where to look for what the token lacks: at Entra, when it is Entra's.
    let look = |there: fn(&Facts) -> Vec<String>| match facts.tenant_id {
        Some(_) => there(facts),
        None => kubernetes::configuration(facts),
    };
    match status.as_u16() {
        200..=299 => Step::pass(of, STEP, got),
        300..=399 => Step::warn(
            of,
            STEP,
            "http_3xx",
            format!("{got}, a redirect{}, which the sidecar passes on and never follows", to(headers)),
        )
        .mend("let the upstream's URL and the path be what it redirects to; a redirect to a sign-in page means that it takes no tokens"),
        401 => Step::fail(
            of,
            STEP,
            "unauthorized",
            format!("{got}: the upstream does not take the token{}", challenge(headers)),
        )
        .mend("let the credential's scope (audience, resource) be the very upstream's, and the token be put where it looks for it (`inject`)")
        .run(look(|facts| vec![entra::resource(facts)])),
        403 => Step::fail(
            of,
            STEP,
            "forbidden",
            format!("{got}: the upstream takes the token, and the identity may not do this{}", challenge(headers)),
        )
        .mend("give the identity the role, app role or scope that the upstream wants")
        .run(look(entra::permissions)),
        404 => Step::warn(of, STEP, "not_found", format!("{got}: no such path there"))
            .mend("ask for a path that the upstream has; check the path in the upstream's URL, which stands before it"),
        429 => Step::warn(of, STEP, "http_429", format!("{got}: the upstream throttles"))
            .mend("see who calls it how often"),
        500..=599 => Step::fail(of, STEP, "http_5xx", format!("{got}: the upstream, or a gateway before it, is failing"))
            .mend("look at its log: the token was not the matter"),
        _ => Step::warn(of, STEP, "http_4xx", format!("{got}: the upstream does not like the request"))
            .mend("ask for a path that takes a bare GET"),
    }
}

/// The origin that a redirect leads to.
fn to(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|l| l.to_str().ok());
    match location.and_then(|l| Url::parse(l).ok()) {
        Some(url) => format!(" to {}", url.origin().ascii_serialization()),
        None => String::new(),
    }
}

/// What the challenge names as the error (RFC 6750 section 3), and the scope that it wants.
fn challenge(headers: &HeaderMap) -> String {
    let said: Vec<String> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| {
            ["error", "error_description", "scope"].map(|name| parameter(value, name))
        })
        .flatten()
        .collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(" ({})", said.join(", ")),
    }
}

/// `name="value"` out of a challenge, made harmless: an upstream may echo what it was sent.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let start = challenge
        .match_indices(&format!("{name}=\""))
        .map(|(at, found)| (at, at + found.len()))
        .find(|(at, _)| {
            *at == 0
                || challenge
                    .as_bytes()
                    .get(at - 1)
                    .is_some_and(|b| b" ,\t".contains(b))
        })?
        .1;
    let value = challenge.get(start..)?.split('"').next()?;
    let harmless: String = value
        .split_whitespace()
        .map(|word| match word.len() > 48 || word.contains("eyJ") {
            true => "[removed]",
            false => word,
        })
        .collect::<Vec<_>>()
        .join(" ");
    let harmless: String = harmless
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Some(format!("{name}: {harmless}"))
}

/// A path without its query, which may hold what nobody should read.
fn shown(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn a_request_is_of_a_route_or_of_the_only_one() {
        let asked = |text: &str| text.parse::<Asked>();
        assert_eq!(
            asked("/a?b=c").unwrap(),
            Asked {
                route: None,
                path: "/a?b=c".into()
            }
        );
        assert_eq!(
            asked("orders=/v1").unwrap(),
            Asked {
                route: Some("orders".into()),
                path: "/v1".into()
            }
        );
        for bad in ["", "health", "orders=", "https://x/", "/a b"] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_status_means_something() {
        let facts = Facts {
            tenant_id: Some("t".into()),
            client_id: Some("c".into()),
            scope: Some("https://management.azure.com/.default".into()),
            ..Facts::default()
        };
        for (status, expected, code, part) in [
            (204, Status::Pass, "", ""),
            (302, Status::Warn, "http_3xx", ""),
            (
                401,
                Status::Fail,
                "unauthorized",
                "az ad sp show --id https://management.azure.com",
            ),
            (
                403,
                Status::Fail,
                "forbidden",
                "az role assignment list --assignee c",
            ),
            (404, Status::Warn, "not_found", ""),
            (405, Status::Warn, "http_4xx", ""),
            (429, Status::Warn, "http_429", ""),
            (503, Status::Fail, "http_5xx", ""),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let step = judged("x", "/a?key=s3cr3t", status, &HeaderMap::new(), &facts);
            assert_eq!((step.status, step.code), (expected, code));
            assert!(step.commands.join("\n").contains(part), "{step:?}");
            assert!(!format!("{step:?}").contains("s3cr3t"));
        }
    }

    #[test]
    fn a_challenge_is_shown_without_what_could_be_a_token() {
        let mut headers = HeaderMap::new();
        let value = format!(
            "Bearer realm=\"x\", error=\"invalid_token\", error_description=\"no eyJhbGciOi.{} here\", scope=\"a b\"",
            "A1".repeat(40)
        );
        headers.insert(WWW_AUTHENTICATE, value.parse().unwrap());
        assert_eq!(
            challenge(&headers),
            " (error: invalid_token, error_description: no [removed] here, scope: a b)"
        );
        assert_eq!(challenge(&HeaderMap::new()), "");
    }
}
