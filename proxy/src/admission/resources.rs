//! `resources` of a container: the part of Kubernetes' notation that a sidecar needs, checked.

use serde_json::{Map, Value};
use sidecar_runtime::suggest;

const KINDS: [&str; 2] = ["requests", "limits"];
const NAMES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// `requests` and `limits` of `cpu`, `memory` and `ephemeral-storage`.
///
/// # Errors
/// What is wrong and what to write.
pub(super) fn read(value: &Value) -> Result<Map<String, Value>, String> {
    let Value::Object(kinds) = value else {
        return Err(
            "not a map; write `{requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 64Mi}}`"
                .into(),
        );
    };
    let mut out = Map::new();
    for (kind, amounts) in kinds {
        if !KINDS.contains(&kind.as_str()) {
            return Err(format!(
                "unknown key {}{}",
                kind.escape_debug(),
                suggest::hint(kind, KINDS.into_iter())
            ));
        }
        let Value::Object(amounts) = amounts else {
            return Err(format!(
                "{kind} is not a map; write `{kind}: {{memory: 64Mi}}`"
            ));
        };
        let mut read = Map::new();
        for (name, amount) in amounts {
            if !NAMES.contains(&name.as_str()) {
                return Err(format!(
                    "unknown resource {}{}",
                    name.escape_debug(),
                    suggest::hint(name, NAMES.into_iter())
                ));
            }
            let text = match amount {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            let quantity = match name.as_str() {
                "cpu" => cpu,
                "memory" => memory,
                _ => quantity,
            };
            read.insert(
                name.clone(),
                quantity(&text)
                    .map_err(|e| format!("{kind}.{name}: {e}"))?
                    .into(),
            );
        }
        out.insert(kind.clone(), read.into());
    }
    Ok(out)
}

/// CPUs, as Kubernetes writes them.
///
/// # Errors
/// What is wrong and what to write.
pub fn cpu(text: &str) -> Result<String, String> {
    let text = quantity(text)?;
    // `100Mi` would be a hundred million of them.
    if text.ends_with(|c: char| c.is_ascii_alphabetic() && c != 'm') {
        return Err("not an amount of CPUs; write one such as 20m or 1".into());
    }
    Ok(text)
}

/// Memory, as Kubernetes writes it.
///
/// # Errors
/// What is wrong and what to write; so is what nothing can run with, since a unit that was left out or mistaken is meant then.
pub fn memory(text: &str) -> Result<String, String> {
    let text = quantity(text)?;
    if amount(&text).is_none_or(|bytes| bytes >= 1024_f64.powi(2)) {
        return Ok(text);
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Err(match text.strip_prefix(number) {
        Some("") => format!("{text} bytes, with which nothing runs; write {number}Mi"),
        Some("m") => {
            format!("{text} is thousandths of a byte, with which nothing runs; write {number}Mi")
        }
        _ => "less than 1Mi, with which nothing runs; write one such as 64Mi".into(),
    })
}

/// A positive quantity.
fn quantity(text: &str) -> Result<String, String> {
    const UNITS: [&str; 12] = [
        "", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "P", "Pi",
    ];
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let positive = number.parse::<f64>().is_ok_and(|n| n > 0.0) && number.len() <= 18;
    if positive && UNITS.contains(&unit) {
        Ok(text.to_owned())
    } else {
        Err("not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)".into())
    }
}

/// `over` laid over `base`.
pub(super) fn merged(base: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut out = base.clone();
    for (kind, amounts) in over {
        match (out.get_mut(kind), amounts) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
            _ => {
                out.insert(kind.clone(), amounts.clone());
            }
        }
    }
    out
}

/// A quantity as a number, for comparison.
fn amount(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024_f64,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        _ => 1.0,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

/// Sees that no request is above its limit, which the API server refuses: one that nobody `said` is lowered.
///
/// # Errors
/// One that was said: its resource, and what to write.
pub fn fit(
    resources: &mut Map<String, Value>,
    said: impl Fn(&str) -> bool,
) -> Result<(), (&'static str, String)> {
    for name in NAMES {
        let of = |kind: &str| {
            let text = resources.get(kind)?.get(name)?.as_str()?.to_owned();
            Some((amount(&text)?, text))
        };
        let (Some((request, asked)), Some((limit, most))) = (of("requests"), of("limits")) else {
            continue;
        };
        // `1000m` and `1` are one.
        if request <= limit * (1.0 + 1e-9) {
            continue;
        }
        if said(name) {
            return Err((
                name,
                format!(
                    "{asked} is above the limit {most}, and Kubernetes refuses such a pod; lower it, or raise `limits.{name}`"
                ),
            ));
        }
        resources["requests"][name] = most.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_checked_and_merged() {
        let over = read(&json!({"requests": {"cpu": 1}, "limits": {"memory": "64Mi"}})).unwrap();
        let base = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
        assert_eq!(
            Value::Object(merged(base.as_object().unwrap(), &over)),
            json!({"requests": {"cpu": "1", "memory": "32Mi"}, "limits": {"memory": "64Mi"}})
        );
        for (value, problem) in [
            (
                json!([]),
                "not a map; write `{requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 64Mi}}`",
            ),
            (
                json!({"limit": {}}),
                "unknown key limit; did you mean `limits`?",
            ),
            (
                json!({"limits": 1}),
                "limits is not a map; write `limits: {memory: 64Mi}`",
            ),
            (
                json!({"limits": {"mem": "1"}}),
                "unknown resource mem; known here: cpu, memory, ephemeral-storage",
            ),
            (
                json!({"limits": {"memory": "64MB"}}),
                "limits.memory: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)",
            ),
            (
                json!({"limits": {"memory": 64}}),
                "limits.memory: 64 bytes, with which nothing runs; write 64Mi",
            ),
            (
                json!({"requests": {"memory": "128m"}}),
                "requests.memory: 128m is thousandths of a byte, with which nothing runs; write 128Mi",
            ),
            (
                json!({"limits": {"memory": "64k"}}),
                "limits.memory: less than 1Mi, with which nothing runs; write one such as 64Mi",
            ),
            (
                json!({"limits": {"cpu": "100Mi"}}),
                "limits.cpu: not an amount of CPUs; write one such as 20m or 1",
            ),
            (
                json!({"limits": {"cpu": "0"}}),
                "limits.cpu: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)",
            ),
            (
                json!({"limits": {"cpu": "1000000000000000000"}}),
                "limits.cpu: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)",
            ),
        ] {
            assert_eq!(read(&value).unwrap_err(), problem);
        }
    }

    #[test]
    fn no_request_is_above_its_limit() {
        for (request, limit, fits) in [
            ("32Mi", "16Mi", false),
            ("32Mi", "32Mi", true),
            ("32Mi", "32M", false),
            ("32M", "32Mi", true),
            ("1Gi", "1023Mi", false),
            ("1Ti", "1T", false),
            ("1Pi", "1P", false),
            ("1025", "1Ki", false),
            ("1k", "1000", true),
            ("1G", "999M", false),
            ("1000m", "1", true),
            ("0.003", "3m", true),
            ("3m", "0.003", true),
            ("1001m", "1", false),
            // In binary fractions the first is more.
            ("700m", "0.7", true),
            ("1k", "999", false),
            ("1Ki", "1023", false),
            ("1M", "999k", false),
            ("1T", "999G", false),
            ("1P", "999T", false),
        ] {
            let given = json!({"requests": {"memory": request}, "limits": {"memory": limit}});
            let mut resources = given.as_object().unwrap().clone();
            let told = fit(&mut resources, |name| name == "memory");
            assert_eq!(Value::Object(resources.clone()), given);
            let problem = format!(
                "{request} is above the limit {limit}, and Kubernetes refuses such a pod; lower it, or raise `limits.memory`"
            );
            let expected = if fits {
                Ok(())
            } else {
                Err(("memory", problem))
            };
            assert_eq!(told, expected);
            // Said by nobody.
            assert_eq!(fit(&mut resources, |name| name == "cpu"), Ok(()));
            let lowered = if fits { request } else { limit };
            assert_eq!(resources["requests"]["memory"], lowered);
        }
        for name in NAMES {
            let given = json!({"requests": {name: "2"}, "limits": {name: "1"}});
            let mut resources = given.as_object().unwrap().clone();
            assert_eq!(fit(&mut resources, |_| false), Ok(()));
            assert_eq!(resources["requests"][name], "1");
        }
        let mut none = Map::new();
        assert_eq!(fit(&mut none, |_| true), Ok(()));
    }
}
