//! A tool call from its arguments to its result: validate, render, send, read.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Catalog, Outcome, Tool, ToolResult};
use crate::{
    backend::{Backend, BackendError},
    caller::Caller,
    metrics::{Metrics, UNKNOWN_TOOL},
    trace::TraceContext,
};
use http::HeaderName;

/// Everything that a call needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Toolbox {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) backend: Backend,
    pub(crate) metrics: Metrics,
    /// For tools that declare none of their own.
    pub(crate) timeout: Duration,
    /// Where callers' handles are, if calls are made on their behalf.
    pub(crate) caller_header: Option<HeaderName>,
}

/// No tool has that name; the text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown tool; this server offers {0}")]
pub(crate) struct UnknownTool(String);

impl Toolbox {
    /// Calls a tool. Whatever goes wrong from here on is a result that says so, not an error of the protocol.
    ///
    /// # Errors
    /// There is no such tool.
    pub(crate) async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        trace: &TraceContext,
        caller: &Caller,
    ) -> Result<ToolResult, UnknownTool> {
        let began = Instant::now();
        let Some(tool) = self.catalog.find(name) else {
            self.metrics
                .tool_call(UNKNOWN_TOOL, UNKNOWN_TOOL, began.elapsed());
            let names: Vec<&str> = self.catalog.names().collect();
            return Err(UnknownTool(names.join(", ")));
        };
        let result = self.run(tool, arguments, trace, caller).await;
        self.metrics
            .tool_call(&tool.name, result.outcome.label(), began.elapsed());
        tracing::info!(
            tool = tool.name,
            result = result.outcome.label(),
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            trace_id = trace.trace_id(),
            "tool called"
        );
        Ok(result)
    }

    async fn run(
        &self,
        tool: &Tool,
        arguments: Map<String, Value>,
        trace: &TraceContext,
        caller: &Caller,
    ) -> ToolResult {
        let arguments = Value::Object(arguments);
        let problems = tool.problems(&arguments);
        if !problems.is_empty() {
            return invalid(tool, &problems.join("; "));
        }
        let rendered = match &arguments {
            Value::Object(arguments) => tool.request.render(arguments),
            _ => return invalid(tool, "arguments must be an object"),
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(error) => return invalid(tool, &error.to_string()),
        };
        let timeout = tool.timeout.unwrap_or(self.timeout);
        let answer = self
            .backend
            .send(rendered, trace, caller, timeout, tool.max_result_bytes);
        match answer.await {
            Ok(answer) => {
                caller.note(&answer.headers);
                ToolResult::of_answer(answer.status, &answer.headers, &answer.body)
            }
            Err(error) => failed(&error),
        }
    }
}

fn invalid(tool: &Tool, problems: &str) -> ToolResult {
    ToolResult::error(
        Outcome::InvalidArguments,
        format!(
            "The arguments do not fit the tool `{}`: {problems}. Correct them and call it again.",
            tool.name
        ),
    )
}

fn failed(error: &BackendError) -> ToolResult {
    let (outcome, advice) = match error {
        BackendError::Unreachable => (
            Outcome::Unreachable,
            "Try again in a little while; if it stays so, tell the operator that the sidecar does not answer.",
        ),
        BackendError::Broken => (Outcome::Unreachable, "Try again in a little while."),
        BackendError::Timeout(_) => (
            Outcome::Timeout,
            "The call may or may not have taken effect; try again later, or ask for less.",
        ),
        BackendError::TooLarge(_) => (
            Outcome::TooLarge,
            "Nothing of it is returned; ask for less, such as fewer fields or a smaller page.",
        ),
    };
    let mut text = error.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    ToolResult::error(outcome, format!("{text}. {advice}"))
}
