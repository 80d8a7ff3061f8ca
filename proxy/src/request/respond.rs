//! Answers of our own: `application/problem+json` (RFC 9457) with a status, a reason, and what to do next, beside `Proxy-Status` (RFC 9209).
//! Never a secret, never an authority's text; and no answer of an upstream's passes through here.

mod callers;

use crate::token::caller::step_up::MARK;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::{borrow::Cow, time::Duration};

/// What went wrong with one request, and whose doing it is.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    /// Bounded: the label of `rejected_total`.
    reason: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    /// `error` of `Proxy-Status`, one of RFC 9209 section 2.3.
    proxy_error: &'static str,
    retry_after: Option<Duration>,
    allow: bool,
    close: bool,
    /// `type` (RFC 9457 section 3.1.1).
    kind: &'static str,
    challenge: Option<Box<Challenge>>,
}

/// What the caller is asked to do.
#[derive(Debug, Clone)]
struct Challenge {
    /// `WWW-Authenticate`.
    value: String,
    /// What the inbound side knows a step-up by ([`MARK`]).
    mark: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
}

impl Problem {
    const fn new(
        status: StatusCode,
        reason: &'static str,
        title: &'static str,
        detail: &'static str,
        proxy_error: &'static str,
    ) -> Self {
        Self {
            status,
            reason,
            title,
            detail: Cow::Borrowed(detail),
            proxy_error,
            retry_after: None,
            allow: false,
            close: false,
            kind: "about:blank",
            challenge: None,
        }
    }

