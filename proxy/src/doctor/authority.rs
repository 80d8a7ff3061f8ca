//! Examines a credential's authority: name, connection and TLS by asking for a document; its clock by the `Date` of the answer; then one exchange,
//! exactly as the sidecar would make it. The issued token is looked at for its lifetime and dropped.

use super::{
    commands::{self, Facts},
    facts,
    report::Step,
    subject::{Subject, span},
};
use crate::{
    net::{
        client::{AuthorityClient, ClientError, Reply},
        token_proxy::TokenProxyParams,
    },
    token::{
        caller,
        dpop::Prover,
        exchange::{self, SubjectTokens, TokenType, bound::Binding, error::Class},
        params::{AuthorityParams, CredentialParams, GrantParams, TenantParams},
    },
};
use http::header::DATE;
use sidecar_runtime::clock::Clock;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::timeout;
use url::Url;

/// Authorities allow about five minutes of clock skew; more than half a minute is worth a word.
const SKEW_WARN: Duration = Duration::from_secs(30);
const SKEW_FAIL: Duration = Duration::from_secs(300);

/// Where a grant's authority is, and how it is reached.
struct Place<'a> {
    url: &'a Url,
    /// A document that it has, or any path: only that it answers matters.
    document: String,
    params: &'a AuthorityParams,
    /// The cluster's token proxy is asked instead; it has no documents.
    token_proxy: Option<&'a TokenProxyParams>,
}

fn entra(tenant: &TenantParams) -> Place<'_> {
    Place {
        url: tenant.asked(),
        document: format!(
            "/{}/v2.0/.well-known/openid-configuration",
            tenant.tenant_id
        ),
        params: &tenant.authority,
        token_proxy: tenant.identity_binding.as_ref(),
    }
}

/// `None`: no authority is asked.
fn place(grant: &GrantParams) -> Option<Place<'_>> {
    Some(match grant {
        GrantParams::EntraClientAssertion(p) => entra(&p.tenant),
        GrantParams::EntraOnBehalfOf(p) => entra(&p.tenant),
        GrantParams::EntraAgentBlueprint(p) => entra(&p.tenant),
        GrantParams::GoogleSts(p) => endpoint(&p.token_endpoint, &p.authority),
        GrantParams::TokenExchange(p) => endpoint(&p.endpoint.url, &p.endpoint.authority),
        GrantParams::ClientCredentials(p) => endpoint(&p.endpoint.url, &p.endpoint.authority),
        GrantParams::JwtBearer(p) => endpoint(&p.endpoint.url, &p.endpoint.authority),
        // The first of its two; the exchange itself goes to both.
        GrantParams::IdentityAssertion(p) => {
            let first = &p.identity_provider.endpoint;
            endpoint(&first.url, &first.authority)
        }
        GrantParams::StaticSecret(_) => return None,
    })
}

fn endpoint<'a>(url: &'a Url, params: &'a AuthorityParams) -> Place<'a> {
    Place {
        url,
        document: url.path().to_owned(),
        params,
        token_proxy: None,
    }
}

fn known<'a>(
    grant: &'a GrantParams,
    host: &'a str,
    subjects: &'a HashMap<Arc<str>, Subject>,
) -> Facts<'a> {
    let subject = grant
        .subject_tokens()
        .into_iter()
        .find_map(|name| subjects.get(name));
    let base = Facts {
        host: Some(host),
        ..facts(subject)
    };
    match grant {
        GrantParams::EntraClientAssertion(p) => Facts {
            client_id: Some(&p.client_id),
            scope: Some(&p.scope),
            ..base
        },
        GrantParams::EntraOnBehalfOf(p) => Facts {
            client_id: Some(&p.client_id),
            scope: Some(&p.scope),
            ..base
        },
        GrantParams::EntraAgentBlueprint(p) => Facts {
            client_id: Some(&p.client_id),
            ..base
        },
        GrantParams::GoogleSts(_) | GrantParams::StaticSecret(_) => base,
        GrantParams::TokenExchange(p) => Facts {
            scope: p.target.scope.as_deref(),
            ..base
        },
        GrantParams::ClientCredentials(p) => Facts {
            scope: p.target.scope.as_deref(),
            ..base
        },
        GrantParams::JwtBearer(p) => Facts {
            scope: p.target.scope.as_deref(),
            ..base
        },
        GrantParams::IdentityAssertion(p) => Facts {
            scope: p.authorization_server.scope.as_deref(),
            ..base
        },
    }
}

