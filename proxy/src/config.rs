//! File, arguments and environment -> a configuration that is already right; every error of the file in one run.
//!
//! The text becomes a tree that knows its places, flags and variables are laid over it, and the tree is read key by key against one table
//! of keys. What comes out needs no further checks. This module opens the configuration file and nothing else: token, secret and CA files
//! are read by those who use them.

pub mod env;
mod error;
mod fields;
mod inbound;
mod keys;
mod overlay;
mod parse;
mod profile_keys;
pub mod profiles;
mod reference;
mod request;
mod token;
mod tree;
mod units;
mod upstream;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors};
pub use keys::{Key, Presence};
pub use reference::{environment_markdown, keys_markdown, reference};

use crate::{
    request::params::RequestParams,
    token::{params::TokenParams, verify::params::VerifyParams},
};
use error::{Place, Problems};
use fields::{Context, Fields, Surroundings};
use sidecar_runtime::{
    listener::ListenAddr,
    telemetry::{self, LogFormat},
};
use std::{io::Read, num::NonZeroUsize, path::PathBuf, time::Duration};
use tree::Node;

/// Everything the process needs to know. Only [`load`] builds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The token flow's parameters.
    pub token: TokenParams,
    /// The request flow's parameters.
    pub request: RequestParams,
    /// How tokens of the workload's callers are verified; there when `request` has an inbound side.
    pub verify: Option<VerifyParams>,
    /// Where probes and metrics are served.
    pub admin: ListenAddr,
    /// Worker threads; `None`: one per core that the process may use.
    pub workers: Option<NonZeroUsize>,
    /// What is logged, and how.
    pub log: LogParams,
    /// The file it was read from, to be watched for changes.
    pub file: Option<PathBuf>,
    /// How the process stops.
    pub shutdown: ShutdownParams,
    /// What is probably a slip but does no harm, one line each: to be logged once the log stands.
    pub warnings: Vec<String>,
}

/// What is logged, and how: the arguments of [`sidecar_runtime::telemetry::init`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogParams {
    /// A level, or directives such as `token_sidecar=debug,info`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// How the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownParams {
    /// From the signal to the closing of the listeners; readiness falls at once.
    pub delay: Duration,
    /// From then on, how long requests in flight may take.
    pub deadline: Duration,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The configuration's text, if there is any. Without it, `TOKEN_SIDECAR_CONFIG` is looked at.
    pub document: Option<Document>,
    /// What the command line says; it wins over the environment and the file.
    pub overrides: Overrides,
}

/// A configuration's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A file, read at every [`load`].
    File(PathBuf),
    /// The text itself, and the name that errors call it by.
    Text {
        /// What errors call it.
        name: String,
        /// YAML or JSON.
        text: String,
    },
}

/// Values of command-line options, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--upstream`: without a file, where requests go.
    pub upstream: Option<String>,
    /// `--scope`: without a file, the scope to ask for.
    pub scope: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--workers`.
    pub workers: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// Reads a configuration. `env` gives an environment variable's value.
///
/// # Errors
/// Everything that is wrong with it, each with its place and what to do.
pub fn load(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    load_in(source, env, Surroundings::Process, &|_, _| {})
}

/// `look`: what else is to be seen in the document's tree.
fn load_in(
    source: &Source,
    env: &dyn Fn(&str) -> Option<String>,
    surroundings: Surroundings,
    look: &dyn Fn(&Node, &Problems),
) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| env(name).filter(|v| !v.is_empty());
    let (file, text) = (variable(env::CONFIG), variable(env::CONFIG_TEXT));
    let document = match (&source.document, &file, text) {
        (Some(given), ..) => Some(given.clone()),
        (None, Some(file), None) => Some(Document::File(file.into())),
        (None, None, Some(text)) => Some(Document::Text {
            name: env::CONFIG_TEXT.into(),
            text,
        }),
        (None, None, None) => None,
        (None, Some(_), Some(_)) => {
            let problems = Problems::new(None);
            let message = "stands beside TOKEN_SIDECAR_CONFIG; give one of them";
            problems.error(Place::Given(env::CONFIG_TEXT), "", message);
            problems.finish()?;
            None
        }
    };
    let name = document.as_ref().map(|d| match d {
        Document::File(path) => path.display().to_string(),
        Document::Text { name, .. } => name.clone(),
    });
    let file = match &document {
        Some(Document::File(path)) => Some(path.clone()),
        _ => None,
    };
    let problems = Problems::new(name.as_deref());
    let context = Context {
        problems: &problems,
        env,
        surroundings,
    };
    let config = read(document, &problems).and_then(|tree| {
        if let Some(tree) = &tree {
            look(tree, &problems);
        }
        let tree = overlay::apply(tree, &source.overrides, &context)?;
        decode(&tree, &context)
    });
    let warnings = problems.finish()?;
    match config {
        Some(config) => Ok(Config {
            warnings,
            file,
            ..config
        }),
        // Every reader that gives nothing reports why, so this is not reached; it must not become an empty configuration if it ever is.
        None => Err(ConfigErrors::unexplained(name.as_deref())),
    }
}

/// The document's tree; `Some(None)` without a document, `None` when it could not be read.
fn read(document: Option<Document>, problems: &Problems) -> Option<Option<Node>> {
    let text = match document {
        None => return Some(None),
        Some(Document::Text { text, .. }) => text,
        Some(Document::File(path)) => {
            let mut bytes = Vec::new();
            let limit = tree::MAX_BYTES as u64 + 1;
            let read =
                std::fs::File::open(&path).and_then(|f| f.take(limit).read_to_end(&mut bytes));
            if let Err(e) = read {
                problems.error(
                    Place::Whole,
                    "",
                    format!("cannot be read ({e}); check the path and the mount"),
                );
                return None;
            }
            match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(_) => {
                    problems.error(Place::Whole, "", "not UTF-8; save it as UTF-8 text");
                    return None;
                }
            }
        }
    };
    tree::parse(&text, problems).map(Some)
}

fn decode(tree: &Node, context: &Context<'_>) -> Option<Config> {
    let top = Fields::open(context, tree, String::new(), "")?;
    let admin = top.value("admin", parse::listen);
    let workers = top.value("workers", parse::count(1024));
    let log = top.map("log", "log").and_then(|log| {
        let level = log.value("level", level);
        let format = log.value("format", format);
        Some(LogParams {
            level: level?,
            format: format?,
        })
    });
    let shutdown = top.map("shutdown", "shutdown").and_then(|shutdown| {
        let delay = shutdown.value("delay", units::duration);
        let deadline = shutdown.value("deadline", units::duration);
        Some(ShutdownParams {
            delay: delay?,
            deadline: deadline?,
        })
    });
    let tokens = token::decode(&top);
    let for_callers = tokens
        .params
        .credentials
        .iter()
        .filter(|c| c.grant.is_for_callers())
        .map(|c| &*c.name)
        .collect();
    let request = request::decode(
        &top,
        admin.as_ref(),
        &tokens.declared,
        &tokens.params.chained_tokens,
        &for_callers,
    );
    let (request, verify) = request?;
    Some(Config {
        token: tokens.params,
        request,
        verify,
        admin: admin?,
        workers,
        log: log?,
        shutdown: shutdown?,
        file: None,
        warnings: Vec::new(),
    })
}

fn level(text: &str) -> Result<String, String> {
    match telemetry::check_level(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err("not a level; write error, warn, info, debug or trace, or directives such as token_sidecar=debug,info".into()),
    }
}

fn format(text: &str) -> Result<LogFormat, String> {
    text.parse()
        .map_err(|_| "not a log format; write json or text".to_owned())
}
