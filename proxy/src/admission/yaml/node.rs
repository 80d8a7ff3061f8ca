//! What a document is made of: values, and where they stand in the text. Knows no parser.

use serde_json::{Map, Value};
use std::ops::Range;

/// One document of a text.
#[derive(Debug)]
pub(in super::super) struct Document {
    /// Where it begins (its `---`, when it has one) and where the next one does, in bytes.
    pub(in super::super) at: Range<usize>,
    /// Line of its first node, from 1.
    pub(in super::super) line: usize,
    /// What it holds; `None`: nothing, or comments alone.
    pub(in super::super) root: Option<Node>,
}

/// A value, and where it stands in the text.
#[derive(Debug)]
pub(in super::super) struct Node {
    /// Its bytes, without anchor and tag. A block map or list has no end of its own: see [`Node::end`].
    pub(in super::super) at: Range<usize>,
    /// Its first character's column, from 0.
    pub(in super::super) column: usize,
    /// The number of its anchor (`&name`); 0: it has none.
    pub(in super::super) anchor: usize,
    pub(in super::super) kind: Kind,
}

/// What stands there.
#[derive(Debug)]
pub(in super::super) enum Kind {
    Scalar {
        value: Value,
        style: Style,
    },
    List {
        flow: bool,
        items: Vec<Node>,
    },
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    /// `*name`: the number of the anchor, and what its node means.
    Alias {
        anchor: usize,
        value: Value,
    },
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Style {
    Plain,
    Quoted,
    /// Literal or folded: its bytes are the lines below its header.
    Block,
}

/// A key and what it holds.
#[derive(Debug)]
pub(in super::super) struct Entry {
    pub(in super::super) key: String,
    pub(in super::super) key_at: Range<usize>,
    pub(in super::super) column: usize,
    /// It is `<<`: what it holds is merged into the map.
    pub(in super::super) merge: bool,
    pub(in super::super) node: Node,
}

impl Node {
    /// What it means.
    pub(in super::super) fn value(&self) -> Value {
        self.value_with(&|_, value| value.clone())
    }

    /// What it means when aliases mean what `alias` says, given the number of the anchor and what it means in the text.
    pub(in super::super) fn value_with(&self, alias: &dyn Fn(usize, &Value) -> Value) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } => value.clone(),
            Kind::Alias { anchor, value } => alias(*anchor, value),
            Kind::List { items, .. } => items.iter().map(|n| n.value_with(alias)).collect(),
            Kind::Map { entries, .. } => {
                let mut map = merged(entries, alias);
                let own = entries.iter().filter(|e| !e.merge);
                map.extend(own.map(|e| (e.key.clone(), e.node.value_with(alias))));
                map.into()
            }
        }
    }

    /// Where its text ends, without what a block scalar's span has after its last line.
    pub(in super::super) fn end(&self, text: &str) -> usize {
        match &self.kind {
            Kind::List { flow: false, items } => items.last().map_or(self.at.end, |n| n.end(text)),
            Kind::Map {
                flow: false,
                entries,
            } => entries.last().map_or(self.at.end, |e| {
                // An empty value stands before its colon.
                let colon = text[e.key_at.end..]
                    .find(':')
                    .map_or(e.key_at.end, |i| e.key_at.end + i + 1);
                e.node.end(text).max(colon)
            }),
            Kind::Scalar {
                style: Style::Block,
                value,
            } => {
                let value = value.as_str().unwrap_or_default();
                // More than a line end at the end of the value: it was told to keep its empty lines (`|+`).
                let kept = value.ends_with("\n\n") || value.trim().is_empty();
                let last = text[..self.at.end].rfind('\n').filter(|_| kept);
                let body = text[self.at.clone()].trim_end();
                last.unwrap_or(self.at.start + body.len())
            }
            _ => self.at.end,
        }
    }
}

/// What the merge keys of a map bring into it: of a key that several bring, the first counts.
pub(in super::super) fn merged(
    entries: &[Entry],
    alias: &dyn Fn(usize, &Value) -> Value,
) -> Map<String, Value> {
    let mut out = Map::new();
    for entry in entries.iter().filter(|e| e.merge) {
        let sources = match entry.node.value_with(alias) {
            Value::Array(sources) => sources,
            source => vec![source],
        };
        for source in sources {
            if let Value::Object(map) = source {
                for (key, value) in map {
                    out.entry(key).or_insert(value);
                }
            }
        }
    }
    out
}
