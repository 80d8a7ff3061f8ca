//! The templates of a tool's request: path, query, headers, body, and whether their placeholders are arguments.

use http::HeaderName;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{
    super::{
        request::{BodyTemplate, RequestTemplate, is_forbidden_header},
        template::{Template, encode, has_dot_segment, header_text},
    },
    fields::Node,
};

/// `/users/{user_id}`: literal segments are valid and mean what they say, whoever decodes them.
pub(super) fn path(node: &Node<'_>) -> Option<Vec<Template>> {
    let text = node.text()?;
    let Some(relative) = text.strip_prefix('/') else {
        node.fail("must start with `/`");
        return None;
    };
    if text.contains(['?', '#']) {
        node.fail("must not contain `?` or `#`; write parameters under `query`, a literal one as %3F or %23");
        return None;
    }
    let count = relative.split('/').count();
    let mut segments = Vec::new();
    for (position, segment) in relative.split('/').enumerate() {
        if segment.is_empty() && position + 1 < count {
            node.fail("must not contain `//`");
            return None;
        }
        let template = template(node, segment)?;
        if let Some(problem) = template.literals().find_map(literal_problem) {
            node.fail(format_args!("segment `{segment}` {problem}"));
            return None;
        }
        let decoded = percent_decode_str(segment).decode_utf8_lossy().into_owned();
        if has_dot_segment(&decoded) {
            node.fail(format_args!(
                "segment `{segment}` is a path step; write the path without `.` and `..`"
            ));
            return None;
        }
        segments.push(template);
    }
    Some(segments)
}

/// What is wrong with the literal text of a path's segment.
fn literal_problem(text: &str) -> Option<&'static str> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
            if !(hex(bytes.next()) && hex(bytes.next())) {
                return Some("has a `%` without two hexadecimal digits; a literal one is %25");
            }
        } else if !(byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)) {
            return Some("has a character that a path cannot hold; percent-encode it");
        }
    }
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    if decoded.contains(['/', '\\']) || decoded.chars().any(char::is_control) {
        return Some(
            "hides a separator or a control character behind percent-encoding; some servers would decode it",
        );
    }
    None
}

/// Names to values; numbers and booleans are texts too.
pub(super) fn query(node: &Node<'_>) -> Option<Vec<(String, Template)>> {
    let mut query = Vec::new();
    for (name, value) in node.members()? {
        if name.is_empty() {
            value.fail("a parameter needs a name");
            continue;
        }
        let text = match value.value {
            Value::Number(_) | Value::Bool(_) => value.value.to_string(),
            Value::String(text) => text.clone(),
            _ => {
                value.fail("must be a text, such as `{page}`, a number or a boolean");
                continue;
            }
        };
        query.extend(template(&value, &text).map(|template| (encode(name), template)));
    }
    Some(query)
}

/// Names to texts.
pub(super) fn headers(node: &Node<'_>) -> Option<Vec<(HeaderName, Template)>> {
    let mut headers = Vec::new();
    for (name, value) in node.members()? {
        let Ok(parsed) = name.parse::<HeaderName>() else {
            value.fail("is not a header field's name");
            continue;
        };
        if is_forbidden_header(&parsed) {
            value.fail(
                "may not be set by a tool: credentials are the sidecar's business, framing and routing the transport's",
            );
            continue;
        }
        let Some(text) = value.text() else { continue };
        let Some(template) = template(&value, &text) else {
            continue;
        };
        if template
            .literals()
            .any(|literal| header_text(&template, literal.trim()).is_err())
        {
            value.fail("must be printable ASCII");
            continue;
        }
        headers.push((parsed, template));
    }
    Some(headers)
}

/// Any JSON; strings are templates.
pub(super) fn body(node: &Node<'_>) -> Option<BodyTemplate> {
    match node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            Some(BodyTemplate::Literal(node.value.clone()))
        }
        Value::String(text) => template(node, text).map(BodyTemplate::Text),
        Value::Array(_) => {
            let elements = node.elements()?;
            let decoded: Vec<_> = elements.iter().map(body).collect();
            decoded
                .into_iter()
                .collect::<Option<_>>()
                .map(BodyTemplate::Array)
        }
        Value::Object(_) => {
            let members = node.members()?;
            let decoded: Vec<_> = members
                .iter()
                .map(|(name, member)| Some(((*name).to_owned(), body(member)?)))
                .collect();
            decoded
                .into_iter()
                .collect::<Option<_>>()
                .map(BodyTemplate::Object)
        }
    }
}

/// Each placeholder must be a property of the schema, and one in the path a required property.
pub(super) fn check_arguments(
    node: &Node<'_>,
    request: &RequestTemplate,
    schema: &Map<String, Value>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let mut unknown: Vec<&str> = request.arguments();
    unknown.retain(|name| !properties.is_some_and(|p| p.contains_key(*name)));
    unknown.sort_unstable();
    unknown.dedup();
    for name in &unknown {
        node.fail(format_args!(
            "placeholder `{{{name}}}` is not in inputSchema.properties; declare it there or correct its name"
        ));
    }
    for name in request.path.iter().flat_map(Template::arguments) {
        let is_required = required.is_some_and(|r| r.iter().any(|r| r.as_str() == Some(name)));
        if !is_required && !unknown.contains(&name) {
            node.fail(format_args!(
                "path: placeholder `{{{name}}}` is not in inputSchema.required; a path needs all of its arguments"
            ));
        }
    }
}

fn template(node: &Node<'_>, text: &str) -> Option<Template> {
    Template::parse(text).map_err(|error| node.fail(error)).ok()
}
