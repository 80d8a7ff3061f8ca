//! YAML text -> documents of nodes that know where they stand in the text, and the JSON value they mean to Kubernetes. For manifests and for
//! annotations; the sidecar's own files are read by `config`, which wants other things refused.
//!
//! Plain scalars mean what `kubectl` takes them for (YAML 1.1: `yes` is true, `0644` is 420). Merge keys and tags other than `!!str` are refused.

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{
    Event, Parser, ScalarStyle, Span, StrInput, StructureStyle, options,
};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

/// The largest text that is read, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The most nodes, those that aliases repeat included.
const MAX_NODES: usize = 1_000_000;
/// Maps and lists in one another.
const MAX_DEPTH: usize = 64;

/// What is wrong with a text, and where; both count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

/// One document of a text.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it begins (its `---`, when it has one) and where the next one does, in bytes.
    pub(super) at: Range<usize>,
    /// Line of its first node, from 1.
    pub(super) line: usize,
    /// What it holds; `None`: nothing, or comments alone.
    pub(super) root: Option<Node>,
}

/// A value, and where it stands in the text.
#[derive(Debug)]
pub(super) struct Node {
    /// Its bytes. A block map or list has no end of its own: see [`Node::end`].
    pub(super) at: Range<usize>,
    /// Its first character's column, from 0.
    pub(super) column: usize,
    pub(super) kind: Kind,
}

/// What stands there.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar {
        value: Value,
        /// Literal or folded: its bytes are the lines below its header.
        block: bool,
    },
    List {
        flow: bool,
        items: Vec<Node>,
    },
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    /// `*name`: what the anchor's node means.
    Alias(Value),
}

/// A key and what it holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Range<usize>,
    pub(super) column: usize,
    pub(super) node: Node,
}

