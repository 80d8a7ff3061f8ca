//! The doctor behind `token-sidecar check`: walks the chain that a request depends on (projected token, authorities, exchanges, upstreams, callers' issuers, the running
//! sidecar) with what the sidecar itself would use, and says of each step that it passes, or the cause, the mend and the command.
//!
//! It changes nothing and never shows a token. It asks each authority for what the sidecar would ask for, once, and sends a request to an upstream only when told to.

mod callers;
mod client;
mod commands;
mod exchange;
mod facts;
mod files;
mod inbound;
mod layers;
mod place;
mod reach;
pub mod reference;
mod report;
mod request;
mod routes;
mod running;
mod subject;
mod trust;
mod upstream;
mod webhook;

pub use report::{Report, Status, Step};
pub use request::Asked;
pub use webhook::{WebhookProbe, probe};

use crate::config::Config;
use exchange::{Exchanged, Subjects};
use facts::Facts;
use place::Place;
use sidecar_runtime::{clock::Clock, listener::ListenAddr};
use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

/// How thorough to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the running sidecar's admin port is, when it is not where the configuration says: a sidecar in another pod.
    pub admin: Option<String>,
    /// Requests to send to upstreams, with their routes' tokens.
    pub requests: Vec<Asked>,
    /// The pod that this runs in, as far as the environment says.
    pub pod: Option<String>,
    /// What this program is: for the report.
    pub program: String,
}

/// Every command that can stand in a report, with placeholders: for checking that the tools have such.
pub fn every_command() -> Vec<String> {
    commands::every::commands()
}

/// What to run when a configuration is refused for want of variables that AKS' webhook sets. `text` is the refusal.
pub fn after_refusal(text: &str, options: &Options) -> Vec<String> {
    let lacks = |variable: &str| text.contains(&format!("{variable} is not set"));
    let facts = Facts {
        pod: options.pod.clone(),
        ..Facts::default()
    };
    let client = lacks("AZURE_CLIENT_ID");
    if client || lacks("AZURE_TENANT_ID") || lacks("AZURE_FEDERATED_TOKEN_FILE") {
        return commands::kubernetes::without_variables(client, &facts);
    }
    vec![]
}

/// As [`examine`], on a runtime of its own and by the system's clock.
///
/// # Errors
/// When the system refuses what a runtime needs.
pub fn run(config: &Config, options: &Options) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(examine(config, options, &Clock::system()));
    // A resolver that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(report)
}

/// Walks the whole chain of a configuration. Needs a tokio runtime around it; every step has a timeout.
pub async fn examine(config: &Config, options: &Options, clock: &Clock) -> Report {
    let mut report = Report::default();
    let around = Facts {
        pod: options.pod.clone(),
        ..Facts::default()
    };
    configuration(config, options, &mut report);
    let mut subjects = Subjects::new();
    for params in &config.token.subject_tokens {
        let wanted = subject::expectations(params, &config.token.credentials);
        let (steps, subject) = subject::examine(params, &wanted, &around, clock);
        report.extend(steps);
        subjects.insert(Arc::clone(&params.name), subject);
    }
    // What most commands are filled in with: the namespace and the pod are the same for all.
    let around = subjects
        .values()
        .find(|subject| subject.facts.account().is_some())
        .map_or(around, |subject| subject.facts.clone());
    let places = places(config);
    let reached = together(places.iter().map(|p| reach::examine(p, &around, clock))).await;
    let mut failed = Vec::new();
    for place in reached {
        report.extend(place.steps);
        failed.push(place.failed);
    }
    let way = |place: &Place| failed.get(place::find(&places, place)?)?.clone();
    let exchanged = exchanges(config, &mut subjects, &around, way, clock, &mut report).await;
    routes::examine(config, options, &exchanged, &around, clock, &mut report).await;
    if let (Some(params), Some(verify)) = (&config.request.inbound, &config.verify) {
        report.push(inbound::resource(params));
        for issuer in &verify.issuers {
            let reach = way(&Place::of_issuer(issuer, verify.keys.timeout));
            report.extend(inbound::issuer(issuer, &verify.keys, reach.as_deref(), &around).await);
        }
        report.push(inbound::workload(params).await);
    }
    let admin = options
        .admin
        .clone()
        .unwrap_or_else(|| called(&config.admin));
    report.extend(running::examine(&admin, options.admin.is_some(), &around).await);
    report
}

fn configuration(config: &Config, options: &Options, report: &mut Report) {
    const OF: &str = "configuration";
    let file = config.file.as_deref().map_or_else(
        || "arguments and environment".to_owned(),
        |f| f.display().to_string(),
    );
    report.push(Step::pass(
        OF,
        "read",
        format!(
            "{file}: {}, {}, {} ({})",
            counted(config.request.routes.len(), "route"),
            counted(config.token.credentials.len(), "credential"),
            counted(config.token.subject_tokens.len(), "subject token"),
            options.program
        ),
    ));
    for warning in &config.warnings {
        report.push(Step::warn(OF, "read", "slip", warning.clone()));
    }
}

fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// Every authority that is asked, each once.
fn places(config: &Config) -> Vec<Place> {
    let of_credentials = config
        .token
        .credentials
        .iter()
        .flat_map(Place::of_credential);
    let of_issuers = config.verify.iter().flat_map(|verify| {
        let within = verify.keys.timeout;
        verify
            .issuers
            .iter()
            .map(move |issuer| Place::of_issuer(issuer, within))
    });
    place::distinct(of_credentials.chain(of_issuers))
}

/// Each exchange, parents first.
async fn exchanges(
    config: &Config,
    subjects: &mut Subjects,
    around: &Facts,
    way: impl Fn(&Place) -> Option<String>,
    clock: &Clock,
    report: &mut Report,
) -> HashMap<Arc<str>, Exchanged> {
    let mut all = HashMap::new();
    // The configuration has no circles: it would not have been read.
    let ordered = config.token.parents_first();
    let ordered = ordered.unwrap_or_else(|_| config.token.credentials.iter().collect());
    for credential in ordered {
        let reach = Place::of_credential(credential).iter().find_map(&way);
        let (steps, exchanged) =
            exchange::examine(credential, subjects, around, reach, clock).await;
        report.extend(steps);
        for chained in &config.token.chained_tokens {
            if chained.credential == credential.name {
                let subject = exchange::as_subject(credential, &exchanged, clock);
                subjects.insert(Arc::clone(&chained.name), subject);
            }
        }
        all.insert(Arc::clone(&credential.name), exchanged);
    }
    all
}

/// An admin address as it is called: a wildcard address is listened on, not called; that of IPv6 takes IPv4, too.
fn called(admin: &ListenAddr) -> String {
    match admin {
        ListenAddr::Tcp(address) => {
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            address.to_string()
        }
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// All of them at once, and what each came to, in their order: what hangs holds nobody else up.
async fn together<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_holds_nobody_up_and_the_order_stays() {
        let sleep = |seconds: u64| async move {
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            seconds
        };
        let began = tokio::time::Instant::now();
        assert_eq!(together([3, 1, 2].into_iter().map(sleep)).await, [3, 1, 2]);
        assert_eq!(began.elapsed().as_secs(), 3);
        assert!(
            together(std::iter::empty::<std::future::Ready<()>>())
                .await
                .is_empty()
        );
    }
}
