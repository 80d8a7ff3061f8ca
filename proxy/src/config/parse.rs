//! Single values: text -> the type that is already right. Pure; an error says what is wrong and what to write instead. URLs are not repeated
//! in errors, since people put passwords into them.

use super::fields::shown;
use http::{HeaderName, Method};
use sidecar_runtime::listener::ListenAddr;
use std::{num::NonZeroUsize, path::PathBuf, time::Duration};
use url::{Host, Url};

type Parsed<T> = Result<T, String>;

/// The name of a route, credential or subject token: good as a label and in a URL path.
pub(super) fn name(text: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.len() <= 63 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("not a name; use 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`, and begin with a letter or digit".into())
    }
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither `true` nor `false`; write one of them".into()),
    }
}

pub(super) fn count(max: usize) -> impl Fn(&str) -> Parsed<NonZeroUsize> {
    move |text| match text.parse::<NonZeroUsize>() {
        Ok(n) if n.get() <= max => Ok(n),
        _ => Err(format!(
            "not a whole number from 1 to {max}; write one in digits"
        )),
    }
}

/// A duration that is not zero and not longer than `max`.
pub(super) fn timeout(text: &str) -> Parsed<Duration> {
    match super::units::duration(text)? {
        Duration::ZERO => Err("zero would time out at once; give a longer one".into()),
        d => Ok(d),
    }
}

pub(super) fn duration_up_to(max: &'static str) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let d = super::units::duration(text)?;
        if d <= super::units::duration(max)? {
            Ok(d)
        } else {
            Err(format!("longer than {max}; give a shorter one"))
        }
    }
}

/// A duration between two others, in whole seconds.
pub(super) fn duration_between(
    min: &'static str,
    max: &'static str,
) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let d = super::units::duration(text)?;
        let bounds = super::units::duration(min)?..=super::units::duration(max)?;
        if bounds.contains(&d) && d.subsec_nanos() == 0 {
            Ok(d)
        } else {
            Err(format!(
                "out of bounds; give whole seconds from {min} to {max}"
            ))
        }
    }
}

/// A size between two others.
pub(super) fn size_between(min: &'static str, max: &'static str) -> impl Fn(&str) -> Parsed<usize> {
    move |text| {
        let n = super::units::size(text)?;
        if (super::units::size(min)?..=super::units::size(max)?).contains(&n) {
            usize::try_from(n).map_err(|_| "too large for this machine".to_owned())
        } else {
            Err(format!("out of bounds; give a size from {min} to {max}"))
        }
    }
}

pub(super) fn listen(text: &str) -> Parsed<ListenAddr> {
    text.parse().map_err(|_| {
        "not a listener; write IP:PORT such as 127.0.0.1:8080 (a name is not an IP), or unix:/PATH such as unix:/run/token-sidecar/http.sock".into()
    })
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        Err("not a file's path; give one".into())
    } else {
        Ok(text.into())
    }
}

/// Text without spaces or control characters, such as a client id.
pub(super) fn word(text: &str) -> Parsed<String> {
    if !text.is_empty() && text.len() <= 1024 && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(
            "not a single word of visible ASCII; remove spaces and quotes that were copied with it"
                .into(),
        )
    }
}

/// Any text without control characters.
pub(super) fn text(text: &str) -> Parsed<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        Err("empty or with control characters; give plain text".into())
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn tenant(text: &str) -> Parsed<String> {
    if text.is_empty()
        || !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    {
        return Err("not a tenant; give the tenant's id (a GUID) or one of its domains".into());
    }
    match text.to_ascii_lowercase().as_str() {
        "common" | "organizations" | "consumers" => {
            Err("not one tenant; a workload signs in to one: give the tenant's id (a GUID) or one of its domains".into())
        }
        _ => Ok(text.to_owned()),
    }
}

/// One resource's `/.default` scope, as Entra wants it of applications.
pub(super) fn entra_scope(text: &str) -> Parsed<String> {
    if text.split_ascii_whitespace().count() > 1 {
        return Err("names several scopes; Entra gives an application a token for one resource at a time: write one `RESOURCE/.default`, and a \
                    credential for each further resource"
            .into());
    }
    scopes(text)?;
    match text.strip_suffix("/.default") {
        Some("") => Err("names no resource; write `RESOURCE/.default`, such as https://management.azure.com/.default".into()),
        Some(_) => Ok(text.to_owned()),
        None => Err("does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as \
                     https://management.azure.com/.default"
            .into()),
    }
}

/// Scopes separated by single spaces (RFC 6749 section 3.3).
pub(super) fn scopes(text: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if text
        .split(' ')
        .all(|s| !s.is_empty() && s.chars().all(good))
    {
        Ok(text.to_owned())
    } else {
        Err("not a list of scopes; write visible ASCII without `\"` and `\\`, separated by single spaces".into())
    }
}

