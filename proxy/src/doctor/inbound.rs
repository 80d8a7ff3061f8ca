//! Examines the inbound side: whether each issuer's keys can be had and used, and whether what tokens must say is what that issuer writes. No token of a caller is seen here.

use super::{
    commands::{self, network},
    facts::Facts,
    report::Step,
};
use crate::{
    net::walk,
    request::{inbound::params::InboundParams, upstream::UpstreamSetup},
    token::verify::{
        fetch::{FetchError, HttpSource, KeySource as _},
        jwk::Algorithm,
        params::{IssuerParams, KeysParams},
    },
};
use sidecar_runtime::telemetry::chain;
use tokio::time::timeout;
use url::Url;

/// The steps of one issuer. `reach` is the step that failed on the way to it.
pub(super) async fn issuer(
    issuer: &IssuerParams,
    keys: &KeysParams,
    reach: Option<&str>,
    around: &Facts,
) -> Vec<Step> {
    let of = format!("inbound issuer {}", issuer.issuer);
    let mut steps = vec![match reach {
        Some(by) => Step::blocked(&of, "keys", by),
        None => fetched(&of, issuer, keys, around).await,
    }];
    steps.extend(shape(&of, issuer));
    steps.push(audience(&of, issuer));
    steps
}

async fn fetched(of: &str, issuer: &IssuerParams, keys: &KeysParams, around: &Facts) -> Step {
    const STEP: &str = "keys";
    let result = match HttpSource::new(issuer) {
        Err(error) => Err(error.into()),
        Ok(source) => timeout(keys.timeout, source.fetch())
            .await
            .unwrap_or(Err(FetchError::Timeout)),
    };
    let set = match result {
        Ok(set) => set,
        Err(error) => {
            let commands = match &error {
                FetchError::Client(e) => network::unreachable(e.code(), around),
                _ => vec![format!(
                    "curl -sS {}/.well-known/openid-configuration   # issuer, jwks_uri",
                    commands::quoted(issuer.issuer.trim_end_matches('/'))
                )],
            };
            return Step::fail(of, STEP, error.code(), chain(&error).to_string())
                .mend("until its keys are there, callers with tokens of this issuer get 503")
                .run(commands);
        }
    };
    let offered = set.algorithms();
    let names = |all: &[Algorithm]| {
        let names: Vec<_> = all.iter().map(|a| a.name()).collect();
        names.join(", ")
    };
    if !issuer.algorithms.iter().any(|a| offered.contains(a)) {
        return Step::fail(
            of,
            STEP,
            "no_key_for_algorithms",
            format!(
                "its keys are for {}, and tokens are only accepted with {}",
                names(&offered),
                names(&issuer.algorithms)
            ),
        )
        .mend("set `algorithms` of the issuer to what it signs with");
    }
    Step::pass(
        of,
        STEP,
        format!(
            "{}, for {}",
            super::counted(set.len(), "key"),
            names(&offered)
        ),
    )
}

/// What no token of Entra's can match.
fn shape(of: &str, issuer: &IssuerParams) -> Option<Step> {
    let url = Url::parse(&issuer.issuer).ok()?;
    let host = url.host_str()?;
    let tenant = url.path_segments()?.next()?;
    let entra = host.starts_with("login.microsoftonline.")
        || host.starts_with("login.partner.microsoftonline.");
    (entra && ["common", "organizations", "consumers"].contains(&tenant)).then(|| {
        Step::fail(
            of,
            "issuer",
            "issuer_of_no_token",
            format!("{tenant} is in the `iss` of no token: each names its own tenant"),
        )
        .mend(
            "write https://login.microsoftonline.com/<tenant id>/v2.0, one issuer for each tenant",
        )
        .run(vec!["az account show --query tenantId --output tsv".into()])
    })
}

/// What tokens must be for, and whether the issuer writes such.
fn audience(of: &str, issuer: &IssuerParams) -> Step {
    const STEP: &str = "audience";
    let list = issuer.audiences.join(", ");
    let host = Url::parse(&issuer.issuer)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default();
    let v2 = host.starts_with("login.microsoftonline.")
        && issuer.issuer.trim_end_matches('/').ends_with("/v2.0");
    let guid = |a: &String| a.len() == 36 && a.bytes().filter(|b| *b == b'-').count() == 4;
    if v2 && !issuer.audiences.iter().any(guid) {
        return Step::warn(
            of,
            STEP,
            "audience",
            format!("{list}: tokens of this issuer (Entra's version 2) have an application's client id as audience"),
        )
        .mend("set inbound.audience to the client id of the API's application registration")
        .run(vec![
            "az ad app list --display-name <name of the API> --query '[].{appId:appId,uris:identifierUris,version:api.requestedAccessTokenVersion}'".into(),
        ]);
    }
    Step::pass(of, STEP, format!("tokens must be for {list}"))
}

/// The workload, as callers know it.
pub(super) fn resource(inbound: &InboundParams) -> Step {
    let scopes = match inbound.required_scopes.is_empty() {
        true => "any scope".to_owned(),
        false => format!("the scopes {}", inbound.required_scopes.join(", ")),
    };
    Step::pass(
        "inbound",
        "resource",
        format!(
            "{} ({scopes}); its metadata, which callers must reach there: {}",
            inbound.resource, inbound.metadata_url
        ),
    )
}

/// Whether the workload takes connections. It is in the same pod: where the doctor runs elsewhere, it is not there.
pub(super) async fn workload(inbound: &InboundParams) -> Step {
    const OF: &str = "inbound";
    const STEP: &str = "workload";
    let route = &inbound.route;
    let where_it_is = match &route.upstream.unix {
        Some(path) => format!("unix:{}", path.display()),
        None => format!("{}:{}", route.upstream.host, route.upstream.port),
    };
    let setup = match UpstreamSetup::new(route.upstream.clone()) {
        Ok(setup) => setup,
        Err(error) => return Step::fail(OF, STEP, "setup", chain(&error).to_string()),
    };
    match walk::walk(setup.target(), None, route.timeouts.connect)
        .await
        .end
    {
        Ok(_) => Step::pass(OF, STEP, format!("{where_it_is} takes connections")),
        Err(_) => Step::skip(
            OF,
            STEP,
            format!(
                "nothing takes connections at {where_it_is}; beside the workload, in its pod, that would be a failure"
            ),
        ),
    }
}
