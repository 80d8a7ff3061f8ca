//! The development authority alone, with a projected token that it accepts: prints the environment that AKS would inject, for trying the
//! sidecar by hand and for benchmarks. Ends on Ctrl-C.
//!
//! ```text
//! cargo run --example authority -- --upstream > /tmp/env &   . /tmp/env   cargo run --bin token-sidecar
//! ```

use clap::Parser;
use harness::{
    Result,
    authority::{
        Authority, Options,
        options::{CLIENT, RESOURCE, SCOPE, TENANT},
    },
    certs::Ca,
    upstream::Upstream,
    volume::{Layout, TokenVolume},
};
use std::{
    io::{self, Write},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Arguments {
    /// Issue this literal instead of signed tokens (benchmarks).
    #[arg(long, value_name = "TOKEN")]
    fixed_access_token: Option<String>,
    /// How long access tokens live, in seconds.
    #[arg(long, value_name = "N", default_value_t = 3600)]
    lifetime: u64,
    /// How often the projected token is rotated, in seconds.
    #[arg(long, value_name = "N", default_value_t = 600)]
    rotate: u64,
    /// Start the echo upstream too, and name it in TOKEN_SIDECAR_UPSTREAM.
    #[arg(long)]
    upstream: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let ca = Ca::new()?;
    let options = Options {
        fixed_access_token: arguments.fixed_access_token,
        access_token_lifetime: Duration::from_secs(arguments.lifetime),
        ..Options::default()
    };
    let authority = Authority::start(&ca, options).await?;
    let volume = TokenVolume::new(Layout::Nested)?;
    volume.write(authority.projected_token()?)?;
    let mut lines = vec![
        ("AZURE_CLIENT_ID", CLIENT.to_owned()),
        ("AZURE_TENANT_ID", TENANT.to_owned()),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            volume.file().display().to_string(),
        ),
        ("AZURE_AUTHORITY_HOST", authority.authority_host()),
        ("SSL_CERT_FILE", ca.file().display().to_string()),
        ("TOKEN_SIDECAR_SCOPE", SCOPE.to_owned()),
    ];
    let upstream = match arguments.upstream {
        true => Some(Upstream::https(&ca, authority.access_tokens(), RESOURCE).await?),
        false => None,
    };
    lines.extend(
        upstream
            .as_ref()
            .map(|upstream| ("TOKEN_SIDECAR_UPSTREAM", upstream.url())),
    );
    let mut out = io::stdout();
    for (name, value) in lines {
        writeln!(out, "export {name}='{value}'")?;
    }
    out.flush()?;

    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut rotation = tokio::time::interval(Duration::from_secs(arguments.rotate.max(1)));
    rotation.tick().await;
    loop {
        tokio::select! {
            _ = rotation.tick() => volume.write(authority.projected_token()?)?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}
