//! Reads a tools file: YAML to tools that are right, or everything that is wrong with it in one run.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use http::{HeaderName, Method};
use jsonschema::Validator;
use serde_json::{Map, Value};

use super::{Tool, request::RequestTemplate, template::Template};

mod fields;
mod parts;

use fields::{Errors, Node};

const DEFAULT_MAX_RESULT_BYTES: usize = 256 * 1024;
const LARGEST_RESULT: u64 = 16 * 1024 * 1024;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Everything that is wrong with a tools file, a line each: the tool, the field, the cause, the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolsError {
    errors: Vec<String>,
}

impl ToolsError {
    /// One text for each thing that is wrong.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }
}

impl fmt::Display for ToolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.errors.join("\n"))
    }
}

impl std::error::Error for ToolsError {}

/// Reads the file's text.
pub(super) fn decode(text: &str) -> Result<Vec<Tool>, ToolsError> {
    let file: Value = serde_saphyr::from_str(text).map_err(|error| ToolsError {
        errors: vec![format!("not valid YAML: {error}")],
    })?;
    let errors = Errors::default();
    let tools = tools(&Node::root(&file, &errors));
    match errors.into_vec() {
        errors if errors.is_empty() => Ok(tools),
        errors => Err(ToolsError { errors }),
    }
}

fn tools(file: &Node<'_>) -> Vec<Tool> {
    let Some(file) = file.object(&["tools"]) else {
        return Vec::new();
    };
    let Some(list) = file.required("tools").and_then(|list| list.elements()) else {
        return Vec::new();
    };
    if list.is_empty() {
        file.fail(
            "tools: declares no tool; add one or leave TOOLS_FILE unset for the built-in one",
        );
    }
    let mut names = BTreeSet::new();
    let mut tools = Vec::new();
    for node in &list {
        let decoded = tool(node);
        let name = node.value.get("name").and_then(Value::as_str);
        if let Some(name) = name
            && !names.insert(name)
        {
            node.fail(format_args!(
                "name: `{name}` is declared twice; names must differ"
            ));
        }
        tools.extend(decoded);
    }
    tools
}

fn tool(node: &Node<'_>) -> Option<Tool> {
    let fields = node.object(&[
        "name",
        "title",
        "description",
        "inputSchema",
        "request",
        "maxResultBytes",
        "timeout",
    ])?;
    let name = fields.required("name").and_then(|node| tool_name(&node));
    let description = fields.required("description").and_then(|node| node.text());
    let title = fields.optional("title").and_then(|node| node.text());
    let schema = fields
        .required("inputSchema")
        .and_then(|node| schema(&node));
    let request = fields.required("request");
    let request = request.and_then(|node| request_template(&node, schema.as_ref().map(|s| &*s.0)));
    let max_result_bytes = fields
        .optional("maxResultBytes")
        .map_or(Some(DEFAULT_MAX_RESULT_BYTES), |node| result_bytes(&node));
    let timeout = match fields.optional("timeout") {
        Some(node) => Some(timeout(&node)?),
        None => None,
    };
    let (input_schema, validator) = schema?;
    Some(Tool {
        name: name?,
        title,
        description: description?,
        input_schema,
        validator,
        request: request?,
        max_result_bytes: max_result_bytes?,
        timeout,
    })
}

/// MCP's rule for names since 2025-11-25.
fn tool_name(node: &Node<'_>) -> Option<String> {
    let name = node.text()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.len() <= 128 && name.bytes().all(allowed) {
        return Some(name);
    }
    node.fail("use 1 to 128 letters, digits, `_`, `-` and `.`");
    None
}

fn result_bytes(node: &Node<'_>) -> Option<usize> {
    match node.value.as_u64() {
        Some(bytes @ 1..=LARGEST_RESULT) => usize::try_from(bytes).ok(),
        _ => {
            node.fail(format_args!(
                "must be a whole number from 1 to {LARGEST_RESULT}"
            ));
            None
        }
    }
}

fn timeout(node: &Node<'_>) -> Option<Duration> {
    let parsed = node.value.as_str().and_then(duration);
    if let Some(timeout) = parsed
        && !timeout.is_zero()
        && timeout <= LONGEST_TIMEOUT
    {
        return Some(timeout);
    }
    node.fail("must be a duration with its unit, such as 500ms, 10s or 2m, of at most 10m");
    None
}

/// `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// A JSON Schema for an object; MCP demands `type: object`.
fn schema(node: &Node<'_>) -> Option<(Arc<Map<String, Value>>, Validator)> {
    let Value::Object(schema) = node.value else {
        node.fail("must be a JSON Schema, an object with `type: object`");
        return None;
    };
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        node.fail("`type` must be `object`: arguments have names");
    }
    match jsonschema::validator_for(node.value) {
        Ok(validator) => Some((Arc::new(schema.clone()), validator)),
        Err(error) => {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() {
                String::new()
            } else {
                format!("{place}: ")
            };
            node.fail(format_args!("is not a JSON Schema: {place}{error}"));
            None
        }
    }
}

fn request_template(
    node: &Node<'_>,
    schema: Option<&Map<String, Value>>,
) -> Option<RequestTemplate> {
    let fields = node.object(&["method", "path", "query", "headers", "body"])?;
    let method = fields.required("method").and_then(|node| method(&node));
    let path = fields.required("path").and_then(|node| parts::path(&node));
    let query = fields
        .optional("query")
        .map_or(Some(Vec::new()), |node| parts::query(&node));
    let headers: Option<Vec<(HeaderName, Template)>> = fields
        .optional("headers")
        .map_or(Some(Vec::new()), |node| parts::headers(&node));
    let body = fields.optional("body");
    if let (Some(method), Some(body)) = (&method, &body)
        && method == Method::GET
    {
        body.fail("a GET request carries no body; put the arguments into `query`");
    }
    let body = match body {
        Some(node) => Some(parts::body(&node)?),
        None => None,
    };
    let request = RequestTemplate {
        method: method?,
        path: path?,
        query: query?,
        headers: headers?,
        body,
    };
    if let Some(schema) = schema {
        parts::check_arguments(node, &request, schema);
    }
    Some(request)
}

fn method(node: &Node<'_>) -> Option<Method> {
    match node.value.as_str() {
        Some("GET") => Some(Method::GET),
        Some("POST") => Some(Method::POST),
        Some("PUT") => Some(Method::PUT),
        Some("PATCH") => Some(Method::PATCH),
        Some("DELETE") => Some(Method::DELETE),
        _ => {
            node.fail("must be GET, POST, PUT, PATCH or DELETE");
            None
        }
    }
}

#[cfg(test)]
mod tests;
