//! The webhook's command-line options -> addresses and durations that are right. Every error in one run.

use super::super::{LogParams, format, level, parse, units};
use sidecar_runtime::listener::ListenAddr;
use std::time::Duration;

/// Options of the webhook, as given.
#[derive(Debug)]
pub struct WebhookOptions<'a> {
    /// `--listen`.
    pub listen: &'a str,
    /// `--admin`.
    pub admin: &'a str,
    /// `--shutdown-delay`.
    pub shutdown_delay: &'a str,
    /// `--log-level`, else the environment.
    pub log_level: &'a str,
    /// `--log-format`, else the environment.
    pub log_format: &'a str,
}

/// Options of the webhook, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where the API server calls.
    pub listen: ListenAddr,
    /// Where probes and metrics are served.
    pub admin: ListenAddr,
    /// From SIGTERM to the closing of the listener.
    pub shutdown_delay: Duration,
    /// What is logged, and how.
    pub log: LogParams,
}

impl WebhookOptions<'_> {
    /// Reads them.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn read(&self) -> Result<WebhookSettings, String> {
        let mut problems = Vec::new();
        let mut keep =
            |option: &str, problem: String| problems.push(format!("{option}: {problem}"));
        let listen = parse::listen(self.listen)
            .map_err(|e| keep("--listen", e))
            .ok();
        let admin = parse::listen(self.admin)
            .map_err(|e| keep("--admin", e))
            .ok();
        let shutdown_delay = units::duration(self.shutdown_delay)
            .map_err(|e| keep("--shutdown-delay", e))
            .ok();
        let level = level(self.log_level)
            .map_err(|e| keep("--log-level", e))
            .ok();
        let format = format(self.log_format)
            .map_err(|e| keep("--log-format", e))
            .ok();
        match (listen, admin, shutdown_delay, level, format) {
            (Some(listen), Some(admin), Some(shutdown_delay), Some(level), Some(format)) => {
                Ok(WebhookSettings {
                    listen,
                    admin,
                    shutdown_delay,
                    log: LogParams { level, format },
                })
            }
            _ => Err(problems.join("\n")),
        }
    }
}
