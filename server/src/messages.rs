//! `POST /messages`: the same tools over plain, stateless JSON-RPC, answered directly; for clients of the older guide.
//!
//! It is not an MCP transport: it asks for no `Accept` and no `Mcp-*` header, and points to `/mcp`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::LINK};
use serde_json::{Value, json};

use crate::{
    caller::Caller,
    jsonrpc::{self, INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError},
    respond::{self, Body},
    tools::call::Toolbox,
    trace::TraceContext,
};

/// RFC 9745; the date is the one of the MCP revision that `/mcp` speaks (2026-07-28).
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const DEPRECATED_SINCE: HeaderValue = HeaderValue::from_static("@1785196800");
const SUCCESSOR: HeaderValue = HeaderValue::from_static("</mcp>; rel=\"successor-version\"");

/// Revisions with an `initialize`, the newest first.
const LEGACY_REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Answers a message.
pub(crate) async fn respond(
    toolbox: &Toolbox,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    let caller = Caller::of(toolbox.caller_header.as_ref(), headers);
    let answer = match jsonrpc::parse(body) {
        Ok(message) => dispatch(toolbox, headers, &message, &caller).await,
        Err(error) => Err(error),
    };
    let mut response = match answer {
        Ok(Some(answer)) => respond::json(StatusCode::OK, &answer),
        Ok(None) => respond::empty(StatusCode::ACCEPTED),
        Err(error) => {
            let status = match error.code {
                jsonrpc::PARSE_ERROR | jsonrpc::INVALID_REQUEST => StatusCode::BAD_REQUEST,
                _ => StatusCode::OK,
            };
            respond::json(status, &error.to_json())
        }
    };
    mark(&mut response);
    caller.mark(response.headers_mut());
    response
}

/// Says on an answer that this endpoint has a successor.
pub(crate) fn mark(response: &mut Response<Body>) {
    response.headers_mut().insert(DEPRECATION, DEPRECATED_SINCE);
    response.headers_mut().insert(LINK, SUCCESSOR);
}

async fn dispatch(
    toolbox: &Toolbox,
    headers: &HeaderMap,
    message: &Message,
    caller: &Caller,
) -> Result<Option<Value>, RpcError> {
    let Some(id) = &message.id else {
        return Ok(None);
    };
    let result = match message.method.as_str() {
        "initialize" => initialize(message),
        "ping" => json!({}),
        "tools/list" => json!({ "tools": toolbox.catalog.listed() }),
        "tools/call" => {
            let call = message.tool_call()?;
            let trace = TraceContext::of(message.meta(), Some(headers));
            let result = toolbox
                .call(&call.name, call.arguments, &trace, caller)
                .await;
            result
                .map_err(|error| RpcError::new(id.clone(), INVALID_PARAMS, error.to_string()))?
                .to_json()
        }
        _ => {
            let known = "initialize, ping, tools/list and tools/call";
            let message = format!("no such method here; there are {known}");
            return Err(RpcError::new(id.clone(), METHOD_NOT_FOUND, message));
        }
    };
    Ok(Some(jsonrpc::success(id, result)))
}

fn initialize(message: &Message) -> Value {
    let asked = message
        .params
        .get("protocolVersion")
        .and_then(Value::as_str);
    let [newest, ..] = LEGACY_REVISIONS;
    let version = LEGACY_REVISIONS
        .into_iter()
        .find(|known| Some(*known) == asked)
        .unwrap_or(newest);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "mcp-server", "version": env!("CARGO_PKG_VERSION") },
    })
}
