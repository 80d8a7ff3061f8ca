//! YAML text -> documents of nodes that know where they stand in the text, and the JSON value they mean to Kubernetes. For manifests and for
//! annotations; the sidecar's own files are read by `config`, which wants other things refused.
//!
//! Plain scalars mean what `kubectl` takes them for (YAML 1.1: `yes` is true, `0644` is 420), and merge keys (`<<`) merge. Refused is what tools
//! read in different ways: keys given twice, tags of one's own.

mod builder;
mod node;
mod scalar;

use builder::Builder;
pub(super) use node::{Document, Entry, Kind, Node, Style, merged};
pub(super) use scalar::resolve;
use serde_json::Value;
use serde_saphyr::granit_parser::{Parser, StrInput, options};

/// The largest text that is read, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Maps and lists in one another.
const MAX_DEPTH: usize = 64;

/// What is wrong with a text, and where; both count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

/// The documents of a text.
///
/// # Errors
/// The first thing that is not YAML, or not supported here.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError {
            line: 1,
            column: 1,
            message: format!("larger than {} MiB; split it", MAX_BYTES >> 20),
        });
    }
    let limits = options! {
        disallow_directives: false,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::with_options(StrInput::new(text), limits) {
        match event {
            Ok((event, span)) => builder.take(event, &span)?,
            Err(e) => {
                return Err(YamlError {
                    line: e.marker().line(),
                    column: e.marker().col() + 1,
                    message: format!("not YAML: {}", e.kind()),
                });
            }
        }
    }
    let mut documents = builder.documents;
    let starts: Vec<usize> = documents
        .iter()
        .map(|d| d.at.start)
        .skip(1)
        .chain([text.len()])
        .collect();
    for (document, end) in documents.iter_mut().zip(starts) {
        document.at.end = end;
    }
    if let Some(first) = documents.first_mut() {
        first.at.start = 0;
    }
    Ok(documents)
}

/// The value of a text of one document, such as an annotation's.
///
/// # Errors
/// As [`documents`], and for more than one document.
pub(super) fn value(text: &str) -> Result<Value, YamlError> {
    let mut documents = documents(text)?;
    if let Some(second) = documents.get(1) {
        return Err(YamlError {
            line: second.line,
            column: 1,
            message: "a second document; give one".into(),
        });
    }
    Ok(documents
        .pop()
        .and_then(|d| d.root)
        .map_or(Value::Null, |n| n.value()))
}

#[cfg(test)]
mod tests;
