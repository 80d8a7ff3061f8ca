//! A map of the tree, read key by key against the table of keys: unknown keys, missing keys and wrong types are reported, and defaults taken,
//! in here. Every reader gives `None` when it has reported something, so that the caller can go on to the next key.

use super::{
    error::{Place, Problems},
    keys::{self, Presence},
    tree::{Entry, Node, Value},
};
use sidecar_runtime::suggest;

/// What reading needs beside the tree.
pub(super) struct Context<'a> {
    pub(super) problems: &'a Problems,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) surroundings: Surroundings,
}

/// Whose variables stand in for what a configuration leaves out: that decides what mends one that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surroundings {
    /// The sidecar's own, in whatever way it was started.
    Process,
    /// Those that injection will give it. `projected`: by a profile with a token of its own, which has the ids as keys.
    Injected { projected: bool },
}

impl Context<'_> {
    /// A variable's value; an empty one counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|v| !v.is_empty())
    }

    /// As [`suggest::hint`], unless so much is wrong already that nobody will read it.
    pub(super) fn hint<'k>(
        &self,
        word: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) -> String {
        if self.problems.full() {
            String::new()
        } else {
            suggest::hint(word, known)
        }
    }

    /// A node that must be text, read by `parse`.
    pub(super) fn scalar<T>(
        &self,
        node: &Node,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let message = match &node.value {
            Value::Scalar(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(message) => message,
            },
            Value::Null => "has no value; give one or remove the key".into(),
            Value::List(_) => "is a list; give a single value".into(),
            Value::Map(_) => "is a map; give a single value".into(),
            Value::Broken => return None,
        };
        self.problems.error(node.at, path, message);
        None
    }
}

