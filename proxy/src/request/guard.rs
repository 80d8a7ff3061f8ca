//! Refuses what must not be routed: requests that break HTTP in ways the parser lets through (RFC 9112 section 3.2, RFC 9110 sections 4.2.4, 7.2,
//! 10.1.1), foreign hosts and origins, paths that two parsers could read differently, and what is too large. It reads a request and changes nothing.

use super::{params::Limits, respond::Problem};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, request::Parts};
use std::borrow::Cow;

/// Where a request says it wants to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// Lower-case host without port and without brackets.
    pub host: Cow<'a, str>,
    /// The request was in absolute form over HTTP/1.1: we are used as a forward proxy.
    pub absolute: bool,
    /// The port that was named.
    pub port: Option<u16>,
    /// It carries what only browsers send: [`check_origin`] must look.
    pub browser: bool,
    /// It carries `Via`.
    pub via: bool,
    /// It carries `Upgrade`.
    pub upgrade: bool,
}

/// The longest DNS name has 253 characters; what is longer is no host of ours.
const MAX_HOST: usize = 254;

/// A host as it is compared: lower-case and without brackets. Nearly all come like that.
fn canonical(host: &str) -> Result<Cow<'_, str>, Problem> {
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.len() > MAX_HOST {
        return Err(Problem::malformed("the Host is too long"));
    }
    Ok(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    })
}

/// Checks the request line, framing and sizes; finds the destination.
///
/// # Errors
/// The answer to give.
pub fn check<'a>(parts: &'a Parts, limits: &Limits) -> Result<Destination<'a>, Problem> {
    match parts.method {
        Method::CONNECT => {
            return Err(Problem::method_not_supported(
                "CONNECT would open a tunnel that no token can be put into: use an http:// URL (the sidecar speaks https to the upstream), or set NO_PROXY for this host",
            ));
        }
        Method::TRACE => {
            return Err(Problem::method_not_supported(
                "TRACE would echo the injected credential",
            ));
        }
        _ => {}
    }
    let fields = Fields::read(&parts.headers);
    if parts.headers.len() > limits.max_header_fields || fields.bytes > limits.max_header_bytes {
        return Err(Problem::headers_too_large());
    }
    if parts.version < Version::HTTP_2 && fields.transfer_codings > 0 {
        if parts.version < Version::HTTP_11 {
            return Err(Problem::malformed(
                "Transfer-Encoding does not exist in HTTP/1.0",
            ));
        }
        if fields.transfer_codings > 1 || !fields.chunked {
            return Err(Problem::malformed(
                "Transfer-Encoding must be one `chunked` and nothing else",
            ));
        }
    }
    if fields.expects_other {
        return Err(Problem::expectation_failed());
    }
    destination(&parts.uri, parts.version, &fields, limits)
}

/// What one pass over the header section finds: asking for each of these by name would cost a hash each.
#[derive(Default)]
struct Fields<'a> {
    bytes: usize,
    host: Option<&'a HeaderValue>,
    hosts: usize,
    transfer_codings: usize,
    chunked: bool,
    expects_other: bool,
    browser: bool,
    via: bool,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            fields.bytes += name.len() + value.len() + 4;
            match name {
                "host" => {
                    fields.host = Some(value);
                    fields.hosts += 1;
                }
                "transfer-encoding" => {
                    fields.transfer_codings += 1;
                    fields.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
                }
                "expect" => {
                    fields.expects_other |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue")
                }
                "origin" | "sec-fetch-site" => fields.browser = true,
                "via" => fields.via = true,
                "upgrade" => fields.upgrade = true,
                _ => {}
            }
        }
        fields
    }
}

fn destination<'a>(
    uri: &'a Uri,
    version: Version,
    fields: &Fields<'a>,
    limits: &Limits,
) -> Result<Destination<'a>, Problem> {
    let path = uri.path_and_query().map_or("", |p| p.as_str());
    if path.len() > limits.max_uri_bytes {
        return Err(Problem::uri_too_long());
    }
    if path == "*" {
        return Err(Problem::method_not_supported(
            "`OPTIONS *` asks about the sidecar itself, which has no options",
        ));
    }
    // An authority alone (`GET localhost:80`) is the form of CONNECT (RFC 9112 section 3.2.3).
    if !path.starts_with('/')
        && (uri.authority().is_none() || version < Version::HTTP_2 && uri.scheme().is_none())
    {
        return Err(Problem::malformed(
            "the request target must start with / or be an absolute http:// URL",
        ));
    }
    if fields.hosts > 1 {
        return Err(Problem::malformed("more than one Host header"));
    }
    let host = fields
        .host
        .map(|h| {
            h.to_str()
                .map_err(|_| Problem::malformed("the Host header is not ASCII"))
        })
        .transpose()?;
    let absolute = version < Version::HTTP_2 && uri.authority().is_some();
    if absolute
        && uri
            .scheme_str()
            .is_some_and(|s| !s.eq_ignore_ascii_case("http"))
    {
        return Err(Problem::malformed(
            "as a forward proxy the sidecar takes http:// URLs only; it speaks https to the upstream itself",
        ));
    }
    if version == Version::HTTP_11 && host.is_none() {
        return Err(Problem::malformed("no Host header"));
    }
    if version >= Version::HTTP_2
        && let (Some(authority), Some(host)) = (uri.authority(), host)
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(Problem::malformed("Host and :authority differ"));
    }
    // RFC 9112 section 3.2.2: the target's authority counts, the Host header does not.
    let (name, port) = match (uri.authority(), host) {
        (Some(authority), _) => host_of(authority.as_str())?,
        (None, Some(host)) => host_of(host)?,
        // HTTP/1.0 may leave it out. No browser does, so there is no rebinding to fear.
        (None, None) => ("localhost", None),
    };
    Ok(Destination {
        host: canonical(name)?,
        absolute,
        port,
        browser: fields.browser,
        via: fields.via,
        upgrade: fields.upgrade,
    })
}

