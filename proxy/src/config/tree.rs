//! YAML text -> a tree of nodes that know their place in the file. It reports everything it can go on after, and gives a syntax error its
//! place. It knows no schema: scalars stay text until somebody asks for a type.
//!
//! Of YAML it takes what a configuration needs: anchors, aliases, merge keys, tags and directives are refused, which also leaves nothing for
//! a small file to expand into a big one.

use super::error::{Place, Problems};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, options};
use std::collections::HashSet;

/// The largest text that is read, in bytes.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The most nodes; ten thousand routes with every key set fit.
const MAX_NODES: usize = 400_000;
/// Maps and lists in one another. The schema needs six.
const MAX_DEPTH: usize = 16;

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// What stands there. `Broken`: something that has been reported already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    Broken,
}

/// A key of a map, its place, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Place,
    pub(super) node: Node,
}

/// The tree of the one document in `text`, or `None` when a syntax error was reported. An empty document is an empty map.
pub(super) fn parse(text: &str, problems: &Problems) -> Option<Node> {
    if text.len() > MAX_BYTES {
        problems.error(
            Place::Whole,
            "",
            "larger than 8 MiB; a configuration has no need of that",
        );
        return None;
    }
    let limits = options! {
        disallow_directives: true,
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        problems,
        stack: Vec::new(),
        root: None,
        nodes: 0,
        documents: 0,
    };
    for event in Parser::with_options(StrInput::new(text), limits) {
        match event {
            Ok((event, span)) => builder.take(event, span)?,
            Err(e) => {
                let place = Place::File {
                    line: e.marker().line(),
                    column: e.marker().col() + 1,
                };
                problems.error(place, "", format!("not YAML: {}", e.kind()));
                return None;
            }
        }
    }
    builder.root.or_else(|| {
        Some(Node {
            at: Place::Whole,
            value: Value::Map(Vec::new()),
        })
    })
}

/// A collection that is still open.
enum Open {
    List(Place, Vec<Node>),
    Map {
        at: Place,
        entries: Vec<Entry>,
        seen: HashSet<String>,
        key: Key,
    },
}

/// Where an open map stands.
enum Key {
    Awaited,
    Read(String, Place),
    /// The key was refused: its value is read and dropped.
    Refused,
}

