//! `HTTPS_PROXY` and `NO_PROXY`: which authorities are reached through a proxy, and the CONNECT tunnel (RFC 9110 section 9.3.6) through it.
//! For authorities only: the workload's requests to upstreams never take it.

use super::{
    dial::{self, DialError, Stream, Target, TlsTarget},
    guard::{Guard, is_loopback_name},
    tls::{self, Alpn, TlsError},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use rustls_pki_types::ServerName;
use std::{fmt, io, net::IpAddr, path::Path};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::{Host, Url};
use zeroize::Zeroizing;

/// The proxy's answer to CONNECT may be that long.
const MAX_ANSWER: usize = 8 * 1024;

/// `HTTPS_PROXY` cannot be used. The value is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} is not a proxy URL that can be used; write http://[user:password@]host:port, or https:// for a proxy that is spoken to over TLS, or unset it"
)]
pub struct ProxyVariableError {
    variable: &'static str,
}

/// The proxy for an authority, by `HTTPS_PROXY`/`https_proxy` and `NO_PROXY`/`no_proxy` (lower case wins, as with curl). Loopback authorities
/// are never proxied. `NO_PROXY` is a comma-separated list of `*`, host names (which cover their subdomains; a leading dot makes no
/// difference), addresses and CIDR ranges, each but the last with an optional `:port`.
///
/// # Errors
/// When the variable holds no http or https URL and the authority would need it.
pub fn proxy_for(
    authority: &Url,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Url>, ProxyVariableError> {
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|n| env(n).filter(|v| !v.trim().is_empty()).map(|v| (n, v)))
    };
    let Some((variable, value)) = first(["https_proxy", "HTTPS_PROXY"]) else {
        return Ok(None);
    };
    let Some(host) = authority.host_str() else {
        return Ok(None);
    };
    if authority.scheme() != "https" || is_loopback_name(host) {
        return Ok(None);
    }
    if let Some((_, list)) = first(["no_proxy", "NO_PROXY"])
        && excluded(&list, authority)
    {
        return Ok(None);
    }
    let value = value.trim();
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    }
    .ok()
    .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
    .ok_or(ProxyVariableError { variable })?;
    Ok(Some(url))
}

fn excluded(list: &str, authority: &Url) -> bool {
    let port = authority.port_or_known_default();
    list.split([',', ' '])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || matches(entry, authority.host(), port))
}

fn matches(entry: &str, host: Option<Host<&str>>, port: Option<u16>) -> bool {
    let address = match host {
        None => return false,
        Some(Host::Ipv4(a)) => Some(IpAddr::V4(a)),
        Some(Host::Ipv6(a)) => Some(IpAddr::V6(a)),
        Some(Host::Domain(_)) => None,
    };
    if let Ok(range) = entry.parse::<IpNet>() {
        return address.is_some_and(|a| range.contains(&a));
    }
    let bare = |s: &str| {
        s.trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok()
    };
    if let Some(named) = bare(entry) {
        return address == Some(named);
    }
    let (name, named_port) = match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) => (name, Some(port)),
            Err(_) => return false,
        },
        None => (entry, None),
    };
    if named_port.is_some() && named_port != port {
        return false;
    }
    if let Some(named) = bare(name) {
        return address == Some(named);
    }
    let Some(Host::Domain(domain)) = host else {
        return false;
    };
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    let name = name
        .trim_start_matches("*.")
        .trim_matches('.')
        .to_ascii_lowercase();
    !name.is_empty()
        && (domain == name
            || domain
                .strip_suffix(&name)
                .is_some_and(|front| front.ends_with('.')))
}

/// A proxy to tunnel through.
pub struct Proxy {
    target: Target,
    authorization: Option<Zeroizing<String>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.target.host)
            .field("port", &self.target.port)
            .finish_non_exhaustive()
    }
}

