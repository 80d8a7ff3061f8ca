//! Where pods are in an object, and what messages call it. By shape, not by kind: what a custom resource calls a template, and has containers, is one.

use super::super::patch::text as text_of;
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
