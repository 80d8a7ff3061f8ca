//! JSON-RPC 2.0 as MCP uses it: one request or notification, never a batch, parameters by name. Pure.

use serde_json::{Map, Value, json};

pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
pub(crate) const INVALID_PARAMS: i32 = -32602;

/// A message that asks for something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// `None`: a notification, which is not answered.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Map<String, Value>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    /// Null when the request's is not known.
    pub(crate) id: Value,
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl RpcError {
    pub(crate) fn new(id: Value, code: i32, message: impl Into<String>) -> Self {
        Self {
            id,
            code,
            message: message.into(),
        }
    }

    /// The answer as it goes out.
    pub(crate) fn to_json(&self) -> Value {
        let error = json!({ "code": self.code, "message": self.message });
        json!({ "jsonrpc": "2.0", "id": self.id, "error": error })
    }
}

/// A success answer as it goes out.
pub(crate) fn success(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// The arguments of `tools/call`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Value>,
}

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<Message, RpcError> {
    let fail = |id, code, message: &str| Err(RpcError::new(id, code, message));
    // serde_json's messages name a place, not the content.
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        RpcError::new(
            Value::Null,
            PARSE_ERROR,
            format!("the body is not JSON: {error}"),
        )
    })?;
    let mut object = match value {
        Value::Object(object) => object,
        Value::Array(_) => {
            return fail(
                Value::Null,
                INVALID_REQUEST,
                "batches are not supported; send one message at a time",
            );
        }
        _ => {
            return fail(
                Value::Null,
                INVALID_REQUEST,
                "a JSON-RPC message is an object",
            );
        }
    };
    let id = match object.remove("id") {
        None => None,
        Some(id @ Value::String(_)) => Some(id),
        Some(id @ Value::Number(_)) if id.is_i64() || id.is_u64() => Some(id),
        Some(_) => {
            return fail(
                Value::Null,
                INVALID_REQUEST,
                "`id` must be a string or a whole number; leave it out for a notification",
            );
        }
    };
    let echoed = || id.clone().unwrap_or(Value::Null);
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return fail(echoed(), INVALID_REQUEST, "`jsonrpc` must be \"2.0\"");
    }
    let Some(Value::String(method)) = object.remove("method") else {
        let is_response = object.contains_key("result") || object.contains_key("error");
        let message = if is_response {
            "responses are not accepted: this server asks its clients nothing"
        } else {
            "`method` must be a string"
        };
        return fail(echoed(), INVALID_REQUEST, message);
    };
    let params = match object.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return fail(echoed(), INVALID_PARAMS, "`params` must be an object"),
    };
    Ok(Message { id, method, params })
}

impl Message {
    /// The parameters of a `tools/call`.
    pub(crate) fn tool_call(&self) -> Result<ToolCall, RpcError> {
        let fail = |message| {
            let id = self.id.clone().unwrap_or(Value::Null);
            Err(RpcError::new(id, INVALID_PARAMS, message))
        };
        let Some(Value::String(name)) = self.params.get("name") else {
            return fail("`params.name` must be the name of a tool");
        };
        let arguments = match self.params.get("arguments") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => return fail("`params.arguments` must be an object"),
        };
        Ok(ToolCall {
            name: name.clone(),
            arguments,
        })
    }

    /// The request's `_meta`.
    pub(crate) fn meta(&self) -> Option<&Map<String, Value>> {
        self.params.get("_meta").and_then(Value::as_object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let message = parse(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1},"_meta":{"k":2}}}"#).unwrap();
        assert_eq!(
            (message.id.clone(), message.method.as_str()),
            (Some(json!(1)), "tools/call")
        );
        let call = message.tool_call().unwrap();
        assert_eq!(
            (call.name.as_str(), Value::Object(call.arguments)),
            ("x", json!({ "a": 1 }))
        );
        assert_eq!(message.meta().unwrap()["k"], 2);
        let notification =
            parse(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert_eq!(notification.id, None);
    }

    #[test]
    fn what_is_none() {
        for (body, code, id) in [
            ("", PARSE_ERROR, json!(null)),
            ("{", PARSE_ERROR, json!(null)),
            ("[]", INVALID_REQUEST, json!(null)),
            ("5", INVALID_REQUEST, json!(null)),
            (r#"{"id":1,"method":"x"}"#, INVALID_REQUEST, json!(1)),
            (
                r#"{"jsonrpc":"1.0","id":"a","method":"x"}"#,
                INVALID_REQUEST,
                json!("a"),
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
                INVALID_REQUEST,
                json!(null),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#,
                INVALID_REQUEST,
                json!(null),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                INVALID_REQUEST,
                json!(1),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
                INVALID_REQUEST,
                json!(1),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}"#,
                INVALID_PARAMS,
                json!(1),
            ),
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!((error.code, &error.id), (code, &id), "{body}");
            assert_eq!(error.to_json()["error"]["code"], code);
        }
        for params in ["{}", r#"{"name":5}"#, r#"{"name":"x","arguments":[]}"#] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            let error = parse(body.as_bytes()).unwrap().tool_call().unwrap_err();
            assert_eq!(
                (error.code, error.id),
                (INVALID_PARAMS, json!(1)),
                "{params}"
            );
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().code, PARSE_ERROR);
    }
}
