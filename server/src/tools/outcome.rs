//! What a tool call came to, in words that a model can act on; the backend's answers are turned into it here. Pure.

use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use crate::caller::MARK;

/// How a call ended; also the value of the metric's label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    InvalidArguments,
    /// The backend answered 4xx or a redirect.
    Refused,
    /// The backend (the sidecar) asks for something of the caller first.
    StepUp,
    /// The backend answered 5xx.
    Failed,
    Unreachable,
    Timeout,
    TooLarge,
    /// The answer is not text.
    Unreadable,
}

impl Outcome {
    /// Every outcome, for metrics.
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::InvalidArguments,
        Self::Refused,
        Self::StepUp,
        Self::Failed,
        Self::Unreachable,
        Self::Timeout,
        Self::TooLarge,
        Self::Unreadable,
    ];

    /// The label's value.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InvalidArguments => "invalid_arguments",
            Self::Refused => "refused",
            Self::StepUp => "step_up",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolResult {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
    /// A JSON object, if there is one.
    pub(crate) structured: Option<Value>,
}

impl ToolResult {
    /// An error without a status.
    pub(crate) fn error(outcome: Outcome, text: impl Into<String>) -> Self {
        Self {
            outcome,
            text: text.into(),
            structured: None,
        }
    }

    /// Whether it is a tool error.
    pub(crate) fn is_error(&self) -> bool {
        self.outcome != Outcome::Ok
    }

    /// The result as MCP writes it, in the shape that all revisions have in common.
    pub(crate) fn to_json(&self) -> Value {
        let content = json!([{ "type": "text", "text": self.text }]);
        let mut result = json!({ "content": content, "isError": self.is_error() });
        if let Some(structured) = &self.structured {
            result["structuredContent"] = structured.clone();
        }
        result
    }

    /// What a complete answer of the backend means.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_success() {
            success(status, headers, body)
        } else if headers.contains_key(MARK) {
            step_up(status, headers)
        } else {
            failure(status, headers, body)
        }
    }
}

fn success(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ToolResult {
    if body.is_empty() {
        return ToolResult {
            outcome: Outcome::Ok,
            text: format!("The backend answered {status}, without content."),
            structured: None,
        };
    }
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    let text = if encoded {
        None
    } else {
        std::str::from_utf8(body).ok()
    };
    let Some(text) = text else {
        let kind = media_type(headers).unwrap_or_else(|| "unknown".into());
        return ToolResult::error(
            Outcome::Unreadable,
            format!(
                "The backend answered {status} with content of type {kind} that is not plain text; this tool can only return text."
            ),
        );
    };
    let structured = media_type(headers)
        .filter(|media| is_json(media))
        .and_then(|_| serde_json::from_str(text).ok())
        .filter(Value::is_object);
    ToolResult {
        outcome: Outcome::Ok,
        text: text.to_owned(),
        structured,
    }
}

/// The sidecar refuses until the caller has done something: what, is in the challenge. All of it is meant for the caller.
fn step_up(status: StatusCode, headers: &HeaderMap) -> ToolResult {
    const LONGEST: usize = 16 * 1024;
    let challenge = headers
        .get(header::WWW_AUTHENTICATE)
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.len() <= LONGEST);
    let mut text = String::from(
        "The caller must do something first: sign in again, consent, or satisfy the claims that are asked for.",
    );
    let mut structured = json!({ "status": status.as_u16(), "stepUp": true });
    if let Some(challenge) = challenge {
        text.push_str(" The challenge: ");
        text.push_str(challenge);
        structured["challenge"] = challenge.into();
        for name in ["error", "scope", "claims"] {
            if let Some(value) = parameter(challenge, name) {
                structured[name] = value.into();
            }
        }
    }
    ToolResult {
        outcome: Outcome::StepUp,
        text,
        structured: Some(structured),
    }
}

/// A quoted parameter of a challenge, as the sidecar writes it: without escapes.
fn parameter<'c>(challenge: &'c str, name: &str) -> Option<&'c str> {
    challenge
        .match_indices(name)
        .filter(|(at, _)| challenge[..*at].ends_with([' ', ',']))
        .find_map(|(at, _)| {
            let value = challenge[at + name.len()..].strip_prefix("=\"")?;
            value.split_once('"').map(|(value, _)| value)
        })
}

fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ToolResult {
    let explained = explanation(headers, body);
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse::<u32>().ok());
    let mut text = format!("The backend answered {status}");
    let mut structured = json!({ "status": status.as_u16() });
    for (key, part) in [("title", &explained.title), ("detail", &explained.detail)] {
        if let Some(part) = part {
            text.push_str(": ");
            text.push_str(part);
            structured[key] = part.as_str().into();
        }
    }
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text.push(' ');
    text.push_str(&advice(status, retry_after));
    if let Some(seconds) = retry_after {
        structured["retryAfterSeconds"] = seconds.into();
    }
    ToolResult {
        outcome: if status.is_server_error() {
            Outcome::Failed
        } else {
            Outcome::Refused
        },
        text,
        structured: Some(structured),
    }
}

