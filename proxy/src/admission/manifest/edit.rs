//! Changes a document in its text: only the lines of what differs from the wanted value are touched. What comes out is read again and compared, so
//! that a case this does not know ends in `None`, never in another meaning.
//!
//! An alias stays one while its anchor does and it means what is wanted there; else its value is written out. Keys that `<<` brings are overridden, or
//! written out.

mod lines;

use super::{
    super::yaml::{self, Entry, Kind, Node, Style, merged},
    emit,
};
use lines::Edits;
use serde_json::{Map, Value};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

/// The document's text with `wanted` in it, or `None` when that cannot be done in place.
pub(super) fn rewrite(text: &str, wanted: &Value) -> Option<String> {
    let documents = yaml::documents(text).ok()?;
    let [document] = documents.as_slice() else {
        return None;
    };
    let root = document.root.as_ref()?;
    let mut editor = Editor {
        edits: Edits::of(text),
        step: step(root, text).unwrap_or(2),
        json: text.trim_start().starts_with('{') && serde_json::from_str::<Value>(text).is_ok(),
        anchors: HashMap::new(),
        gone: HashSet::new(),
    };
    editor.learn(root, wanted);
    editor.node(root, wanted, None)?;
    let out = editor.edits.apply()?;
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

/// The dash of a block list's item. Between the two, there may be its anchor, its tag, and comments.
fn dash(item: &Node, text: &str) -> Option<usize> {
    let mut before = text.get(..item.at.start)?.trim_end();
    loop {
        if before.ends_with('-') {
            return Some(before.len() - 1);
        }
        let line = before.rfind('\n').map_or(0, |i| i + 1);
        let comment = before
            .get(line..)?
            .char_indices()
            .find(|(i, c)| *c == '#' && !before[..line + i].ends_with(|c: char| !c.is_whitespace()))
            .map(|(i, _)| line + i);
        let word = before.rfind(char::is_whitespace).map_or(0, |i| i + 1);
        let cut = match comment {
            Some(comment) => comment,
            None if before.get(word..)?.starts_with(['&', '!']) => word,
            None => return None,
        };
        before = before.get(..cut)?.trim_end();
    }
}

/// Which of the old items each wanted one is: the same one, else one of the same name, else what is left over in its place; in order. `None`: it is
/// new.
fn pair(old: &[Value], wanted: &[Value]) -> Vec<Option<usize>> {
    let mut pairs: Vec<Option<usize>> = Vec::with_capacity(wanted.len());
    let mut cursor = 0;
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
        let found = same(true).or_else(|| same(false));
        if let Some(i) = found {
            cursor = i + 1;
        }
        pairs.push(found);
    }
    // Between two that are found, as many as there were: each is the one in its place.
    let (mut from, mut before) = (0, 0);
    while from < pairs.len() {
        let to = (from..pairs.len())
            .find(|i| pairs[*i].is_some())
            .unwrap_or(pairs.len());
        let next = pairs.get(to).copied().flatten().unwrap_or(old.len());
        if next - before == to - from {
            for (i, pair) in pairs[from..to].iter_mut().enumerate() {
                *pair = Some(before + i);
            }
        }
        (from, before) = (to + 1, next + 1);
    }
    pairs
}

/// The entry of a block map that holds the node at hand: its key's bytes and column.
type Holder = (Range<usize>, usize);

struct Editor<'t> {
    edits: Edits<'t>,
    step: usize,
    /// The document is JSON, and stays it.
    json: bool,
    /// What anchored nodes are to mean, by the number of the anchor.
    anchors: HashMap<usize, Value>,
    /// Anchors whose nodes go: nothing can refer to them any more.
    gone: HashSet<usize>,
}