pub(super) async fn examine(
    credential: &CredentialParams,
    subjects: &HashMap<Arc<str>, Subject>,
    clock: &Clock,
) -> Vec<Step> {
    let of = format!("credential {}", credential.name);
    let Some(place) = place(&credential.grant) else {
        return vec![exchanged(&of, credential, subjects, &facts(None), clock).await];
    };
    let host = place.url.host_str().unwrap_or_default();
    let facts = known(&credential.grant, host, subjects);
    let mut steps = Vec::new();
    if place.token_proxy.is_some() {
        steps.push(Step::skip(
            &of,
            "reach",
            "an identity binding: the cluster's token proxy is asked, which knows nothing but the exchange",
        ));
        steps.push(exchanged(&of, credential, subjects, &facts, clock).await);
        return steps;
    }
    let client = AuthorityClient::new(
        place.url,
        place.params.ca_file.as_deref(),
        place.params.proxy.as_ref(),
    );
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            steps.push(Step::fail(
                of,
                "reach",
                "setup",
                sidecar_runtime::telemetry::chain(&error).to_string(),
                vec![],
            ));
            return steps;
        }
    };
    let got = timeout(
        credential.exchange_timeout,
        client.get(&place.document, &[]),
    )
    .await;
    match got {
        Ok(Ok(reply)) => {
            let through = place.params.proxy.as_ref().map_or_else(String::new, |p| {
                format!(" through the proxy {}", p.host_str().unwrap_or_default())
            });
            steps.push(Step::pass(
                &of,
                "reach",
                format!(
                    "{} answers{through}: name, connection and TLS are right",
                    origin(place.url)
                ),
            ));
            steps.extend(skew(&of, &reply, clock));
        }
        Ok(Err(error)) => {
            steps.push(unreachable(&of, &error, &facts));
            steps.push(Step::skip(of, "exchange", "the authority is not reached"));
            return steps;
        }
        Err(_) => {
            steps.push(Step::fail(
                &of,
                "reach",
                "timeout",
                format!(
                    "{} does not answer within {}: a firewall or network policy drops the packets, or something in between hangs",
                    origin(place.url),
                    span(credential.exchange_timeout)
                ),
                commands::network("timeout", &facts),
            ));
            steps.push(Step::skip(of, "exchange", "the authority is not reached"));
            return steps;
        }
    }
    steps.push(exchanged(&of, credential, subjects, &facts, clock).await);
    steps
}

async fn exchanged(
    of: &str,
    credential: &CredentialParams,
    subjects: &HashMap<Arc<str>, Subject>,
    facts: &Facts<'_>,
    clock: &Clock,
) -> Step {
    const STEP: &str = "exchange";
    let mut tokens = Vec::new();
    for name in credential.grant.subject_tokens() {
        if **name == *caller::NAME {
            return Step::skip(
                of,
                STEP,
                "it is made for each caller, with the caller's own token",
            );
        }
        match subjects.get(name).and_then(|s| s.token.clone()) {
            Some(token) => tokens.push((Arc::clone(name), token)),
            None if **name == *caller::NAME => {
                return Step::skip(
                    of,
                    STEP,
                    "it exchanges callers' tokens, and here is no caller",
                );
            }
            None => {
                return Step::skip(of, STEP, format!("the subject token {name} is not usable"));
            }
        }
    }
    // The proof of a key that is thrown away is as good as any for a look.
    let prover = (credential.injection.token_type == TokenType::DPoP)
        .then(|| Prover::new(clock.clone()).ok().map(Arc::new))
        .flatten();
    let binding = Binding::of(&credential.injection, prover.as_ref());
    let exchanger = match exchange::build(&credential.grant, binding, clock.clone()) {
        Ok(exchanger) => exchanger,
        Err(error) => return Step::fail(of, STEP, "setup", error.to_string(), vec![]),
    };
    let tokens = SubjectTokens::new(tokens);
    let issued = timeout(
        credential.exchange_timeout,
        exchanger.exchange(&tokens, None),
    )
    .await
    .unwrap_or_else(|_| Err(exchange::error::ExchangeError::timeout()))
    .and_then(|issued| credential.injection.value(&issued).map(|_| issued));
    match issued {
        Ok(_) if matches!(credential.grant, GrantParams::StaticSecret(_)) => Step::pass(
            of,
            STEP,
            "the secret's file holds what can be put on requests",
        ),
        Ok(issued) => Step::pass(
            of,
            STEP,
            format!("a token was issued; it lives {}", span(issued.lifetime)),
        ),
        Err(error) => {
            let mut detail = error.to_string();
            // The code stands before it already.
            if let Some(rest) = detail.strip_prefix(&format!("{}: ", error.code())) {
                detail = rest.to_owned();
            }
            if error.class() == Class::Propagation {
                detail.push_str("; if it was created in the last minutes, wait and check again");
            }
            if let Some(words) = error.detail() {
                detail.push_str(&format!(" (the authority says: {words})"));
            }
            Step::fail(
                of,
                STEP,
                error.code(),
                detail,
                commands::exchange(error.code(), facts),
            )
        }
    }
}

fn unreachable(of: &str, error: &ClientError, facts: &Facts<'_>) -> Step {
    Step::fail(
        of,
        "reach",
        error.code(),
        format!(
            "{}: {}",
            sidecar_runtime::telemetry::chain(error),
            error.mend()
        ),
        commands::network(error.code(), facts),
    )
}

/// Our clock against the authority's. `Date` has whole seconds, so small differences mean nothing.
fn skew(of: &str, reply: &Reply, clock: &Clock) -> Option<Step> {
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
    Some(if apart > SKEW_FAIL {
        Step::fail(
            of,
            STEP,
            "clock_skew",
            format!("{detail}: assertions are outside their time range there (AADSTS700024)"),
            commands::clock(),
        )
    } else if apart > SKEW_WARN {
        Step::warn(of, STEP, "clock_skew", detail, commands::clock())
    } else {
        Step::pass(of, STEP, detail)
    })
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
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
        for (ahead, status) in [
            (0_i64, Status::Pass),
            (-20, Status::Pass),
            (45, Status::Warn),
            (-45, Status::Warn),
            (400, Status::Fail),
            (-400, Status::Fail),
        ] {
            let ours = Duration::from_secs(theirs.as_secs().saturating_add_signed(ahead));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let step = runtime.block_on(async { skew("x", &reply, &Clock::anchored(ours)) });
            assert_eq!(step.unwrap().status, status, "{ahead}");
        }
        let silent = Reply {
            status: 200,
            headers: HeaderMap::new(),
            body: Zeroizing::default(),
        };
        assert!(skew("x", &silent, &Clock::system()).is_none());
    }
}
