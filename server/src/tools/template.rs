//! Templates with `{argument}` placeholders, and the escaping that arguments cannot break out of. Pure.
//!
//! `{{` and `}}` stand for braces. What an argument may be depends on where its placeholder stands.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

/// Everything but RFC 3986's unreserved characters is percent-encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Argument(String),
}

/// Why a template is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("`{{` without its `}}`; write `{{{{` for a brace")]
    Unclosed,
    #[error("`}}` without its `{{`; write `}}}}` for a brace")]
    Unopened,
    #[error(
        "`{{{0}}}` does not name an argument; use letters, digits, `_` and `-`, such as `{{user_id}}`"
    )]
    Name(String),
}

/// Why an argument cannot stand where its placeholder is. The text is for the model that gave the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArgumentError {
    pub(crate) argument: String,
    pub(crate) problem: Problem,
}

/// What is wrong with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    Empty,
    NotScalar,
    DotSegment,
    Control,
    NotHeaderText,
    TooLong,
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = &self.argument;
        write!(f, "argument `{argument}` ")?;
        f.write_str(match self.problem {
            Problem::Missing => "is missing; give it a value",
            Problem::Empty => "is empty; it is part of the path and needs a value",
            Problem::NotScalar => "must be a string, a number or a boolean",
            Problem::DotSegment => "must not be or contain a path step such as `.` or `..`",
            Problem::Control => "must not contain control characters",
            Problem::NotHeaderText => {
                "must be printable ASCII text without surrounding blanks or line breaks"
            }
            Problem::TooLong => "makes the request's address too long; shorten it",
        })
    }
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(after) = from.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
                if !is_argument_name(name) {
                    return Err(TemplateError::Name(name.to_owned()));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Argument(name.to_owned()));
                rest = after;
            } else {
                return Err(TemplateError::Unopened);
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The names of the placeholders, in order; one may come twice.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Argument(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The texts between the placeholders.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Argument(_) => None,
        })
    }

    /// The placeholder's name if the template is nothing but one placeholder.
    pub(crate) fn sole_argument(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Argument(name)] => Some(name),
            _ => None,
        }
    }

    /// The text with the arguments put in as they are; `None` when one of them was not given.
    pub(crate) fn plain(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Option<String>, ArgumentError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Argument(name) => match given(arguments, name) {
                    Some(value) => text.push_str(&scalar(name, value)?),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(text))
    }

    /// One segment of a path: the literals as they are, the arguments encoded.
    ///
    /// Whatever the arguments are, the result is one non-empty segment that is no `.` or `..`, also for a server that
    /// decodes it before it looks for segments.
    pub(crate) fn segment(&self, arguments: &Map<String, Value>) -> Result<String, ArgumentError> {
        let (mut encoded, mut decoded) = (String::new(), String::new());
        let mut last = None;
        for part in &self.parts {
            match part {
                Part::Text(literal) => {
                    encoded.push_str(literal);
                    decoded.push_str(&percent_decode_str(literal).decode_utf8_lossy());
                }
                Part::Argument(name) => {
                    let fail = |problem| argument_error(name, problem);
                    let value = given(arguments, name).ok_or_else(|| fail(Problem::Missing))?;
                    let text = scalar(name, value)?;
                    if text.is_empty() {
                        return Err(fail(Problem::Empty));
                    }
                    if text.chars().any(char::is_control) {
                        return Err(fail(Problem::Control));
                    }
                    encoded.push_str(&encode(&text));
                    decoded.push_str(&text);
                    last = Some(name);
                }
            }
        }
        match last {
            Some(name) if has_dot_segment(&decoded) => {
                Err(argument_error(name, Problem::DotSegment))
            }
            _ => Ok(encoded),
        }
    }
}

/// A header's value: printable ASCII without blanks at its ends, so that no argument adds a line or a field.
pub(crate) fn header_text(template: &Template, text: &str) -> Result<(), ArgumentError> {
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && text.trim() == text {
        return Ok(());
    }
    let name = template.arguments().next().unwrap_or_default();
    Err(argument_error(name, Problem::NotHeaderText))
}

/// Percent-encodes all but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A value given by the caller; `null` counts as not given.
pub(crate) fn given<'a>(arguments: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    arguments.get(name).filter(|value| !value.is_null())
}

