//! The environment: every variable, its meaning and its default; the only place of this crate that reads it.
//!
//! Settings are right once they exist; all that is wrong is reported in one run.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use http::HeaderName;
use sidecar_runtime::telemetry::{LogFormat, check_level};

use crate::{
    backend::BackendUrl,
    guard::{AllowedHosts, AllowedOrigins},
};

/// A variable as `--help` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its default, as it would be written; empty: none, it must be set.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// Where requests of tools go.
pub const BACKEND_API_URL: Variable = Variable {
    name: "BACKEND_API_URL",
    default: "",
    help: "where tools send their requests: http:// on loopback, or unix:/PATH; that is the sidecar",
};
/// Time for a tool call.
pub const BACKEND_API_TIMEOUT: Variable = Variable {
    name: "BACKEND_API_TIMEOUT",
    default: "30",
    help: "seconds for a tool call that declares no timeout of its own",
};
/// Whether readiness looks at the backend.
pub const READINESS_CHECK_BACKEND: Variable = Variable {
    name: "READINESS_CHECK_BACKEND",
    default: "false",
    help: "true: /readyz asks the backend too (HEAD /, at most 2 s, cached for 5 s)",
};
/// Whether calls are made on behalf of the caller.
pub const FORWARD_CALLER: Variable = Variable {
    name: "FORWARD_CALLER",
    default: "false",
    help: "true: the handle that the sidecar in front puts in the place of a caller's token goes with the tool's request; \
           never a token",
};
/// Where the handle is.
pub const CALLER_HEADER: Variable = Variable {
    name: "CALLER_HEADER",
    default: "authorization",
    help: "the header that carries the handle, as the sidecar's inbound.handleHeader says",
};
/// How much is logged.
pub const LOG_LEVEL: Variable = Variable {
    name: "LOG_LEVEL",
    default: "info",
    help: "trace, debug, info, warn, error or off; also target=level, separated by commas",
};
/// How log lines look.
pub const LOG_FORMAT: Variable = Variable {
    name: "LOG_FORMAT",
    default: "json",
    help: "json or text",
};
/// The port.
pub const PORT: Variable = Variable {
    name: "PORT",
    default: "3333",
    help: "the port that everything is served on",
};
/// The address.
pub const HOST: Variable = Variable {
    name: "HOST",
    default: "::",
    help: "the IP address to listen on; ::, every address, takes IPv4 too",
};
/// The tools.
pub const TOOLS_FILE: Variable = Variable {
    name: "TOOLS_FILE",
    default: "built-in",
    help: "a YAML file that declares the tools; built-in: get_user_profile",
};
/// Names this server answers to.
pub const ALLOWED_HOSTS: Variable = Variable {
    name: "ALLOWED_HOSTS",
    default: "none",
    help: "hosts, with or without port, that requests may name in Host beside localhost, 127.0.0.1 and [::1], \
           separated by commas; in a cluster the Service's name. *: any",
};
/// Web pages that may call.
pub const ALLOWED_ORIGINS: Variable = Variable {
    name: "ALLOWED_ORIGINS",
    default: "none",
    help: "origins of web pages that may call, such as https://app.example.com, separated by commas",
};
/// Time between losing readiness and closing the listener.
pub const SHUTDOWN_DELAY: Variable = Variable {
    name: "SHUTDOWN_DELAY",
    default: "1",
    help: "seconds between SIGTERM (not ready from then on) and closing the port",
};
/// Time for requests in flight.
pub const SHUTDOWN_DEADLINE: Variable = Variable {
    name: "SHUTDOWN_DEADLINE",
    default: "25",
    help: "seconds that requests in flight get after that",
};

/// Every variable.
pub const VARIABLES: [Variable; 14] = [
    BACKEND_API_URL,
    BACKEND_API_TIMEOUT,
    READINESS_CHECK_BACKEND,
    TOOLS_FILE,
    HOST,
    PORT,
    ALLOWED_HOSTS,
    ALLOWED_ORIGINS,
    FORWARD_CALLER,
    CALLER_HEADER,
    LOG_LEVEL,
    LOG_FORMAT,
    SHUTDOWN_DELAY,
    SHUTDOWN_DEADLINE,
];

