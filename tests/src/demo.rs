//! The demo: everything on free ports, a token that rotates, a workload that calls, and a readable account of what happens.
//!
//! The sidecar gets nothing but what AKS injects (`AZURE_*`), the two settings of the quick start, and the throw-away root.

pub mod account;
pub mod own;
pub mod stage;

use crate::{Error, Result, fingerprint};
use account::{Account, Kind};
pub use own::OwnServer;
use serde_json::json;
use stage::Stage;
use std::{io::Write, path::Path, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// What the demo is asked to do.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Make one MCP call through everything, print the result, end.
    pub once: bool,
    /// End by itself after this time.
    pub limit: Option<Duration>,
    /// Leave the volume and the certificates in place.
    pub keep: bool,
    /// Colours, for a terminal.
    pub colour: bool,
    /// A server in the place of the built-in one.
    pub own: Option<OwnServer>,
    /// How often the projected token is rotated.
    pub rotate_every: Duration,
    /// How often the workload calls.
    pub call_every: Duration,
    /// How long access tokens live.
    pub access_token_lifetime: Duration,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            once: false,
            limit: None,
            keep: false,
            colour: false,
            own: None,
            rotate_every: Duration::from_secs(20),
            call_every: Duration::from_secs(5),
            access_token_lifetime: Duration::from_secs(60),
        }
    }
}

/// Runs the demo with `program`, a multi-call binary, as sidecar and MCP server; writes the account to `out`.
///
/// # Errors
/// When a part cannot be started, or with `once` when the call did not give what it should; the text names the cause.
pub async fn run(
    options: &DemoOptions,
    program: &Path,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut stage = Box::pin(Stage::start(program, options)).await?;
    let outcome = if options.once {
        Box::pin(once(&stage, out)).await
    } else {
        Box::pin(live(&mut stage, options, out)).await
    };
    let outcome = outcome.map_err(|error| explain(&stage, &error));
    stage.stop().await?;
    outcome
}

/// One MCP call through everything.
async fn once(stage: &Stage, out: &mut (dyn Write + Send)) -> Result<()> {
    stage.sidecar.ready().await?;
    let answer = stage
        .mcp()?
        .call("get_user_profile", &json!({ "user_id": "123" }))
        .await?;
    let reply = answer.json();
    if answer.status != 200 || reply["result"]["isError"] == true || !reply["result"].is_object() {
        return Err(format!(
            "the MCP call failed with status {}: {}",
            answer.status,
            answer.text()
        )
        .into());
    }
    if !reply["result"].to_string().contains("Ada Lovelace") {
        return Err(format!("the MCP call's result is not the upstream's profile: {reply}").into());
    }
    let request = stage
        .upstream
        .requests()
        .last()
        .ok_or("the upstream saw no request")?;
    if request.verified != Some(Ok(())) {
        return Err(format!(
            "the upstream did not accept the token it was sent: {:?}",
            request.verified
        )
        .into());
    }
    writeln!(out, "{}", serde_json::to_string_pretty(&reply)?)?;
    let token = request.token.unwrap_or_default();
    writeln!(
        out,
        "The upstream accepted access token {token}, injected by the sidecar; the MCP server never saw it."
    )?;
    Ok(())
}

/// Rotation, calls and the account, until a signal or the limit.
async fn live(
    stage: &mut Stage,
    options: &DemoOptions,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    stage.describe(options, out)?;
    let mut own = match &options.own {
        Some(own) => {
            stage.sidecar.ready().await?;
            Some(own.start(stage.sidecar.listen())?)
        }
        None => None,
    };
    let outcome = tell(stage, options, own.as_mut(), out).await;
    if let Some(own) = own {
        own.stop().await?;
    }
    outcome
}

/// The account of what happens.
async fn tell(
    stage: &Stage,
    options: &DemoOptions,
    mut own: Option<&mut own::Running>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut account = Account::new(out, options.colour);
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let limit = tokio::time::sleep(
        options
            .limit
            .unwrap_or(Duration::from_secs(365 * 24 * 3600)),
    );
    let mut rotation = tokio::time::interval_at(
        tokio::time::Instant::now() + options.rotate_every,
        options.rotate_every,
    );
    let mut calls = tokio::time::interval(options.call_every);
    tokio::pin!(limit);
    let (mut issued, mut injected, mut refused, mut logged, mut calling) = (0, 0, 0, 0, 0_u32);
    let mut last_token = None;
    account.line(
        Kind::Rotated,
        &format!(
            "projected token {} written",
            fingerprint(&stage.projected_token())
        ),
    )?;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(account.line(Kind::Stopped, "interrupted: stopping everything")?),
            _ = terminate.recv() => return Ok(account.line(Kind::Stopped, "told to stop: stopping everything")?),
            () = &mut limit => return Ok(account.line(Kind::Stopped, "the time is over: stopping everything")?),
            line = stage.sidecar.process.stderr().entry(logged) => {
                logged += 1;
                account.logged(&line)?;
            }
            exchange = stage.authority.issued().entry(issued) => {
                issued += 1;
                account.exchanged(&exchange, issued == 1)?;
            }
            refusal = stage.authority.refusals().entry(refused) => {
                refused += 1;
                account.line(Kind::Refused, &format!("{} refused: {}", refusal.endpoint.name(), refusal.code))?;
            }
            request = stage.upstream.requests().entry(injected) => {
                injected += 1;
                account.injected(&request, &mut last_token)?;
            }
            _ = rotation.tick() => {
                let (old, new) = stage.rotate()?;
                account.line(Kind::Rotated, &format!("projected token {old} replaced by {new} (..data swapped)"))?;
            }
            status = own::ended(&mut own) => {
                account.line(Kind::Stopped, &format!("your server ended: {status}"))?;
                return status.success().then_some(()).ok_or_else(|| format!("your server ended: {status}").into());
            }
            _ = calls.tick(), if options.own.is_none() => {
                calling += 1;
                let id = (100 + calling).to_string();
                let answer = stage.mcp()?.call("get_user_profile", &json!({ "user_id": id })).await?;
                let reply = answer.json();
                let verdict = if reply["result"]["isError"] == false || reply["result"]["content"].is_array() && reply["result"]["isError"].is_null() {
                    "a profile".to_owned()
                } else {
                    format!("an error: {}", reply["result"]["content"][0]["text"].as_str().unwrap_or("no result"))
                };
                // What the call caused comes before its end.
                for request in stage.upstream.requests().since(injected) {
                    injected += 1;
                    account.injected(&request, &mut last_token)?;
                }
                account.line(Kind::Called, &format!("MCP tools/call get_user_profile {id} -> {verdict}"))?;
            }
        }
    }
}

/// Adds the last words of both processes to an error.
fn explain(stage: &Stage, error: &Error) -> Error {
    let tail = |lines: Vec<String>| {
        lines
            .iter()
            .rev()
            .take(8)
            .rev()
            .map(|line| format!("  {line}\n"))
            .collect::<String>()
    };
    let sidecar = tail(stage.sidecar.process.stderr().all());
    let mcp = stage.mcp().map_or_else(
        |_| String::new(),
        |mcp| {
            format!(
                "last lines of the MCP server:\n{}",
                tail(mcp.process.stderr().all())
            )
        },
    );
    format!("{error}\nlast lines of the sidecar:\n{sidecar}{mcp}").into()
}
