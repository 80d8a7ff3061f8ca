//! A value of the file with its path, and the list of errors that all share: decoding goes on after an error.

use std::{cell::RefCell, fmt};

use serde_json::{Map, Value};

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors(RefCell<Vec<String>>);

impl Errors {
    pub(super) fn into_vec(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// A value and where it is.
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    path: String,
    errors: &'a Errors,
}

/// An object all of whose keys are known.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    errors: &'a Errors,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, errors: &'a Errors) -> Self {
        Self {
            value,
            path: String::new(),
            errors,
        }
    }

    /// Notes an error at this place.
    pub(super) fn fail(&self, what: impl fmt::Display) {
        fail(self.errors, &self.path, what);
    }

    /// The value as an object with no other keys than `known`; unknown ones are errors, but decoding goes on.
    pub(super) fn object(&self, known: &[&str]) -> Option<Fields<'a>> {
        let Value::Object(map) = self.value else {
            self.fail(format_args!("must be an object with {}", list(known)));
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            self.fail(format_args!(
                "unknown key `{key}`; known are {}",
                list(known)
            ));
        }
        Some(Fields {
            map,
            path: self.path.clone(),
            errors: self.errors,
        })
    }

    /// The members of an object with names of any kind.
    pub(super) fn members(&self) -> Option<Vec<(&'a str, Self)>> {
        let Value::Object(map) = self.value else {
            self.fail("must be an object");
            return None;
        };
        let member = |(key, value): (&'a String, &'a Value)| (key.as_str(), self.child(key, value));
        Some(map.iter().map(member).collect())
    }

    /// The elements of an array, each under its index and, if it has one, its `name`.
    pub(super) fn elements(&self) -> Option<Vec<Self>> {
        let Value::Array(elements) = self.value else {
            self.fail("must be a list");
            return None;
        };
        let element = |(index, value): (usize, &'a Value)| {
            let name = value.get("name").and_then(Value::as_str);
            let name = name.map_or(String::new(), |name| {
                format!(" ({})", name.escape_default())
            });
            Self {
                value,
                path: format!("{}[{index}]{name}", self.path),
                errors: self.errors,
            }
        };
        Some(elements.iter().enumerate().map(element).collect())
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<String> {
        match self.value.as_str() {
            Some(text) if !text.trim().is_empty() => Some(text.to_owned()),
            _ => {
                self.fail("must be a text that is not empty");
                None
            }
        }
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self {
            value,
            path: join(&self.path, key),
            errors: self.errors,
        }
    }
}

impl<'a> Fields<'a> {
    /// A key that must be there.
    pub(super) fn required(&self, key: &str) -> Option<Node<'a>> {
        let node = self.optional(key);
        if node.is_none() {
            fail(self.errors, &join(&self.path, key), "is missing; add it");
        }
        node
    }

    /// A key that may be there; `null` counts as not there.
    pub(super) fn optional(&self, key: &str) -> Option<Node<'a>> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(Node {
            value,
            path: join(&self.path, key),
            errors: self.errors,
        })
    }

    /// Notes an error at this place.
    pub(super) fn fail(&self, what: impl fmt::Display) {
        fail(self.errors, &self.path, what);
    }
}

fn fail(errors: &Errors, path: &str, what: impl fmt::Display) {
    let error = if path.is_empty() {
        what.to_string()
    } else {
        format!("{path}: {what}")
    };
    errors.0.borrow_mut().push(error);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