impl Editor<'_> {
    /// Finds what each anchored node is to mean, and which go, so that their aliases are known to change with them.
    fn learn(&mut self, node: &Node, wanted: &Value) {
        if node.anchor != 0 {
            self.anchors.insert(node.anchor, wanted.clone());
        }
        match (&node.kind, wanted) {
            (Kind::Map { entries, .. }, Value::Object(map)) => {
                for entry in entries {
                    if entry.merge {
                        self.learn(&entry.node, &entry.node.value());
                    } else if let Some(value) = map.get(&entry.key) {
                        self.learn(&entry.node, value);
                    } else {
                        self.lose(&entry.node);
                    }
                }
            }
            (Kind::List { items, .. }, Value::Array(new)) => {
                let old: Vec<Value> = items.iter().map(Node::value).collect();
                let pairs = pair(&old, new);
                for (i, item) in items.iter().enumerate() {
                    let at = pairs.iter().position(|p| *p == Some(i));
                    match at.and_then(|at| new.get(at)) {
                        Some(value) => self.learn(item, value),
                        None => self.lose(item),
                    }
                }
            }
            (Kind::Map { .. } | Kind::List { .. }, _) => self.lose(node),
            _ => {}
        }
    }

    /// A node goes, and what is anchored in it.
    fn lose(&mut self, node: &Node) {
        if node.anchor != 0 {
            self.gone.insert(node.anchor);
        }
        match &node.kind {
            Kind::Map { entries, .. } => entries.iter().for_each(|e| self.lose(&e.node)),
            Kind::List { items, .. } => items.iter().for_each(|n| self.lose(n)),
            Kind::Scalar { .. } | Kind::Alias { .. } => {}
        }
    }

    /// Whether there is an alias in a node whose anchor goes.
    fn dangles(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Alias { anchor, .. } => self.gone.contains(anchor),
            Kind::Map { entries, .. } => entries.iter().any(|e| self.dangles(&e.node)),
            Kind::List { items, .. } => items.iter().any(|n| self.dangles(n)),
            Kind::Scalar { .. } => false,
        }
    }

    fn alias(&self) -> impl Fn(usize, &Value) -> Value + '_ {
        |anchor, value| self.anchors.get(&anchor).unwrap_or(value).clone()
    }

    /// What a node comes to mean by changes elsewhere.
    fn becomes(&self, node: &Node) -> Value {
        node.value_with(&self.alias())
    }

    /// Makes `node` mean `wanted`. `holder`: the entry that it is the value of, when that is in a block map.
    fn node(&mut self, node: &Node, wanted: &Value, holder: Option<&Holder>) -> Option<()> {
        if self.becomes(node) == *wanted && !self.dangles(node) {
            return Some(());
        }
        match (&node.kind, wanted) {
            (Kind::Map { flow, entries }, Value::Object(map))
                if entries.iter().any(|e| e.merge || map.contains_key(&e.key)) =>
            {
                self.map(node, *flow, map)
            }
            (Kind::List { flow, items }, Value::Array(new))
                if !items.is_empty() && !new.is_empty() =>
            {
                self.list(node, *flow, new, holder)
            }
            (
                Kind::Scalar {
                    style: Style::Plain | Style::Quoted,
                    ..
                },
                new,
            ) if !is_filled(new) && !node.at.is_empty() => {
                let new = self.scalar(node, new);
                self.edits.replace(node.at.clone(), new);
                Some(())
            }
            (
                Kind::List { flow: true, .. } | Kind::Map { flow: true, .. } | Kind::Alias { .. },
                new,
            ) if holder.is_none() => {
                self.edits.replace(node.at.clone(), new.to_string());
                Some(())
            }
            (_, new) => {
                let (key, column) = holder?;
                let name = self.edits.text.get(key.clone())?;
                let mut out = String::new();
                emit::entry(
                    &mut out,
                    name.trim_matches(['"', '\'']),
                    new,
                    *column,
                    self.step,
                );
                let end = self.edits.value_end(key, node);
                let out = out.trim_start_matches(' ').trim_end_matches('\n');
                self.edits.replace(key.start..end, out.to_owned());
                Some(())
            }
        }
    }

    /// A value on one line, quoted as the one that it takes the place of.
    fn scalar(&self, old: &Node, new: &Value) -> String {
        let quote = self
            .edits
            .text
            .get(old.at.start..)
            .and_then(|t| t.chars().next());
        match (new, quote) {
            (Value::String(text), Some('\'')) if !text.chars().any(char::is_control) => {
                format!("'{}'", text.replace('\'', "''"))
            }
            (_, Some('"')) => new.to_string(),
            _ if self.json => new.to_string(),
            _ => emit::scalar(new),
        }
    }

    fn map(&mut self, node: &Node, flow: bool, wanted: &Map<String, Value>) -> Option<()> {
        let Kind::Map { entries, .. } = &node.kind else {
            return None;
        };
        let brought = merged(entries, &self.alias());
        // A key that `<<` brings and nobody wants cannot be taken out of it: what it brings is written out.
        let write_out = brought.keys().any(|k| !wanted.contains_key(k))
            || entries.iter().any(|e| e.merge && self.dangles(&e.node));
        let stays = |e: &Entry| {
            if e.merge {
                !write_out
            } else {
                wanted.contains_key(&e.key)
            }
        };
        let mut kept_end = None;
        for (i, entry) in entries.iter().enumerate() {
            let end = self.edits.value_end(&entry.key_at, &entry.node);
            if stays(entry) {
                kept_end = Some(end);
                if let Some(value) = wanted.get(&entry.key).filter(|_| !entry.merge) {
                    let holder = (entry.key_at.clone(), entry.column);
                    self.node(&entry.node, value, (!flow).then_some(&holder))?;
                }
            } else if !flow && self.edits.alone(entry.key_at.start) {
                self.edits.cut_lines(entry.key_at.start, end);
            } else if !flow {
                // The first key behind a dash: the next one takes its place.
                let next = entries.get(i + 1)?.key_at.start;
                self.edits.replace(entry.key_at.start..next, String::new());
            }
        }
        let new: Map<String, Value> = wanted
            .iter()
            .filter(|(k, v)| {
                let own = entries.iter().any(|e| !e.merge && e.key == **k);
                let comes = !write_out && brought.get(*k) == Some(*v);
                !own && !comes
            })
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if flow {
            let place = |e: &Entry| e.key_at.start..self.edits.value_end(&e.key_at, &e.node);
            let places: Vec<_> = entries.iter().map(|e| (stays(e), place(e))).collect();
            self.edits.cut_flow(&places);
        }
        if new.is_empty() {
            return Some(());
        }
        if flow {
            let text = Value::Object(new).to_string();
            let new = text.get(1..text.len() - 1)?;
            self.edits.add_flow(node, kept_end, new);
            return Some(());
        }
        let column = entries.first()?.column;
        let mut out = String::new();
        for (key, value) in &new {
            emit::entry(&mut out, key, value, column, self.step);
        }
        self.edits.insert_lines(self.edits.line_end(kept_end?), out);
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
        let mut added: Vec<(usize, &Value)> = Vec::new();
        let mut kept: Vec<bool> = vec![false; items.len()];
        let mut behind = 0;
        for (at, value) in pair(&old, wanted).into_iter().zip(wanted) {
            match at {
                Some(i) => {
                    self.node(items.get(i)?, value, None)?;
                    *kept.get_mut(i)? = true;
                    behind = i + 1;
                }
                None => added.push((behind, value)),
            }
        }
        let text = self.edits.text;
        let places: Vec<_> = kept
            .iter()
            .zip(items)
            .map(|(kept, item)| (*kept, item.at.start..item.end(text)))
            .collect();
        if flow {
            self.edits.cut_flow(&places);
        } else {
            for (_, item) in kept.iter().zip(items).filter(|(kept, _)| !**kept) {
                let dash = dash(item, text)?;
                if !self.edits.alone(dash) {
                    return None;
                }
                self.edits.cut_lines(dash, item.end(text));
            }
        }
        for (before, value) in added {
            if flow {
                if before < items.len() {
                    let at = items.get(before)?.at.start;
                    self.edits.replace(at..at, format!("{value}, "));
                } else {
                    let last = places.iter().rev().find(|(kept, _)| *kept);
                    let last = last.map(|(_, at)| at.end);
                    self.edits.add_flow(node, last, &value.to_string());
                }
                continue;
            }
            let column = self.edits.column(dash(items.first()?, text)?);
            let mut out = String::new();
            emit::item(&mut out, value, column, self.step);
            let at = match before.checked_sub(1) {
                Some(last) => self.edits.line_end(items.get(last)?.end(text)),
                // Below the key: comments above the first item stay the first item's.
                None => self.edits.line_end(holder?.0.end),
            };
            self.edits.insert_lines(at, out);
        }
        Some(())
    }
}

/// A map or a list with something in it.
fn is_filled(value: &Value) -> bool {
    value.as_object().is_some_and(|m| !m.is_empty())
        || value.as_array().is_some_and(|a| !a.is_empty())
}
