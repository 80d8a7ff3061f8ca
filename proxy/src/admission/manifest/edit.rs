//! Changes a document in its text: only the lines of what differs from the wanted value are touched. What comes out is read again and compared, so
//! that a case this does not know ends in `None`, never in another meaning.

use super::{
    super::yaml::{self, Kind, Node},
    emit,
};
use serde_json::{Map, Value};
use std::ops::Range;

/// The document's text with `wanted` in it, or `None` when that cannot be done in place.
pub(super) fn rewrite(text: &str, wanted: &Value) -> Option<String> {
    let documents = yaml::documents(text).ok()?;
    let [document] = documents.as_slice() else {
        return None;
    };
    let root = document.root.as_ref()?;
    let mut editor = Editor {
        text,
        step: step(root, text).unwrap_or(2),
        json: text.trim_start().starts_with('{') && serde_json::from_str::<Value>(text).is_ok(),
        edits: Vec::new(),
    };
    editor.node(root, wanted, None)?;
    let out = editor.apply()?;
    let again = yaml::documents(&out).ok()?;
    let [document] = again.as_slice() else {
        return None;
    };
    (document.root.as_ref()?.value() == *wanted).then_some(out)
}

/// How far lists stand in from their keys in this document.
fn step(node: &Node, text: &str) -> Option<usize> {
    match &node.kind {
        Kind::Map { entries, .. } => entries.iter().find_map(|e| match &e.node.kind {
            Kind::List { flow: false, items } => {
                let dash = dash(items.first()?, text)?;
                let column = dash - text.get(..dash)?.rfind('\n').map_or(0, |i| i + 1);
                column.checked_sub(e.column).map(|s| s.min(2))
            }
            _ => step(&e.node, text),
        }),
        Kind::List { items, .. } => items.iter().find_map(|n| step(n, text)),
        _ => None,
    }
}

/// The dash of a block list's item.
fn dash(item: &Node, text: &str) -> Option<usize> {
    let before = text.get(..item.at.start)?.trim_end();
    before.ends_with('-').then(|| before.len() - 1)
}

/// The entry of a block map that holds the node at hand: its key's bytes and column.
type Holder = (Range<usize>, usize);

struct Edit {
    at: Range<usize>,
    new: String,
}

struct Editor<'t> {
    text: &'t str,
    step: usize,
    /// The document is JSON, and stays it.
    json: bool,
    edits: Vec<Edit>,
}