/// Why the proxy opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No connection to the proxy itself.
    #[error("no connection to the proxy")]
    Dial(#[source] DialError),
    /// It broke off.
    #[error("the proxy broke off")]
    Io(#[from] io::Error),
    /// Its answer is no HTTP.
    #[error("the proxy's answer is not HTTP")]
    NotHttp,
    /// It refuses.
    #[error("the proxy answered {0} to CONNECT")]
    Refused(u16),
}

impl TunnelError {
    /// What the operator should do.
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Refused(407) => {
                "the proxy wants credentials: put user:password into HTTPS_PROXY (percent-encoded)"
            }
            Self::Refused(_) => {
                "the proxy does not let the authority's host and port through; allow them there, or list the host in NO_PROXY"
            }
            Self::Dial(_) | Self::Io(_) | Self::NotHttp => {
                "check HTTPS_PROXY, and whether the proxy runs; list the authority's host in NO_PROXY when it needs none"
            }
        }
    }
}

/// Why a proxy cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxySetupError {
    /// The URL has no usable host.
    #[error("the proxy's URL has no usable host")]
    NoHost,
    /// The roots that its certificate is checked against.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Proxy {
    /// `ca_file` holds roots to trust beside the system's, when the proxy is spoken to over TLS.
    pub(super) fn new(url: &Url, ca_file: Option<&Path>) -> Result<Self, ProxySetupError> {
        let bracketed = url.host_str().ok_or(ProxySetupError::NoHost)?;
        let host = bracketed.trim_start_matches('[').trim_end_matches(']');
        let tls = if url.scheme() == "https" {
            Some(TlsTarget {
                config: tls::client_config(ca_file, Alpn::Http1)?,
                server_name: ServerName::try_from(host.to_owned())
                    .map_err(|_| ProxySetupError::NoHost)?,
            })
        } else {
            None
        };
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let mut pair = Zeroizing::new(Vec::with_capacity(256));
            pair.extend(percent_decode_str(url.username()));
            pair.push(b':');
            pair.extend(percent_decode_str(url.password().unwrap_or_default()));
            Zeroizing::new(STANDARD.encode(&*pair))
        });
        Ok(Self {
            target: Target {
                host: host.to_owned(),
                port: url.port_or_known_default().ok_or(ProxySetupError::NoHost)?,
                unix: None,
                tls,
                // Named by whoever runs the pod; often beside us.
                guard: Guard::LoopbackToo,
            },
            authorization,
        })
    }

    /// Opens a tunnel to `host:port`. What it returns carries the authority's bytes and nothing else.
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<Stream, TunnelError> {
        let mut stream = dial::dial(&self.target).await.map_err(TunnelError::Dial)?;
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = Zeroizing::new(String::with_capacity(1024));
        request.push_str(&format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        ));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        match read_status(&mut stream).await? {
            200..300 => Ok(stream),
            status => Err(TunnelError::Refused(status)),
        }
    }
}

