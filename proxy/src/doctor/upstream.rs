//! Examines the way to a route's upstream: name, connection, TLS. Nothing is sent, unless a request was asked for: what a request would do there is not the doctor's to try by
//! itself.

use super::{
    facts::Facts,
    layers, reach,
    report::{Status, Step},
    trust::Handshake,
};
use crate::{
    net::{
        client::SetupError,
        dial::Stream,
        observe::{self, Presented},
        tls::Alpn,
        walk,
    },
    request::{
        params::{HttpVersions, RouteParams, UpstreamParams},
        upstream::{self, UpstreamSetup},
    },
};
use sidecar_runtime::{clock::Clock, telemetry::chain};
use std::sync::Arc;

/// What came of an upstream.
pub(super) struct Reached {
    /// Its steps.
    pub(super) steps: Vec<Step>,
    /// The step that failed, if one did.
    pub(super) failed: Option<String>,
    /// The connection, when there is one.
    pub(super) stream: Option<Stream>,
}

/// Whether reaching the one is reaching the other.
pub(super) fn same(a: &UpstreamParams, b: &UpstreamParams) -> bool {
    (
        a.tls,
        &a.host,
        a.port,
        &a.unix,
        a.http,
        &a.ca_file,
        &a.server_name,
    ) == (
        b.tls,
        &b.host,
        b.port,
        &b.unix,
        b.http,
        &b.ca_file,
        &b.server_name,
    )
}

/// The steps of one route's upstream.
pub(super) async fn examine(route: &RouteParams, around: &Facts, clock: &Clock) -> Reached {
    let of = format!("route {}", route.name);
    let facts = Facts {
        host: Some(route.upstream.host.clone()),
        port: Some(route.upstream.port),
        ..around.clone()
    };
    let mut steps = Vec::new();
    let stream = open(&of, route, &facts, clock, &mut steps).await;
    let failed = steps.iter().find(|s| s.status == Status::Fail);
    Reached {
        failed: failed.map(Step::name),
        steps,
        stream,
    }
}

async fn open(
    of: &str,
    route: &RouteParams,
    facts: &Facts,
    clock: &Clock,
    steps: &mut Vec<Step>,
) -> Option<Stream> {
    let upstream = &route.upstream;
    let setup = UpstreamSetup::new(upstream.clone());
    let mut target = match setup {
        Ok(setup) => setup.target().clone(),
        Err(upstream::SetupError::Tls(error)) => {
            steps.push(reach::setup(of, &SetupError::Tls(error), facts));
            return None;
        }
        Err(error) => {
            steps.push(Step::fail(of, "setup", "setup", chain(&error).to_string()));
            return None;
        }
    };
    let mut presented: Arc<Presented> = Arc::default();
    if let Some(tls) = &mut target.tls {
        let alpn = match upstream.http {
            HttpVersions::Auto => Alpn::Http1And2,
            HttpVersions::Http1 => Alpn::Http1,
            HttpVersions::Http2 => Alpn::Http2,
        };
        match observe::client_config_as(upstream.ca_file.as_deref(), alpn, None) {
            Ok((config, seen)) => (tls.config, presented) = (config, seen),
            Err(error) => {
                steps.push(reach::setup(of, &SetupError::Tls(error), facts));
                return None;
            }
        }
    }
    let within = route.timeouts.connect;
    let walk = walk::walk(&target, None, within).await;
    if let (Some(path), Ok(_)) = (&upstream.unix, &walk.end) {
        steps.push(Step::pass(
            of,
            "connect",
            format!("unix:{} takes connections", path.display()),
        ));
    }
    let chain = presented.chain();
    let shake = Handshake {
        host: upstream.server_name.as_deref().unwrap_or(&upstream.host),
        chain: &chain,
        ca_file: upstream.ca_file.as_deref(),
        ca_key: "upstreamCaFile",
        now: clock.unix_now(),
    };
    layers::layers(of, walk, None, within, &shake, &presented, facts, steps)
}