/// The two of `host[:port]`.
fn host_of(authority: &str) -> Result<(&str, Option<u16>), Problem> {
    // What is no registered name and no address must not reach a comparison.
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest
            .bytes()
            .position(|b| b != b':' && !is_host_byte(b))
            .filter(|end| rest.as_bytes()[*end] == b']')
            .map_or(0, |end| end + 2),
        None => authority
            .bytes()
            .position(|b| !is_host_byte(b))
            .unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let port = match port {
        "" | ":" => Some(None),
        port => port
            .strip_prefix(':')
            .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|p| p.parse().ok())
            .map(Some),
    };
    match port {
        Some(port) if !host.is_empty() => Ok((host, port)),
        _ if authority.contains('@') => Err(Problem::malformed(
            "user information is not allowed in a request target or Host",
        )),
        _ => Err(Problem::malformed(
            "the Host (or :authority) is not host[:port]",
        )),
    }
}

fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

/// Whether the host is one that a listener may always be called by.
pub fn is_own_host(host: &str, allowed: &[String]) -> bool {
    host == "localhost"
        || host == "127.0.0.1"
        || host == "::1"
        || crate::net::guard::is_loopback_name(host)
        || allowed.iter().any(|a| a.eq_ignore_ascii_case(host))
}

/// Refuses what browsers send for other sites' pages: DNS rebinding and cross-site requests to a port of localhost.
///
/// # Errors
/// The answer to give.
pub fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let mut let_in = false;
    for origin in headers.get_all(header::ORIGIN) {
        if !allowed
            .iter()
            .any(|a| a.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        {
            return Err(Problem::foreign_origin());
        }
        let_in = true;
    }
    let cross = headers
        .get("sec-fetch-site")
        .is_some_and(|s| s.as_bytes().eq_ignore_ascii_case(b"cross-site"));
    if cross && !let_in {
        Err(Problem::foreign_origin())
    } else {
        Ok(())
    }
}

/// Refuses a path that could mean another one to the upstream: dot segments always; where the path matters (`scoped`), also encoded slashes and
/// backslashes and empty segments; where it decides the route (`by_prefix`), also path parameters and characters that are encoded without need
/// (RFC 3986 section 2.3). Nothing is normalised: a path goes out as it came in, or not at all.
///
/// # Errors
/// The answer to give.
pub fn check_path(path: &str, scoped: bool, by_prefix: bool) -> Result<(), Problem> {
    // Most paths have none of these bytes: one pass decides that.
    let mut suspicious = false;
    let mut before = 0;
    for b in path.bytes() {
        suspicious |=
            b == b'%' || b == b';' || b == b'\\' || (before == b'/' && (b == b'.' || b == b'/'));
        before = b;
    }
    if !suspicious {
        return Ok(());
    }
    if path.contains('\\') {
        return Err(Problem::unsafe_path(
            "the path has a backslash, which some servers read as a slash; encode it as %5C",
        ));
    }
    for segment in path.split('/') {
        if is_dots(segment) {
            return Err(Problem::unsafe_path(
                "the path has a dot segment (`.` or `..`, encoded or not); send the path that is meant",
            ));
        }
    }
    if scoped {
        let lower = path.to_ascii_lowercase();
        if lower.contains("%2f") || lower.contains("%5c") || path.contains("//") {
            return Err(Problem::unsafe_path(
                "routes here depend on the path, and %2F, %5C or // in it can be read in two ways",
            ));
        }
    }
    if by_prefix && (path.contains(';') || encodes_unreserved(path)) {
        return Err(Problem::unsafe_path(
            "the path decides the route here, and a `;`, or a letter, digit, `-`, `.`, `_` or `~` that is percent-encoded, can be read in two ways",
        ));
    }
    Ok(())
}

/// Whether a character that never needs it is percent-encoded: `/%61dmin` is `/admin` to some servers.
fn encodes_unreserved(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| {
        rest.get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
    })
}

/// `.` or `..`, each dot possibly as `%2e`; a path parameter (`..;x`) counts too, since some servers drop it first.
fn is_dots(segment: &str) -> bool {
    let mut rest = segment.split(';').next().unwrap_or("").as_bytes();
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    dots == 1 || dots == 2
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
