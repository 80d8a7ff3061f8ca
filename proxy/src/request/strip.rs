//! What is taken out of header sections, both ways, before anything is put in: hop-by-hop fields and those that `Connection` names
//! (RFC 9110 section 7.6.1), every credential of the caller's, forwarding headers nobody can vouch for, and configured names.
//! It removes only; `inject` adds. `Trailer` stays: HTTP/1.1 peers send no trailers that it does not announce.

use crate::token::caller::step_up::MARK;
use http::{HeaderMap, HeaderName, header};

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Response,
}

/// Strips a request on its way to the upstream. `TE: trailers` survives when the caller sent it (RFC 9110 section 10.1.4; gRPC needs it).
pub fn request(headers: &mut HeaderMap, configured: &[HeaderName]) {
    if strip(headers, configured, Way::Request) {
        headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
    }
}

/// Strips a response on its way to the workload.
pub fn response(headers: &mut HeaderMap, configured: &[HeaderName]) {
    strip(headers, configured, Way::Response);
}

/// Strips a trailer section: framing, routing and credentials have no place there (RFC 9110 section 6.5.1).
pub fn trailers(headers: &mut HeaderMap, configured: &[HeaderName]) {
    strip(headers, configured, Way::Request);
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::SET_COOKIE,
        header::WWW_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
}

fn accepts_trailers(te: &http::HeaderValue) -> bool {
    te.as_bytes().split(|b| *b == b',').any(|t| {
        t.split(|b| *b == b';')
            .next()
            .is_some_and(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Returns whether the message accepted trailers.
fn strip(headers: &mut HeaderMap, configured: &[HeaderName], way: Way) -> bool {
    // One pass over the names that are there is cheaper than asking for each name that might be. Few messages carry more than a few of them.
    let mut found = headers.keys().filter(|n| is_doomed(n, way)).cloned();
    let few: [Option<HeaderName>; 3] = std::array::from_fn(|_| found.next());
    let more: Vec<HeaderName> = found.collect();
    let mut trailers = false;
    for name in few.iter().flatten().chain(&more) {
        trailers |= strip_one(headers, name);
    }
    for name in configured {
        headers.remove(name);
    }
    trailers
}

/// Takes one name out, and with `Connection` what it names. Returns whether it was a `TE` that accepts trailers.
fn strip_one(headers: &mut HeaderMap, name: &HeaderName) -> bool {
    if *name == header::CONNECTION && names_nothing(headers) {
        headers.remove(name);
        return false;
    }
    // `Connection: TE` goes with `TE` (RFC 9110 section 10.1.4) and takes it out.
    let last_sight_of_te = *name == header::TE || *name == header::CONNECTION;
    let trailers = last_sight_of_te && headers.get(header::TE).is_some_and(accepts_trailers);
    if *name == header::CONNECTION {
        strip_named_by_connection(headers);
    }
    headers.remove(name);
    trailers
}

/// Whether `Connection` is the one `keep-alive` or `close` that it nearly always is.
fn names_nothing(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter();
    let plain = values.next().is_some_and(|v| {
        matches!(
            v.as_bytes(),
            b"keep-alive" | b"close" | b"Keep-Alive" | b"Close"
        )
    });
    plain && values.next().is_none()
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // Options that are no field names, and end-to-end fields that a caller must not be able to take out.
        .filter(|t| {
            !t.is_empty()
                && !t.eq_ignore_ascii_case(b"close")
                && !t.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|t| HeaderName::from_bytes(t).ok())
        .filter(|n| {
            !matches!(
                *n,
                header::HOST
                    | header::CONTENT_LENGTH
                    | header::CONTENT_TYPE
                    | header::CONTENT_ENCODING
                    | header::CACHE_CONTROL
            )
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn is_doomed(name: &HeaderName, way: Way) -> bool {
    let name = name.as_str();
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade",
        6 => way == Way::Request && name == "expect",
        9 => way == Way::Request && matches!(name, "forwarded" | "x-real-ip"),
        10 => matches!(name, "connection" | "keep-alive"),
        13 => name == "authorization",
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        // Only the sidecar itself says so to the workload, and what the workload says of it is read before.
        21 => way == Way::Response && name == MARK,
        _ => {
            way == Way::Request
                && (name.starts_with("x-forwarded-") || name.starts_with("x-ms-token-"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut m = HeaderMap::new();
        for (n, v) in fields {
            m.append(
                HeaderName::from_bytes(n.as_bytes()).unwrap(),
                v.parse().unwrap(),
            );
        }
        m
    }

    fn left(m: &HeaderMap) -> Vec<String> {
        let mut v: Vec<_> = m
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        v.sort();
        v
    }

    #[test]
    fn every_hop_by_hop_field_and_credential_goes() {
        let mut m = map(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eA=="),
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("expect", "100-continue"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-access-token", "t"),
            ("x-ms-token-aad-access-token", "t"),
            ("x-real-ip", "1.2.3.4"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
        ]);
        request(&mut m, &[]);
        assert_eq!(left(&m), ["accept: */*", "cookie: a=b"]);
    }

    #[test]
    fn what_connection_names_goes_but_not_what_frames_or_routes() {
        let mut m = map(&[
            ("connection", "x-private, Authorization"),
            ("connection", "host, content-length,close, bad name"),
            ("x-private", "1"),
            ("authorization", "Bearer a"),
            ("host", "h"),
            ("content-length", "3"),
        ]);
        request(&mut m, &[]);
        assert_eq!(left(&m), ["content-length: 3", "host: h"]);
    }

    #[test]
    fn te_trailers_survives_alone() {
        let mut m = map(&[("te", "deflate;q=0.5, Trailers")]);
        request(&mut m, &[]);
        assert_eq!(left(&m), ["te: trailers"]);
        for fields in [
            [("connection", "TE"), ("te", "trailers")],
            [("te", "trailers"), ("connection", "TE")],
        ] {
            let mut m = map(&fields);
            request(&mut m, &[]);
            assert_eq!(left(&m), ["te: trailers"], "{fields:?}");
        }
        let mut m = map(&[("te", "deflate")]);
        request(&mut m, &[]);
        assert!(m.is_empty());
    }

    #[test]
    fn configured_names_go_both_ways() {
        let names = [HeaderName::from_static("cookie")];
        let mut m = map(&[("cookie", "a=b"), ("x", "y")]);
        request(&mut m, &names);
        assert_eq!(left(&m), ["x: y"]);
        let names = [header::SET_COOKIE];
        let mut m = map(&[
            ("set-cookie", "a=b"),
            ("authorization", "Bearer echoed"),
            ("www-authenticate", "Bearer"),
            ("x-forwarded-for", "kept in responses"),
        ]);
        response(&mut m, &names);
        assert_eq!(
            left(&m),
            [
                "www-authenticate: Bearer",
                "x-forwarded-for: kept in responses"
            ]
        );
    }

    #[test]
    fn trailers_carry_no_credential_and_no_framing() {
        let mut m = map(&[
            ("authorization", "Bearer a"),
            ("host", "h"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("grpc-status", "0"),
            ("x-sum", "1"),
        ]);
        trailers(&mut m, &[]);
        assert_eq!(left(&m), ["grpc-status: 0", "x-sum: 1"]);
    }
}