impl Editor<'_> {
    /// Makes `node` mean `wanted`. `holder`: the entry that it is the value of, when that is in a block map.
    fn node(&mut self, node: &Node, wanted: &Value, holder: Option<&Holder>) -> Option<()> {
        if node.value() == *wanted {
            return Some(());
        }
        match (&node.kind, wanted) {
            (Kind::Map { flow, entries }, Value::Object(map))
                if !entries.is_empty() && entries.iter().any(|e| map.contains_key(&e.key)) =>
            {
                self.map(node, *flow, wanted.as_object()?)
            }
            (Kind::List { flow, items }, Value::Array(new))
                if !items.is_empty() && !new.is_empty() =>
            {
                self.list(node, *flow, new, holder)
            }
            (Kind::Scalar { block: false, .. }, new) if !is_filled(new) && !node.at.is_empty() => {
                self.edits.push(Edit {
                    at: node.at.clone(),
                    new: self.scalar(node, new),
                });
                Some(())
            }
            (Kind::List { flow: true, .. } | Kind::Map { flow: true, .. }, new)
                if holder.is_none() =>
            {
                self.edits.push(Edit {
                    at: node.at.clone(),
                    new: new.to_string(),
                });
                Some(())
            }
            (_, new) => {
                let (key, column) = holder?;
                let mut out = String::new();
                emit::entry(
                    &mut out,
                    self.text.get(key.clone())?.trim_matches(['"', '\'']),
                    new,
                    *column,
                    self.step,
                );
                let end = self.value_end(key, node);
                self.edits.push(Edit {
                    at: key.start..end,
                    new: out
                        .trim_start_matches(' ')
                        .trim_end_matches('\n')
                        .to_owned(),
                });
                Some(())
            }
        }
    }

    /// A value on one line, quoted as the one that it takes the place of.
    fn scalar(&self, old: &Node, new: &Value) -> String {
        let quote = self.text.get(old.at.start..).and_then(|t| t.chars().next());
        match (new, quote) {
            (Value::String(text), Some('\'')) if !text.chars().any(char::is_control) => {
                format!("'{}'", text.replace('\'', "''"))
            }
            (_, Some('"')) => new.to_string(),
            _ if self.json => new.to_string(),
            _ => emit::scalar(new),
        }
    }

    /// Where an entry ends, its value included: an empty value stands before its colon.
    fn value_end(&self, key: &Range<usize>, node: &Node) -> usize {
        let colon = self.text[key.end..]
            .find(':')
            .map_or(key.end, |i| key.end + i + 1);
        node.end(self.text).max(colon)
    }

    fn map(&mut self, node: &Node, flow: bool, wanted: &Map<String, Value>) -> Option<()> {
        let Kind::Map { entries, .. } = &node.kind else {
            return None;
        };
        let mut kept_end = None;
        for (i, entry) in entries.iter().enumerate() {
            let end = self.value_end(&entry.key_at, &entry.node);
            let next = entries.get(i + 1).map(|e| e.key_at.start);
            match wanted.get(&entry.key) {
                Some(value) => {
                    let holder = (entry.key_at.clone(), entry.column);
                    self.node(&entry.node, value, (!flow).then_some(&holder))?;
                    kept_end = Some(end);
                }
                None if flow => {}
                None if self.alone(entry.key_at.start) => self.cut_lines(entry.key_at.start, end),
                // The first key behind a dash: the next one takes its place.
                None => self.edits.push(Edit {
                    at: entry.key_at.start..next?,
                    new: String::new(),
                }),
            }
        }
        let new: Map<String, Value> = wanted
            .iter()
            .filter(|(k, _)| !entries.iter().any(|e| e.key == **k))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if flow {
            let places: Vec<_> = entries
                .iter()
                .map(|e| {
                    (
                        wanted.contains_key(&e.key),
                        e.key_at.start..self.value_end(&e.key_at, &e.node),
                    )
                })
                .collect();
            self.cut_flow(&places);
        }
        if new.is_empty() {
            return Some(());
        }
        if flow {
            let text = Value::Object(new).to_string();
            return self.add_flow(node, text.get(1..text.len() - 1)?);
        }
        let column = entries.first()?.column;
        let mut out = String::new();
        for (key, value) in &new {
            emit::entry(&mut out, key, value, column, self.step);
        }
        self.insert_lines(self.line_end(kept_end?), out);
        Some(())
    }

    fn list(
        &mut self,
        node: &Node,
        flow: bool,
        wanted: &[Value],
        holder: Option<&Holder>,
    ) -> Option<()> {
        let Kind::List { items, .. } = &node.kind else {
            return None;
        };
        let old: Vec<Value> = items.iter().map(Node::value).collect();
        let mut cursor = 0;
        let mut added: Vec<(usize, &Value)> = Vec::new();
        let mut kept: Vec<bool> = vec![false; items.len()];
        for value in wanted {
            let same = |exact: bool| {
                (cursor..old.len()).find(|i| {
                    old.get(*i).is_some_and(|o| {
                        if exact {
                            o == value
                        } else {
                            o.get("name").is_some() && o.get("name") == value.get("name")
                        }
                    })
                })
            };
            match same(true).or_else(|| same(false)) {
                Some(i) => {
                    self.node(items.get(i)?, value, None)?;
                    *kept.get_mut(i)? = true;
                    cursor = i + 1;
                }
                None => added.push((cursor, value)),
            }
        }
        let places: Vec<_> = kept
            .iter()
            .zip(items)
            .map(|(kept, item)| (*kept, item.at.start..item.end(self.text)))
            .collect();
        if flow {
            self.cut_flow(&places);
        } else {
            for (_, item) in kept.iter().zip(items).filter(|(kept, _)| !**kept) {
                let dash = dash(item, self.text)?;
                if !self.alone(dash) {
                    return None;
                }
                self.cut_lines(dash, item.end(self.text));
            }
        }
        for (before, value) in added {
            if flow {
                if before < items.len() {
                    let at = items.get(before)?.at.start;
                    self.edits.push(Edit {
                        at: at..at,
                        new: format!("{value}, "),
                    });
                } else {
                    self.add_flow(node, &value.to_string())?;
                }
                continue;
            }
            let column = self.column(dash(items.first()?, self.text)?);
            let mut out = String::new();
            emit::item(&mut out, value, column, self.step);
            let at = match before.checked_sub(1) {
                Some(last) => self.line_end(items.get(last)?.end(self.text)),
                // Below the key: comments above the first item stay the first item's.
                None => self.line_end(holder?.0.end),
            };
            self.insert_lines(at, out);
        }
        Some(())
    }

    /// Puts text before the closing bracket of a flow collection.
    fn add_flow(&mut self, node: &Node, new: &str) -> Option<()> {
        let close = node.at.end.checked_sub(1)?;
        let before = self.text.get(node.at.start..close)?.trim_end();
        let comma = if before.ends_with(',') || before.len() <= 1 {
            ""
        } else {
            ", "
        };
        let at = node.at.start + before.len();
        // After edits at the same place: those of earlier items come first.
        self.edits.push(Edit {
            at: at..at,
            new: format!("{comma}{new}"),
        });
        Some(())
    }

    /// Takes the items that are not kept out of a flow collection, with the commas behind them, or, for the last ones, before them.
    fn cut_flow(&mut self, items: &[(bool, Range<usize>)]) {
        let mut from = 0;
        while let Some(first) = items
            .iter()
            .skip(from)
            .position(|(kept, _)| !kept)
            .map(|i| i + from)
        {
            let next = items
                .iter()
                .skip(first)
                .position(|(kept, _)| *kept)
                .map(|i| i + first);
            let before = first.checked_sub(1).and_then(|i| items.get(i));
            let (start, end) = match (next.and_then(|i| items.get(i)), before) {
                (Some((_, next)), _) => {
                    (items.get(first).map(|(_, at)| at.start), Some(next.start))
                }
                (None, Some((_, before))) => (Some(before.end), items.last().map(|(_, at)| at.end)),
                (None, None) => (
                    items.first().map(|(_, at)| at.start),
                    items.last().map(|(_, at)| at.end),
                ),
            };
            if let (Some(start), Some(end)) = (start, end) {
                self.edits.push(Edit {
                    at: start..end,
                    new: String::new(),
                });
            }
            from = next.unwrap_or(items.len());
        }
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |i| i + 1)
    }

    /// Behind the line's end.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |i| at + i + 1)
    }

    /// Whether nothing but spaces is before it on its line.
    fn alone(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at]
            .bytes()
            .all(|b| b == b' ')
    }

    fn cut_lines(&mut self, start: usize, end: usize) {
        let (mut start, end) = (self.line_start(start), self.line_end(end));
        // At the end of a text without a last line end, the one before goes instead.
        if end == self.text.len() && !self.text.ends_with('\n') && start > 0 {
            start -= 1;
        }
        self.edits.push(Edit {
            at: start..end,
            new: String::new(),
        });
    }

    fn insert_lines(&mut self, at: usize, mut lines: String) {
        if self.text.contains("\r\n") {
            lines = lines.replace('\n', "\r\n");
        }
        if at == self.text.len() && !self.text.ends_with('\n') {
            lines = format!("\n{}", lines.trim_end_matches('\n'));
        }
        self.edits.push(Edit {
            at: at..at,
            new: lines,
        });
    }

    /// The new text; `None` when edits are in one another's way.
    fn apply(mut self) -> Option<String> {
        self.edits.sort_by_key(|e| (e.at.start, e.at.end));
        let mut out = String::with_capacity(self.text.len() + 4096);
        let mut done = 0;
        for edit in &self.edits {
            if edit.at.start < done {
                return None;
            }
            out.push_str(self.text.get(done..edit.at.start)?);
            out.push_str(&edit.new);
            done = edit.at.end;
        }
        out.push_str(self.text.get(done..)?);
        Some(out)
    }
}

/// A map or a list with something in it.
fn is_filled(value: &Value) -> bool {
    value.as_object().is_some_and(|m| !m.is_empty())
        || value.as_array().is_some_and(|a| !a.is_empty())
}