/// What the model can do about a status.
fn advice(status: StatusCode, retry_after: Option<u32>) -> String {
    let when = match retry_after {
        Some(seconds) => format!("Try again after {seconds} seconds."),
        None => "Try again in a little while.".to_owned(),
    };
    match status.as_u16() {
        300..=399 => "Redirects are not followed; the tool's path needs correction by its operator.".into(),
        400 | 409 | 422 => "Check the arguments and correct them before trying again.".into(),
        401 => "The credential beside this server was not accepted; trying again will not help, tell the operator.".into(),
        403 => "The credential beside this server may not do this; trying again will not help, tell the operator.".into(),
        404 | 410 => "There is nothing under these arguments; check the identifiers.".into(),
        405 | 406 | 415 | 501 => "The tool's request does not suit the backend; tell the operator.".into(),
        408 | 425 | 429 | 500..=504 => when,
        _ => "Trying again unchanged will hardly help.".into(),
    }
}

/// What an error answer says about itself.
#[derive(Default)]
struct Explanation {
    title: Option<String>,
    detail: Option<String>,
}

/// Reads `application/problem+json` (RFC 9457), and the `{"error":{"code","message"}}` and `{"error"|"message":"…"}`
/// that many JSON APIs use instead. Other content says nothing to a model.
fn explanation(headers: &HeaderMap, body: &[u8]) -> Explanation {
    let parsed = media_type(headers)
        .filter(|media| is_json(media))
        .and_then(|_| serde_json::from_slice::<Value>(body).ok());
    let Some(problem) = parsed else {
        return Explanation::default();
    };
    let at = |pointer: &str| problem.pointer(pointer).and_then(Value::as_str).map(phrase);
    Explanation {
        title: at("/title").or_else(|| at("/error/code")),
        detail: at("/detail")
            .or_else(|| at("/error/message"))
            .or_else(|| at("/message"))
            .or_else(|| at("/error")),
    }
}

/// One line of bounded length.
fn phrase(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut phrase: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        phrase.push('…');
    }
    phrase
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media = value.split(';').next().unwrap_or(value);
    Some(media.trim().to_ascii_lowercase())
}

fn is_json(media: &str) -> bool {
    media == "application/json" || media.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(status: u16, media: &'static str, body: &str) -> ToolResult {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if status == 429 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        }
        ToolResult::of_answer(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
        )
    }

    #[test]
    fn json_objects_are_structured() {
        let result = answer(200, "application/json; charset=utf-8", r#"{"name":"Ada"}"#);
        let expected = json!({
            "content": [{ "type": "text", "text": r#"{"name":"Ada"}"# }],
            "isError": false,
            "structuredContent": { "name": "Ada" },
        });
        assert_eq!(result.to_json(), expected);
        for (media, body) in [
            ("application/json", "[1]"),
            ("text/plain", "{}"),
            ("application/json", "{"),
        ] {
            let result = answer(200, media, body);
            assert_eq!(
                (result.outcome, result.structured),
                (Outcome::Ok, None),
                "{media} {body}"
            );
            assert_eq!(result.text, body);
        }
    }

    #[test]
    fn empty_and_binary_answers() {
        assert_eq!(
            answer(204, "text/plain", "").text,
            "The backend answered 204 No Content, without content."
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
        let result = ToolResult::of_answer(StatusCode::OK, &headers, &[0x89, 0xff]);
        assert_eq!(result.outcome, Outcome::Unreadable);
        assert!(result.text.contains("image/png"), "{}", result.text);
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let result = ToolResult::of_answer(StatusCode::OK, &headers, b"text");
        assert_eq!(result.outcome, Outcome::Unreadable);
    }

    #[test]
    fn problem_details_are_handed_on() {
        let body = r#"{"title":"No valid token","detail":"credential arm: expired\r\nsince 10 s","status":503}"#;
        let result = answer(503, "application/problem+json", body);
        assert_eq!(result.outcome, Outcome::Failed);
        assert_eq!(
            result.text,
            "The backend answered 503 Service Unavailable: No valid token: credential arm: expired  since 10 s. \
             Try again in a little while."
        );
        let structured = result.structured.unwrap();
        assert_eq!(
            (&structured["status"], &structured["title"]),
            (&json!(503), &json!("No valid token"))
        );
    }

    #[test]
    fn every_status_comes_with_advice() {
        for (status, media, body, text) in [
            (
                404,
                "text/html",
                "<html>",
                "The backend answered 404 Not Found. There is nothing under these arguments; check the identifiers.",
            ),
            (
                429,
                "text/plain",
                "",
                "The backend answered 429 Too Many Requests. Try again after 7 seconds.",
            ),
            (
                400,
                "application/json",
                r#"{"error":{"code":"BadId","message":"not a number"}}"#,
                "The backend answered 400 Bad Request: BadId: not a number. Check the arguments and correct them before trying again.",
            ),
            (
                401,
                "application/json",
                r#"{"error":"invalid_token"}"#,
                "The backend answered 401 Unauthorized: invalid_token. The credential beside this server was not accepted; trying again will not help, tell the operator.",
            ),
            (
                302,
                "text/plain",
                "",
                "The backend answered 302 Found. Redirects are not followed; the tool's path needs correction by its operator.",
            ),
            (
                418,
                "text/plain",
                "",
                "The backend answered 418 I'm a teapot. Trying again unchanged will hardly help.",
            ),
        ] {
            let result = answer(status, media, body);
            assert_eq!(result.text, text);
            assert!(result.is_error());
            assert_eq!(result.outcome, Outcome::Refused);
        }
    }

    #[test]
    fn long_explanations_are_cut() {
        let body = json!({ "title": "x".repeat(10_000) }).to_string();
        assert!(answer(500, "application/problem+json", &body).text.len() < 700);
    }
}
