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

/// One line a condition, `[+] name ready` or `[-] name pending: reason`, and the verdict. What is ready under threat: `[+] name ready until T; since S:
/// reason`.
pub(super) fn conditions_text(verdict: &str, ok: bool, report: &Report) -> String {
    let mut text = String::new();
    for condition in &report.conditions {
        let name = one_line(&condition.name);
        match &condition.reason {
            None => {
                let until = condition.until.filter(|_| condition.warning.is_some());
                let until = until.map_or_else(String::new, |t| format!(" until {}", rfc3339(t)));
                let warning = condition.warning.as_ref().map_or_else(String::new, |w| {
                    format!("; since {}: {}", rfc3339(w.since), one_line(&w.reason))
                });
                line(&mut text, format_args!("[+] {name} ready{until}{warning}"));
            }
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

/// `{"ready":false,"draining":false,"conditions":[{"name":…,"ready":…,"reason":…,"since":…,"until":…,"warning":{"reason":…,"since":…}}]}`; the first
/// key is `verdict`.
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
                "until": condition.until.map(rfc3339),
                "warning": condition.warning.as_ref().map(|w| json!({
                    "reason": w.reason,
                    "since": rfc3339(w.since),
                })),
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
                until: None,
                warning: None,
            }],
        };
        let text = conditions_text("ready", false, &report);
        assert_eq!(text, "[-] a pending: x [+] b ready\nnot ready\n");
    }

    #[test]
    fn a_warning_is_said_with_its_time_and_the_end_of_being_ready() {
        let seconds = std::time::Duration::from_secs;
        let report = Report {
            ready: true,
            draining: false,
            conditions: vec![crate::readiness::ConditionReport {
                name: "a".into(),
                ready: true,
                reason: None,
                since: seconds(0),
                until: Some(seconds(90)),
                warning: Some(crate::readiness::Warning {
                    reason: "renewal fails:\n[-] no".into(),
                    since: seconds(30),
                }),
            }],
        };
        assert_eq!(
            conditions_text("ready", true, &report),
            "[+] a ready until 1970-01-01T00:01:30.000Z; since 1970-01-01T00:00:30.000Z: renewal fails: [-] no\nready\n"
        );
        let json = conditions_json("ready", true, &report);
        let condition = &json["conditions"][0];
        assert_eq!(condition["until"], "1970-01-01T00:01:30.000Z");
        assert_eq!(condition["warning"]["since"], "1970-01-01T00:00:30.000Z");
        assert_eq!(condition["warning"]["reason"], "renewal fails:\n[-] no");
    }
}
