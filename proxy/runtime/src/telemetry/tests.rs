//! Tests of the log lines, written into memory.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Memory {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What `events` logs at `level`.
fn logged(format: LogFormat, level: &str, events: impl FnOnce()) -> String {
    let memory = Memory::default();
    let subscriber = tracing_subscriber::registry()
        .with(layer(format, memory.clone()).with_filter(filter(level).unwrap()));
    tracing::subscriber::with_default(subscriber, events);
    String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn json_lines_are_one_flat_object() {
    let text = logged(LogFormat::Json, "info", || {
        let _task = tracing::info_span!("task", task = "renewer", credential = "outer").entered();
        let error: Box<dyn Error> = "a \"quoted\"\nline".into();
        tracing::warn!(credential = "arm", tries = 3_u64, ok = false, level = "x", error = %error, "renewal failed");
        tracing::debug!("not this one");
        tracing::info!("plain");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let mut first: Value = serde_json::from_str(lines[0]).unwrap();
    let timestamp = first["timestamp"].take();
    let timestamp = timestamp.as_str().unwrap();
    assert!(
        timestamp.len() == 24 && timestamp.ends_with('Z'),
        "{timestamp}"
    );
    let expected = json!({
        "timestamp": null, "level": "WARN", "target": module_path!(), "message": "renewal failed",
        "task": "renewer", "credential": "arm", "tries": 3, "ok": false, "field_level": "x",
        "error": "a \"quoted\"\nline",
    });
    assert_eq!(first, expected);
    assert!(lines[0].starts_with(r#"{"timestamp":""#), "{}", lines[0]);
    let second: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(second["message"], "plain");
}

#[test]
fn text_lines_carry_the_same_facts_without_colours() {
    let text = logged(LogFormat::Text, "info", || {
        tracing::info!(credential = "arm", "token \u{1b}[31missued");
    });
    assert!(
        text.contains("INFO") && text.contains(r#"credential="arm""#),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn directives_filter_by_target() {
    let text = logged(LogFormat::Json, "sidecar_runtime=debug,off", || {
        tracing::debug!("ours");
        tracing::error!(target: "other", "theirs");
    });
    assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
}

#[test]
fn bad_directives_are_named() {
    for good in [
        "info",
        "INFO",
        "off",
        "a=debug,info",
        "a::b=trace,warn,",
        "a[b]=info",
    ] {
        assert!(check_level(good).is_ok(), "{good}");
    }
    for (bad, named) in [
        ("inof", "inof"),
        ("info,a=debgu", "a=debgu"),
        ("", ""),
        ("a=", "a="),
        ("info,,warn", ""),
    ] {
        let error = check_level(bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{named}` is not a log level; use trace, debug,")),
            "{error}"
        );
    }
}

#[test]
fn formats_parse() {
    assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
    assert_eq!("text".parse::<LogFormat>().unwrap(), LogFormat::Text);
    assert!("logfmt".parse::<LogFormat>().is_err());
}

#[test]
fn chains_name_every_source_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("exchange failed")]
    struct Outer(#[source] io::Error);
    let error = Outer(io::Error::other("connection refused"));
    assert_eq!(
        chain(&error).to_string(),
        "exchange failed: connection refused"
    );
}
