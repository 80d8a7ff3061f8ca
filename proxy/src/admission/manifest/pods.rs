//! Where pods are in an object, and what messages call it. By shape, not by kind: what a custom resource calls a template, and has containers, is one.

use super::super::{
    patch::text as text_of,
    wish::{PREFIX, shown},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Every object of a document: the items of a list, or the one it is.
pub(super) fn each(document: &mut Value, mut change: impl FnMut(&mut Value)) {
    let list = text_of(document, "kind").ends_with("List");
    match document.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) if list => items.iter_mut().for_each(change),
        _ => change(document),
    }
}

/// Where the pods of an object are (JSON pointers): the pod that it is, or its pod templates.
pub(super) fn pods(object: &Value) -> Vec<String> {
    if text_of(object, "kind") == "Pod" {
        return vec![String::new()];
    }
    // What looks like a template in a policy is a pattern.
    if text_of(object, "apiVersion").contains("kyverno.io/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for key in ["spec", "template"] {
        if let Some(value) = object.get(key) {
            search(key, value, &format!("/{key}"), &mut found);
        }
    }
    found
}

/// Whether pods of this object run to an end.
pub(super) fn ends(object: &Value) -> bool {
    let kind = text_of(object, "kind");
    kind.ends_with("Job") || kind.ends_with("JobSet")
}

/// What an object says for its pods (`pods`: where they are) in places where nobody hears it: a pod hears the labels and annotations of its own metadata alone,
/// and not those of a workload, or of a CronJob's `jobTemplate`. One line for each place.
pub(super) fn misplaced(object: &Value, pods: &[String]) -> Vec<String> {
    let mut places = Places::new();
    if !pods.is_empty() {
        unheard(object, String::new(), pods, &mut places);
    }
    places
        .iter()
        .filter_map(|(place, keys)| {
            let below = |path: &str, above: &str| {
                (path.strip_prefix(above))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            // Its own, else the first that is below what it is said of.
            let of = place.strip_suffix("/metadata").unwrap_or(place);
            let pod = (pods.iter().find(|pod| below(place, pod)))
                .or_else(|| pods.iter().find(|pod| below(pod, of)))
                .or(pods.first())?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (stands, it) = match keys.len() {
                1 => ("stands", "it"),
                _ => ("stand", "them"),
            };
            let where_ = match dotted(place) {
                own if own == "metadata" => {
                    format!("on the {} itself", shown(text_of(object, "kind")))
                }
                place if place.is_empty() => "at the top".into(),
                place => format!("under {place}"),
            };
            let right = format!("{pod}/metadata");
            // Labels and annotations are maps in it.
            let map = if *place == right { ".annotations" } else { "" };
            Some(format!(
                "{} {stands} {where_}, which counts for nothing; put {it} under {}{map}",
                keys.join(", "),
                dotted(&right),
            ))
        })
        .collect()
}

/// Keys by the metadata (or other map) that they are in.
type Places = BTreeMap<String, BTreeSet<String>>;

/// Collects our keys that stand elsewhere than in a pod's labels and annotations. Selectors have them rightly.
fn unheard(value: &Value, path: String, pods: &[String], places: &mut Places) {
    match value {
        Value::Object(map) => {
            let (holder, last) = path.rsplit_once('/').unwrap_or(("", ""));
            let labels = matches!(last, "labels" | "annotations");
            let of_pod = holder
                .strip_suffix("/metadata")
                .is_some_and(|pod| pods.iter().any(|p| p == pod));
            if matches!(last, "matchLabels" | "selector") || (labels && of_pod) {
                return;
            }
            let place = if labels { holder } else { path.as_str() };
            for key in map.keys().filter(|key| key.starts_with(PREFIX)) {
                let keys = places.entry(place.to_owned()).or_default();
                keys.insert(shown(key));
            }
            for (key, value) in map {
                unheard(value, format!("{path}/{}", escaped(key)), pods, places);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                unheard(value, format!("{path}/{i}"), pods, places);
            }
        }
        _ => {}
    }
}

/// A pointer as people write it.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// A key in a pointer (RFC 6901 section 3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn search(key: &str, value: &Value, path: &str, found: &mut Vec<String>) {
    let called = key == "template" || key.ends_with("Template");
    if called && value.pointer("/spec/containers").is_some() {
        found.push(path.to_owned());
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                search(key, value, &format!("{path}/{}", escaped(key)), found);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                search("", value, &format!("{path}/{i}"), found);
            }
        }
        _ => {}
    }
}

