//! The files that a configuration of credentials and routes names, looked for among those that an injected sidecar has.

use super::super::{
    error::Problems,
    fields::shown,
    keys::KEYS,
    tree::{Node, Value},
};
use crate::admission::files::{Files, Found};
use std::collections::HashSet;

/// Reports what is missing, and warns of what may be. `path`: what a path of the configuration is called in the report.
pub(super) fn check(
    tree: &Node,
    files: &Files,
    problems: &Problems,
    path: impl Fn(&str) -> String,
) {
    // Many grants have the same keys, and the table has them once.
    let paths = KEYS.iter().filter(|key| key.kind == "path");
    let keys: HashSet<&str> = paths.filter_map(|k| k.path.rsplit('.').next()).collect();
    each(tree, &mut Vec::new(), &mut |node, file, way| {
        if !matches!(way.last(), Some(Step::Key(key)) if keys.contains(key)) {
            return;
        }
        let told = || path(&written(way));
        match files.find(file) {
            Found::Yes => {}
            Found::Perhaps(message) => problems.warning(node.at, told(), message),
            Found::No(message) => problems.error(node.at, told(), message),
        }
    });
}

/// One step of the way to a node.
enum Step<'n> {
    Key(&'n str),
    Item(usize),
}

fn written(way: &[Step<'_>]) -> String {
    let mut path = String::new();
    for step in way {
        match step {
            Step::Key(key) if path.is_empty() => path.push_str(&shown(key)),
            Step::Key(key) => path.push_str(&format!(".{}", shown(key))),
            Step::Item(i) => path.push_str(&format!("[{i}]")),
        }
    }
    path
}

/// Calls `found` with every text and the way to it, but for form fields, whose names are the user's.
fn each<'n>(
    node: &'n Node,
    way: &mut Vec<Step<'n>>,
    found: &mut dyn FnMut(&Node, &str, &[Step<'n>]),
) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                // `credentials.NAME.GRANT.parameters`; a credential may have that name.
                if entry.key == "parameters" && way.len() > 1 {
                    continue;
                }
                way.push(Step::Key(&entry.key));
                each(&entry.node, way, found);
                way.pop();
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                way.push(Step::Item(i));
                each(item, way, found);
                way.pop();
            }
        }
        Value::Scalar(text) if !text.is_empty() => found(node, text, way),
        _ => {}
    }
}