struct Builder<'p> {
    problems: &'p Problems,
    stack: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Builder<'_> {
    /// One event. `None`: reading on makes no sense; the reason was reported.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let at = Place::File {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problems.error(
                        at,
                        "",
                        "a second document; a configuration is one document, remove the `---`",
                    );
                    return None;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at)?;
                let broken = self.refuse_extras(at, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let value = if broken {
                    Value::Broken
                } else if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                self.place(Node { at, value });
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(at)?;
                self.refuse_extras(at, anchor, tag.is_some());
                self.stack.push(Open::List(at, Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(at)?;
                self.refuse_extras(at, anchor, tag.is_some());
                self.stack.push(Open::Map {
                    at,
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: Key::Awaited,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop()? {
                    Open::List(at, items) => Node {
                        at,
                        value: Value::List(items),
                    },
                    Open::Map { at, entries, .. } => Node {
                        at,
                        value: Value::Map(entries),
                    },
                };
                self.place(node);
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.count(at)?;
                self.problems.error(
                    at,
                    "",
                    "aliases (`*name`) are not supported; write the value out",
                );
                self.place(Node {
                    at,
                    value: Value::Broken,
                });
            }
            _ => {}
        }
        Some(())
    }

    fn count(&mut self, at: Place) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.problems.error(
                at,
                "",
                format!("more than {MAX_NODES} values; a configuration has no need of that"),
            );
            return None;
        }
        Some(())
    }

    fn open(&mut self, at: Place) -> Option<()> {
        if self.stack.len() == MAX_DEPTH {
            self.problems.error(at, "", format!("more than {MAX_DEPTH} maps and lists in one another; nothing here nests that deep"));
            return None;
        }
        self.count(at)
    }

    /// Reports what a node may not carry; says whether there was any.
    fn refuse_extras(&self, at: Place, anchor: usize, tagged: bool) -> bool {
        if anchor != 0 {
            self.problems.error(
                at,
                "",
                "anchors (`&name`) are not supported; write the value out where it is needed",
            );
        }
        if tagged {
            self.problems
                .error(at, "", "tags (`!name`) are not supported; remove it");
        }
        anchor != 0 || tagged
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) {
        let (entries, seen, key) = match self.stack.last_mut() {
            None => {
                self.root = Some(node);
                return;
            }
            Some(Open::List(_, items)) => {
                items.push(node);
                return;
            }
            Some(Open::Map {
                entries, seen, key, ..
            }) => (entries, seen, key),
        };
        match std::mem::replace(key, Key::Awaited) {
            Key::Awaited => {
                *key = match node.value {
                    Value::Scalar(text) if text == "<<" => {
                        self.problems.error(
                            node.at,
                            "",
                            "merge keys (`<<`) are not supported; write the keys out",
                        );
                        Key::Refused
                    }
                    Value::Scalar(text) if seen.contains(&text) => {
                        self.problems.error(
                            node.at,
                            text,
                            "given twice in the same map; remove one",
                        );
                        Key::Refused
                    }
                    Value::Scalar(text) => {
                        seen.insert(text.clone());
                        Key::Read(text, node.at)
                    }
                    Value::Broken => Key::Refused,
                    Value::Null | Value::List(_) | Value::Map(_) => {
                        self.problems.error(node.at, "", "a key must be text");
                        Key::Refused
                    }
                };
            }
            Key::Read(text, key_at) => entries.push(Entry {
                key: text,
                key_at,
                node,
            }),
            Key::Refused => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Value, String> {
        let problems = Problems::new(Some("c.yaml"));
        let node = parse(text, &problems);
        problems.finish().map_err(|e| e.to_string())?;
        Ok(node.unwrap().value)
    }

    fn error(text: &str) -> String {
        tree(text).unwrap_err()
    }

    #[test]
    fn nodes_know_their_place() {
        let Value::Map(entries) = tree("a: 1\nb:\n  - {x: \"y\"}\n").unwrap() else {
            panic!()
        };
        assert_eq!(entries[0].key_at, Place::File { line: 1, column: 1 });
        assert_eq!(entries[0].node.at, Place::File { line: 1, column: 4 });
        let Value::List(items) = &entries[1].node.value else {
            panic!()
        };
        assert_eq!(items[0].at, Place::File { line: 3, column: 5 });
    }

    #[test]
    fn json_is_read_as_it_is() {
        let json = "{\n\t\"a\": [1, \"\\u0041\\/\\n\"],\r\n\t\"b\": null, \"c\":{\"d\":true}}";
        let yaml = "a: [1, \"A/\\n\"]\nb:\nc: {d: true}";
        let strip = |text| {
            fn walk(v: Value) -> String {
                match v {
                    Value::Null => "null".into(),
                    Value::Scalar(s) => format!("{s:?}"),
                    Value::List(l) => format!(
                        "{:?}",
                        l.into_iter().map(|n| walk(n.value)).collect::<Vec<_>>()
                    ),
                    Value::Map(m) => format!(
                        "{:?}",
                        m.into_iter()
                            .map(|e| (e.key, walk(e.node.value)))
                            .collect::<Vec<_>>()
                    ),
                    Value::Broken => "broken".into(),
                }
            }
            walk(tree(text).unwrap())
        };
        assert_eq!(strip(json), strip(yaml));
    }

    #[test]
    fn an_empty_document_is_an_empty_map() {
        for text in ["", "# only a comment\n", "\n\n"] {
            assert_eq!(tree(text).unwrap(), Value::Map(Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn a_syntax_error_gives_its_place() {
        assert_eq!(
            error("a: 1\nb: [1, 2\nc: 3\n"),
            "c.yaml:3:2: not YAML: illegal placement of ':' indicator"
        );
    }

    #[test]
    fn what_is_not_supported_is_reported_in_one_run() {
        assert_eq!(
            error("a: &x 1\nb: *x\nc: !t 2\n<<: {d: 1}\ne: 1\ne: 2\n[f]: 1\n"),
            "c.yaml:1:7: anchors (`&name`) are not supported; write the value out where it is needed\n\
             c.yaml:2:4: aliases (`*name`) are not supported; write the value out\n\
             c.yaml:3:7: tags (`!name`) are not supported; remove it\n\
             c.yaml:4:1: merge keys (`<<`) are not supported; write the keys out\n\
             c.yaml:6:1: e: given twice in the same map; remove one\n\
             c.yaml:7:1: a key must be text"
        );
    }

    #[test]
    fn one_document_only() {
        assert_eq!(
            error("a: 1\n---\nb: 2\n"),
            "c.yaml:2:1: a second document; a configuration is one document, remove the `---`"
        );
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let deep = "[".repeat(17);
        assert!(error(&deep).contains("c.yaml:1:17: "), "{}", error(&deep));
        let many = format!("[{}]", "1,".repeat(MAX_NODES));
        assert!(
            error(&many).contains("more than 400000 values"),
            "{}",
            error(&many)
        );
        assert!(error(&" ".repeat(MAX_BYTES + 1)).contains("larger than 8 MiB"));
    }
}
