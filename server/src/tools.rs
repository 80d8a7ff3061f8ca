//! Declared tools: what a tools file gives, the arguments' validation, and the catalogue that both MCP eras list.

use std::{sync::Arc, time::Duration};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

pub(crate) mod call;
mod decode;
mod outcome;
pub(crate) mod request;
mod template;

pub use decode::ToolsError;
pub(crate) use outcome::{Outcome, ToolResult};
use request::RequestTemplate;

const BUILT_IN: &str = include_str!("tools/default.yaml");

/// A declared tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) description: String,
    pub(crate) input_schema: Arc<Map<String, Value>>,
    validator: Validator,
    request: RequestTemplate,
    /// The largest answer of the backend that is handed on, in bytes.
    max_result_bytes: usize,
    /// For the whole call; `None`: the server's own.
    timeout: Option<Duration>,
}

impl Tool {
    /// Whether the tool only reads, as far as its method says.
    pub(crate) fn is_read_only(&self) -> bool {
        self.request.method == http::Method::GET
    }

    /// What is wrong with the arguments, each with its place; empty when nothing is.
    fn problems(&self, arguments: &Value) -> Vec<String> {
        const MOST: usize = 8;
        self.validator
            .iter_errors(arguments)
            .take(MOST)
            .map(|error| {
                let place = error.instance_path().to_string();
                if place.is_empty() {
                    error.to_string()
                } else {
                    format!("{place}: {error}")
                }
            })
            .collect()
    }

    /// The tool as `tools/list` shows it.
    pub(crate) fn listed(&self) -> Value {
        let mut tool = json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": *self.input_schema,
            "annotations": { "readOnlyHint": self.is_read_only() },
        });
        if let Some(title) = &self.title {
            tool["title"] = title.as_str().into();
        }
        tool
    }
}

/// All tools, sorted by name.
#[derive(Debug)]
pub struct Catalog {
    tools: Vec<Tool>,
}

impl Catalog {
    /// The tools that are offered without a tools file.
    ///
    /// # Errors
    /// None in practice: a test holds that the built-in file is right.
    pub fn built_in() -> Result<Self, ToolsError> {
        Self::from_yaml(BUILT_IN)
    }

    /// The tools of a tools file (YAML, of which JSON is a subset).
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its tool and field.
    pub fn from_yaml(text: &str) -> Result<Self, ToolsError> {
        let mut tools = decode::decode(text)?;
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { tools })
    }

    /// The tools, sorted by name.
    pub(crate) fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The tool of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Tool> {
        let at = self
            .tools
            .binary_search_by(|tool| tool.name.as_str().cmp(name))
            .ok()?;
        self.tools.get(at)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|tool| tool.name.as_str())
    }

    /// The tools as `tools/list` shows them.
    pub(crate) fn listed(&self) -> Value {
        self.tools.iter().map(Tool::listed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_tool_is_offered() {
        let catalog = Catalog::built_in().unwrap();
        assert_eq!(catalog.names().collect::<Vec<_>>(), ["get_user_profile"]);
        let tool = catalog.find("get_user_profile").unwrap();
        assert!(tool.is_read_only());
        let arguments = json!({ "user_id": "123" });
        let Value::Object(arguments) = arguments else {
            panic!()
        };
        assert_eq!(
            tool.request.render(&arguments).unwrap().target,
            "/users/123"
        );
        assert!(catalog.find("other").is_none());
    }

    #[test]
    fn arguments_are_validated_with_places() {
        let catalog = Catalog::built_in().unwrap();
        let tool = catalog.find("get_user_profile").unwrap();
        assert_eq!(
            tool.problems(&json!({ "user_id": "1" })),
            Vec::<String>::new()
        );
        let problems = tool.problems(&json!({ "user_id": 5, "x": 1 }));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems.iter().any(|p| p.contains("'x' was unexpected")),
            "{problems:?}"
        );
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("/user_id: 5 is not of type")),
            "{problems:?}"
        );
        let problems = tool.problems(&json!({}));
        assert_eq!(problems, ["\"user_id\" is a required property"]);
    }
}