/// What the environment says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// See [`BACKEND_API_URL`].
    pub backend: BackendUrl,
    /// See [`BACKEND_API_TIMEOUT`].
    pub backend_timeout: Duration,
    /// See [`READINESS_CHECK_BACKEND`].
    pub check_backend: bool,
    /// See [`TOOLS_FILE`]; `None`: the built-in tools.
    pub tools_file: Option<PathBuf>,
    /// See [`HOST`].
    pub host: IpAddr,
    /// See [`PORT`].
    pub port: u16,
    /// See [`ALLOWED_HOSTS`].
    pub allowed_hosts: AllowedHosts,
    /// See [`ALLOWED_ORIGINS`].
    pub allowed_origins: AllowedOrigins,
    /// See [`FORWARD_CALLER`] and [`CALLER_HEADER`]; `None`: calls are made on nobody's behalf.
    pub caller_header: Option<HeaderName>,
    /// See [`LOG_LEVEL`].
    pub log_level: String,
    /// See [`LOG_FORMAT`].
    pub log_format: LogFormat,
    /// See [`SHUTDOWN_DELAY`].
    pub shutdown_delay: Duration,
    /// See [`SHUTDOWN_DEADLINE`].
    pub shutdown_deadline: Duration,
}

impl Settings {
    /// Reads the settings through `env`, which gives a variable's value if it is set. Empty counts as not set.
    ///
    /// # Errors
    /// A line for each variable that is wrong: its name, the cause, the mend.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader {
            env,
            errors: Vec::new(),
        };
        let backend = reader.backend();
        let backend_timeout = reader.seconds(&BACKEND_API_TIMEOUT, 0.001, 600.0);
        let check_backend = reader.flag(&READINESS_CHECK_BACKEND);
        let tools_file = reader.get(&TOOLS_FILE).map(PathBuf::from);
        let host = reader.parse(
            &HOST,
            "must be an IP address, such as :: (every address, IPv4 too) or 127.0.0.1",
        );
        let port = reader.parse(&PORT, "must be a port, such as 3333 (0: any)");
        let hosts = reader.get(&ALLOWED_HOSTS).unwrap_or_default();
        let allowed_hosts = reader.check(&ALLOWED_HOSTS, AllowedHosts::parse(&hosts));
        let origins = reader.get(&ALLOWED_ORIGINS).unwrap_or_default();
        let allowed_origins = reader.check(&ALLOWED_ORIGINS, AllowedOrigins::parse(&origins));
        let forward_caller = reader.flag(&FORWARD_CALLER);
        let caller_header: Option<HeaderName> = reader.parse(
            &CALLER_HEADER,
            "must be a header name, such as authorization",
        );
        let log_level = reader.get_or_default(&LOG_LEVEL);
        let log_level = reader.check(&LOG_LEVEL, check_level(&log_level).map(|()| log_level));
        let log_format = reader.get_or_default(&LOG_FORMAT);
        let log_format = reader.check(&LOG_FORMAT, log_format.parse());
        let shutdown_delay = reader.seconds(&SHUTDOWN_DELAY, 0.0, 600.0);
        let shutdown_deadline = reader.seconds(&SHUTDOWN_DEADLINE, 0.0, 3600.0);
        let settings = || {
            // Wrong is wrong, also when it is not used.
            let (forward, caller_header) = (forward_caller?, Some(caller_header?));
            Some(Self {
                backend: backend?,
                backend_timeout: backend_timeout?,
                check_backend: check_backend?,
                tools_file,
                host: host?,
                port: port?,
                allowed_hosts: allowed_hosts?,
                allowed_origins: allowed_origins?,
                caller_header: caller_header.filter(|_| forward),
                log_level: log_level?,
                log_format: log_format?,
                shutdown_delay: shutdown_delay?,
                shutdown_deadline: shutdown_deadline?,
            })
        };
        settings().ok_or(reader.errors)
    }
}