/// What messages call an object: `PLACE: kind/name`.
pub(super) fn label(object: &Value, place: &str) -> String {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let names = [text_of(metadata, "name"), text_of(metadata, "generateName")];
    let name = names
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or("(no name)");
    format!(
        "{place}: {}/{name}",
        Some(text_of(object, "kind").to_ascii_lowercase())
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| "(no kind)".into())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_on_the_object_is_misplaced() {
        let object = |annotations: Value, labels: Value| json!({"kind": "Deployment", "metadata": {"annotations": annotations, "labels": labels}});
        let template = ["/spec/template".to_owned()];
        let inject = json!({"token-sidecar.io/inject": "false", "other": "x"});
        for (object, expected) in [
            (
                object(inject.clone(), Value::Null),
                "token-sidecar.io/inject stands on the Deployment itself, which counts for nothing; put it under spec.template.metadata",
            ),
            (
                object(Value::Null, inject.clone()),
                "token-sidecar.io/inject stands on the Deployment itself, which counts for nothing; put it under spec.template.metadata",
            ),
            (
                object(json!({"token-sidecar.io/port": "8081"}), inject.clone()),
                "token-sidecar.io/inject, token-sidecar.io/port stand on the Deployment itself, which counts for nothing; put them under spec.template.metadata",
            ),
            (
                object(
                    inject.clone(),
                    json!({"token-sidecar.io/inject": "true", "token-sidecar.io/injected": "true"}),
                ),
                "token-sidecar.io/inject, token-sidecar.io/injected stand on the Deployment itself, which counts for nothing; put them under spec.template.metadata",
            ),
        ] {
            assert_eq!(misplaced(&object, &template), [expected]);
        }
        let plain = object(json!({"other": "x"}), json!({}));
        assert_eq!(misplaced(&plain, &template), [""; 0]);
        // A pod's metadata is its own; where there is no pod, nobody is asked.
        let own = object(inject, Value::Null);
        assert_eq!(misplaced(&own, &[String::new()]), [""; 0]);
        assert_eq!(misplaced(&own, &[]), [""; 0]);
    }

    #[test]
    fn so_is_what_is_said_on_the_way_to_the_pod() {
        let ours = json!({"token-sidecar.io/inject": "true"});
        let pod = json!({"metadata": {"labels": ours}, "spec": {"containers": []}});
        for (object, expected) in [
            (
                json!({"kind": "CronJob", "spec": {"jobTemplate": {"metadata": {"annotations": ours, "labels": ours}, "spec": {"template": pod}}}}),
                vec![
                    "token-sidecar.io/inject stands under spec.jobTemplate.metadata, which counts for nothing; put it under spec.jobTemplate.spec.template.metadata",
                ],
            ),
            (
                json!({"kind": "Deployment", "spec": {"template": {"metadata": {"token-sidecar.io/profile": "x"}, "spec": {"containers": []}}}}),
                vec![
                    "token-sidecar.io/profile stands under spec.template.metadata, which counts for nothing; put it under spec.template.metadata.annotations",
                ],
            ),
            (
                json!({"kind": "Deployment", "spec": {"annotations": ours, "template": {"annotations": ours, "spec": {"containers": [], "token-sidecar.io/port": "1"}}}}),
                vec![
                    "token-sidecar.io/inject stands under spec, which counts for nothing; put it under spec.template.metadata",
                    "token-sidecar.io/inject stands under spec.template, which counts for nothing; put it under spec.template.metadata",
                    "token-sidecar.io/port stands under spec.template.spec, which counts for nothing; put it under spec.template.metadata",
                ],
            ),
            (
                json!({"kind": "Pod", "annotations": ours, "metadata": {"token-sidecar.io/port": "1"}, "spec": {"containers": []}}),
                vec![
                    "token-sidecar.io/inject stands at the top, which counts for nothing; put it under metadata",
                    "token-sidecar.io/port stands on the Pod itself, which counts for nothing; put it under metadata.annotations",
                ],
            ),
            // Each at the pod that it is near.
            (
                json!({"kind": "RayCluster", "spec": {"head": {"metadata": {"labels": ours}, "template": pod}, "workers": [{"metadata": {"labels": ours}, "template": pod}]}}),
                vec![
                    "token-sidecar.io/inject stands under spec.head.metadata, which counts for nothing; put it under spec.head.template.metadata",
                    "token-sidecar.io/inject stands under spec.workers.0.metadata, which counts for nothing; put it under spec.workers.0.template.metadata",
                ],
            ),
            // Whoever selects pods by them is right.
            (
                json!({"kind": "Deployment", "spec": {"selector": {"matchLabels": ours}, "template": pod}}),
                vec![],
            ),
        ] {
            assert_eq!(misplaced(&object, &pods(&object)), expected, "{object}");
        }
    }

    #[test]
    fn templates_are_found_by_their_shape() {
        let template = json!({"spec": {"containers": []}});
        for (object, expected) in [
            (json!({"kind": "Pod", "spec": {"containers": []}}), vec![""]),
            (
                json!({"kind": "Deployment", "spec": {"template": template}}),
                vec!["/spec/template"],
            ),
            (
                json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template}}}}),
                vec!["/spec/jobTemplate/spec/template"],
            ),
            (
                json!({"kind": "PodTemplate", "template": template}),
                vec!["/template"],
            ),
            // Custom resources: Ray's, Kubeflow's, and a key that a pointer must escape.
            (
                json!({"kind": "RayCluster", "spec": {"headGroupSpec": {"template": template}, "workerGroupSpecs": [{"template": template}]}}),
                vec![
                    "/spec/headGroupSpec/template",
                    "/spec/workerGroupSpecs/0/template",
                ],
            ),
            (
                json!({"kind": "LeaderWorkerSet", "spec": {"leaderWorkerTemplate": {"workerTemplate": template}}}),
                vec!["/spec/leaderWorkerTemplate/workerTemplate"],
            ),
            (
                json!({"kind": "X", "spec": {"a/b~": {"podTemplate": template}}}),
                vec!["/spec/a~1b~0/podTemplate"],
            ),
            // Containers that are no pod's, a template of something else, a pattern.
            (
                json!({"kind": "Prometheus", "spec": {"containers": []}}),
                vec![],
            ),
            (
                json!({"kind": "ApplicationSet", "spec": {"template": {"spec": {"project": "x"}}}}),
                vec![],
            ),
            (
                json!({"kind": "ClusterPolicy", "apiVersion": "kyverno.io/v1", "spec": {"rules": [{"template": template}]}}),
                vec![],
            ),
            (
                json!({"kind": "ConfigMap", "data": {"template": template}}),
                vec![],
            ),
            (json!(7), vec![]),
        ] {
            assert_eq!(pods(&object), expected, "{object}");
            for pod in expected {
                assert!(object.pointer(pod).is_some());
            }
        }
    }
}