/// A string, number or boolean as text.
pub(crate) fn scalar(name: &str, value: &Value) -> Result<String, ArgumentError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(argument_error(name, Problem::NotScalar))
        }
    }
}

pub(crate) fn argument_error(name: &str, problem: Problem) -> ArgumentError {
    ArgumentError {
        argument: name.to_owned(),
        problem,
    }
}

/// Whether `decoded` holds a `.` or `..` step for a reader that takes `/` or `\` as separators.
pub(crate) fn has_dot_segment(decoded: &str) -> bool {
    decoded
        .split(['/', '\\'])
        .any(|step| step == "." || step == "..")
}

fn is_argument_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn args(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else {
            panic!("not an object")
        };
        map
    }

    fn segment(template: &str, value: &str) -> Result<String, Problem> {
        Template::parse(template)
            .unwrap()
            .segment(&args(json!({ "a": value })))
            .map_err(|error| error.problem)
    }

    #[test]
    fn templates_parse() {
        let template = Template::parse("x{{{user_id}}}-{b}").unwrap();
        assert_eq!(template.arguments().collect::<Vec<_>>(), ["user_id", "b"]);
        assert_eq!(template.literals().collect::<Vec<_>>(), ["x{", "}-"]);
        assert_eq!(Template::parse("{a}").unwrap().sole_argument(), Some("a"));
        assert_eq!(Template::parse("{a} ").unwrap().sole_argument(), None);
        assert_eq!(Template::parse("{a"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("a}"), Err(TemplateError::Unopened));
        assert_eq!(
            Template::parse("{}"),
            Err(TemplateError::Name(String::new()))
        );
        assert_eq!(
            Template::parse("{a b}"),
            Err(TemplateError::Name("a b".into()))
        );
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("{a}", "123").unwrap(), "123");
        assert_eq!(
            segment("{a}", "a/b?c#d e%2e").unwrap(),
            "a%2Fb%3Fc%23d%20e%252e"
        );
        assert_eq!(segment("u-{a}.json", "ü").unwrap(), "u-%C3%BC.json");
        assert_eq!(segment("{a}", "...").unwrap(), "...");
    }

    #[test]
    fn segments_cannot_be_left() {
        for bad in [".", "..", "../x", "x/..", "a/../b", "..\\x", "x\\.."] {
            assert_eq!(segment("{a}", bad), Err(Problem::DotSegment), "{bad}");
        }
        assert_eq!(segment(".{a}", "."), Err(Problem::DotSegment));
        assert_eq!(segment("%2E{a}", "."), Err(Problem::DotSegment));
        assert_eq!(segment("{a}", ""), Err(Problem::Empty));
        assert_eq!(segment("x{a}", ""), Err(Problem::Empty));
        assert_eq!(segment("{a}", "a\r\nb"), Err(Problem::Control));
        assert_eq!(segment("{a}", "a\0b"), Err(Problem::Control));
        let template = Template::parse("{a}").unwrap();
        for (value, problem) in [
            (json!({}), Problem::Missing),
            (json!({ "a": null }), Problem::Missing),
            (json!({ "a": [1] }), Problem::NotScalar),
            (json!({ "a": {} }), Problem::NotScalar),
        ] {
            assert_eq!(template.segment(&args(value)).unwrap_err().problem, problem);
        }
    }

    #[test]
    fn errors_tell_what_to_do() {
        let error = argument_error("user_id", Problem::Empty).to_string();
        assert_eq!(
            error,
            "argument `user_id` is empty; it is part of the path and needs a value"
        );
    }

    proptest! {
        #[test]
        fn no_value_changes_the_segments(value in any::<String>(), before in "[a-z.]{0,2}", after in "[a-z.]{0,2}") {
            let Ok(encoded) = segment(&format!("{before}{{a}}{after}"), &value) else { return Ok(()) };
            let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            prop_assert!(encoded.bytes().all(unreserved), "{encoded}");
            prop_assert!(!encoded.is_empty() && encoded != "." && encoded != "..");
            let decoded = percent_decode_str(&encoded).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(&decoded, &format!("{before}{value}{after}"));
            prop_assert!(!has_dot_segment(&decoded));
        }

        #[test]
        fn parsing_never_panics_and_braces_round_trip(text in any::<String>()) {
            drop(Template::parse(&text));
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let plain = Template::parse(&doubled).unwrap().plain(&Map::new()).unwrap();
            prop_assert_eq!(plain.unwrap(), text);
        }
    }
}