/// A variable of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, variable: &Variable) -> Option<String> {
        (self.env)(variable.name).filter(|value| !value.trim().is_empty())
    }

    fn get_or_default(&self, variable: &Variable) -> String {
        self.get(variable)
            .unwrap_or_else(|| variable.default.to_owned())
    }

    fn fail(&mut self, variable: &Variable, what: impl fmt::Display) {
        self.errors.push(format!("{}: {what}", variable.name));
    }

    fn check<T, E: fmt::Display>(
        &mut self,
        variable: &Variable,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.fail(variable, error)).ok()
    }

    fn parse<T: std::str::FromStr>(&mut self, variable: &Variable, rule: &str) -> Option<T> {
        let value = self.get_or_default(variable);
        let parsed = value
            .trim()
            .parse()
            .map_err(|_| format!("`{value}` {rule}"));
        self.check(variable, parsed)
    }

    fn backend(&mut self) -> Option<BackendUrl> {
        match self.get(&BACKEND_API_URL) {
            // The value is not repeated: it may hold a password.
            Some(url) => self.check(&BACKEND_API_URL, url.trim().parse()),
            None => {
                self.fail(
                    &BACKEND_API_URL,
                    "is not set; point it at the sidecar, such as http://127.0.0.1:8080",
                );
                None
            }
        }
    }

    fn seconds(&mut self, variable: &Variable, least: f64, most: f64) -> Option<Duration> {
        let value = self.get_or_default(variable);
        match value.trim().parse::<f64>() {
            Ok(seconds) if (least..=most).contains(&seconds) => {
                Some(Duration::from_secs_f64(seconds))
            }
            _ => {
                self.fail(
                    variable,
                    format_args!("`{value}` must be a number of seconds from {least} to {most}, without a unit"),
                );
                None
            }
        }
    }

    fn flag(&mut self, variable: &Variable) -> Option<bool> {
        let value = self.get_or_default(variable);
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => {
                self.fail(variable, format_args!("`{value}` must be true or false"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let map: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::from_env(&|name| map.get(name).cloned())
    }

    #[test]
    fn the_defaults() {
        let settings = read(&[
            ("BACKEND_API_URL", "http://127.0.0.1:8080"),
            ("LOG_LEVEL", ""),
        ])
        .unwrap();
        assert_eq!(settings.backend.to_string(), "http://127.0.0.1:8080");
        assert_eq!(settings.backend_timeout, Duration::from_secs(30));
        assert!(!settings.check_backend);
        assert_eq!(settings.tools_file, None);
        assert_eq!(
            (settings.host.to_string().as_str(), settings.port),
            ("::", 3333)
        );
        assert_eq!(
            (settings.log_level.as_str(), settings.log_format),
            ("info", LogFormat::Json)
        );
        assert_eq!(settings.shutdown_delay, Duration::from_secs(1));
        assert_eq!(settings.shutdown_deadline, Duration::from_secs(25));
    }

    #[test]
    fn every_variable_is_read_and_documented() {
        let asked = std::cell::RefCell::new(Vec::new());
        drop(Settings::from_env(&|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        }));
        let mut asked = asked.into_inner();
        let mut documented: Vec<&str> = VARIABLES.iter().map(|v| v.name).collect();
        asked.sort();
        documented.sort_unstable();
        assert_eq!(asked, documented);
    }

    #[test]
    fn every_error_is_reported_in_one_run() {
        let errors = read(&[
            ("BACKEND_API_URL", "http://user:hunter2@127.0.0.1"),
            ("BACKEND_API_TIMEOUT", "30s"),
            ("READINESS_CHECK_BACKEND", "maybe"),
            ("HOST", "localhost"),
            ("PORT", "70000"),
            ("ALLOWED_HOSTS", "a b"),
            ("ALLOWED_ORIGINS", "app.example.com"),
            ("LOG_LEVEL", "inof"),
            ("LOG_FORMAT", "xml"),
            ("SHUTDOWN_DELAY", "-1"),
            ("SHUTDOWN_DEADLINE", "NaN"),
        ])
        .unwrap_err();
        let names: Vec<&str> = errors
            .iter()
            .map(|e| e.split(':').next().unwrap())
            .collect();
        let expected = [
            "BACKEND_API_URL",
            "BACKEND_API_TIMEOUT",
            "READINESS_CHECK_BACKEND",
            "HOST",
            "PORT",
            "ALLOWED_HOSTS",
            "ALLOWED_ORIGINS",
            "LOG_LEVEL",
            "LOG_FORMAT",
            "SHUTDOWN_DELAY",
            "SHUTDOWN_DEADLINE",
        ];
        assert_eq!(names, expected, "{errors:#?}");
        assert_eq!(
            errors[1],
            "BACKEND_API_TIMEOUT: `30s` must be a number of seconds from 0.001 to 600, without a unit"
        );
        assert!(!errors[0].contains("hunter2"), "{}", errors[0]);
    }

    #[test]
    fn a_missing_backend_names_the_mend() {
        let error =
            "BACKEND_API_URL: is not set; point it at the sidecar, such as http://127.0.0.1:8080";
        assert_eq!(read(&[]).unwrap_err(), [error]);
    }
}
