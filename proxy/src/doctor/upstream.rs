//! Examines a route's upstream: name, connection and TLS. Nothing is sent: what a request would do there is not the doctor's to try.

use super::{
    commands::{self, Facts},
    report::Step,
};
use crate::{
    net::dial,
    request::{params::RouteParams, upstream::UpstreamSetup},
};
use sidecar_runtime::telemetry::chain;
use tokio::time::timeout;

pub(super) async fn examine(route: &RouteParams) -> Vec<Step> {
    const STEP: &str = "upstream";
    let of = format!("route {}", route.name);
    let upstream = &route.upstream;
    let origin = format!("{}:{}", upstream.host, upstream.port);
    let facts = Facts {
        host: Some(&upstream.host),
        ..Facts::default()
    };
    let setup = match UpstreamSetup::new(upstream.clone()) {
        Ok(setup) => setup,
        Err(error) => {
            return vec![Step::fail(
                of,
                STEP,
                "setup",
                chain(&error).to_string(),
                vec![],
            )];
        }
    };
    let step = match timeout(route.timeouts.connect, dial::dial(setup.target())).await {
        Ok(Ok(stream)) => {
            let how = match (upstream.tls, stream.alpn_h2()) {
                (true, true) => "TLS and HTTP/2",
                (true, false) => "TLS and HTTP/1.1",
                (false, _) => "plain http",
            };
            Step::pass(&of, STEP, format!("{origin} accepts a connection ({how})"))
        }
        Ok(Err(error)) => Step::fail(
            &of,
            STEP,
            error.code(),
            chain(&error).to_string(),
            commands::network(error.code(), &facts),
        ),
        Err(_) => Step::fail(
            &of,
            STEP,
            "connection_timeout",
            format!(
                "no connection to {origin} within {:?}: a firewall or network policy drops the packets",
                route.timeouts.connect
            ),
            commands::network("connection_timeout", &facts),
        ),
    };
    vec![step]
}