/// A map that is being read.
pub(super) struct Fields<'a> {
    pub(super) context: &'a Context<'a>,
    /// Its place; that of the missing keys, too.
    pub(super) at: Place,
    path: String,
    pattern: &'static str,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// Opens `node` as the map whose keys the table has under `pattern`, and reports its unknown keys. Nothing there is an empty map.
    pub(super) fn open(
        context: &'a Context<'a>,
        node: &'a Node,
        path: String,
        pattern: &'static str,
    ) -> Option<Self> {
        let entries = map_entries(context, node, &path)?;
        let fields = Self {
            context,
            at: node.at,
            path,
            pattern,
            entries,
        };
        let known = keys::children(pattern);
        for entry in entries {
            if !known.contains(&entry.key.as_str()) && known != ["*"] {
                fields.report_unknown(entry, &known);
            }
        }
        Some(fields)
    }

    fn report_unknown(&self, entry: &Entry, known: &[&str]) {
        let message = if keys::NOT_SUPPORTED.contains(&(self.pattern, &entry.key)) {
            format!(
                "not supported by this version; use one of {}",
                known.join(", ")
            )
        } else {
            let hint = self.context.hint(&entry.key, known.iter().copied());
            format!("unknown key{hint}")
        };
        self.context
            .problems
            .error(entry.key_at, self.join(&shown(&entry.key)), message);
    }

    /// The path of one of its keys.
    pub(super) fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// What stands under a key.
    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        debug_assert!(
            keys::children(self.pattern).contains(&name),
            "{} has no {name}",
            self.pattern
        );
        self.entries.iter().find(|e| e.key == name).map(|e| &e.node)
    }

    /// The place of a key's value, or of the map when there is none.
    pub(super) fn at(&self, name: &str) -> Place {
        self.node(name).map_or(self.at, |n| n.at)
    }

    /// Reports something about one of its keys.
    pub(super) fn error(&self, name: &str, message: impl Into<String>) {
        self.context
            .problems
            .error(self.at(name), self.join(name), message);
    }

    /// Reads a single value. `None`: reported, or optional and not there.
    pub(super) fn value<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(node) = self.node(name) {
            return self.context.scalar(node, &self.join(name), parse);
        }
        let key = keys::lookup(self.pattern, name);
        debug_assert!(
            key.is_some(),
            "{name} is not in the table under {}",
            self.pattern
        );
        let (variable, default) = match key?.presence {
            Presence::Optional => return None,
            Presence::Required => {
                self.context
                    .problems
                    .error(self.at, self.join(name), "missing; it has no default");
                return None;
            }
            Presence::Default(text) => (None, Some(text)),
            Presence::Variable(variable) => (Some(variable), None),
            Presence::VariableOr(variable, text) => (Some(variable), Some(text)),
        };
        let given = variable.and_then(|v| Some((v, self.context.variable(v)?)));
        match (given, default, variable) {
            (Some((variable, text)), ..) => {
                let node = Node {
                    at: Place::Given(variable),
                    value: Value::Scalar(text),
                };
                self.context.scalar(&node, variable, parse)
            }
            (None, Some(text), _) => {
                let value = parse(text);
                debug_assert!(value.is_ok(), "the default of {name} is wrong");
                value.ok()
            }
            (None, None, variable) => {
                let variable = variable.unwrap_or_default();
                let message = match self.context.surroundings {
                    Surroundings::Injected { projected: true } => {
                        let key = super::env::profile_key(variable);
                        format!(
                            "missing, and the profile has no `token.projected.{key}`; give one of them"
                        )
                    }
                    _ => {
                        let mend = super::env::aks_mend(variable);
                        format!("missing, and {variable} is not set; give one of them: {mend}")
                    }
                };
                self.context
                    .problems
                    .error(self.at, self.join(name), message);
                None
            }
        }
    }

    /// Reads a list of single values; nothing there is an empty list.
    pub(super) fn list<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let path = self.join(name);
        let items = match self.node(name) {
            None => return Some(Vec::new()),
            Some(node) => list_items(self.context, node, &path)?,
        };
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(i, item)| self.context.scalar(item, &format!("{path}[{i}]"), &parse))
            .collect();
        read.into_iter().collect()
    }

    /// Opens a map under a key; nothing there is an empty map.
    pub(super) fn map(&self, name: &'static str, pattern: &'static str) -> Option<Self> {
        const NOTHING: &Node = &Node {
            at: Place::Whole,
            value: Value::Null,
        };
        let node = self.node(name).unwrap_or(NOTHING);
        let mut fields = Self::open(self.context, node, self.join(name), pattern)?;
        if self.node(name).is_none() {
            fields.at = self.at;
        }
        Some(fields)
    }

    /// The entries of a map whose keys are names of the user's choice.
    pub(super) fn named(&self, name: &str) -> Option<&'a [Entry]> {
        match self.node(name) {
            None => Some(&[]),
            Some(node) => map_entries(self.context, node, &self.join(name)),
        }
    }

    /// The items of a list of maps; nothing there is an empty list.
    pub(super) fn items(&self, name: &str) -> Option<&'a [Node]> {
        match self.node(name) {
            None => Some(&[]),
            Some(node) => list_items(self.context, node, &self.join(name)),
        }
    }

    /// Which one of `names` is there. `None`: none or several, and that was reported.
    pub(super) fn exactly_one(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut present = names.iter().copied().filter(|n| self.node(n).is_some());
        match (present.next(), present.next()) {
            (Some(name), None) => Some(name),
            (Some(first), Some(second)) => {
                self.error(second, format!("stands beside `{first}`; give one of them"));
                None
            }
            (None, _) => {
                self.context.problems.error(
                    self.at,
                    self.path.clone(),
                    format!("incomplete; give one of {}", names.join(", ")),
                );
                None
            }
        }
    }
}

fn map_entries<'a>(context: &Context<'_>, node: &'a Node, path: &str) -> Option<&'a [Entry]> {
    let message = match &node.value {
        Value::Map(entries) => return Some(entries),
        Value::Null => return Some(&[]),
        Value::Broken => return None,
        Value::Scalar(_) => "is a single value; give a map (`key: value` lines)",
        Value::List(_) => "is a list; give a map (`key: value` lines)",
    };
    context.problems.error(node.at, path, message);
    None
}

fn list_items<'a>(context: &Context<'_>, node: &'a Node, path: &str) -> Option<&'a [Node]> {
    let message = match &node.value {
        Value::List(items) => return Some(items),
        Value::Null => return Some(&[]),
        Value::Broken => return None,
        Value::Scalar(_) => "is a single value; give a list (`[a, b]`, or lines with `- `)",
        Value::Map(_) => "is a map; give a list (`[a, b]`, or lines with `- `)",
    };
    context.problems.error(node.at, path, message);
    None
}

/// Text of the user's for a message: control characters escaped, and not too much of it.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        out.push('…');
    }
    out
}
