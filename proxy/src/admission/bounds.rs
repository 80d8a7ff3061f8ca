//! How large a pod may be to be looked at. Far above every pod that a cluster would take, and below what would hold up everybody else's.

use super::patch::{entries, items};
use serde_json::Value;

/// Containers of all kinds.
const MAX_CONTAINERS: usize = 500;
/// Variables, mounts, devices and ports of all containers, volumes, labels and annotations, together.
const MAX_ITEMS: usize = 20_000;
/// Lists of a container that are looked through.
const OF_CONTAINERS: [&str; 5] = ["env", "envFrom", "ports", "volumeDevices", "volumeMounts"];

/// Why a pod is too large to be looked at, if it is.
pub(super) fn too_large(pod: &Value) -> Option<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|l| items(spec, l));
    let containers: usize = lists.iter().map(|l| l.len()).sum();
    if containers > MAX_CONTAINERS {
        return Some(format!(
            "the pod has {containers} containers, more than {MAX_CONTAINERS}; split it"
        ));
    }
    let of_containers: usize = lists
        .into_iter()
        .flatten()
        .flat_map(|c| OF_CONTAINERS.map(|list| items(c, list).len()))
        .sum();
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let of_pod: usize = ["labels", "annotations"]
        .iter()
        .filter_map(|map| entries(metadata, map))
        .map(serde_json::Map::len)
        .sum();
    let all = of_containers + of_pod + items(spec, "volumes").len();
    (all > MAX_ITEMS).then(|| {
        format!("the pod has {all} variables, mounts, ports, volumes, labels and annotations, more than {MAX_ITEMS}; split it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_have_an_end() {
        let many = |n: usize, item: Value| Value::from(vec![item; n]);
        let right = json!({"spec": {"containers": many(MAX_CONTAINERS, json!({"name": "a", "env": many(40, json!({}))}))}});
        assert_eq!(too_large(&right), None);
        let split = json!({"spec": {"containers": many(400, json!({})), "initContainers": many(100, json!({})), "ephemeralContainers": [{}]}});
        assert_eq!(
            too_large(&split).unwrap(),
            "the pod has 501 containers, more than 500; split it"
        );
        let ports = json!({"spec": {"containers": [{"ports": many(100_000, json!({"containerPort": 8080}))}]}});
        assert!(too_large(&ports).unwrap().contains("has 100000 variables"));
        let annotations: serde_json::Map<String, Value> = (0..=MAX_ITEMS)
            .map(|i| (i.to_string(), "".into()))
            .collect();
        let annotated = json!({"metadata": {"annotations": annotations}});
        assert!(too_large(&annotated).unwrap().contains("has 20001 "));
        assert_eq!(too_large(&json!("no pod")), None);
    }
}
