//! The MCP server as a real process on a free port.

use super::{AS_MCP_SERVER, Process, sidecar::answers};
use crate::{
    Result,
    client::{Answer, Client},
    ports,
};
use http::{Request, header};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::Path};

/// A running MCP server.
pub struct McpServer {
    /// The process.
    pub process: Process,
    address: SocketAddr,
}

impl McpServer {
    /// Starts `program` (a multi-call binary) as the MCP server with `backend` as its `BACKEND_API_URL`, and waits until it answers.
    ///
    /// # Errors
    /// When it ends first; the text has its output.
    pub async fn start(program: &Path, backend: &str, more: &[(&str, &str)]) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let address = ports::free()?;
            let mut process = spawn(program, address, backend, more)?;
            match Box::pin(answers(&mut process, address)).await {
                Ok(()) => return Ok(Self { process, address }),
                // Whatever it was, another port may mend it; the last try's words are reported.
                Err(Some(_)) if tries < 3 && process.output().contains("in use") => {}
                Err(Some(status)) => {
                    return Err(format!(
                        "the MCP server ended ({status}) with:\n{}",
                        process.output()
                    )
                    .into());
                }
                Err(None) => {
                    return Err(format!(
                        "the MCP server never answered; it said:\n{}",
                        process.output()
                    )
                    .into());
                }
            }
        }
    }

    /// As [`McpServer::start`], on an address that somebody else knows already.
    ///
    /// # Errors
    /// When it ends first, or never answers; the text has its output.
    pub async fn start_at(
        program: &Path,
        address: SocketAddr,
        backend: &str,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let mut process = spawn(program, address, backend, more)?;
        match Box::pin(answers(&mut process, address)).await {
            Ok(()) => Ok(Self { process, address }),
            Err(_) => Err(format!(
                "the MCP server does not answer; it said:\n{}",
                process.output()
            )
            .into()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// `tools/call` through the stateless JSON-RPC endpoint of the AKS guide.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn call(&self, tool: &str, arguments: &Value) -> Result<Answer> {
        self.client()
            .post_json("/messages", &rpc(tool, arguments))
            .await
    }

    /// `tools/call` through `/mcp`, as a client of the revision 2026-07-28 sends it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn call_mcp(&self, tool: &str, arguments: &Value) -> Result<Answer> {
        let mut body = rpc(tool, arguments);
        body["params"]["_meta"] = meta();
        let request = Request::post("/mcp")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("MCP-Protocol-Version", REVISION)
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", tool);
        self.client()
            .send(request.body(crate::body::full(body.to_string()))?)
            .await
    }
}

/// `program` as the MCP server at `address`, whether or not it comes to answer.
fn spawn(
    program: &Path,
    address: SocketAddr,
    backend: &str,
    more: &[(&str, &str)],
) -> Result<Process> {
    let mut env = BTreeMap::<String, OsString>::from([
        ("BACKEND_API_URL".into(), backend.into()),
        ("HOST".into(), address.ip().to_string().into()),
        ("PORT".into(), address.port().to_string().into()),
    ]);
    env.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into())),
    );
    Process::spawn(program, &[AS_MCP_SERVER.into()], &env)
}

/// The MCP revision that [`McpServer::call_mcp`] speaks.
pub const REVISION: &str = "2026-07-28";

/// A `tools/call` request.
pub fn rpc(tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// The `_meta` that the revision demands.
pub fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "demo", "version": "1" },
    })
}
