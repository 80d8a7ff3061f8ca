//! Who may call: the checks of `Host` and `Origin` that keep web pages (DNS rebinding, cross-site requests) out. Pure.

use http::{HeaderMap, Uri, header, uri::Authority};

/// Hosts that requests may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts {
    any: bool,
    /// Host in lower case without brackets, and a port if only that one is allowed.
    hosts: Vec<(String, Option<u16>)>,
}

/// Origins that requests may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigins {
    origins: Vec<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// An entry of a list is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAllowedError {
    /// In the list of hosts.
    #[error(
        "`{0}` is not a host; write names such as mcp.default.svc or mcp:3333, separated by commas"
    )]
    Host(String),
    /// In the list of origins.
    #[error(
        "`{0}` is not an origin; write them as https://app.example.com or http://localhost:5173, separated by commas"
    )]
    Origin(String),
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No `Host`, two of them, or none that is one: RFC 9112, section 3.2.
    MalformedHost,
    ForeignHost,
    ForeignOrigin,
}

impl AllowedHosts {
    /// Reads a list such as `mcp.default.svc,mcp:3333`; the names of this machine's loopback are always in it.
    ///
    /// # Errors
    /// The first entry that is no host.
    pub fn parse(list: &str) -> Result<Self, ParseAllowedError> {
        let mut allowed = Self {
            any: false,
            hosts: ["localhost", "127.0.0.1", "::1"]
                .map(|host| (host.to_owned(), None))
                .to_vec(),
        };
        for entry in entries(list) {
            if entry == "*" {
                allowed.any = true;
                continue;
            }
            let host = split(entry).ok_or_else(|| ParseAllowedError::Host(entry.to_owned()))?;
            allowed.hosts.push(host);
        }
        Ok(allowed)
    }

    /// Whether every host is allowed.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.any
    }

    /// The entries as `host` or `host:port`.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(|(host, port)| {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            match port {
                Some(port) => format!("{host}:{port}"),
                None => host,
            }
        })
    }

    fn allows(&self, host: &str, port: Option<u16>) -> bool {
        self.any
            || self.hosts.iter().any(|(allowed, allowed_port)| {
                allowed == host && allowed_port.is_none_or(|p| port == Some(p))
            })
    }
}

impl AllowedOrigins {
    /// Reads a list such as `https://app.example.com,http://localhost:5173`.
    ///
    /// # Errors
    /// The first entry that is no origin.
    pub fn parse(list: &str) -> Result<Self, ParseAllowedError> {
        let origins = entries(list)
            .map(|entry| origin(entry).ok_or_else(|| ParseAllowedError::Origin(entry.to_owned())));
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
        })
    }

    /// The entries, each with its port.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
        self.origins.iter().map(|Origin { scheme, host, port }| {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            format!("{scheme}://{host}:{port}")
        })
    }
}

/// Checks a request's target, `Host` and `Origin`.
pub(crate) fn check(
    uri: &Uri,
    headers: &HeaderMap,
    hosts: &AllowedHosts,
    origins: &AllowedOrigins,
) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return Err(Refusal::MalformedHost);
    };
    let host = host.to_str().ok().and_then(split);
    let (host, port) = host.ok_or(Refusal::MalformedHost)?;
    if !hosts.allows(&host, port) {
        return Err(Refusal::ForeignHost);
    }
    // A request in absolute form names its host twice; both must be ours.
    if let Some(authority) = uri.authority() {
        let (host, port) = split(authority.as_str()).ok_or(Refusal::MalformedHost)?;
        if !hosts.allows(&host, port) {
            return Err(Refusal::ForeignHost);
        }
    }
    let ours = |value: &http::HeaderValue| {
        let origin = value.to_str().ok().and_then(origin);
        origin.is_some_and(|origin| origins.origins.contains(&origin))
    };
    if headers.get_all(header::ORIGIN).iter().all(ours) {
        Ok(())
    } else {
        Err(Refusal::ForeignOrigin)
    }
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// `host[:port]`, the host in lower case and without brackets.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host();
    // `Authority::port` passes over a port that is none, such as 99999.
    let port = match authority.as_str().strip_prefix(host)? {
        "" => None,
        port => Some(port.strip_prefix(':')?.parse().ok()?),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (!bare.is_empty()).then(|| (bare.to_ascii_lowercase(), port))
}