/// One scope.
pub(super) fn scope(text: &str) -> Parsed<String> {
    if text.contains(' ') {
        return Err("is several scopes; write each as an item of its own".into());
    }
    scopes(text)
}

/// Scopes that are asked for on behalf of somebody: none that is about signing in or staying so.
pub(super) fn delegated_scopes(text: &str) -> Parsed<String> {
    let signing_in = ["offline_access", "openid", "profile", "email"];
    if let Some(one) = text.split(' ').find(|s| signing_in.contains(s)) {
        return Err(format!(
            "`{one}` is for signing somebody in; no refresh or ID token is ever kept here: leave it out"
        ));
    }
    scopes(text)
}

/// A provider of a workload identity pool, as Google's token service names it.
pub(super) fn google_audience(text: &str) -> Parsed<String> {
    let good = text.starts_with("//") && text.contains("/providers/");
    if good && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("not a workload identity pool provider; write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER".into())
    }
}

/// A service account's e-mail address; it becomes part of a path.
pub(super) fn service_account(text: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.split_once('@') {
        Some((name, domain))
            if !name.is_empty()
                && domain.contains('.')
                && (name.chars().chain(domain.chars())).all(good) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(
            "not a service account's e-mail address; write NAME@PROJECT.iam.gserviceaccount.com"
                .into(),
        ),
    }
}

/// An absolute URI (token types, RFC 8693 section 3).
pub(super) fn uri(text: &str) -> Parsed<String> {
    if text.chars().all(|c| c.is_ascii_graphic()) && Url::parse(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("not an absolute URI; write one such as urn:ietf:params:oauth:token-type:jwt".into())
    }
}

/// A resource indicator (RFC 8707 section 2): an absolute URI without fragment.
pub(super) fn resource(text: &str) -> Parsed<String> {
    let url = text
        .chars()
        .all(|c| c.is_ascii_graphic())
        .then(|| Url::parse(text).ok())
        .flatten();
    match url {
        Some(url) if url.fragment().is_none() => Ok(text.to_owned()),
        Some(_) => Err("a resource has no fragment (RFC 8707); remove the `#` and what follows".into()),
        None => Err("not an absolute URI; write one such as https://orders.example.com, or use `audience` for a plain name".into()),
    }
}

/// An http or https URL as a person writes it, without userinfo and fragment.
fn http_url(text: &str) -> Parsed<Url> {
    let schemed = ["https://", "http://"].iter().any(|s| {
        text.get(..s.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(s))
    });
    if !schemed {
        // As a shell or YAML would take them away, and a ConfigMap's text does not.
        let quoted = text.starts_with(['"', '\'']);
        let mend = if quoted { ", without quotes" } else { "" };
        return Err(format!("not a URL; begin with https://{mend}"));
    }
    // RFC 3986 has none of these; they are what a value is made of that was to end a string or a placeholder that was not filled in.
    let stray = ['"', '<', '>', '\\', '^', '`', '{', '|', '}'];
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() && !stray.contains(&c))
    {
        return Err("not a URL; it has spaces, quotes, braces, backslashes or other characters that no URL has: percent-encode or remove them".into());
    }
    let url = Url::parse(text)
        .map_err(|e| format!("not a URL ({e}); write one such as https://example.com"))?;
    if let Some(Host::Domain(domain)) = url.host()
        && !domain.chars().all(label_like)
    {
        return Err("names what is no host, such as a variable that nobody filled in; write one such as https://example.com".into());
    }
    // An empty user name leaves nothing behind in `url`; an `@` further on is part of the path.
    let authority = text.splitn(3, '/').nth(2).unwrap_or_default();
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    if end == 0 {
        // `https:///x@host` would be read as if it had two slashes.
        return Err("names no host; write one such as https://example.com".into());
    }
    if authority[..end].contains('@') {
        return Err("carries a user name or password; remove what stands before the `@`".into());
    }
    if url.fragment().is_some() {
        return Err("has a fragment; remove the `#` and what follows".into());
    }
    Ok(url)
}

/// Refuses plain http off loopback.
fn secure(url: Url) -> Parsed<Url> {
    if url.scheme() == "http"
        && !crate::net::guard::is_loopback_name(url.host_str().unwrap_or_default())
    {
        return Err(
            "plain http off loopback; the subject token would travel in the clear: use https://"
                .into(),
        );
    }
    Ok(url)
}

/// An authority host: an origin, a trailing slash allowed.
pub(super) fn authority_host(text: &str) -> Parsed<Url> {
    let url = secure(http_url(text)?)?;
    if url.path() != "/" || url.query().is_some() {
        return Err("has a path or query; give scheme and host alone, such as https://login.microsoftonline.com: the tenant is `tenantId`".into());
    }
    Ok(url)
}