/// Reads the head of the answer, byte by byte, so that nothing of the tunnel is swallowed.
async fn read_status(stream: &mut Stream) -> Result<u16, TunnelError> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(TunnelError::NotHttp);
        }
        head.push(stream.read_u8().await?);
    }
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| TunnelError::NotHttp)?;
    let mut words = line.split(' ');
    match (words.next(), words.next().map(str::parse::<u16>)) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(Ok(status))) => Ok(status),
        _ => Err(TunnelError::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(authority: &str, vars: &[(&str, &str)]) -> Result<Option<String>, String> {
        let env = |name: &str| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        proxy_for(&Url::parse(authority).unwrap(), &env)
            .map(|url| url.map(|u| u.to_string()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_proxy_comes_from_either_spelling_and_not_for_loopback() {
        let login = "https://login.microsoftonline.com/";
        let proxied = Ok(Some("http://p:3128/".to_owned()));
        assert_eq!(choose(login, &[]), Ok(None));
        assert_eq!(choose(login, &[("HTTPS_PROXY", "http://p:3128")]), proxied);
        assert_eq!(choose(login, &[("https_proxy", "p:3128")]), proxied);
        assert_eq!(
            choose(login, &[("HTTPS_PROXY", "https://p")]),
            Ok(Some("https://p/".to_owned()))
        );
        assert_eq!(
            choose(
                login,
                &[
                    ("https_proxy", "http://p:3128"),
                    ("HTTPS_PROXY", "http://q:1")
                ]
            ),
            proxied
        );
        assert_eq!(
            choose(login, &[("HTTPS_PROXY", " "), ("https_proxy", "")]),
            Ok(None)
        );
        // HTTP_PROXY is for http URLs, which authorities are not.
        assert_eq!(choose(login, &[("HTTP_PROXY", "http://p:3128")]), Ok(None));
        for local in [
            "https://localhost:8443/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "http://127.0.0.1:1/",
        ] {
            assert_eq!(
                choose(local, &[("HTTPS_PROXY", "http://p:3128")]),
                Ok(None),
                "{local}"
            );
        }
    }

    #[test]
    fn a_bad_proxy_is_an_error_that_hides_the_value() {
        for bad in [
            "socks5://p:1",
            "https://u:hunter2@",
            "http://",
            "http://u:hunter2@",
        ] {
            let e = choose("https://a.example/", &[("HTTPS_PROXY", bad)]).unwrap_err();
            assert!(e.contains("HTTPS_PROXY") && !e.contains("hunter2"), "{e}");
        }
        // Not needed: not an error.
        assert_eq!(
            choose(
                "https://a.example/",
                &[("HTTPS_PROXY", "socks5://p:1"), ("NO_PROXY", "*")]
            ),
            Ok(None)
        );
    }

    #[test]
    fn no_proxy_takes_names_suffixes_ports_addresses_ranges_and_a_star() {
        let excluded = |authority: &str, list: &str| {
            choose(
                authority,
                &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)],
            )
            .unwrap()
            .is_none()
        };
        let a = "https://login.Example.com/";
        for list in [
            "*",
            "login.example.com",
            "LOGIN.EXAMPLE.COM",
            ".example.com",
            "example.com",
            "*.example.com",
            "x, example.com",
            "x example.com",
            "example.com:443",
            "login.example.com.",
        ] {
            assert!(excluded(a, list), "{list}");
        }
        for list in [
            "",
            ",",
            "ample.com",
            "login.example.co",
            "example.com:8443",
            "a.login.example.com",
            "example.com:x",
            "10.0.0.0/8",
        ] {
            assert!(!excluded(a, list), "{list}");
        }
        assert!(excluded("https://a.example:8443/", "a.example:8443"));
        let ip = "https://10.1.2.3/";
        for list in [
            "10.1.2.3",
            "10.0.0.0/8",
            "10.1.2.3:443",
            "192.168.0.0/16,10.1.0.0/16",
        ] {
            assert!(excluded(ip, list), "{list}");
        }
        for list in ["10.1.2.4", "192.168.0.0/16", "10.1.2.3:1", "2.3", ".3"] {
            assert!(!excluded(ip, list), "{list}");
        }
        let v6 = "https://[fd00::1]/";
        for list in ["fd00::1", "[fd00::1]", "fd00::/8", "[fd00::1]:443"] {
            assert!(excluded(v6, list), "{list}");
        }
        assert!(!excluded(v6, "fd01::/16"));
    }

    #[test]
    fn debug_hides_the_credentials() {
        let proxy = Proxy::new(&Url::parse("http://user:hunter2@p:3128").unwrap(), None).unwrap();
        let shown = format!("{proxy:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("aHVudGVyMg"),
            "{shown}"
        );
        // user:hunter2
        assert_eq!(proxy.authorization.unwrap().as_str(), "dXNlcjpodW50ZXIy");
    }
}
