//! Raw bytes in: which requests pass, which are refused and how, what becomes of the connection, and what the upstream saw. The rows are
//! those of RFC 9112's ambiguities, of request smuggling, and of clients that are silent or slow.

use crate::{
    lab::Lab,
    request_lab::{Bench, Report, config, plain_upstream, ready, route},
};
use harness::{
    process::Sidecar,
    raw::{Raw, RawAnswer},
    upstream::Upstream,
    wait::{LONG, until},
};
use std::time::Duration;

mod connections;

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Closed,
    Open,
}

use After::{Closed, Open};

/// The request is broken off on its way: its beginning may or may not have reached the upstream.
const PERHAPS: usize = usize::MAX;

struct Row {
    name: &'static str,
    send: Vec<u8>,
    /// The status, or 0: closed without an answer.
    status: u16,
    after: After,
    /// How many requests reach the upstream; [`PERHAPS`] that one is broken off.
    reach: usize,
    /// `reason` of the problem; empty: not looked at.
    reason: &'static str,
}

fn row(
    name: &'static str,
    send: impl Into<Vec<u8>>,
    status: u16,
    after: After,
    reach: usize,
    reason: &'static str,
) -> Row {
    Row {
        name,
        send: send.into(),
        status,
        after,
        reach,
        reason,
    }
}

/// A GET with these further lines.
fn get(lines: &str) -> String {
    format!("GET /users/1 HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A POST to `/echo` with these further lines and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}")
}

fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

async fn play(sidecar: &Sidecar, upstream: &Upstream, row: &Row, report: &mut Report) {
    let name = row.name;
    let before = upstream.requests().len();
    let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
    // A refusal may come, and the connection close, before all of it is sent.
    drop(raw.send(&row.send).await);
    let answer = match raw.answer().await {
        Ok(answer) => answer,
        Err(error) => return report.note(name, error),
    };
    report.check(
        name,
        answer.status() == row.status,
        format!(
            "status {} instead of {}: {}\n{}",
            answer.status(),
            row.status,
            answer.head,
            answer.text()
        ),
    );
    if !row.reason.is_empty() {
        report.check(
            name,
            answer
                .text()
                .contains(&format!("\"reason\":\"{}\"", row.reason)),
            format!("reason is not {}: {}", row.reason, answer.text()),
        );
        report.check(
            name,
            answer.headers("content-type") == ["application/problem+json"]
                && answer.headers("proxy-status").len() == 1,
            format!("not a problem: {}", answer.head),
        );
    }
    match row.after {
        Closed => match raw.rest().await {
            Ok(rest) => report.check(
                name,
                rest.is_empty(),
                format!("a second answer: {}", String::from_utf8_lossy(&rest)),
            ),
            Err(error) => report.note(name, error),
        },
        Open => {
            let again = raw.send(get("")).await.is_ok();
            let second = raw.answer().await.map(|a| a.status()).unwrap_or(0);
            report.check(
                name,
                again && second == 200,
                format!("the connection does not serve on: {second}"),
            );
        }
    }
    // A good request through the same process comes after whatever might have leaked.
    let client = sidecar.client();
    report.check(
        name,
        client.get("/users/barrier").await.unwrap().status == 200,
        "broken for others",
    );
    let seen = upstream.requests().since(before);
    let own = 1 + usize::from(row.after == Open);
    let expected = match row.reach {
        PERHAPS => own..=own + 1,
        reach => own + reach..=own + reach,
    };
    report.check(
        name,
        expected.contains(&seen.len()) && !seen.iter().any(|r| r.path().contains("smuggled")),
        format!(
            "the upstream saw {:?}",
            seen.iter().map(|r| r.uri.to_string()).collect::<Vec<_>>()
        ),
    );
    for request in &seen {
        report.check(
            name,
            request.header("authorization").len() == 1 && request.verified == Some(Ok(())),
            "without exactly our token",
        );
        report.check(
            name,
            request.header("host") == [upstream.url().trim_start_matches("http://")],
            format!("Host {:?}", request.header("host")),
        );
    }
}

async fn table(rows: Vec<Row>) {
    let bench = Bench::new("", "").await;
    let mut report = Report::default();
    for row in &rows {
        play(&bench.sidecar, &bench.upstream, row, &mut report).await;
    }
    report.end();
}

