//! The demo's cast: authority, upstream, token volume in this process; sidecar and MCP server in processes of their own.

use super::{
    DemoOptions,
    own::{OwnServer, base},
};
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
    /// The built-in MCP server's process, unless the reader runs one.
    mcp: Option<McpServer>,
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
        let backend = options.own.as_ref().and_then(|own| own.backend.clone());
        let setup = aks_environment(&ca, &authority, &volume)
            .env(
                "TOKEN_SIDECAR_UPSTREAM",
                backend.unwrap_or_else(|| upstream.url()),
            )
            .env("TOKEN_SIDECAR_SCOPE", SCOPE);
        let sidecar = Box::pin(Sidecar::start(program, &setup)).await?;
        let mcp = match options.own {
            Some(_) => None,
            None => {
                let base = base(sidecar.listen());
                Some(Box::pin(McpServer::start(program, &base, &[])).await?)
            }
        };
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

    /// The built-in MCP server.
    ///
    /// # Errors
    /// When the reader's own runs in its place.
    pub fn mcp(&self) -> Result<&McpServer> {
        Ok(self
            .mcp
            .as_ref()
            .ok_or("the built-in MCP server is not running")?)
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
        let mcp = self
            .mcp
            .as_mut()
            .map(|mcp| ("MCP server", &mut mcp.process));
        for (name, process) in mcp
            .into_iter()
            .chain([("sidecar", &mut self.sidecar.process)])
        {
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
    pub fn describe(&self, options: &DemoOptions, out: &mut dyn Write) -> io::Result<()> {
        let own = options.own.as_ref();
        writeln!(
            out,
            "A workload without a credential calls a protected backend through the sidecar.\n"
        )?;
        match (own, &self.mcp) {
            (None, Some(mcp)) => row(
                out,
                "MCP server (the workload)",
                &format!(
                    "http://{}            pid {}",
                    mcp.address(),
                    mcp.process.pid()
                ),
            )?,
            (Some(own), _) => row(
                out,
                "your server",
                &format!(
                    "{}={} {}",
                    own.variable,
                    base(self.sidecar.listen()),
                    own.shown()
                ),
            )?,
            (None, None) => {}
        }
        let upstream = self.upstream.url();
        let rows = [
            (
                "sidecar",
                format!(
                    "{}            pid {}",
                    base(self.sidecar.listen()),
                    self.sidecar.process.pid()
                ),
            ),
            ("sidecar, admin port", base(self.sidecar.admin())),
            (
                "protected backend",
                match own {
                    Some(OwnServer {
                        backend: Some(backend),
                        ..
                    }) => backend.clone(),
                    Some(_) => format!("{upstream} (has /users/NUMBER, and /echo of any request)"),
                    None => upstream,
                },
            ),
            ("authority (plays Entra)", self.authority.authority_host()),
            ("projected token", self.volume.file().display().to_string()),
            (
                "root certificate",
                format!("{}\n", self.ca.file().display()),
            ),
        ];
        for (name, what) in rows {
            row(out, name, &what)?;
        }
        self.paste(out)?;
        writeln!(
            out,
            "What happens now (fingerprints are the first 8 hex digits of a token's SHA-256; Ctrl-C ends everything):\n"
        )
    }

    /// The curl lines.
    fn paste(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Paste these:\n")?;
        if let Some(mcp) = &self.mcp {
            let mcp = mcp.address();
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
        }
        let (sidecar, admin) = (self.sidecar.listen(), self.sidecar.admin());
        writeln!(out, "  curl -i http://{sidecar}/users/123")?;
        writeln!(out, "  curl -s http://{admin}/readyz")?;
        writeln!(out, "  curl -s http://{admin}/metrics\n")
    }
}

fn row(out: &mut dyn Write, name: &str, what: &str) -> io::Result<()> {
    writeln!(out, "  {name:<26} {what}")
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
