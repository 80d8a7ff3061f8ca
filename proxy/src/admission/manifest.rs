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
    let documents = yaml::documents(text)
        .map_err(|e| vec![format!("{name}:{}:{}: {}", e.line, e.column, e.message)])?;
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
    let mut after = before.clone();
    let mut problems = Vec::new();
    if let (true, Some(items)) = (
        text_of(&before, "kind").ends_with("List"),
        after.get_mut("items").and_then(Value::as_array_mut),
    ) {
        for item in items {
            object(item, place, action, notes, &mut problems);
        }
    } else {
        object(&mut after, place, action, notes, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if after == before {
        return Ok(part.to_owned());
    }
    let edited = edit::rewrite(part, &after);
    if edited.is_none() {
        notes.push(format!(
            "{place}: written anew, without its comments: its YAML could not be changed in place"
        ));
    }
    Ok(edited.unwrap_or_else(|| emit::document(part, &after)))
}

/// Changes the pods of an object.
fn object(
    object: &mut Value,
    place: &str,
    action: Action<'_>,
    notes: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    let kind = text_of(object, "kind").to_ascii_lowercase();
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = [text_of(metadata, "name"), text_of(metadata, "generateName")]
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or("(no name)");
    let label = format!("{place}: {kind}/{name}");
    let system = is_system(text_of(metadata, "namespace"));
    let job = ["job", "cronjob"].contains(&kind.as_str());
    let pods: Vec<&str> = if kind == "pod" {
        vec![""]
    } else {
        let is_template = |path: &&str| {
            object
                .pointer(path)
                .and_then(|p| p.pointer("/spec/containers"))
                .is_some()
        };
        PODS.into_iter().filter(is_template).collect()
    };
    if pods.is_empty() {
        notes.push(format!("{label}: left alone, no pod in it"));
    }
    for path in pods {
        let Some(pod) = object.pointer_mut(path) else {
            continue;
        };
        let done = match action {
            Action::Inject { .. } if system => {
                Ok("left alone, a namespace of the system".to_owned())
            }
            Action::Inject {
                profiles,
                check,
                profile,
            } => {
                let request = Request {
                    profiles,
                    check,
                    asked: true,
                    profile,
                    job,
                };
                put(pod, &request, &label, notes)
            }
            Action::Uninject => remove(pod)
                .map_err(|e| vec![e])
                .map(|without| match without {
                    None => "left alone, no sidecar in it".to_owned(),
                    Some(without) => {
                        *pod = without;
                        "sidecar taken out".to_owned()
                    }
                }),
        };
        match done {
            Ok(note) => notes.push(format!("{label}: {note}")),
            Err(wrong) => problems.extend(wrong.into_iter().map(|w| format!("{label}: {w}"))),
        }
    }
}

/// Injects from scratch: what an earlier injection did is taken back first.
fn put(
    pod: &mut Value,
    request: &Request<'_>,
    label: &str,
    notes: &mut Vec<String>,
) -> Result<String, Vec<String>> {
    let without = remove(pod).map_err(|e| vec![e])?;
    let injection =
        inject_pod(without.as_ref().unwrap_or(pod), request).map_err(|refusal| refusal.0)?;
    notes.extend(injection.warnings.iter().map(|w| format!("{label}: {w}")));
    let after = injection.pod().clone();
    let note = match (injection.outcome, without) {
        (Outcome::NotAsked, None) => "left alone, it says inject: \"false\"",
        (Outcome::NotAsked, Some(_)) => "sidecar taken out, it says inject: \"false\"",
        _ if after == *pod => "unchanged, the sidecar is in it",
        (_, None) => "sidecar put in",
        (_, Some(_)) => "sidecar put in anew",
    };
    *pod = after;
    Ok(note.to_owned())
}

/// Whether a namespace is the cluster's own.
pub(super) fn is_system(namespace: &str) -> bool {
    ["kube-system", "kube-public", "kube-node-lease"].contains(&namespace)
}

#[cfg(test)]
mod tests;
