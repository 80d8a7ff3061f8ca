//! What is worth knowing of a pod that gets the sidecar: ways to its token that a pod may have, and that injection cannot close.

use super::{
    inject::Request,
    patch::{entries, items, text},
    paths::below,
    pod::{self, SIDECAR},
    problems::Problems,
    profile::Profile,
    wish::{PREFIX, shown},
};
use serde_json::Value;
use sidecar_runtime::suggest;
use std::collections::HashMap;

/// Capabilities with which a container gets out of itself.
const CAPABILITIES: [&str; 6] = [
    "ALL",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_MODULE",
    "SYS_RAWIO",
    "DAC_READ_SEARCH",
];
/// Where a node keeps its pods' volumes, memory and runtimes.
const OF_NODE: [&str; 6] = [
    "/var/lib/kubelet",
    "/proc",
    "/run/containerd",
    "/var/run/containerd",
    "/var/run/docker.sock",
    "/run/docker.sock",
];

/// Labels and annotations whose prefix looks like ours.
fn near_misses(pod: &Value) -> impl Iterator<Item = &str> {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let maps = ["labels", "annotations"].map(|map| entries(metadata, map));
    let own = PREFIX.trim_end_matches('/');
    let keys = maps.into_iter().flatten().flat_map(|map| map.keys());
    keys.map(String::as_str).filter(move |key| {
        key.split_once('/').is_some_and(|(prefix, _)| {
            prefix != own
                && prefix.to_ascii_lowercase().contains("sidecar")
                && suggest::nearest(prefix, [own].into_iter()).is_some()
        })
    })
}

/// Says them, one line each.
pub(super) fn warn(pod: &Value, profile: &Profile, request: &Request<'_>, warnings: &mut Problems) {
    for key in near_misses(pod) {
        warnings.push(format!(
            "{} is none of ours and counts for nothing; did you mean {PREFIX}{}?",
            shown(key),
            shown(key.split_once('/').unwrap_or_default().1)
        ));
    }
    let ends = pod
        .pointer("/spec/restartPolicy")
        .and_then(Value::as_str)
        .is_some_and(|p| p != "Always");
    if ends && !profile.native && !request.job {
        warnings.push("the pod will not end by itself: its sidecar is an ordinary container");
    }
    let volumes = pod.get("spec").map_or(&[][..], |s| items(s, "volumes"));
    let of_node: HashMap<&str, &str> = volumes
        .iter()
        .filter_map(|v| {
            let path = v.pointer("/hostPath/path")?.as_str()?;
            let near = |node: &&str| below(path, node) || below(node, path);
            OF_NODE.iter().any(near).then(|| (text(v, "name"), path))
        })
        .collect();
    for container in pod::containers(pod).filter(|c| c.name != SIDECAR) {
        let mut ways: Vec<String> = Vec::new();
        let security = container.value.get("securityContext");
        let privileged = security.and_then(|s| s.get("privileged")?.as_bool()) == Some(true);
        if privileged {
            ways.push("is privileged".into());
        }
        let capabilities = security
            .and_then(|s| s.pointer("/capabilities/add")?.as_array())
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|c| CAPABILITIES.contains(&c.strip_prefix("CAP_").unwrap_or(c)));
        // One way is enough to say.
        ways.extend(
            capabilities
                .take(1)
                .map(|c| format!("has the capability {}", shown(c))),
        );
        let mounts = items(container.value, "volumeMounts").iter();
        let paths = mounts.filter_map(|m| of_node.get(text(m, "name")));
        ways.extend(
            paths
                .take(1)
                .map(|p| format!("mounts the node's {}", shown(p))),
        );
        if !ways.is_empty() {
            warnings.push(format!(
                "container {} {}, and may reach the sidecar's token through the node",
                shown(container.name),
                ways.join(" and ")
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prefix_that_looks_like_ours_is_told() {
        let pod = json!({"metadata": {
            "labels": {"token-sidecar.io/inject": "true", "sidecar.istio.io/inject": "false", "token-sidecar/inject": "x"},
            "annotations": {"tokensidecar.io/profile": "x", "token-sidecar.oi/port": "1", "app.kubernetes.io/name": "token-sidecar", "sidecar": "x"},
        }});
        let found: Vec<&str> = near_misses(&pod).collect();
        assert_eq!(
            found,
            [
                "token-sidecar/inject",
                "token-sidecar.oi/port",
                "tokensidecar.io/profile"
            ]
        );
        assert_eq!(near_misses(&json!({"metadata": null})).next(), None);
    }
}
