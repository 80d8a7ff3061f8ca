//! JSON values -> YAML text, in block style, as people write manifests.

use super::super::yaml;
use serde_json::{Map, Value};

/// Keys that come first, as in manifests that people write; the others follow by the alphabet.
const FIRST: [&str; 5] = ["apiVersion", "kind", "metadata", "name", "image"];

/// A whole document anew: its `---`, when `old` has one, and `value`.
pub(super) fn document(old: &str, value: &Value) -> String {
    if old.trim_start().starts_with('{') {
        return format!("{value:#}\n");
    }
    let mut out = String::new();
    if old.lines().any(|l| l.starts_with("---")) {
        out.push_str("---\n");
    }
    match value {
        Value::Object(map) if !map.is_empty() => entries(&mut out, map, 0, 2),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

/// `key: value` lines at a column. `step`: how far a list's dashes stand in from its key (0 or 2).
pub(super) fn entry(out: &mut String, key: &str, value: &Value, column: usize, step: usize) {
    pad(out, column);
    out.push_str(&string(key));
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            entries(out, map, column + 2, step);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for value in items {
                item(out, value, column + step, step);
            }
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

/// A list's item, its dash at a column.
pub(super) fn item(out: &mut String, value: &Value, column: usize, step: usize) {
    pad(out, column);
    out.push_str("- ");
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut block = String::new();
            entries(&mut block, map, column + 2, step);
            // Its first key stands behind the dash.
            out.push_str(block.trim_start_matches(' '));
        }
        // Rare (no list of lists is in a pod): in flow style.
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn entries(out: &mut String, map: &Map<String, Value>, column: usize, step: usize) {
    let first = FIRST.iter().filter_map(|k| map.get_key_value(*k));
    let rest = map.iter().filter(|(k, _)| !FIRST.contains(&k.as_str()));
    for (key, value) in first.chain(rest) {
        entry(out, key, value, column, step);
    }
}

/// A value on one line.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        // JSON is YAML in flow style.
        other => other.to_string(),
    }
}

/// Text, quoted when it would mean something else without.
fn string(text: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(
                c,
                '-' | '_' | '.' | '/' | ':' | '@' | '=' | '+' | ';' | '(' | ')' | '$'
            )
    };
    let starts = text
        .starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '$'))
        || text.starts_with("--") && text != "---" && text.len() > 2;
    let same = matches!(yaml::resolve(text), Value::String(_)) && !looks_like_a_time(text);
    if starts
        && same
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !text.contains("--- ")
        && !text.starts_with("...")
    {
        return text.to_owned();
    }
    if text
        .chars()
        .any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}')
    {
        return Value::from(text).to_string();
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// YAML 1.1 has dates, and numbers to the base of 60: `1:30` is 90.
fn looks_like_a_time(text: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '_' | '+' | 'T' | 'Z');
    let whole = text.split('.').next().unwrap_or_default();
    let mixed = whole.contains(':') || whole.contains('-') || whole.contains('_');
    text.starts_with(|c: char| c.is_ascii_digit()) && mixed && whole.chars().all(digits)
}

fn pad(out: &mut String, column: usize) {
    out.extend(std::iter::repeat_n(' ', column));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn as_people_write_it() {
        let value = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"b": [], "a": [{"x": [1], "name": "web"}, "-c", "yes", "--workers"], "e": {}, "m": "a\nb", "q": "it's: #1"}});
        assert_eq!(
            document("---\n", &value),
            "---\napiVersion: v1\nkind: Pod\nspec:\n  a:\n    - name: web\n      x:\n        - 1\n    - '-c'\n    - 'yes'\n    - --workers\n  b: []\n  e: {}\n  m: \"a\\nb\"\n  q: 'it''s: #1'\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "\\PC{0,24}|[-:#'\"\\[\\]{}0-9a-z. \n\t]{0,12}|(yes|no|null|~|0x1|1:30|2026-01-01|1e3|\\.5|---|--|\\.\\.\\.)", step in prop_oneof![Just(0_usize), Just(2)]) {
            let value = json!({text.clone(): [text, {"name": text, "list": [{text.clone(): [1.5, null, true, "1"]}]}], "z": {"k": text}});
            let mut out = String::new();
            entries(&mut out, value.as_object().unwrap(), 0, step);
            prop_assert_eq!(yaml::value(&out).map_err(|e| format!("{e:?}\n{out}")).unwrap(), value);
        }
    }
}
