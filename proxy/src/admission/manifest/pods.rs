//! Where pods are in an object, and what messages call it. By shape, not by kind: what a custom resource calls a template, and has containers, is one.

use super::super::{
    patch::text as text_of,
    wish::{PREFIX, shown},
};
use serde_json::Value;

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

/// What an object says on itself for its pods (`pods`: where they are), which hear what their template says alone.
pub(super) fn misplaced(object: &Value, pods: &[String]) -> Option<String> {
    let template = pods.first().filter(|path| !path.is_empty())?;
    let metadata = object.get("metadata")?;
    let maps = ["labels", "annotations"].map(|map| metadata.get(map).and_then(Value::as_object));
    let keys = maps.into_iter().flatten().flat_map(|map| map.keys());
    let mut keys: Vec<String> = keys
        .filter(|key| key.starts_with(PREFIX))
        .map(|key| shown(key))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let (stands, it) = match keys.len() {
        0 => return None,
        1 => ("stands", "it"),
        _ => ("stand", "them"),
    };
    Some(format!(
        "{} {stands} on the {} itself, which counts for nothing; put {it} under {}.metadata",
        keys.join(", "),
        shown(text_of(object, "kind")),
        template.trim_start_matches('/').replace('/', "."),
    ))
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
                let part = key.replace('~', "~0").replace('/', "~1");
                search(key, value, &format!("{path}/{part}"), found);
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
        text_of(object, "kind").to_ascii_lowercase()
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
            assert_eq!(misplaced(&object, &template).as_deref(), Some(expected));
        }
        let plain = object(json!({"other": "x"}), json!({}));
        assert_eq!(misplaced(&plain, &template), None);
        // A pod's metadata is its own; where there is no pod, nobody is asked.
        let own = object(inject, Value::Null);
        assert_eq!(misplaced(&own, &[String::new()]), None);
        assert_eq!(misplaced(&own, &[]), None);
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
