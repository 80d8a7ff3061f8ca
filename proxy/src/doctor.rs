//! The doctor behind `token-sidecar check`: walks the chain that a request depends on (projected token, authority, exchange, upstream, the running
//! sidecar) with what the sidecar itself would use, and says of each step that it passes, or the cause and the command that mends it.
//!
//! It changes nothing, forwards nothing, and never shows a token. It asks each authority once.

mod authority;
mod commands;
mod report;
mod running;
mod subject;
mod upstream;

pub use report::{Report, Status, Step};

use crate::config::Config;
use commands::Facts;
use sidecar_runtime::{clock::Clock, listener::ListenAddr};
use std::{collections::HashMap, io, sync::Arc};
use subject::Subject;

/// How thorough to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the running sidecar's admin port is, when it is not where the configuration says: a sidecar in another pod.
    pub admin: Option<String>,
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
    let file = config.file.as_deref().map_or_else(
        || "arguments and environment".to_owned(),
        |f| f.display().to_string(),
    );
    report.push(Step::pass(
        "configuration",
        "read",
        format!(
            "{file}: {} route(s), {} credential(s), {} subject token(s)",
            config.request.routes.len(),
            config.token.credentials.len(),
            config.token.subject_tokens.len()
        ),
    ));
    for warning in &config.warnings {
        report.push(Step::warn(
            "configuration",
            "read",
            "slip",
            warning.clone(),
            vec![],
        ));
    }
    let mut subjects: HashMap<Arc<str>, Subject> = HashMap::new();
    for params in &config.token.subject_tokens {
        let expectations = subject::expectations(params, &config.token.credentials);
        let (steps, subject) = subject::examine(params, &expectations, clock);
        report.extend(steps);
        subjects.insert(Arc::clone(&params.name), subject);
    }
    for credential in &config.token.credentials {
        report.extend(authority::examine(credential, &subjects, clock).await);
    }
    for route in &config.request.routes {
        report.extend(upstream::examine(route).await);
    }
    let admin = match (&options.admin, &config.admin) {
        (Some(given), _) => given.clone(),
        (None, ListenAddr::Tcp(address)) => {
            // A wildcard address is listened on, not called; that of IPv6 takes IPv4, too.
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            address.to_string()
        }
        (None, ListenAddr::Unix(path)) => format!("unix:{}", path.display()),
    };
    report.extend(running::examine(&admin, options.admin.is_some()).await);
    report
}

/// What the commands of a step are filled in with.
fn facts<'a>(subject: Option<&'a Subject>) -> Facts<'a> {
    let claims = subject
        .and_then(|s| s.token.as_deref())
        .map(crate::token::subject::SubjectToken::claims);
    Facts {
        issuer: claims.and_then(|c| c.iss.as_deref()),
        subject: claims.and_then(|c| c.sub.as_deref()),
        ..Facts::default()
    }
}
