//! What scalars mean to Kubernetes: plain ones, and those with a tag.

use serde_json::{Number, Value};

/// A scalar of one of YAML's own kinds (`!!int` is `int` here). `None`: it is none.
pub(super) fn tagged(kind: &str, text: &str) -> Option<Value> {
    let value = resolve(text);
    let right = match kind {
        "str" => return Some(text.into()),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    right.then_some(value)
}

/// What a plain scalar means to Kubernetes.
pub(in super::super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let radix = |digits: &str, radix| {
        let n = i64::from_str_radix(digits, radix).ok()?;
        Some(if text.starts_with('-') { -n } else { n }.into())
    };
    for (prefix, base) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return radix(digits, base);
        }
    }
    if unsigned.len() > 1
        && unsigned.starts_with('0')
        && unsigned.bytes().all(|b| (b'0'..=b'7').contains(&b))
    {
        return radix(unsigned, 8);
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = plain.parse::<i64>() {
        return Some(n.into());
    }
    if let Ok(n) = plain.parse::<u64>() {
        return Some(n.into());
    }
    // Not `inf`, not a version such as 1.2.3, not an address.
    let float = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    float
        .then(|| plain.parse::<f64>().ok().and_then(Number::from_f64))
        .flatten()
}
