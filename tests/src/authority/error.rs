//! Refusals in the two shapes that token endpoints use: RFC 6749 section 5.2, and Entra's AADSTS-coded body.

use super::json;
use crate::{body::Body, keys::unix_now};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json as value};
use sidecar_runtime::clock::rfc3339;
use std::time::Duration;

/// Why a token request was refused.
pub(crate) enum Refused {
    /// An AADSTS code with its OAuth error, HTTP status and text.
    Entra(u32, &'static str, u16, String),
    /// An OAuth error with its HTTP status and description.
    OAuth(&'static str, u16, String),
    /// A reply of Entra's as it was recorded or documented: number, HTTP status, body.
    Recorded(u32, u16, Value),
    /// An error of a Google API: HTTP status, `status`, message.
    Google(u16, &'static str, String),
}

/// What Entra answers when the user or the assertion is the trouble.
const ON_BEHALF_OF: &str = include_str!("../../samples/entra-errors/on-behalf-of.jsonl");

impl Refused {
    /// A refusal of Entra's: the code decides error and status.
    pub(crate) fn aadsts(code: u32, text: impl Into<String>) -> Self {
        let (error, status) = match code {
            90002 | 900144 | 9002313 | 82001 => ("invalid_request", 400),
            70003 => ("unsupported_grant_type", 400),
            70011 | 1002012 => ("invalid_scope", 400),
            700016 | 700011 => ("unauthorized_client", 400),
            500011 => ("invalid_resource", 400),
            50013 | 7000114 => ("invalid_grant", 400),
            28000 => ("invalid_scope", 400),
            90033 | 90055 => ("temporarily_unavailable", 503),
            _ => ("invalid_client", 401),
        };
        Self::Entra(code, error, status, text.into())
    }

    /// One of the recorded refusals of the on-behalf-of grant; an unknown number is a plain one.
    pub(crate) fn recorded(code: u32) -> Self {
        let number = code.to_string();
        ON_BEHALF_OF
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|sample| sample["aadsts"] == number.as_str())
            .map_or_else(
                || Self::aadsts(code, "Refused."),
                |sample| {
                    let status = sample["http_status"].as_u64().unwrap_or(400);
                    Self::Recorded(
                        code,
                        u16::try_from(status).unwrap_or(400),
                        sample["body"].clone(),
                    )
                },
            )
    }

    /// `700213` or `invalid_target`.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Entra(code, ..) | Self::Recorded(code, ..) => code.to_string(),
            Self::OAuth(error, ..) => (*error).to_owned(),
            Self::Google(_, status, _) => (*status).to_owned(),
        }
    }

    /// The reply.
    pub(crate) fn response(&self) -> Response<Body> {
        match self {
            Self::Entra(code, error, status, text) => {
                let (trace, correlation, time) =
                    (identifier(1), identifier(2), timestamp(unix_now()));
                // Most codes break the line before the trace; the newer federation codes have blanks instead.
                let end = if *code >= 700_211 && *code <= 7_002_138 {
                    " "
                } else {
                    "\r\n"
                };
                let description = format!(
                    "AADSTS{code}: {text}{end}Trace ID: {trace}{end}Correlation ID: {correlation}{end}Timestamp: {time}"
                );
                json(
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST),
                    &value!({
                        "error": error,
                        "error_description": description,
                        "error_codes": [code],
                        "timestamp": time,
                        "trace_id": trace,
                        "correlation_id": correlation,
                        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
                    }),
                )
            }
            Self::Recorded(_, status, body) => json(
                StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST),
                body,
            ),
            Self::Google(code, status, message) => json(
                StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_REQUEST),
                &value!({ "error": { "code": code, "message": message, "status": status } }),
            ),
            Self::OAuth(error, status, description) => {
                let body = value!({ "error": error, "error_description": description });
                let mut response = json(
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST),
                    &body,
                );
                if *status == 401 {
                    response.headers_mut().insert(
                        header::WWW_AUTHENTICATE,
                        HeaderValue::from_static("Basic realm=\"sts\""),
                    );
                }
                response
            }
        }
    }
}

/// Looks like a UUID, differs from request to request.
fn identifier(salt: u128) -> String {
    let n = unix_now()
        .as_nanos()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        .wrapping_add(salt << 64);
    let hex = format!("{n:032x}");
    format!(
        "{}-{}-4{}-8{}-{}",
        &hex[0..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// `2021-11-17 23:25:07Z`, from the time since the epoch.
fn timestamp(unix: Duration) -> String {
    let text = rfc3339(unix).replace('T', " ");
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_civil_dates() {
        assert_eq!(timestamp(Duration::from_secs(0)), "1970-01-01 00:00:00Z");
        assert_eq!(
            timestamp(Duration::from_secs(1_637_191_507)),
            "2021-11-17 23:25:07Z"
        );
        assert_eq!(
            timestamp(Duration::from_secs(1_709_164_800)),
            "2024-02-29 00:00:00Z"
        );
    }
}
