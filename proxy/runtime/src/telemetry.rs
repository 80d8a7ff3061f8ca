//! Logging: one line a fact to standard error, as JSON or as text, filtered by directives.
//!
//! JSON lines are one flat object each: `timestamp`, `level`, `target`, `message`, then the fields of the spans around
//! the event and its own.

use std::{error::Error, fmt, str::FromStr};

use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::LevelFilter,
    fmt::{MakeWriter, format::JsonFields, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::clock::{Clock, rfc3339};

mod json;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One flat JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The text is neither `json` nor `text`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a log format; use `json` or `text`")]
pub struct ParseLogFormatError(String);

impl FromStr for LogFormat {
    type Err = ParseLogFormatError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(ParseLogFormatError(s.into())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// A part of the level setting is neither a level nor `target=level`.
    #[error(
        "`{directive}` is not a log level; use trace, debug, info, warn, error or off, alone or as \
         target=level, separated by commas, such as `token_sidecar=debug,info`"
    )]
    Directive {
        /// The part.
        directive: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already in this process")]
    AlreadySet,
}

/// Checks a level setting such as `info` or `token_sidecar=debug,info`, without setting up anything.
///
/// # Errors
/// The first part that is not understood.
pub fn check_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(drop)
}

/// Sets up logging to standard error for the whole process; to be called once.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    tracing_subscriber::registry()
        .with(layer(format, std::io::stderr).with_filter(filter))
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

type BoxedLayer<S> = Box<dyn tracing_subscriber::Layer<S> + Send + Sync>;

fn layer<S, W>(format: LogFormat, writer: W) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Said outright: another crate of a build may turn the feature for colours on.
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    match format {
        LogFormat::Json => layer
            .fmt_fields(JsonFields::new())
            .event_format(json::FlatJson(Clock::system()))
            .boxed(),
        LogFormat::Text => layer.with_timer(Utc(Clock::system())).boxed(),
    }
}

/// Parses the directives one by one: taken together, a mistyped level would pass as the name of a target.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let mut filter = EnvFilter::default();
    let mut directives = level.split(',').map(str::trim).peekable();
    while let Some(directive) = directives.next() {
        let refused = || TelemetryError::Directive {
            directive: directive.to_owned(),
        };
        if directive.is_empty() && directives.peek().is_none() && level.contains(',') {
            break; // a trailing comma
        }
        let level = directive.rsplit('=').next().unwrap_or(directive);
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(refused());
        }
        filter = filter.add_directive(directive.parse().map_err(|_| refused())?);
    }
    Ok(filter)
}

struct Utc(Clock);

impl FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> fmt::Result {
        w.write_str(&rfc3339(self.0.unix_now()))
    }
}

/// An error with its sources, `: ` between them; for the one place that logs it.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
