//! Where the backend is: an `http://` address on loopback, or a Unix socket; anything else is refused with the mend.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use http::{HeaderValue, Uri};

/// A backend that may be called without a credential and without TLS: it is on this machine.
#[derive(Debug, Clone)]
pub struct BackendUrl {
    text: String,
    address: Address,
    host: HeaderValue,
    /// Without a slash at its end; empty or starting with one.
    base_path: String,
}

/// What to connect to. Names are never looked up: `localhost` is both loopback addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem}; point it at the sidecar, such as http://127.0.0.1:8080 or unix:/run/token-sidecar/http.sock"
)]
pub struct ParseBackendUrlError {
    problem: Refusal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Malformed,
    Https,
    Scheme,
    NotLoopback,
    UserInfo,
    Extra,
    Path,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "is not a URL",
            Self::Https => "uses https, but this server holds no credential and speaks no TLS: the sidecar beside it does",
            Self::Scheme => "must start with http://",
            Self::NotLoopback => {
                "does not name this machine (127.0.0.0/8, [::1] or localhost), and calls without a credential must not leave it"
            }
            Self::UserInfo => "holds a user name or password, and this server sends no credential",
            Self::Extra => "must not have a query or a fragment",
            Self::Path => "has a path with `.`, `..` or `//` in it",
        })
    }
}

impl BackendUrl {
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// The value of `Host`.
    pub(super) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URI of a request; `target` starts with `/`.
    pub(super) fn join(&self, target: &str) -> Option<Uri> {
        let host = self.host.to_str().ok()?;
        format!("http://{host}{}{target}", self.base_path)
            .parse()
            .ok()
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for BackendUrl {
    type Err = ParseBackendUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| ParseBackendUrlError { problem })
    }
}

fn parse(text: &str) -> Result<BackendUrl, Refusal> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Refusal::Malformed);
        }
        return Ok(BackendUrl {
            text: text.to_owned(),
            address: Address::Unix(path.into()),
            host: HeaderValue::from_static("localhost"),
            base_path: String::new(),
        });
    }
    if text.contains(['?', '#']) {
        return Err(Refusal::Extra);
    }
    let uri: Uri = text.parse().map_err(|_| Refusal::Malformed)?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(Refusal::Https),
        _ => return Err(Refusal::Scheme),
    }
    let authority = uri.authority().ok_or(Refusal::Malformed)?;
    if authority.as_str().contains('@') {
        return Err(Refusal::UserInfo);
    }
    // `Authority::port` passes over a port that is none, such as 99999.
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => 80,
        Some(port) => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(Refusal::Malformed)?,
        None => return Err(Refusal::Malformed),
    };
    let addresses = loopback(authority.host())
        .ok_or(Refusal::NotLoopback)?
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect();
    let base_path = uri.path().trim_end_matches('/').to_owned();
    let steps = base_path.split('/').skip(1);
    if steps
        .clone()
        .any(|step| step.is_empty() || is_dot_step(step))
    {
        return Err(Refusal::Path);
    }
    Ok(BackendUrl {
        text: text.to_owned(),
        address: Address::Tcp(addresses),
        host: HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Malformed)?,
        base_path,
    })
}

fn is_dot_step(step: &str) -> bool {
    let plain = step.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// The addresses of a host if it is this machine by its very spelling.
fn loopback(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let ip: IpAddr = bare.parse().ok()?;
    ip.is_loopback().then(|| vec![ip])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Refusal {
        text.parse::<BackendUrl>().unwrap_err().problem
    }

    #[test]
    fn loopback_is_accepted() {
        for (text, count, joined) in [
            (
                "http://127.0.0.1:8080",
                1,
                "http://127.0.0.1:8080/users/1?x=2",
            ),
            ("http://127.9.9.9", 1, "http://127.9.9.9/users/1?x=2"),
            (
                "http://[::1]:8080/api/v1/",
                1,
                "http://[::1]:8080/api/v1/users/1?x=2",
            ),
            ("http://LOCALHOST:80/", 2, "http://LOCALHOST:80/users/1?x=2"),
        ] {
            let url: BackendUrl = text.parse().unwrap();
            let Address::Tcp(addresses) = url.address() else {
                panic!()
            };
            assert_eq!(addresses.len(), count, "{text}");
            assert!(addresses.iter().all(|address| address.ip().is_loopback()));
            assert_eq!(url.join("/users/1?x=2").unwrap().to_string(), joined);
            assert_eq!(url.to_string(), text);
        }
        let url: BackendUrl = "unix:/run/x.sock".parse().unwrap();
        assert_eq!(url.address(), &Address::Unix("/run/x.sock".into()));
        assert_eq!(url.host(), "localhost");
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, expected) in [
            ("https://127.0.0.1:8080", Refusal::Https),
            ("http://api.example.com", Refusal::NotLoopback),
            ("http://localhost.example.com", Refusal::NotLoopback),
            ("http://127.1", Refusal::NotLoopback),
            ("http://0.0.0.0:80", Refusal::NotLoopback),
            ("http://10.0.0.1", Refusal::NotLoopback),
            ("http://[::ffff:10.0.0.1]", Refusal::NotLoopback),
            ("http://169.254.169.254", Refusal::NotLoopback),
            ("http://user:pw@127.0.0.1", Refusal::UserInfo),
            ("http://127.0.0.1@evil.example", Refusal::UserInfo),
            ("http://127.0.0.1/?a=b", Refusal::Extra),
            ("http://127.0.0.1/#x", Refusal::Extra),
            ("http://127.0.0.1/a/../b", Refusal::Path),
            ("http://127.0.0.1/%2E%2e/b", Refusal::Path),
            ("http://127.0.0.1//a", Refusal::Path),
            ("ftp://127.0.0.1", Refusal::Scheme),
            ("127.0.0.1:8080", Refusal::Scheme),
            ("unix:x.sock", Refusal::Malformed),
            ("", Refusal::Malformed),
            ("http://", Refusal::Malformed),
            ("http://127.0.0.1:99999", Refusal::Malformed),
            ("http://127.0.0.1:0", Refusal::Malformed),
            ("http://127.0.0.1:", Refusal::Malformed),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn the_refusal_says_why_and_what_to_do() {
        let error = "https://api.example.com"
            .parse::<BackendUrl>()
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "uses https, but this server holds no credential and speaks no TLS: the sidecar beside it does; \
             point it at the sidecar, such as http://127.0.0.1:8080 or unix:/run/token-sidecar/http.sock"
        );
    }
}
