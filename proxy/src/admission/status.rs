//! What injection did to a pod, as it is remembered in an annotation of the pod: enough to take it back exactly.

use super::patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The only version there is so far.
const VERSION: u8 = 1;
/// The API server takes no pod with more in its annotations, all together.
pub(super) const MAX_TEXT: usize = 256 << 10;

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    version: u8,
    /// The profile it was done by.
    pub(super) profile: String,
    /// Volumes that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) volumes: Vec<String>,
    /// Maps and lists that were not there: `PATH` or `CONTAINER/env`, and whether there was a `null` in their place. In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) created: Vec<(String, String)>,
    /// Labels that were set, and what they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, Option<Value>>,
    /// Annotations that were set, and what they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, Option<Value>>,
    /// Items of containers' `env` and `volumeMounts` that were changed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<Item>,
    /// How a manifest's text was written where values do not say it. `manifest` knows what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) style: Option<Value>,
}

/// One item of a container's `env` or `volumeMounts` that was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) container: String,
    pub(super) list: String,
    pub(super) index: usize,
    pub(super) done: Done,
    /// What was there; of what was added, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<Value>,
}

/// What was done to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Done {
    Added,
    Replaced,
    Removed,
}

impl Status {
    /// Nothing was done yet.
    pub(super) fn new(profile: &str) -> Self {
        Self {
            version: VERSION,
            profile: profile.to_owned(),
            volumes: Vec::new(),
            created: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            items: Vec::new(),
            style: None,
        }
    }

    /// Reads the annotation's text.
    ///
    /// # Errors
    /// When this version did not write it; the text says what to do.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!(
                "the annotation {} is larger than annotations may be; take it out, and the sidecar with it",
                super::wish::STATUS
            ));
        }
        let status: Self = serde_json::from_str(text).map_err(|e| {
            format!(
                "the annotation {} is not readable ({e}); take it out, and the sidecar with it",
                super::wish::STATUS
            )
        })?;
        if status.version == VERSION {
            Ok(status)
        } else {
            Err(format!(
                "the annotation {} is of version {}, which this version does not know; use the version that injected the sidecar",
                super::wish::STATUS,
                status.version
            ))
        }
    }

    /// The same, by another profile.
    pub(super) fn by(self, profile: &str) -> Self {
        Self {
            profile: profile.to_owned(),
            ..self
        }
    }

    /// The annotation's text.
    pub(super) fn text(&self) -> String {
        // Maps with text as keys cannot fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Puts an empty map or list at `path` where there is none, and remembers it under `name`.
    pub(super) fn ensure(&mut self, patch: &mut Patch, path: &[&str], name: &str, empty: Value) {
        if let Some(Value::String(was)) = patch.ensure(path, empty) {
            self.created.push((name.to_owned(), was));
        }
    }

    /// Sets a label, and remembers what it was. One that is so already is left alone.
    pub(super) fn label(&mut self, patch: &mut Patch, key: &str, value: &str) {
        set(
            patch,
            "labels",
            key,
            value,
            &mut self.created,
            &mut self.labels,
        );
    }

    /// Sets an annotation, and remembers what it was. One that is so already is left alone.
    pub(super) fn annotate(&mut self, patch: &mut Patch, key: &str, value: &str) {
        set(
            patch,
            "annotations",
            key,
            value,
            &mut self.created,
            &mut self.annotations,
        );
    }

    /// Takes an annotation back that was set, and forgets it.
    pub(super) fn take_annotation_back(&mut self, patch: &mut Patch, key: &str) {
        let path = ["metadata", "annotations", key];
        match self.annotations.remove(key) {
            Some(Some(was)) => patch.add(&path, was),
            Some(None) => patch.remove(&path),
            None => {}
        }
    }

    /// Writes itself into the pod.
    pub(super) fn write(&mut self, patch: &mut Patch) {
        self.ensure(patch, &["metadata"], "metadata", json!({}));
        self.ensure(
            patch,
            &["metadata", "annotations"],
            "metadata/annotations",
            json!({}),
        );
        patch.add(
            &["metadata", "annotations", super::wish::STATUS],
            self.text().into(),
        );
    }
}

fn set(
    patch: &mut Patch,
    map: &str,
    key: &str,
    value: &str,
    created: &mut Vec<(String, String)>,
    remembered: &mut BTreeMap<String, Option<Value>>,
) {
    let was = patch.get(&["metadata", map, key]).cloned();
    if was.as_ref().and_then(Value::as_str) == Some(value) {
        return;
    }
    for (path, name) in [
        (vec!["metadata"], "metadata".to_owned()),
        (vec!["metadata", map], format!("metadata/{map}")),
    ] {
        if let Some(Value::String(was)) = patch.ensure(&path, json!({})) {
            created.push((name, was));
        }
    }
    patch.add(&["metadata", map, key], value.into());
    // What was there before the first time counts.
    remembered.entry(key.to_owned()).or_insert(was);
}