/// `scheme://host[:port]` and nothing behind it (RFC 6454, section 6.2); `null` is none.
fn origin(text: &str) -> Option<Origin> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if authority.contains(['/', '?', '#']) {
        return None;
    }
    let (host, port) = split(authority)?;
    let port = match (port, scheme.as_str()) {
        (Some(port), "http" | "https") => port,
        (None, "http") => 80,
        (None, "https") => 443,
        _ => return None,
    };
    Some(Origin { scheme, host, port })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn outcome(
        uri: &str,
        hosts: &[&'static str],
        origin: Option<&'static str>,
    ) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed_hosts = AllowedHosts::parse("Mcp.default.svc, mcp:3333").unwrap();
        let allowed_origins =
            AllowedOrigins::parse("https://app.example.com,http://localhost:5173").unwrap();
        check(
            &uri.parse().unwrap(),
            &headers,
            &allowed_hosts,
            &allowed_origins,
        )
    }

    #[test]
    fn hosts() {
        for host in [
            "localhost",
            "LOCALHOST:3333",
            "127.0.0.1:1",
            "[::1]:3333",
            "[::1]",
            "mcp.DEFAULT.svc:9",
            "mcp:3333",
        ] {
            assert_eq!(outcome("/mcp", &[host], None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "mcp",
            "mcp:3334",
            "127.0.0.1.evil.example",
            "localhost.",
            "10.0.0.1:3333",
        ] {
            assert_eq!(
                outcome("/mcp", &[host], None),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        for host in [
            "",
            "a b",
            "user@localhost",
            "localhost:99999",
            "localhost:",
            "local/host",
        ] {
            assert_eq!(
                outcome("/mcp", &[host], None),
                Err(Refusal::MalformedHost),
                "{host}"
            );
        }
        assert_eq!(outcome("/mcp", &[], None), Err(Refusal::MalformedHost));
        assert_eq!(
            outcome("/mcp", &["localhost", "localhost"], None),
            Err(Refusal::MalformedHost)
        );
    }

    #[test]
    fn absolute_form_is_checked_too() {
        assert_eq!(
            outcome("http://localhost/mcp", &["localhost"], None),
            Ok(())
        );
        assert_eq!(
            outcome("http://evil.example/mcp", &["localhost"], None),
            Err(Refusal::ForeignHost)
        );
        assert_eq!(
            outcome("http://u@localhost/mcp", &["localhost"], None),
            Err(Refusal::MalformedHost)
        );
    }

    #[test]
    fn origins() {
        for origin in [
            "https://app.example.com",
            "https://app.example.com:443",
            "HTTPS://App.example.com",
            "http://localhost:5173",
        ] {
            assert_eq!(
                outcome("/mcp", &["localhost"], Some(origin)),
                Ok(()),
                "{origin}"
            );
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://app.example.com",
            "http://localhost",
            "https://app.example.com/",
            "https://app.example.com:444",
            "x",
            "",
        ] {
            assert_eq!(
                outcome("/mcp", &["localhost"], Some(origin)),
                Err(Refusal::ForeignOrigin),
                "{origin}"
            );
        }
    }

    #[test]
    fn lists_parse() {
        assert!(AllowedHosts::parse(" , *").unwrap().is_any());
        assert!(!AllowedHosts::parse("").unwrap().is_any());
        assert_eq!(
            AllowedHosts::parse("https://mcp"),
            Err(ParseAllowedError::Host("https://mcp".into()))
        );
        assert_eq!(
            AllowedOrigins::parse("null"),
            Err(ParseAllowedError::Origin("null".into()))
        );
        let hosts = AllowedHosts::parse("[2001:db8::1]:3333").unwrap();
        assert_eq!(hosts.entries().last().unwrap(), "[2001:db8::1]:3333");
        let origins = AllowedOrigins::parse("https://a").unwrap();
        assert_eq!(origins.entries().collect::<Vec<_>>(), ["https://a:443"]);
    }
}
