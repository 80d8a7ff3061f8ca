//! Redirects of the workload to itself. It is called by its address in the pod, so an absolute URL that it makes of `Host` names that address, which means
//! something else to the caller (frameworks answer `/mcp/` with a redirect to `/mcp` in this way). Such a `Location` is made relative (RFC 9110 section
//! 10.2.2): it stays with the address that the caller knows. Pure.

use http::HeaderValue;

/// The `Location` to send in the place of one that points at the workload, whose `Host` is `authority` and whose URL ends in `base_path` (empty, or with a
/// slash in front and none behind). `None`: it stays as it is.
pub fn relative(
    location: &HeaderValue,
    authority: &HeaderValue,
    base_path: &str,
) -> Option<HeaderValue> {
    let location = location.as_bytes();
    let authority = authority.as_bytes();
    let (scheme, rest) = location.split_at_checked(b"http://".len())?;
    let (named, rest) = rest.split_at_checked(authority.len())?;
    if !scheme.eq_ignore_ascii_case(b"http://") || !named.eq_ignore_ascii_case(authority) {
        return None;
    }
    // A longer port or name is another place.
    if !matches!(rest.first(), None | Some(b'/' | b'?' | b'#')) {
        return None;
    }
    let (path, more) = rest.split_at(
        rest.iter()
            .position(|b| matches!(b, b'?' | b'#'))
            .unwrap_or(rest.len()),
    );
    let path = path.strip_prefix(base_path.as_bytes())?;
    let path = match path {
        [] => b"/",
        // Two slashes (or what clients take for one) would begin another host's name.
        [b'/', b'/' | b'\\', ..] => return None,
        [b'/', ..] => path,
        // The base path is the beginning of another segment.
        _ => return None,
    };
    HeaderValue::from_bytes(&[path, more].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(location: &'static str, base_path: &str) -> Option<String> {
        let authority = HeaderValue::from_static("127.0.0.1:3333");
        relative(&HeaderValue::from_static(location), &authority, base_path)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_redirect_of_the_workload_to_itself_keeps_path_and_query_alone() {
        for (location, expected) in [
            ("http://127.0.0.1:3333/mcp", "/mcp"),
            ("HTTP://127.0.0.1:3333/a/b?x=1#y", "/a/b?x=1#y"),
            ("http://127.0.0.1:3333", "/"),
            ("http://127.0.0.1:3333?x", "/?x"),
            ("http://127.0.0.1:3333#y", "/#y"),
        ] {
            assert_eq!(made(location, "").as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn what_leads_elsewhere_stays() {
        for location in [
            "/mcp",
            "mcp",
            "",
            "https://127.0.0.1:3333/mcp",
            "http://127.0.0.1:33333/mcp",
            "http://127.0.0.1:3333.example/mcp",
            "http://127.0.0.1:3333@evil.example/mcp",
            "http://127.0.0.1/mcp",
            "http://other.example/mcp",
            "//127.0.0.1:3333/mcp",
        ] {
            assert_eq!(made(location, ""), None, "{location}");
        }
    }

    #[test]
    fn no_path_becomes_another_hosts_name() {
        for location in [
            "http://127.0.0.1:3333//evil.example/",
            "http://127.0.0.1:3333/\\evil.example/",
        ] {
            assert_eq!(made(location, ""), None, "{location}");
        }
        assert_eq!(
            made("http://127.0.0.1:3333/app//evil.example", "/app"),
            None
        );
    }

    #[test]
    fn the_workloads_base_path_is_not_the_callers() {
        assert_eq!(
            made("http://127.0.0.1:3333/app/mcp?x", "/app").as_deref(),
            Some("/mcp?x")
        );
        assert_eq!(
            made("http://127.0.0.1:3333/app", "/app").as_deref(),
            Some("/")
        );
        assert_eq!(made("http://127.0.0.1:3333/apple", "/app"), None);
        assert_eq!(made("http://127.0.0.1:3333/other", "/app"), None);
    }
}
