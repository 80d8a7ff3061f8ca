//! The only file that knows rmcp: `/mcp` in both eras of MCP (the `initialize` handshake, and per-request metadata).
//!
//! No sessions, plain JSON answers. What the library answers less well (bodies that are no JSON-RPC) is caught before it.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode, header::CONTENT_TYPE,
    request::Parts,
};
use http_body_util::Full;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        Implementation, ListToolsResult, MetaObject, PaginatedRequestParams, ProtocolVersion,
        ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};

use serde_json::json;

use crate::{
    caller::Caller,
    guard::{AllowedHosts, AllowedOrigins},
    jsonrpc::{self, RpcError},
    respond::{self, Body},
    tools::{self, ToolResult, call::Toolbox},
    trace::TraceContext,
};

const NAME: &str = "mcp-server";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long a list of tools may be taken as fresh: it only changes when this process restarts.
const LIST_FRESH_MS: u64 = 60_000;

/// The endpoint.
#[derive(Clone)]
pub(crate) struct Mcp {
    service: StreamableHttpService<Handler, NeverSessionManager>,
    caller_header: Option<HeaderName>,
}

impl Mcp {
    /// An endpoint that offers the tools of `toolbox`.
    pub(crate) fn new(
        toolbox: Toolbox,
        hosts: &AllowedHosts,
        origins: &AllowedOrigins,
        max_body: usize,
    ) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(None)
            .with_max_request_body_bytes(max_body)
            .with_allowed_origins(origins.entries())
            .enforce_origin_validation();
        // The guard in front has checked these already; the library checks them again.
        let config = if hosts.is_any() {
            config.disable_allowed_hosts()
        } else {
            config.with_allowed_hosts(hosts.entries())
        };
        let caller_header = toolbox.caller_header.clone();
        let handler = Handler {
            tools: toolbox.catalog.tools().iter().map(listed).collect(),
            toolbox,
        };
        let factory = move || Ok::<_, io::Error>(handler.clone());
        Self {
            service: StreamableHttpService::new(
                factory,
                Arc::new(NeverSessionManager::default()),
                config,
            ),
            caller_header,
        }
    }

    /// Answers a request whose body has been read.
    pub(crate) async fn respond(&self, mut parts: Parts, body: Bytes) -> Response<Body> {
        if parts.method == Method::POST
            && is_json(&parts.headers)
            && let Err(error) = check(&body)
        {
            return respond::json(StatusCode::BAD_REQUEST, &error.to_json());
        }
        let caller = Caller::of(self.caller_header.as_ref(), &parts.headers);
        // The library hands the request's parts to whoever handles the call.
        parts.extensions.insert(caller.clone());
        let mut response = self
            .service
            .handle(Request::from_parts(parts, Full::new(body)))
            .await;
        caller.mark(response.headers_mut());
        response
    }
}

/// The library answers a body that is no JSON-RPC request with 415 and without a JSON-RPC error.
fn check(body: &Bytes) -> Result<(), RpcError> {
    let message = jsonrpc::parse(body)?;
    if message.method == "tools/call" && message.id.is_some() {
        message.tool_call()?;
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn listed(tool: &tools::Tool) -> Tool {
    let listed = Tool::new(
        tool.name.clone(),
        tool.description.clone(),
        Arc::clone(&tool.input_schema),
    )
    .with_annotations(ToolAnnotations::new().read_only(tool.is_read_only()));
    match &tool.title {
        Some(title) => listed.with_title(title.clone()),
        None => listed,
    }
}

fn result(result: ToolResult) -> CallToolResult {
    let content = vec![ContentBlock::text(result.text.clone())];
    let mut of_mcp = if result.is_error() {
        CallToolResult::error(content)
    } else {
        CallToolResult::success(content)
    };
    of_mcp.structured_content = result.structured;
    of_mcp
}

/// What a result's `_meta` says about this server: 2026-07-28 asks for it, earlier revisions do not know it.
fn server_info(context: &RequestContext<RoleServer>) -> Option<MetaObject> {
    let version = context.protocol_version()?;
    if version.as_str() < ProtocolVersion::V_2026_07_28.as_str() {
        return None;
    }
    let info = json!({ "name": NAME, "version": VERSION });
    let mut meta = MetaObject::default();
    meta.insert("io.modelcontextprotocol/serverInfo".into(), info);
    Some(meta)
}

#[derive(Clone)]
struct Handler {
    toolbox: Toolbox,
    tools: Arc<[Tool]>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(NAME, VERSION))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if request.is_some_and(|request| request.cursor.is_some()) {
            return Err(ErrorData::invalid_params(
                "unknown cursor; the list comes in one page",
                None,
            ));
        }
        let mut list = ListToolsResult::with_all_items(self.tools.to_vec())
            .with_ttl_ms(LIST_FRESH_MS)
            .with_cache_scope(CacheScope::Public);
        list.meta = server_info(&context);
        Ok(list)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let parts = context.extensions.get::<Parts>();
        let headers = parts.map(|parts| &parts.headers);
        let caller = parts
            .and_then(|parts| parts.extensions.get::<Caller>())
            .cloned()
            .unwrap_or_default();
        let meta = request.meta.as_ref().unwrap_or(&context.meta);
        let trace = TraceContext::of(Some(meta), headers);
        let arguments = request.arguments.unwrap_or_default();
        tokio::select! {
            // A client that goes away (or cancels) ends the call to the backend too.
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the call was cancelled", None)),
            called = self.toolbox.call(&request.name, arguments, &trace, &caller) => match called {
                Ok(called) => Ok(result(called).with_meta(server_info(&context)).into()),
                Err(unknown) => Err(ErrorData::invalid_params(unknown.to_string(), None)),
            },
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }
}
