//! The demo's cast: authority, upstream, token volume in this process; sidecar and MCP server in processes of their own.

use super::DemoOptions;
use crate::{
    Result,
    authority::{
        Authority, Options,
        options::{CLIENT, RESOURCE, SCOPE, TENANT},
    },
    certs::Ca,
    fingerprint,
    process::{
        McpServer, Sidecar, SidecarSetup,
        mcp_server::{REVISION, meta, rpc},
    },
    upstream::Upstream,
    volume::{Layout, TokenVolume},
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Everything, running.
pub struct Stage {
    /// The throw-away root.
    pub ca: Ca,
    /// Cluster issuer and Entra.
    pub authority: Authority,
    /// The protected backend.
    pub upstream: Upstream,
    /// The projected token.
    pub volume: TokenVolume,
    /// The sidecar's process.
    pub sidecar: Sidecar,
    /// The MCP server's process.
    pub mcp: McpServer,
    token: Mutex<String>,
}

impl Stage {
    /// Starts everything. `program` is a multi-call binary.
    ///
    /// # Errors
    /// When a part does not start; the text names it.
    pub async fn start(program: &Path, options: &DemoOptions) -> Result<Self> {
        let mut ca = Ca::new()?;
        let authority_options = Options {
            access_token_lifetime: options.access_token_lifetime,
            ..Options::default()
        };
        let authority = Authority::start(&ca, authority_options).await?;
        let upstream = Upstream::https(&ca, authority.access_tokens(), RESOURCE).await?;
        let mut volume = TokenVolume::new(Layout::Nested)?;
        if options.keep {
            ca.keep();
            volume.keep();
        }
        let token = authority.projected_token()?;
        volume.write(&token)?;
        let setup = aks_environment(&ca, &authority, &volume)
            .env("TOKEN_SIDECAR_UPSTREAM", upstream.url())
            .env("TOKEN_SIDECAR_SCOPE", SCOPE);
        let sidecar = Box::pin(Sidecar::start(program, &setup)).await?;
        let mcp = Box::pin(McpServer::start(
            program,
            &format!("http://{}", sidecar.listen()),
            &[],
        ))
        .await?;
        Ok(Self {
            ca,
            authority,
            upstream,
            volume,
            sidecar,
            mcp,
            token: Mutex::new(token),
        })
    }

    /// The projected token in the volume.
    pub fn projected_token(&self) -> String {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Swaps in a new projected token; gives the fingerprints of the old and the new one.
    ///
    /// # Errors
    /// When the volume cannot be written to.
    pub fn rotate(&self) -> Result<(String, String)> {
        let new = self.authority.projected_token()?;
        self.volume.write(&new)?;
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprints = (fingerprint(&token), fingerprint(&new));
        *token = new;
        Ok(fingerprints)
    }

    /// Ends both processes in the order of a pod: the workload first.
    ///
    /// # Errors
    /// When one does not end, or not cleanly.
    pub async fn stop(&mut self) -> Result<()> {
        for (name, process) in [
            ("MCP server", &mut self.mcp.process),
            ("sidecar", &mut self.sidecar.process),
        ] {
            let status = Box::pin(process.stop()).await?;
            if !status.success() {
                return Err(format!(
                    "the {name} did not stop cleanly: {status}; it said:\n{}",
                    process.output()
                )
                .into());
            }
        }
        Ok(())
    }

    /// Prints what runs where, and what to paste.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        let (mcp, sidecar, admin) = (
            self.mcp.address(),
            self.sidecar.listen(),
            self.sidecar.admin(),
        );
        writeln!(
            out,
            "A workload without a credential calls a protected backend through the sidecar.\n"
        )?;
        writeln!(
            out,
            "  MCP server (the workload)  http://{mcp}            pid {}",
            self.mcp.process.pid()
        )?;
        writeln!(
            out,
            "  sidecar                    http://{sidecar}            pid {}",
            self.sidecar.process.pid()
        )?;
        writeln!(out, "  sidecar, admin port        http://{admin}")?;
        writeln!(out, "  protected backend          {}", self.upstream.url())?;
        writeln!(
            out,
            "  authority (plays Entra)    {}",
            self.authority.authority_host()
        )?;
        writeln!(
            out,
            "  projected token            {}",
            self.volume.file().display()
        )?;
        writeln!(
            out,
            "  root certificate           {}\n",
            self.ca.file().display()
        )?;
        writeln!(out, "Paste these:\n")?;
        let arguments = json!({ "user_id": "123" });
        let json_type = "-H 'Content-Type: application/json'";
        writeln!(
            out,
            "  curl -s http://{mcp}/messages {json_type} \\\n    -d '{}'\n",
            rpc("get_user_profile", &arguments)
        )?;
        let mut modern = rpc("get_user_profile", &arguments);
        modern["params"]["_meta"] = meta();
        writeln!(
            out,
            "  curl -s http://{mcp}/mcp {json_type} -H 'Accept: application/json, text/event-stream' \\\n    \
             -H 'MCP-Protocol-Version: {REVISION}' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: get_user_profile' \\\n    -d '{modern}'\n"
        )?;
        writeln!(out, "  curl -i http://{sidecar}/users/123")?;
        writeln!(out, "  curl -s http://{admin}/readyz")?;
        writeln!(out, "  curl -s http://{admin}/metrics\n")?;
        writeln!(
            out,
            "What happens now (fingerprints are the first 8 hex digits of a token's SHA-256; Ctrl-C ends everything):\n"
        )
    }
}

/// What the AKS webhook puts into a container, for this authority and volume, and the throw-away root.
pub fn aks_environment(ca: &Ca, authority: &Authority, volume: &TokenVolume) -> SidecarSetup {
    SidecarSetup::default()
        .env("AZURE_CLIENT_ID", CLIENT)
        .env("AZURE_TENANT_ID", TENANT)
        .env("AZURE_FEDERATED_TOKEN_FILE", volume.file())
        .env("AZURE_AUTHORITY_HOST", authority.authority_host())
        .env("SSL_CERT_FILE", ca.file())
}