/// A token endpoint (RFC 6749 section 3.2: a query is allowed, a fragment is not).
pub(super) fn token_endpoint(text: &str) -> Parsed<Url> {
    secure(http_url(text)?)
}

/// The token proxy of an identity binding.
pub(super) fn token_proxy(text: &str) -> Parsed<Url> {
    let url = http_url(text)?;
    if url.scheme() != "https" {
        return Err("not https, which a token proxy always is; begin with https://".into());
    }
    if url.query().is_some() {
        return Err("has a query; remove the `?` and what follows".into());
    }
    Ok(url)
}

/// What an upstream's URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) base_path: String,
}

pub(super) fn upstream(text: &str) -> Parsed<Upstream> {
    let url = http_url(text)?;
    if url.query().is_some() {
        return Err("has a query; remove the `?` and what follows".into());
    }
    let host = match url.host() {
        Some(Host::Domain(d)) => d.to_owned(),
        Some(Host::Ipv4(a)) => a.to_string(),
        Some(Host::Ipv6(a)) => a.to_string(),
        None => return Err("names no host; write one such as https://example.com".into()),
    };
    let tls = url.scheme() == "https";
    if let Ok(address) = host.parse()
        && !crate::net::guard::Guard::LoopbackToo.allows(address)
    {
        return Err("an address that no token is ever sent to (metadata service, link-local, multicast, unspecified); give another".into());
    }
    Ok(Upstream {
        tls,
        host,
        port: url
            .port_or_known_default()
            .filter(|p| *p != 0)
            .ok_or("port 0; give another")?,
        base_path: url.path().trim_end_matches('/').to_owned(),
    })
}

/// What host names are made of.
fn label_like(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

/// A host without port, lower case; IPv6 in brackets or not.
pub(super) fn host(text: &str) -> Parsed<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<std::net::Ipv6Addr>() {
        return Ok(address.to_string());
    }
    if text.contains('*') {
        return Err("wildcards are not supported; name each host".into());
    }
    let wrong =
        || "not a host; write a name such as example.com, without scheme, port or path".to_owned();
    if !text.chars().all(label_like) {
        return Err(wrong());
    }
    match Host::parse(text) {
        Ok(host) => Ok(host.to_string()),
        Err(_) => Err(wrong()),
    }
}

/// An origin as browsers write it (RFC 6454 section 6.2).
pub(super) fn origin(text: &str) -> Parsed<String> {
    let written = Url::parse(text)
        .ok()
        .map(|u| u.origin())
        .filter(url::Origin::is_tuple)
        .map(|o| o.ascii_serialization());
    match written {
        Some(o) if o == text => Ok(o),
        Some(o) => Err(format!("not as browsers write it; write {}", shown(&o))),
        None => Err("not an origin; write scheme, host and port (unless it is the default) such as http://localhost:6274".into()),
    }
}

/// A path prefix, without trailing slash unless it is `/`.
pub(super) fn path_prefix(text: &str) -> Parsed<String> {
    if !text.starts_with('/') {
        return Err("does not begin with `/`; write one such as /v1".into());
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '"' | '<' | '>' | '`'))
    {
        return Err("not a path; remove queries, spaces and backslashes, and percent-encode what is not ASCII".into());
    }
    let lower = text.to_ascii_lowercase();
    let trimmed = text.trim_end_matches('/');
    let ambiguous = text.contains("//")
        || ["%2e", "%2f", "%5c"].iter().any(|e| lower.contains(e))
        || trimmed
            .split('/')
            .any(|segment| segment == "." || segment == "..");
    if ambiguous {
        return Err("has an empty or dot segment or an encoded `.`, `/` or `\\`; requests with such paths are refused: write it plainly".into());
    }
    Ok(if trimmed.is_empty() {
        "/".into()
    } else {
        trimmed.into()
    })
}

pub(super) fn method(text: &str) -> Parsed<Method> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            Err("CONNECT and TRACE are never forwarded; remove it".into())
        }
        Ok(_) if text.bytes().any(|b| b.is_ascii_lowercase()) => Err(format!(
            "methods are case-sensitive; write {}",
            shown(&text.to_ascii_uppercase())
        )),
        Ok(method) => Ok(method),
        Err(_) => Err("not a method; write one such as GET".into()),
    }
}

pub(super) fn header_name(text: &str) -> Parsed<HeaderName> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if ["host", "content-length", "transfer-encoding"].contains(&name.as_str()) => {
            Err(
                "frames or addresses the message; it cannot be stripped: remove it from the list"
                    .into(),
            )
        }
        Ok(name) => Ok(name),
        Err(_) => Err("not a header name; write one such as x-forwarded-access-token".into()),
    }
}
