//! The reports of the admin port as text and as JSON; pure.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::{clock::rfc3339, liveness::Silent, readiness::Report};

/// Whether an `Accept` header names `application/json` with a weight above zero.
pub(super) fn asks_for_json(accept: &HeaderValue) -> bool {
    accept.to_str().is_ok_and(|accept| {
        accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
            named
                && !parts.any(|p| {
                    p.strip_prefix("q=")
                        .is_some_and(|q| q.parse() == Ok(0.0_f32))
                })
        })
    })
}

/// One line a condition, `[+] name ready` or `[-] name pending: reason`, and the verdict.
pub(super) fn conditions_text(verdict: &str, ok: bool, report: &Report) -> String {
    let mut text = String::new();
    for condition in &report.conditions {
        let name = one_line(&condition.name);
        match &condition.reason {
            None => line(&mut text, format_args!("[+] {name} ready")),
            Some(reason) => line(
                &mut text,
                format_args!("[-] {name} pending: {}", one_line(reason)),
            ),
        }
    }
    if report.conditions.is_empty() {
        line(&mut text, format_args!("[-] nothing registered"));
    }
    if report.draining {
        line(&mut text, format_args!("[-] draining"));
    }
    let not = if ok { "" } else { "not " };
    line(&mut text, format_args!("{not}{verdict}"));
    text
}

/// `{"ready":false,"draining":false,"conditions":[{"name":…,"ready":…,"reason":…,"since":…}]}`; the first key is `verdict`.
pub(super) fn conditions_json(verdict: &str, ok: bool, report: &Report) -> Value {
    let conditions: Vec<Value> = report
        .conditions
        .iter()
        .map(|condition| {
            json!({
                "name": condition.name,
                "ready": condition.ready,
                "reason": condition.reason,
                "since": rfc3339(condition.since),
            })
        })
        .collect();
    let mut value = json!({ verdict: ok, "draining": report.draining, "conditions": conditions });
    if report.draining {
        value["reason"] = "draining".into();
    } else if report.conditions.is_empty() {
        value["reason"] = "nothing registered".into();
    }
    value
}

/// `alive`, or one line for each silent heartbeat.
pub(super) fn liveness_text(silent: &[Silent]) -> String {
    let mut text = String::new();
    for beat in silent {
        let (name, seconds) = (one_line(&beat.name), beat.silent_for.as_secs());
        line(&mut text, format_args!("[-] {name} silent for {seconds} s"));
    }
    let verdict = if silent.is_empty() {
        "alive"
    } else {
        "not alive"
    };
    line(&mut text, format_args!("{verdict}"));
    text
}

/// `{"alive":…,"silent":[{"name":…,"silent_for_seconds":…}]}`.
pub(super) fn liveness_json(silent: &[Silent]) -> Value {
    let beats: Vec<Value> = silent
        .iter()
        .map(|b| json!({ "name": b.name, "silent_for_seconds": b.silent_for.as_secs() }))
        .collect();
    json!({ "alive": silent.is_empty(), "silent": beats })
}

/// A name or reason must not forge a line of its own.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.push_str(&line.to_string());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        for (accept, json) in [
            ("application/json", true),
            ("text/html, Application/JSON;q=0.9", true),
            ("application/json;q=0", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/jsonp", false),
        ] {
            let accept = HeaderValue::from_static(accept);
            assert_eq!(asks_for_json(&accept), json, "{accept:?}");
        }
    }

    #[test]
    fn a_reason_cannot_forge_a_line() {
        let report = Report {
            ready: false,
            draining: false,
            conditions: vec![crate::readiness::ConditionReport {
                name: "a".into(),
                ready: false,
                reason: Some("x\n[+] b ready".into()),
                since: std::time::Duration::ZERO,
            }],
        };
        let text = conditions_text("ready", false, &report);
        assert_eq!(text, "[-] a pending: x [+] b ready\nnot ready\n");
    }
}
