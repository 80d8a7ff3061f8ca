//! Manifests as text: every pod and pod template in them gets the sidecar, or loses it; what is between stays as it is written.
//!
//! Knows objects by where their pods are (`spec.template` and so on), not by kind: what a custom resource calls a pod template is one. Opens no
//! file and prints nothing.

mod diff;
mod edit;
mod emit;

use super::{
    inject::{Check, Outcome, Request, inject as inject_pod},
    patch::text as text_of,
    profile::Profiles,
    remove::remove,
    yaml::{self, Document},
};
use serde_json::Value;

pub use diff::unified;

/// Where a pod is in an object.
const PODS: [&str; 3] = [
    "/spec/template",
    "/spec/jobTemplate/spec/template",
    "/template",
];

/// A manifest, done.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The new text.
    pub text: String,
    /// What was done to each object, and what is worth knowing: one line each.
    pub notes: Vec<String>,
}

/// What to do to a manifest.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Put the sidecar into every pod, unless the pod says `inject: "false"`. One that is there is put in anew, by the profile of today.
    Inject {
        /// The profiles there are.
        profiles: &'a Profiles,
        /// How a sidecar's configuration is checked.
        check: &'a Check,
        /// The profile of pods that name none.
        profile: Option<&'a str>,
    },
    /// Take it out of every pod that has it.
    Uninject,
}

/// Does `action` to every pod of the text. `name`: what messages call it.
///
/// # Errors
/// Everything that stands against it, one line each. Then nothing is to be done.
pub fn apply(text: &str, name: &str, action: Action<'_>) -> Result<Manifest, Vec<String>> {
    let documents = yaml::documents(text).map_err(|e| {
        let template = if text.contains("{{") {
            "; a template must be rendered first, as `helm template` does"
        } else {
            ""
        };
        vec![format!(
            "{name}:{}:{}: {}{template}",
            e.line, e.column, e.message
        )]
    })?;
    let mut manifest = Manifest {
        text: String::with_capacity(text.len() + 4096),
        notes: Vec::new(),
    };
    let mut problems = Vec::new();
    for document in &documents {
        let place = format!("{name}:{}", document.line);
        match one(text, document, &place, action, &mut manifest.notes) {
            Ok(done) => manifest.text.push_str(&done),
            Err(mut wrong) => problems.append(&mut wrong),
        }
    }
    if documents.is_empty() {
        manifest.text.push_str(text);
    }
    if problems.is_empty() {
        Ok(manifest)
    } else {
        Err(problems)
    }
}

fn one(
    text: &str,
    document: &Document,
    place: &str,
    action: Action<'_>,
    notes: &mut Vec<String>,
) -> Result<String, Vec<String>> {
    let part = &text[document.at.clone()];
    let Some(root) = &document.root else {
        return Ok(part.to_owned());
    };
    let before = root.value();
    let mut said = Vec::new();
    let mut problems = Vec::new();
    // Injection is from scratch: what an earlier one did is taken back first.
    let mut bare = before.clone();
    each(&mut bare, |object| {
        without(object, place, &mut said, &mut problems);
    });
    let mut anew = false;
    let mut done = if bare == before {
        part.to_owned()
    } else {
        written(part, &bare, &mut anew)
    };
    if let Action::Inject { .. } = action {
        said.clear();
        let mut after = bare.clone();
        each(&mut after, |object| {
            with(object, place, action, &mut said, &mut problems);
        });
        if after != bare {
            done = written(&done, &after, &mut anew);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let inject = matches!(action, Action::Inject { .. });
    if inject && bare != before && done == part {
        said.push(format!("{place}: unchanged, the sidecar is in it"));
    }
    notes.append(&mut said);
    if anew && done != part {
        notes.push(format!(
            "{place}: written anew, without its comments: its YAML could not be changed in place"
        ));
    }
    Ok(done)
}

/// The document's text with another value in it.
fn written(part: &str, value: &Value, anew: &mut bool) -> String {
    edit::rewrite(part, value).unwrap_or_else(|| {
        *anew = true;
        emit::document(part, value)
    })
}

/// Every object of a document: the items of a list, or the one it is.
fn each(document: &mut Value, mut change: impl FnMut(&mut Value)) {
    let list = text_of(document, "kind").ends_with("List");
    match document.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) if list => items.iter_mut().for_each(change),
        _ => change(document),
    }
}

/// Where the pods of an object are.
fn pods(object: &Value) -> Vec<&'static str> {
    if text_of(object, "kind") == "Pod" {
        return vec![""];
    }
    let is_template = |path: &&str| {
        object
            .pointer(path)
            .and_then(|p| p.pointer("/spec/containers"))
            .is_some()
    };
    PODS.into_iter().filter(is_template).collect()
}

/// What messages call an object: `PLACE: kind/name`.
fn label(object: &Value, place: &str) -> String {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let names = [text_of(metadata, "name"), text_of(metadata, "generateName")];
    let name = names
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or("(no name)");
    format!(
        "{place}: {}/{name}",
        text_of(object, "kind").to_ascii_lowercase()
    )
}

/// Takes the sidecar out of an object's pods.
fn without(object: &mut Value, place: &str, notes: &mut Vec<String>, problems: &mut Vec<String>) {
    let label = label(object, place);
    let pods = pods(object);
    if pods.is_empty() {
        notes.push(format!("{label}: left alone, no pod in it"));
    }
    for pod in pods {
        let Some(pod) = object.pointer_mut(pod) else {
            continue;
        };
        match remove(pod) {
            Ok(None) => notes.push(format!("{label}: left alone, no sidecar in it")),
            Ok(Some(bare)) => {
                *pod = bare;
                notes.push(format!("{label}: sidecar taken out"));
            }
            Err(problem) => problems.push(format!("{label}: {problem}")),
        }
    }
}

/// Puts the sidecar into an object's pods, which have none (any more).
fn with(
    object: &mut Value,
    place: &str,
    action: Action<'_>,
    notes: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    let Action::Inject {
        profiles,
        check,
        profile,
    } = action
    else {
        return;
    };
    let label = label(object, place);
    let pods = pods(object);
    if pods.is_empty() {
        notes.push(format!("{label}: left alone, no pod in it"));
    }
    if is_system(
        object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    ) {
        notes.push(format!("{label}: left alone, a namespace of the system"));
        return;
    }
    let request = Request {
        profiles,
        check,
        asked: true,
        profile,
        job: ["Job", "CronJob"].contains(&text_of(object, "kind")),
    };
    for path in pods {
        let Some(pod) = object.pointer_mut(path) else {
            continue;
        };
        let injection = match inject_pod(pod, &request) {
            Ok(injection) => injection,
            Err(refusal) => {
                problems.extend(refusal.0.into_iter().map(|w| format!("{label}: {w}")));
                continue;
            }
        };
        notes.extend(injection.warnings.iter().map(|w| format!("{label}: {w}")));
        let note = match injection.outcome {
            Outcome::NotAsked => "left alone, it says inject: \"false\"",
            _ => "sidecar put in",
        };
        notes.push(format!("{label}: {note}"));
        *pod = injection.pod().clone();
    }
}

/// Whether a namespace is the cluster's own.
pub(super) fn is_system(namespace: &str) -> bool {
    ["kube-system", "kube-public", "kube-node-lease"].contains(&namespace)
}

#[cfg(test)]
mod tests;