    /// 400: the request breaks HTTP in a way that `detail` names. The connection is closed after the answer.
    pub const fn malformed(detail: &'static str) -> Self {
        let mut p = Self::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "The request is malformed",
            detail,
            "http_request_error",
        );
        p.close = true;
        p
    }

    /// 400: a path that routing must not have to interpret.
    pub const fn unsafe_path(detail: &'static str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsafe_path",
            "The path is ambiguous",
            detail,
            "http_request_error",
        )
    }

    /// 403: a `Host` that is neither ours nor a route's.
    pub const fn foreign_host() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign_host",
            "This Host is not served here",
            "call the sidecar as localhost or 127.0.0.1, or by the host of a route; or add the name to allowedHosts",
            "http_request_denied",
        )
    }

    /// 403: a browser's cross-site request.
    pub const fn foreign_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "Requests of web pages are refused",
            "the request carries an Origin (or Sec-Fetch-Site) that is not listed in allowedOrigins",
            "http_request_denied",
        )
    }

    /// 403: a peer outside the pod.
    pub const fn foreign_peer() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign_peer",
            "Only callers inside the pod are served",
            "the connection does not come from a loopback address",
            "http_request_denied",
        )
    }

    /// 403: the route does not let this method through.
    pub const fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "method_not_allowed",
            "The route does not allow this method",
            "add the method to match.methods of the route, if the workload needs it",
            "http_request_denied",
        )
    }

    /// 405: CONNECT, TRACE, `OPTIONS *`.
    pub const fn method_not_supported(detail: &'static str) -> Self {
        let mut p = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_supported",
            "This method is not served by a sidecar",
            detail,
            "http_request_denied",
        );
        p.allow = true;
        p.close = true;
        p
    }

    /// 404: nothing leaves.
    pub const fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no_route",
            "No route matches",
            "nothing was sent anywhere; add a route with this host and path prefix to the sidecar's configuration, or correct the URL",
            "destination_not_found",
        )
    }

    /// 413.
    pub const fn body_too_large() -> Self {
        let mut p = Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The request body is too large",
            "the route's maxRequestBody is smaller than this body",
            "http_request_error",
        );
        p.close = true;
        p
    }

    /// 414.
    pub const fn uri_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "The request target is too long",
            "limits.maxUriBytes is smaller than this target",
            "http_request_error",
        )
    }

    /// 417.
    pub const fn expectation_failed() -> Self {
        Self::new(
            StatusCode::EXPECTATION_FAILED,
            "expectation_failed",
            "Only 100-continue can be expected",
            "remove the Expect header",
            "http_request_error",
        )
    }

    /// 431.
    pub const fn headers_too_large() -> Self {
        let mut p = Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "The header section is too large",
            "limits.maxHeaderBytes or limits.maxHeaderFields is smaller than this header section",
            "http_request_error",
        );
        p.close = true;
        p
    }

    /// 502: `proxy_error` says what the upstream or the way to it did.
    pub fn bad_gateway(proxy_error: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut p = Self::new(
            StatusCode::BAD_GATEWAY,
            proxy_error,
            "The upstream cannot be reached or broke off",
            "",
            proxy_error,
        );
        p.detail = detail.into();
        p
    }

    /// 504: `proxy_error` says which time ran out.
    pub fn gateway_timeout(
        proxy_error: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut p = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            proxy_error,
            "The upstream took too long",
            "",
            proxy_error,
        );
        p.detail = detail.into();
        p
    }

    /// 403: the upstream resolves to an address that is never a destination.
    pub fn address_forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        let mut p = Self::new(
            StatusCode::FORBIDDEN,
            "address_forbidden",
            "The upstream's address is not an allowed destination",
            "",
            "destination_ip_prohibited",
        );
        p.detail = detail.into();
        p
    }

    /// 503: the credential has no valid token.
    pub fn no_token(detail: String, retry_after: Duration) -> Self {
        let mut p = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_token",
            "There is no valid token for this route",
            "",
            "proxy_internal_error",
        );
        p.detail = detail.into();
        p.retry_after = Some(retry_after);
        p
    }

    /// 503: more at once than the limits allow.
    pub const fn overloaded() -> Self {
        let mut p = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "The sidecar is at its limit",
            "limits.maxConnections, limits.maxRequests or the route's pool.maxConnections is reached; try again shortly",
            "connection_limit_reached",
        );
        p.retry_after = Some(Duration::from_secs(1));
        p
    }

    /// 503: this process is about to stop.
    pub const fn draining() -> Self {
        let mut p = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "The sidecar is stopping",
            "the pod is being terminated",
            "proxy_internal_response",
        );
        p.retry_after = Some(Duration::from_secs(1));
        p.close = true;
        p
    }

    /// The same, with what the caller is challenged to do (`WWW-Authenticate`, RFC 9110 section 11.6.1).
    pub fn with_challenge(mut self, challenge: String) -> Self {
        self.challenge = Some(Box::new(Challenge {
            value: challenge,
            mark: None,
        }));
        self
    }

    /// The bounded reason, also a metric's label.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text for the log.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        // Rounded up: coming back early is coming back in vain.
        self.retry_after
            .map(|d| d.as_secs() + u64::from(d.subsec_nanos() > 0))
            .map(|s| s.max(1))
    }

    /// The JSON body.
    pub fn body(&self, route: Option<&str>) -> Bytes {
        let body = Body {
            r#type: self.kind,
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: self.reason,
            route,
            retry_after_seconds: self.retry_after_seconds(),
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }

    /// The response; `wrap` makes a body of the server's type.
    pub fn response<B>(&self, route: Option<&str>, wrap: impl FnOnce(Bytes) -> B) -> Response<B> {
        let mut response = Response::new(wrap(self.body(route)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(v) = HeaderValue::from_str(&format!("token-sidecar; error={}", self.proxy_error))
        {
            headers.insert("proxy-status", v);
        }
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = &self.challenge {
            if let Ok(value) = HeaderValue::from_str(&challenge.value) {
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
            let mark = challenge.mark.as_deref().map(HeaderValue::from_str);
            if let Some(Ok(mark)) = mark {
                headers.insert(MARK, mark);
            }
        }
        if self.allow {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The whole answer as HTTP/1.1 bytes, for a connection that is turned away before any HTTP machinery exists for it.
    pub fn raw(&self) -> Vec<u8> {
        let body = self.body(None);
        let retry = self
            .retry_after_seconds()
            .map(|s| format!("retry-after: {s}\r\n"))
            .unwrap_or_default();
        let mut raw = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nproxy-status: token-sidecar; error={}\r\n{retry}connection: close\r\n\r\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or(""),
            body.len(),
            self.proxy_error
        )
        .into_bytes();
        raw.extend_from_slice(&body);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_to_do_and_when() {
        let r = Problem::no_token(
            "credential arm: timeout".into(),
            Duration::from_millis(1200),
        )
        .response(Some("arm"), |b| b);
        assert_eq!(r.status(), 503);
        assert_eq!(r.headers()["retry-after"], "2");
        assert_eq!(r.headers()["content-type"], "application/problem+json");
        assert_eq!(
            r.headers()["proxy-status"],
            "token-sidecar; error=proxy_internal_error"
        );
        let json: serde_json::Value = serde_json::from_slice(r.body()).unwrap();
        assert_eq!(json["status"], 503);
        assert_eq!(json["reason"], "no_token");
        assert_eq!(json["route"], "arm");
        assert_eq!(json["retry_after_seconds"], 2);
        assert_eq!(json["detail"], "credential arm: timeout");
    }

    #[test]
    fn the_raw_answer_is_framed() {
        let raw = String::from_utf8(Problem::overloaded().raw()).unwrap();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("content-length: {}", body.len()))
                && head.contains("retry-after: 1"),
            "{head}"
        );
    }
}