#[rustfmt::skip]
#[tokio::test]
async fn host_and_target() {
    let long = |n: usize| target(&format!("/users/{}", "x".repeat(n)));
    table(vec![
        row("a plain request", get(""), 200, Open, 1, ""),
        row("no Host", "GET /users/1 HTTP/1.1\r\n\r\n", 400, Closed, 0, "malformed"),
        row("two Hosts", get("Host: localhost\r\n"), 400, Closed, 0, "malformed"),
        row("two differing Hosts", get("Host: evil.example\r\n"), 400, Closed, 0, "malformed"),
        row("an empty Host", "GET /users/1 HTTP/1.1\r\nHost: \r\n\r\n", 400, Closed, 0, "malformed"),
        row("userinfo in Host", "GET /users/1 HTTP/1.1\r\nHost: a@localhost\r\n\r\n", 400, Closed, 0, "malformed"),
        row("a Host with a path", "GET /users/1 HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400, Closed, 0, "malformed"),
        row("a Host with a long port", "GET /users/1 HTTP/1.1\r\nHost: localhost:999999\r\n\r\n", 400, Closed, 0, "malformed"),
        row("a Host that is not ASCII", b"GET /users/1 HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec(), 400, Closed, 0, "malformed"),
        row("a foreign Host", "GET /users/1 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, Open, 0, "foreign_host"),
        row("localhost with another port", "GET /users/1 HTTP/1.1\r\nHost: LocalHost:1\r\n\r\n", 200, Open, 1, ""),
        row("an IPv6 Host", "GET /users/1 HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 200, Open, 1, ""),
        row("absolute form, another service of the pod", "GET http://localhost/users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, Open, 0, "no_route"),
        row("absolute form to nowhere", "GET http://evil.example/users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, Open, 0, "no_route"),
        row("absolute form with userinfo", target("http://u:p@localhost/users/1"), 400, Closed, 0, "malformed"),
        row("absolute form, https", target("https://localhost/users/1"), 400, Closed, 0, "malformed"),
        row("absolute form, ftp", target("ftp://localhost/users/1"), 400, Closed, 0, "malformed"),
        row("authority form with GET", target("localhost:80"), 400, Closed, 0, "malformed"),
        row("no target at all", "GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, Closed, 0, ""),
        row("a space in the target", target("/users/1 2"), 400, Closed, 0, ""),
        row("a target that is no path", target("users/1"), 400, Closed, 0, ""),
        row("a fragment is not sent on", target("/users/1#frag"), 200, Open, 1, ""),
        row("a dot segment", target("/a/../users/1"), 400, Open, 0, "unsafe_path"),
        row("an encoded dot segment", target("/a/%2e%2E/users/1"), 400, Open, 0, "unsafe_path"),
        row("a dot segment with a parameter", target("/a/..;x/users/1"), 400, Open, 0, "unsafe_path"),
        row("a single dot", target("/./users/1"), 400, Open, 0, "unsafe_path"),
        row("a backslash", target("/users\\1"), 400, Open, 0, "unsafe_path"),
        row("dots that are no segment", target("/users/1..2"), 200, Open, 1, ""),
        row("a long target that is allowed", long(16 * 1024 - 7), 200, Open, 1, ""),
        row("a target over the limit", long(16 * 1024 - 6), 414, Open, 0, "uri_too_long"),
        row("a target over what is read at all", long(70_000), 414, Closed, 0, "uri_too_long"),
        row("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, Closed, 0, "method_not_supported"),
        row("OPTIONS of a path", "OPTIONS /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, Open, 1, ""),
        row("CONNECT", "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", 405, Closed, 0, "method_not_supported"),
        row("CONNECT elsewhere", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 405, Closed, 0, "method_not_supported"),
        row("TRACE", "TRACE /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, Closed, 0, "method_not_supported"),
        row("a method of nobody's", "BREW /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, Open, 1, ""),
        row("a method that is no token", "G@T /users/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, Closed, 0, ""),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn framing() {
    table(vec![
        row("a body of known length", post("Content-Length: 3\r\n", "abc"), 200, Open, 1, ""),
        row("a chunked body", post(CHUNKED, "3\r\nabc\r\n0\r\n\r\n"), 200, Open, 1, ""),
        row("an empty chunked body", post(CHUNKED, "0\r\n\r\n"), 200, Open, 1, ""),
        row("equal Content-Lengths", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 200, Open, 1, ""),
        row("Content-Length, then Transfer-Encoding", post(&format!("Content-Length: 3\r\n{CHUNKED}"), "3\r\nabc\r\n0\r\n\r\n"), 200, Closed, 1, ""),
        row("Transfer-Encoding, then Content-Length", post(&format!("{CHUNKED}Content-Length: 3\r\n"), "3\r\nabc\r\n0\r\n\r\n"), 200, Closed, 1, ""),
        row("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400, Closed, 0, "malformed"),
        row("two Transfer-Encodings", post(&format!("Transfer-Encoding: gzip\r\n{CHUNKED}"), "0\r\n\r\n"), 400, Closed, 0, "malformed"),
        row("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400, Closed, 0, ""),
        row("chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400, Closed, 0, ""),
        row("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400, Closed, 0, ""),
        row("identity", post("Transfer-Encoding: identity\r\n", "0\r\n\r\n"), 400, Closed, 0, ""),
        row("an empty Transfer-Encoding", post("Transfer-Encoding: \r\n", "0\r\n\r\n"), 400, Closed, 0, ""),
        row("Transfer-Encoding with a tab", post("Transfer-Encoding: \tchunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), 200, Open, 1, ""),
        row("Transfer-Encoding in HTTP/1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, Closed, 0, ""),
        row("a signed length", post("Content-Length: +2\r\n", "ab"), 400, Closed, 0, ""),
        row("a list of lengths", post("Content-Length: 2, 2\r\n", "ab"), 400, Closed, 0, ""),
        row("differing lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"), 400, Closed, 0, ""),
        row("a negative length", post("Content-Length: -1\r\n", ""), 400, Closed, 0, ""),
        row("a hexadecimal length", post("Content-Length: 0x2\r\n", "ab"), 400, Closed, 0, ""),
        row("a length that overflows", post("Content-Length: 99999999999999999999999\r\n", ""), 400, Closed, 0, ""),
        row("an empty length", post("Content-Length: \r\n", ""), 400, Closed, 0, ""),
        row("obsolete folding", get("X-A: b\r\n c\r\n"), 400, Closed, 0, ""),
        row("a space before the colon", get("X-A : b\r\n"), 400, Closed, 0, ""),
        row("a space before the first field", "GET /users/1 HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, Closed, 0, ""),
        row("a bare CR in a value", get("X-A: b\rc\r\n"), 400, Closed, 0, ""),
        row("a NUL in a value", get("X-A: b\0c\r\n"), 400, Closed, 0, ""),
        row("a field without a colon", get("nonsense\r\n"), 400, Closed, 0, ""),
        row("a field without a name", get(": b\r\n"), 400, Closed, 0, ""),
        row("bare LF line ends", "GET /users/1 HTTP/1.1\nHost: localhost\n\n", 200, Open, 1, ""),
        row("HTTP/1.0 without Host", "GET /users/1 HTTP/1.0\r\n\r\n", 200, Closed, 1, ""),
        row("HTTP/1.0 that stays", "GET /users/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, Open, 1, ""),
        row("HTTP/1.1 that goes", get("Connection: close\r\n"), 200, Closed, 1, ""),
        row("HTTP/0.9", "GET /users/1\r\n\r\n", 400, Closed, 0, ""),
        row("HTTP/1.2", "GET /users/1 HTTP/1.2\r\nHost: localhost\r\n\r\n", 400, Closed, 0, ""),
        row("HTTP/2.0 in a request line", "GET /users/1 HTTP/2.0\r\nHost: localhost\r\n\r\n", 400, Closed, 0, ""),
        row("no HTTP at all", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), 400, Closed, 0, ""),
        row("Expect: 100-continue", post("Expect: 100-Continue\r\nContent-Length: 3\r\n", "abc"), 200, Open, 1, ""),
        row("another expectation", get("Expect: a-pony\r\n"), 417, Open, 0, "expectation_failed"),
        row("two expectations", get("Expect: 100-continue\r\nExpect: a-pony\r\n"), 417, Open, 0, "expectation_failed"),
        row("h2c is not tunnelled", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"), 200, Open, 1, ""),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn sizes() {
    let fields = |n: usize| (0..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    let bytes = |n: usize| format!("X-Big: {}\r\n", "y".repeat(n));
    table(vec![
        // Host is one of them.
        row("100 fields", get(&fields(99)), 200, Open, 1, ""),
        row("101 fields", get(&fields(100)), 431, Closed, 0, "headers_too_large"),
        row("1000 fields", get(&fields(1000)), 431, Closed, 0, ""),
        row("30 KiB of fields", get(&bytes(30 * 1024)), 200, Open, 1, ""),
        row("33 KiB of fields", get(&bytes(33 * 1024)), 431, Closed, 0, "headers_too_large"),
        row("1 MiB of fields", get(&bytes(1024 * 1024)), 431, Closed, 0, ""),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn smuggling() {
    let inner = "GET /users/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let len = inner.len();
    let in_chunk = format!("{len:x}\r\n{inner}\r\n0\r\n\r\n");
    let refused = format!(
        "POST http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{inner}"
    );
    let refused_chunked =
        format!("POST http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n{CHUNKED}\r\n{in_chunk}");
    table(vec![
        row("a request inside a body", post(&format!("Content-Length: {len}\r\n"), inner), 200, Open, 1, ""),
        row("a request inside a chunk", post(CHUNKED, &in_chunk), 200, Open, 1, ""),
        row("a request behind a chunked body that a length covers", post(&format!("Content-Length: {}\r\n{CHUNKED}", len + 5), &format!("0\r\n\r\n{inner}")), 200, Closed, 1, ""),
        row("the same, the other way round", post(&format!("{CHUNKED}Content-Length: {}\r\n", len + 5), &format!("0\r\n\r\n{inner}")), 200, Closed, 1, ""),
        row("a request inside a chunk extension", post(CHUNKED, &format!("3;{}\r\nabc\r\n0\r\n\r\n", "GET /users/smuggled HTTP/1.1")), 200, Open, 1, ""),
        row("a chunk extension with a bare LF", post(CHUNKED, &format!("3;a\nabc\r\n0\r\n\r\n{inner}")), 400, Closed, PERHAPS, ""),
        row("a chunk size that overflows", post(CHUNKED, "10000000000000003\r\nabc\r\n0\r\n\r\n"), 400, Closed, PERHAPS, ""),
        row("a request inside the body of one that is refused", refused, 404, Open, 0, "no_route"),
        row("a request inside the chunked body of one that is refused", refused_chunked, 404, Open, 0, "no_route"),
    ])
    .await;
}
