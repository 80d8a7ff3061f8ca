//! The routes of a configuration: each upstream is walked to once, whatever number of routes leads there, and the requests that were asked for are sent by the rules of their
//! routes.

use super::{
    Options,
    exchange::Exchanged,
    facts::Facts,
    report::{Report, Step},
    request::{self, Asked},
    together, upstream,
};
use crate::{
    config::Config, net::dial::Stream, request::params::RouteParams,
    token::params::CredentialParams,
};
use sidecar_runtime::clock::Clock;
use std::{collections::HashMap, sync::Arc};

/// The ways to the upstreams, all at once, and the requests that were asked for.
pub(super) async fn examine(
    config: &Config,
    options: &Options,
    exchanged: &HashMap<Arc<str>, Exchanged>,
    around: &Facts,
    clock: &Clock,
    report: &mut Report,
) {
    let all = &config.request.routes;
    let first = |route: &RouteParams| {
        all.iter()
            .position(|other| upstream::same(&other.upstream, &route.upstream))
    };
    let distinct: Vec<usize> = (0..all.len())
        .filter(|at| all.get(*at).and_then(first) == Some(*at))
        .collect();
    let looks = distinct.iter().filter_map(|at| all.get(*at));
    let reached = together(looks.map(|route| upstream::examine(route, around, clock))).await;
    let mut reached: HashMap<usize, upstream::Reached> =
        distinct.into_iter().zip(reached).collect();
    for (at, route) in all.iter().enumerate() {
        let of = format!("route {}", route.name);
        let place = first(route).unwrap_or(at);
        let Some(found) = reached.get_mut(&place) else {
            continue;
        };
        report.extend(named_by(&of, route));
        if place == at {
            report.extend(found.steps.drain(..));
        } else if let Some(named) = all.get(place) {
            report.push(match &found.failed {
                Some(by) => Step::blocked(&of, "connect", by),
                None => Step::pass(
                    &of,
                    "connect",
                    format!("the same upstream as that of route {}", named.name),
                ),
            });
        }
        for asked in &options.requests {
            let meant = match &asked.route {
                Some(name) => **name == *route.name,
                None => all.len() == 1,
            };
            if meant {
                let failed = found.failed.clone();
                let stream = found.stream.take();
                report.push(
                    asked_for(
                        route, asked, config, exchanged, failed, stream, around, clock,
                    )
                    .await,
                );
            }
        }
    }
    unmeant(options, all, report);
}

/// Where an upstream comes from that the configuration does not say itself. The URL's path stays untold: it is the variable's owner's.
fn named_by(of: &str, route: &RouteParams) -> Option<Step> {
    let variable = route.upstream_variable.as_ref()?;
    let upstream = &route.upstream;
    let scheme = if upstream.tls { "https" } else { "http" };
    let host = match upstream.host.contains(':') {
        true => format!("[{}]", upstream.host),
        false => upstream.host.clone(),
    };
    let said = format!("{variable} says {scheme}://{host}:{}", upstream.port);
    Some(Step::pass(of, "upstream", said))
}

/// Requests that no route takes.
fn unmeant(options: &Options, routes: &[RouteParams], report: &mut Report) {
    for asked in &options.requests {
        let why = match &asked.route {
            Some(name) if !routes.iter().any(|r| *r.name == **name) => {
                format!("there is no route {name}")
            }
            None if routes.len() != 1 => {
                format!(
                    "{} is of which route? write ROUTE={}",
                    asked.path, asked.path
                )
            }
            _ => continue,
        };
        let names: Vec<_> = routes.iter().map(|r| &*r.name).collect();
        report.push(
            Step::fail("configuration", "request", "no_such_route", why)
                .mend(format!("the routes are: {}", names.join(", "))),
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "all that one request depends on")]
async fn asked_for(
    route: &RouteParams,
    asked: &Asked,
    config: &Config,
    exchanged: &HashMap<Arc<str>, Exchanged>,
    failed: Option<String>,
    stream: Option<Stream>,
    around: &Facts,
    clock: &Clock,
) -> Step {
    const STEP: &str = "request";
    let of = format!("route {}", route.name);
    let refused = |why: String| Step::fail(&of, STEP, "not_of_this_route", why);
    if !within(&asked.path, &route.path_prefix) {
        return refused(format!("the route takes paths under {}", route.path_prefix));
    }
    if route
        .methods
        .as_ref()
        .is_some_and(|m| !m.contains(&http::Method::GET))
    {
        return refused("the route lets no GET through".into());
    }
    let named = |name: &Arc<str>| -> Option<&CredentialParams> {
        config.token.credentials.iter().find(|c| c.name == *name)
    };
    let own = named(&route.credential);
    let credential = match own {
        Some(credential) if credential.grant.is_for_callers() => {
            route.without_caller.as_ref().and_then(named)
        }
        own => own,
    };
    let Some(credential) = credential else {
        return Step::skip(
            &of,
            STEP,
            "its token is made for each caller, and here is none",
        );
    };
    let Some(got) = exchanged.get(&credential.name) else {
        return Step::skip(&of, STEP, "its credential was not looked at");
    };
    if let Some(by) = failed.or_else(|| got.failed.clone()) {
        return Step::blocked(&of, STEP, &by);
    }
    // Each connection serves one request.
    let stream = match stream {
        Some(stream) => Some(stream),
        None => upstream::examine(route, around, clock).await.stream,
    };
    match stream {
        Some(stream) => {
            request::examine(
                route,
                &credential.injection,
                &asked.path,
                got,
                stream,
                clock,
            )
            .await
        }
        None => Step::blocked(&of, STEP, &format!("{of}: connect")),
    }
}

/// Whether a path is under a prefix, on a segment's border.
fn within(path: &str, prefix: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_under_a_prefix_on_a_segments_border() {
        for (path, prefix, under) in [
            ("/", "/", true),
            ("/a?b=/v1", "/", true),
            ("/v1", "/v1", true),
            ("/v1/x", "/v1", true),
            ("/v1?x", "/v1", true),
            ("/v10", "/v1", false),
            ("/", "/v1", false),
        ] {
            assert_eq!(within(path, prefix), under, "{path} {prefix}");
        }
    }
}
