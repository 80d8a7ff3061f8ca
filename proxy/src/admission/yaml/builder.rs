//! A parser's events -> documents: anchors and aliases, merge keys, tags, and what is refused of them.

use super::{
    YamlError,
    node::{Document, Entry, Kind, Node, Style},
    scalar,
};
use serde_json::Value;
use serde_saphyr::granit_parser::{Event, ScalarStyle, Span, StructureStyle, Tag};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

/// The most nodes, those that aliases repeat included.
const MAX_NODES: usize = 1_000_000;
const TAGS: &str =
    "write the value without it (there are !!str, !!int, !!float, !!bool, !!null, !!map and !!seq)";

/// A collection that is still open.
struct Open {
    node: Node,
    seen: HashSet<String>,
    key: Option<Key>,
}

/// A key that waits for its value.
struct Key {
    text: String,
    at: Range<usize>,
    column: usize,
    merge: bool,
}

/// Puts documents together from a parser's events.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) documents: Vec<Document>,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    /// The document at hand has a first node.
    begun: bool,
}

impl Builder {
    /// # Errors
    /// What is not supported here, with its place.
    pub(super) fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let at = bytes(span);
        let column = span.start.col();
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.begun = false;
                self.documents.push(Document {
                    at,
                    line: span.start.line(),
                    root: None,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, span)?;
                let value = match tag.as_deref() {
                    Some(tag) => own(tag)
                        .and_then(|kind| scalar::tagged(kind, &text))
                        .ok_or_else(|| unknown(tag, span))?,
                    None if style == ScalarStyle::Plain => scalar::resolve(&text),
                    None => Value::String(text.into_owned()),
                };
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    _ => Style::Quoted,
                };
                // What an empty plain scalar's text would be is not in the text.
                let at = if at.is_empty() {
                    at.start..at.start
                } else {
                    at
                };
                self.place(
                    Node {
                        at,
                        column,
                        anchor,
                        kind: Kind::Scalar { value, style },
                    },
                    span,
                )?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                known(tag.as_deref(), "seq", span)?;
                let kind = Kind::List {
                    flow: style == StructureStyle::Flow,
                    items: Vec::new(),
                };
                self.open(at, column, kind, anchor, span)?;
            }
            Event::MappingStart(style, anchor, tag) => {
                known(tag.as_deref(), "map", span)?;
                let kind = Kind::Map {
                    flow: style == StructureStyle::Flow,
                    entries: Vec::new(),
                };
                self.open(at, column, kind, anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.stack.pop() {
                    open.node.at.end = at.end.max(open.node.at.start);
                    self.place(open.node, span)?;
                }
            }
            Event::Alias(anchor) => {
                let Some((value, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(refused(
                        span,
                        "an alias inside its own anchor; write the value out",
                    ));
                };
                self.count(nodes, span)?;
                self.place(
                    Node {
                        at,
                        column,
                        anchor: 0,
                        kind: Kind::Alias { anchor, value },
                    },
                    span,
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), YamlError> {
        self.nodes += nodes;
        if !std::mem::replace(&mut self.begun, true)
            && let Some(document) = self.documents.last_mut()
        {
            document.line = span.start.line();
        }
        if self.nodes > MAX_NODES {
            return Err(refused(span, "more than a million values; split the file"));
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: Range<usize>,
        column: usize,
        kind: Kind,
        anchor: usize,
        span: &Span,
    ) -> Result<(), YamlError> {
        self.count(1, span)?;
        self.stack.push(Open {
            node: Node {
                at,
                column,
                anchor,
                kind,
            },
            seen: HashSet::new(),
            key: None,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, span: &Span) -> Result<(), YamlError> {
        if node.anchor != 0 {
            let value = node.value();
            let nodes = size(&value);
            self.anchors.insert(node.anchor, (value, nodes));
        }
        let Some(open) = self.stack.last_mut() else {
            if let Some(document) = self.documents.last_mut() {
                document.root = Some(node);
            }
            return Ok(());
        };
        match &mut open.node.kind {
            Kind::List { items, .. } => items.push(node),
            Kind::Map { entries, .. } => match open.key.take() {
                Some(key) => {
                    if key.merge {
                        mergeable(&node, &open.seen).map_err(|e| refused(span, &e))?;
                    }
                    entries.push(Entry {
                        key: key.text,
                        key_at: key.at,
                        column: key.column,
                        merge: key.merge,
                        node,
                    });
                }
                None => {
                    let key = Key::of(node, span)?;
                    if !open.seen.insert(key.text.clone()) {
                        return Err(refused(
                            span,
                            "a key that is given twice in the same map; remove one",
                        ));
                    }
                    open.key = Some(key);
                }
            },
            Kind::Scalar { .. } | Kind::Alias { .. } => {}
        }
        Ok(())
    }
}

impl Key {
    fn of(node: Node, span: &Span) -> Result<Self, YamlError> {
        let plain = matches!(
            node.kind,
            Kind::Scalar {
                style: Style::Plain,
                ..
            }
        );
        let text = match node.value() {
            Value::String(text) => text,
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(refused(span, "a key must be text"));
            }
            other => other.to_string(),
        };
        Ok(Self {
            merge: plain && text == "<<",
            text,
            at: node.at,
            column: node.column,
        })
    }
}

/// Whether what `<<` holds can be merged into a map that has these keys before it.
fn mergeable(node: &Node, before: &HashSet<String>) -> Result<(), String> {
    let sources = match node.value() {
        Value::Array(sources) => sources,
        source => vec![source],
    };
    for source in sources {
        let Value::Object(map) = source else {
            return Err("`<<` merges maps, and this is none; write `<<: *name` of an anchored map, or a list of such".into());
        };
        if let Some(key) = map.keys().find(|k| before.contains(*k)) {
            return Err(format!(
                "`<<` merges the key {}, which stands before it, and tools differ on which of the two counts; put `<<` first",
                key.escape_debug()
            ));
        }
    }
    Ok(())
}

/// What a tag says; `None`: nothing that is known here.
fn own(tag: &Tag) -> Option<&str> {
    // `!` alone: text, whatever it looks like.
    let bare = tag.original_handle().is_empty() && tag.suffix() == "!";
    if bare { Some("str") } else { tag.core_suffix() }
}

fn unknown(tag: &Tag, span: &Span) -> YamlError {
    let tag = tag.original();
    refused(
        span,
        &format!(
            "the tag {} is not known, or the value is not of its kind; {TAGS}",
            tag.escape_debug()
        ),
    )
}

/// A collection's tag says that it is what it is, or nothing.
fn known(tag: Option<&Tag>, name: &str, span: &Span) -> Result<(), YamlError> {
    match tag {
        Some(tag) if own(tag) != Some(name) => Err(unknown(tag, span)),
        _ => Ok(()),
    }
}

fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or_default()
}

fn refused(span: &Span, message: &str) -> YamlError {
    YamlError {
        line: span.start.line(),
        column: span.start.col() + 1,
        message: message.into(),
    }
}

/// How many nodes a value is.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}
