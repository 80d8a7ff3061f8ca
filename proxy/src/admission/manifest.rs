//! Manifests as text: every pod and pod template in them gets the sidecar, or loses it; what is between stays as it is written.
//!
//! Opens no file and prints nothing.

mod diff;
mod edit;
mod emit;
mod pods;
mod style;

use super::{
    check::Check,
    inject::{Outcome, Request, inject as inject_pod},
    patch::text as text_of,
    pod::{SIDECAR, sidecar as has_sidecar},
    profile::Profiles,
    remove::remove,
    status::Status,
    wish::STATUS,
    yaml::{self, Document},
};
use pods::{each, label, misplaced, pods};
use serde_json::Value;
use style::Style;

pub use diff::unified;

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

/// A document without the sidecar.
struct Bare {
    text: String,
    value: Value,
}

/// What happens to the documents of a text on the way.
struct Work<'a> {
    /// What messages call the document at hand.
    place: &'a str,
    said: Vec<String>,
    problems: Vec<String>,
    /// Its YAML could not be changed in place.
    anew: bool,
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
    let mut work = Work {
        place,
        said: Vec::new(),
        problems: Vec::new(),
        anew: false,
    };
    // Injection is from scratch: what an earlier one did is taken back first.
    let bare = work.take_out(part, &before);
    let was_in = bare.value != before;
    let done = match action {
        Action::Uninject => bare.text,
        Action::Inject { .. } => {
            work.said.clear();
            let done = work.put_in(&bare, action);
            if was_in && done == part {
                let said = format!("{place}: unchanged, the sidecar is in it");
                work.said.push(said);
            }
            done
        }
    };
    if !work.problems.is_empty() {
        return Err(work.problems);
    }
    notes.append(&mut work.said);
    if work.anew && done != part {
        notes.push(format!(
            "{place}: written anew, without its comments: its YAML could not be changed in place"
        ));
    }
    Ok(done)
}

impl Work<'_> {
    /// Takes the sidecar out of a document: in the style that was remembered, if it is still that document.
    fn take_out(&mut self, part: &str, before: &Value) -> Bare {
        let mut bare = before.clone();
        let mut remembered = None;
        each(&mut bare, |object| {
            for pod in pods(object) {
                let pod = object.pointer(&pod).unwrap_or(&Value::Null);
                remembered = remembered.take().or_else(|| style_of(pod));
            }
            without(object, self.place, &mut self.said, &mut self.problems);
        });
        if bare == *before {
            return Bare {
                text: part.to_owned(),
                value: bare,
            };
        }
        let mut anew = false;
        let plain = written(part, &bare, &mut anew);
        let text = match remembered {
            None => plain,
            Some(style) => match Style::apply(&style, &plain).filter(|t| means(t, &bare)) {
                Some(text) => {
                    anew = false;
                    text
                }
                None => {
                    let place = self.place;
                    self.said.push(format!(
                        "{place}: it was changed since the sidecar was put in, so that some lines come back in another style"
                    ));
                    plain
                }
            },
        };
        self.anew |= anew;
        Bare { text, value: bare }
    }

    /// Puts the sidecar into a document that has none, and remembers how it was written where that is needed to give it back to the byte.
    fn put_in(&mut self, bare: &Bare, action: Action<'_>) -> String {
        let mut after = bare.value.clone();
        each(&mut after, |object| {
            with(
                object,
                self.place,
                action,
                &mut self.said,
                &mut self.problems,
            );
        });
        if after == bare.value || !self.problems.is_empty() {
            return bare.text.clone();
        }
        let done = written(&bare.text, &after, &mut self.anew);
        let back = self.back(&done, &after);
        if back == bare.text {
            return done;
        }
        if let Some(style) = Style::between(&back, &bare.text) {
            remember(&mut after, &style);
            let done = written(&bare.text, &after, &mut self.anew);
            if self.back(&done, &after) == bare.text {
                return done;
            }
        }
        let place = self.place;
        self.said.push(format!(
            "{place}: taking the sidecar out again will give back what it means, but not every byte of its text; keep the file"
        ));
        done
    }

    /// What taking the sidecar out of this text would give.
    fn back(&self, text: &str, value: &Value) -> String {
        let mut work = Work {
            place: self.place,
            said: Vec::new(),
            problems: Vec::new(),
            anew: false,
        };
        work.take_out(text, value).text
    }
}

/// How a pod's document was written, as its annotation remembers it.
fn style_of(pod: &Value) -> Option<Value> {
    let annotations = pod.pointer("/metadata/annotations")?;
    Status::parse(text_of(annotations, STATUS)).ok()?.style
}

/// Puts that into the annotation of the document's first pod with a sidecar.
fn remember(document: &mut Value, style: &Value) {
    let mut left = Some(style);
    each(document, |object| {
        for pod in pods(object) {
            let path = format!("{pod}/metadata/annotations");
            let annotations = object.pointer_mut(&path);
            let status = annotations.and_then(|a| a.get_mut(STATUS));
            if let Some(status) = status
                && let Ok(mut read) = Status::parse(status.as_str().unwrap_or_default())
                && let Some(style) = left.take()
            {
                read.style = Some(style.clone());
                *status = read.text().into();
            }
        }
    });
}

/// Whether a text is one document of this value.
fn means(text: &str, value: &Value) -> bool {
    let documents = yaml::documents(text).unwrap_or_default();
    matches!(documents.as_slice(), [Document { root: Some(root), .. }] if root.value() == *value)
}

/// The document's text with another value in it.
fn written(part: &str, value: &Value, anew: &mut bool) -> String {
    edit::rewrite(part, value).unwrap_or_else(|| {
        *anew = true;
        emit::document(part, value)
    })
}

/// Takes the sidecar out of an object's pods.
fn without(object: &mut Value, place: &str, notes: &mut Vec<String>, problems: &mut Vec<String>) {
    let label = label(object, place);
    let pods = pods(object);
    if pods.is_empty() {
        notes.push(format!("{label}: left alone, no pod in it"));
    }
    for pod in pods {
        let Some(pod) = object.pointer_mut(&pod) else {
            continue;
        };
        match remove(pod) {
            Ok(None) if has_sidecar(pod).is_some() => notes.push(format!(
                "{label}: left alone, though a container {SIDECAR} is in it: the annotation {STATUS}, which says what was done, is not; take the container and its \
                 addresses (http://127.0.0.1:…) out by hand, or go back to the manifest before injection"
            )),
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
    let unheard = misplaced(object, &pods).into_iter();
    notes.extend(unheard.map(|note| format!("{label}: {note}")));
    let request = Request {
        profiles,
        check,
        asked: true,
        profile,
        job: pods::ends(object),
    };
    for path in pods {
        let Some(pod) = object.pointer_mut(&path) else {
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
