//! Where a request carries its access token (RFC 6750 section 2): in one `Authorization` field and nowhere else. Pure.

use http::{HeaderMap, Uri, header};
use zeroize::Zeroizing;

/// What a request says about its sender.
#[derive(Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing, or another scheme's.
    None,
    /// A bearer token.
    Bearer(Zeroizing<String>),
}

/// Finds the token.
///
/// # Errors
/// Why the request is an `invalid_request` (RFC 6750 section 3.1): several tokens, one in the URL, or a field that is no `Bearer` credential.
pub fn credentials(headers: &HeaderMap, uri: &Uri) -> Result<Credentials, &'static str> {
    let in_query = uri.query().is_some_and(|query| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(name, _)| name.eq_ignore_ascii_case("access_token"))
    });
    if in_query {
        return Err(
            "access_token in the URL ends up in logs and histories; send it in the Authorization header",
        );
    }
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), more) = (all.next(), all.next()) else {
        return Ok(Credentials::None);
    };
    if more.is_some() {
        return Err("more than one Authorization header");
    }
    let value = value.as_bytes();
    let (scheme, rest) =
        value.split_at(value.iter().position(|b| *b == b' ').unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Credentials::None);
    }
    let token = rest.trim_ascii();
    // b64token of RFC 6750 section 2.1. Anything else (a list, quotes) would be read in another way by somebody else.
    let fits = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
    };
    match std::str::from_utf8(token) {
        Ok(text) if !token.is_empty() && token.iter().all(fits) => {
            Ok(Credentials::Bearer(Zeroizing::new(text.to_owned())))
        }
        _ => Err("the Authorization header is not `Bearer` and one token"),
    }
}

/// Whether a token stands somewhere else in the request's target too.
pub fn is_in_target(token: &str, uri: &Uri) -> bool {
    uri.path_and_query()
        .is_some_and(|target| target.as_str().contains(token))
}

/// Takes out every field whose value has the token in it: a copy under another name would reach the workload.
pub fn strip_copies(token: &str, headers: &mut HeaderMap) {
    let has_copy = |value: &[u8]| {
        value.len() >= token.len() && value.windows(token.len()).any(|w| w == token.as_bytes())
    };
    let copies: Vec<_> = headers
        .iter()
        .filter(|(name, value)| *name != header::AUTHORIZATION && has_copy(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in copies {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str], uri: &str) -> Result<Credentials, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        credentials(&headers, &uri.parse().unwrap())
    }

    #[test]
    fn one_token_in_one_field() {
        for value in [
            "Bearer abc.d-e_f",
            "bearer abc.d-e_f",
            "BEARER  abc.d-e_f ",
            "Bearer abc.d-e_f",
        ] {
            let Ok(Credentials::Bearer(token)) = of(&[value], "/mcp?x=1") else {
                panic!("{value}");
            };
            assert_eq!(*token, "abc.d-e_f");
        }
        for values in [
            &[][..],
            &["Basic YTpi"],
            &["Negotiate abc"],
            &["DPoP abc"],
            &["Bearerabc"],
            &[""],
        ] {
            assert_eq!(of(values, "/"), Ok(Credentials::None), "{values:?}");
        }
    }

    #[test]
    fn several_or_misplaced_tokens_are_an_invalid_request() {
        for (values, uri) in [
            (&["Bearer a", "Bearer b"][..], "/"),
            (&["Bearer a", "Basic b"], "/"),
            (&["Bearer a, Bearer b"], "/"),
            (&["Bearer a b"], "/"),
            (&["Bearer"], "/"),
            (&["Bearer "], "/"),
            (&["Bearer \"a\""], "/"),
            (&[], "/mcp?access_token=a"),
            (&["Bearer a"], "/mcp?x=1&access_token=a"),
            (&["Bearer a"], "/mcp?access%5Ftoken=a"),
            (&["Bearer a"], "/mcp?ACCESS_TOKEN=a"),
            (&["Bearer a"], "/mcp?access_token"),
        ] {
            assert!(of(values, uri).is_err(), "{values:?} {uri}");
        }
    }

    #[test]
    fn copies_are_found_and_taken_out() {
        let token = "abc.def.ghi";
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer abc.def.ghi"),
            ("x-token", "abc.def.ghi"),
            ("x-json", "{\"t\":\"abc.def.ghi\"}"),
            ("x-other", "abc.def.gh"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append("x-other", HeaderValue::from_static("abc.def.ghi."));
        strip_copies(token, &mut headers);
        let left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["authorization"]);
        assert!(is_in_target(token, &"/a/abc.def.ghi?x".parse().unwrap()));
        assert!(is_in_target(token, &"/a?x=abc.def.ghi".parse().unwrap()));
        assert!(!is_in_target(token, &"/a?x=abc.def".parse().unwrap()));
    }
}
