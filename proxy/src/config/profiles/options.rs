//! The webhook's command-line options -> addresses and durations that are right. Every error in one run.

use super::{
    super::{LogParams, format, level, units},
    values::container,
};
use sidecar_runtime::listener::ListenAddr;
use std::time::Duration;

/// Options of the webhook, as given.
#[derive(Debug)]
pub struct WebhookOptions<'a> {
    /// `--listen`.
    pub listen: &'a str,
    /// `--admin`.
    pub admin: &'a str,
    /// `--namespace`.
    pub namespace: Option<&'a str>,
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
        let listen = address(self.listen, "[::]:8443")
            .map_err(|e| keep("--listen", e))
            .ok();
        let mut admin = address(self.admin, "[::]:9090")
            .map_err(|e| keep("--admin", e))
            .ok();
        // The system gives another for each port 0.
        if admin.is_some() && admin == listen && !self.admin.ends_with(":0") {
            let message = "the address of `--listen`, too; choose another port".to_owned();
            keep("--admin", message);
            admin = None;
        }
        let namespace = match self.namespace.map(label) {
            Some(Err(e)) => {
                keep("--namespace", e);
                None
            }
            _ => Some(()),
        };
        let shutdown_delay = units::duration(self.shutdown_delay)
            .map_err(|e| keep("--shutdown-delay", e))
            .ok();
        let level = level(self.log_level)
            .map_err(|e| keep("--log-level", e))
            .ok();
        let format = format(self.log_format)
            .map_err(|e| keep("--log-format", e))
            .ok();
        match (listen, admin, namespace, shutdown_delay, level, format) {
            (
                Some(listen),
                Some(admin),
                Some(()),
                Some(shutdown_delay),
                Some(level),
                Some(format),
            ) => Ok(WebhookSettings {
                listen,
                admin,
                shutdown_delay,
                log: LogParams { level, format },
            }),
            _ => Err(problems.join("\n")),
        }
    }
}

/// Where the API server or the kubelet calls: never a Unix socket.
fn address(text: &str, such_as: &str) -> Result<ListenAddr, String> {
    match text.parse() {
        Ok(ListenAddr::Tcp(address)) => Ok(ListenAddr::Tcp(address)),
        Ok(ListenAddr::Unix(_)) => Err(format!(
            "a Unix socket, which nobody calls from outside of the pod; write IP:PORT such as {such_as}"
        )),
        Err(_) => Err(format!(
            "not a listener; write IP:PORT such as {such_as} (a name is not an IP)"
        )),
    }
}

/// A namespace's name (a DNS label as RFC 1123 has it).
fn label(text: &str) -> Result<(), String> {
    container(text).map(drop).map_err(|_| {
        "not a namespace's name (at most 63 of a-z, 0-9 and `-`, begun and ended by a letter or digit); write the injector's own".into()
    })
}