impl Node {
    /// What it means.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } | Kind::Alias(value) => value.clone(),
            Kind::List { items, .. } => items.iter().map(Self::value).collect(),
            Kind::Map { entries, .. } => entries
                .iter()
                .map(|e| (e.key.clone(), e.node.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// Where its text ends, without what a block scalar's span has after its last line.
    pub(super) fn end(&self, text: &str) -> usize {
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
            Kind::Scalar { block: true, .. } => {
                let body = &text[self.at.clone()];
                self.at.start + body.trim_end().len()
            }
            _ => self.at.end,
        }
    }
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
        disallow_directives: true,
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

/// A collection that is still open.
struct Open {
    node: Node,
    anchor: usize,
    seen: HashSet<String>,
    key: Option<(String, Range<usize>, usize)>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Document>,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    /// The document at hand has a first node.
    begun: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
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
                let forced = match &tag {
                    None => false,
                    Some(tag) if tag.suffix() == "str" => true,
                    Some(_) => {
                        return Err(refused(span, "tags (`!name`) are not supported; remove it"));
                    }
                };
                let value = if forced || style != ScalarStyle::Plain {
                    Value::String(text.into_owned())
                } else {
                    resolve(&text)
                };
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
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
                        kind: Kind::Scalar { value, block },
                    },
                    anchor,
                    span,
                )?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                let kind = Kind::List {
                    flow: style == StructureStyle::Flow,
                    items: Vec::new(),
                };
                self.open(at, column, kind, anchor, tag.is_some(), span)?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let kind = Kind::Map {
                    flow: style == StructureStyle::Flow,
                    entries: Vec::new(),
                };
                self.open(at, column, kind, anchor, tag.is_some(), span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.stack.pop() {
                    open.node.at.end = at.end.max(open.node.at.start);
                    self.place(open.node, open.anchor, span)?;
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
                        kind: Kind::Alias(value),
                    },
                    0,
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
        tagged: bool,
        span: &Span,
    ) -> Result<(), YamlError> {
        self.count(1, span)?;
        if tagged {
            return Err(refused(span, "tags (`!name`) are not supported; remove it"));
        }
        self.stack.push(Open {
            node: Node { at, column, kind },
            anchor,
            seen: HashSet::new(),
            key: None,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize, span: &Span) -> Result<(), YamlError> {
        if anchor != 0 {
            let value = node.value();
            let nodes = size(&value);
            self.anchors.insert(anchor, (value, nodes));
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
                Some((key, key_at, column)) => entries.push(Entry {
                    key,
                    key_at,
                    column,
                    node,
                }),
                None => {
                    let key = match node.value() {
                        Value::String(key) => key,
                        Value::Null | Value::Array(_) | Value::Object(_) => {
                            return Err(refused(span, "a key must be text"));
                        }
                        other => other.to_string(),
                    };
                    if key == "<<" {
                        return Err(refused(
                            span,
                            "merge keys (`<<`) are not supported; write the keys out",
                        ));
                    }
                    if !open.seen.insert(key.clone()) {
                        return Err(refused(
                            span,
                            "a key that is given twice in the same map; remove one",
                        ));
                    }
                    open.key = Some((key, node.at, node.column));
                }
            },
            Kind::Scalar { .. } | Kind::Alias(_) => {}
        }
        Ok(())
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

/// What a plain scalar means to Kubernetes.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let radix = |digits: &str, radix| {
        let n = i64::from_str_radix(digits, radix).ok()?;
        Some(if text.starts_with('-') { -n } else { n }.into())
    };
    for (prefix, base) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return radix(digits, base);
        }
    }
    if unsigned.len() > 1
        && unsigned.starts_with('0')
        && unsigned.bytes().all(|b| (b'0'..=b'7').contains(&b))
    {
        return radix(unsigned, 8);
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = plain.parse::<i64>() {
        return Some(n.into());
    }
    if let Ok(n) = plain.parse::<u64>() {
        return Some(n.into());
    }
    // Not `inf`, not a version such as 1.2.3, not an address.
    let float = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    float
        .then(|| plain.parse::<f64>().ok().and_then(Number::from_f64))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_mean_what_kubectl_takes_them_for() {
        for (text, meant) in [
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("-7", json!(-7)),
            ("+7", json!(7)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("10m", json!("10m")),
            ("089", json!(89)),
            ("-c", json!("-c")),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(resolve(text), meant, "{text}");
        }
        assert_eq!(
            value("a: \"0644\"\nb: !!str 1\nc: 'no'").unwrap(),
            json!({"a": "0644", "b": "1", "c": "no"})
        );
    }

    #[test]
    fn documents_know_their_bounds() {
        let text = "# c\na: 1\n---\nb: 2\n...\n---\n# nothing\n---\nc: {d: [1, x]}\n";
        let documents = documents(text).unwrap();
        let parts: Vec<&str> = documents.iter().map(|d| &text[d.at.clone()]).collect();
        assert_eq!(
            parts,
            [
                "# c\na: 1\n",
                "---\nb: 2\n...\n",
                "---\n# nothing\n",
                "---\nc: {d: [1, x]}\n"
            ]
        );
        assert_eq!(
            documents[3].root.as_ref().unwrap().value(),
            json!({"c": {"d": [1, "x"]}})
        );
        assert_eq!(documents[3].line, 9);
    }

    #[test]
    fn aliases_are_resolved_and_cannot_grow_without_bound() {
        assert_eq!(
            value("a: &x {b: 1}\nc: *x").unwrap(),
            json!({"a": {"b": 1}, "c": {"b": 1}})
        );
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let many = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{many}]\n"));
        }
        assert!(value(&bomb).unwrap_err().message.contains("a million"));
    }

    #[test]
    fn what_is_not_supported_gives_its_place() {
        let error = |text: &str| {
            let e = value(text).unwrap_err();
            format!("{}:{}: {}", e.line, e.column, e.message)
        };
        assert_eq!(
            error("a: 1\n<<: {b: 1}"),
            "2:1: merge keys (`<<`) are not supported; write the keys out"
        );
        assert_eq!(
            error("a: 1\na: 2"),
            "2:1: a key that is given twice in the same map; remove one"
        );
        assert_eq!(
            error("a: !x 1"),
            "1:7: tags (`!name`) are not supported; remove it"
        );
        assert_eq!(error("a: [1"), "1:4: not YAML: unclosed bracket '['");
        assert_eq!(error("a: 1\n---\nb: 1"), "3:1: a second document; give one");
    }
}
