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

/// A positive quantity as Kubernetes writes it.
///
/// # Errors
/// What is wrong and what to write.
pub fn quantity(text: &str) -> Result<String, String> {
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
                json!({"limits": {"cpu": "0"}}),
                "limits.cpu: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)",
            ),
        ] {
            assert_eq!(read(&value).unwrap_err(), problem);
        }
    }
}
