//! A patch in the making: a copy of the object, changed step by step, and the steps as RFC 6902 operations.

use serde_json::{Map, Value, json};

/// A changed object and the operations that change it so.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    /// The object as it is now.
    pub(super) object: Value,
    operations: Vec<Value>,
}

/// Where something is in an object: keys, and indices in decimal.
pub(super) type Path<'a> = &'a [&'a str];

impl Patch {
    /// Nothing changed yet.
    pub(super) fn new(object: Value) -> Self {
        Self {
            object,
            operations: Vec::new(),
        }
    }

    /// What is there.
    pub(super) fn get(&self, path: Path<'_>) -> Option<&Value> {
        path.iter()
            .try_fold(&self.object, |node, part| child(node, part))
    }

    /// Sets a key of a map, whether it is there or not, or puts an item into a list (`-`: at its end). What holds it must be there.
    pub(super) fn add(&mut self, path: Path<'_>, value: Value) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        match self.get_mut(parents) {
            Some(Value::Object(map)) => {
                map.insert((*last).to_owned(), value.clone());
            }
            Some(Value::Array(items)) => {
                let index = if *last == "-" {
                    Some(items.len())
                } else {
                    last.parse().ok()
                };
                let Some(index) = index.filter(|i| *i <= items.len()) else {
                    return;
                };
                items.insert(index, value.clone());
            }
            _ => return,
        }
        self.operations
            .push(json!({ "op": "add", "path": pointer(path), "value": value }));
    }

    /// Replaces what is there.
    pub(super) fn replace(&mut self, path: Path<'_>, value: Value) {
        if let Some(node) = self.get_mut(path) {
            *node = value.clone();
            self.operations
                .push(json!({ "op": "replace", "path": pointer(path), "value": value }));
        }
    }

    /// Removes what is there; nothing there is nothing to do.
    pub(super) fn remove(&mut self, path: Path<'_>) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let removed = match self.get_mut(parents) {
            Some(Value::Object(map)) => map.remove(*last).is_some(),
            Some(Value::Array(items)) => match last.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    items.remove(index);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if removed {
            self.operations
                .push(json!({ "op": "remove", "path": pointer(path) }));
        }
    }

    /// Removes items of a list, given their indices in ascending order; the operations say so from the end. In one pass, however many there are.
    pub(super) fn remove_all(&mut self, list: Path<'_>, indices: &[usize]) {
        let Some(Value::Array(items)) = self.get_mut(list) else {
            return;
        };
        let (mut at, mut next) = (0, indices.iter().copied().peekable());
        let mut removed = Vec::with_capacity(indices.len());
        items.retain(|_| {
            let goes = next.next_if_eq(&at).is_some();
            if goes {
                removed.push(at);
            }
            at += 1;
            !goes
        });
        let path = pointer(list);
        self.operations.extend(
            removed
                .iter()
                .rev()
                .map(|index| json!({ "op": "remove", "path": format!("{path}/{index}") })),
        );
    }

    /// Puts an empty map or list where nothing (or `null`) is. Says what was there: `None`, when there is something.
    pub(super) fn ensure(&mut self, path: Path<'_>, empty: Value) -> Option<Value> {
        let was = match self.get(path) {
            None => json!("absent"),
            Some(Value::Null) => json!("null"),
            Some(_) => return None,
        };
        self.add(path, empty);
        Some(was)
    }

    /// The operations, in order (RFC 6902 section 3).
    pub(super) fn into_operations(self) -> Vec<Value> {
        self.operations
    }

    /// Whether nothing was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Forgets the steps when they have led back to where they began.
    pub(super) fn or_nothing(&mut self, before: &Value) {
        if self.object == *before {
            self.operations.clear();
        }
    }

    fn get_mut(&mut self, path: Path<'_>) -> Option<&mut Value> {
        path.iter()
            .try_fold(&mut self.object, |node, part| match node {
                Value::Object(map) => map.get_mut(*part),
                Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
                _ => None,
            })
    }
}

fn child<'v>(node: &'v Value, part: &str) -> Option<&'v Value> {
    match node {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// RFC 6901 section 3.
fn pointer(path: Path<'_>) -> String {
    path.iter()
        .map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// A map's entries under a key; nothing there is none.
pub(super) fn entries<'v>(object: &'v Value, key: &str) -> Option<&'v Map<String, Value>> {
    object.get(key).and_then(Value::as_object)
}

/// A list's items under a key; nothing there is none.
pub(super) fn items<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The text under a key, empty when there is none.
pub(super) fn text<'v>(object: &'v Value, key: &str) -> &'v str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_change_the_copy_and_are_remembered() {
        let mut patch = Patch::new(json!({"a": {"x/y~z": 1}, "l": [1, 2]}));
        patch.add(&["l", "0"], json!(0));
        patch.add(&["l", "-"], json!(3));
        patch.replace(&["a", "x/y~z"], json!(2));
        patch.remove(&["l", "1"]);
        patch.remove(&["nothing"]);
        assert_eq!(patch.ensure(&["m"], json!({})), Some(json!("absent")));
        assert_eq!(patch.ensure(&["m"], json!({})), None);
        let mut many = Patch::new(json!({"l": ["a", "b", "c", "d"]}));
        many.remove_all(&["l"], &[0, 2, 9]);
        assert_eq!(many.object, json!({"l": ["b", "d"]}));
        assert_eq!(
            many.into_operations(),
            [
                json!({"op": "remove", "path": "/l/2"}),
                json!({"op": "remove", "path": "/l/0"}),
            ]
        );
        assert_eq!(
            patch.object,
            json!({"a": {"x/y~z": 2}, "l": [0, 2, 3], "m": {}})
        );
        assert_eq!(
            patch.into_operations(),
            [
                json!({"op": "add", "path": "/l/0", "value": 0}),
                json!({"op": "add", "path": "/l/-", "value": 3}),
                json!({"op": "replace", "path": "/a/x~1y~0z", "value": 2}),
                json!({"op": "remove", "path": "/l/1"}),
                json!({"op": "add", "path": "/m", "value": {}}),
            ]
        );
    }
}
