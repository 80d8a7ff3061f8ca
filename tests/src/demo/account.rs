//! The live account: one line an event, in words, with fingerprints instead of tokens; colours only where a terminal shows them.

use crate::{authority::Issued, fingerprint, upstream::Received};
use serde_json::Value;
use sidecar_runtime::clock::{Clock, rfc3339};
use std::io::{self, Write};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The projected token's file was replaced.
    Rotated,
    /// A projected token was exchanged for the first access token.
    Exchanged,
    /// … for a further one.
    Renewed,
    /// An authority refused.
    Refused,
    /// The upstream received an injected token.
    Injected,
    /// The upstream received a request it did not accept.
    Denied,
    /// The workload's MCP server was called.
    Called,
    /// The sidecar read the new projected token.
    Noticed,
    /// The sidecar warned of something.
    Warned,
    /// The end.
    Stopped,
}

impl Kind {
    /// The word and its ANSI colour.
    fn shown(self) -> (&'static str, u8) {
        match self {
            Self::Rotated => ("rotated", 33),
            Self::Exchanged => ("exchanged", 36),
            Self::Renewed => ("renewed", 36),
            Self::Refused => ("refused", 31),
            Self::Injected => ("injected", 32),
            Self::Denied => ("denied", 31),
            Self::Called => ("called", 0),
            Self::Noticed => ("noticed", 33),
            Self::Warned => ("warned", 31),
            Self::Stopped => ("stopped", 0),
        }
    }
}

/// Writes the account.
pub struct Account<'a> {
    out: &'a mut (dyn Write + Send),
    colour: bool,
}

impl<'a> Account<'a> {
    /// An account on `out`.
    pub fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Self {
        Self { out, colour }
    }

    /// One line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, kind: Kind, text: &str) -> io::Result<()> {
        let now = rfc3339(Clock::system().unix_now());
        let time = now.get(11..19).unwrap_or_default();
        let (word, colour) = kind.shown();
        if self.colour && colour != 0 {
            writeln!(self.out, "{time}  \x1b[{colour}m{word:<10}\x1b[0m {text}")?;
        } else {
            writeln!(self.out, "{time}  {word:<10} {text}")?;
        }
        self.out.flush()
    }

    /// A good exchange.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn exchanged(&mut self, issued: &Issued, is_first: bool) -> io::Result<()> {
        let kind = if is_first {
            Kind::Exchanged
        } else {
            Kind::Renewed
        };
        let (subject, access) = (
            fingerprint(&issued.subject_token),
            fingerprint(&issued.token),
        );
        self.line(
            kind,
            &format!(
                "projected token {subject} for access token {access}, which lives {} s",
                issued.lifetime.as_secs()
            ),
        )
    }

    /// A line of the sidecar's log: tells of tokens that it read and of warnings, and leaves out the rest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn logged(&mut self, line: &str) -> io::Result<()> {
        let fact: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |name: &str| fact[name].as_str().unwrap_or_default();
        match (text("level"), text("message"), text("fingerprint")) {
            ("WARN" | "ERROR", message, _) => {
                self.line(Kind::Warned, &format!("by the sidecar: {message}"))
            }
            (_, "subject token rotated", token) => self.line(
                Kind::Noticed,
                &format!("projected token {token} read by the sidecar"),
            ),
            _ => Ok(()),
        }
    }

    /// A request at the upstream. `last` remembers the token seen before, to point out a new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn injected(&mut self, request: &Received, last: &mut Option<String>) -> io::Result<()> {
        let what = format!("{} {}", request.method, request.path());
        match (&request.verified, &request.token) {
            (Some(Ok(())), Some(token)) => {
                let news = if last.as_ref() == Some(token) {
                    ""
                } else {
                    ", new"
                };
                let text =
                    format!("access token {token}{news}: the backend got {what} and accepts it");
                *last = Some(token.clone());
                self.line(Kind::Injected, &text)
            }
            (verdict, token) => self.line(
                Kind::Denied,
                &format!("{what} with token {token:?}: {verdict:?}"),
            ),
        }
    }
}
