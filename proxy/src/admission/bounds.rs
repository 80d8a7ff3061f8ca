//! How large a pod may be to be looked at: far above every pod that a cluster would take, and below what would hold up everybody else's. And how large what
//! injection makes of it may be: what a cluster, and Linux, would take.

use super::{
    patch::{entries, items, text},
    pod::SIDECAR,
    profile::{Profile, SidecarConfig},
};
use serde_json::Value;

/// Containers of all kinds.
const MAX_CONTAINERS: usize = 500;
/// Variables, mounts, devices and ports of all containers, volumes, labels and annotations, together.
const MAX_ITEMS: usize = 20_000;
/// The longest configuration, in bytes, that a sidecar can be given: Linux starts no program with a variable of more than 128 KiB, its name, `=` and a zero byte
/// included (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_CONFIGURATION: usize = (128 << 10) - "TOKEN_SIDECAR_CONFIG_TEXT=".len() - 1;
/// The largest patch, in bytes: of a pod that fits into the API server's storage (1.5 MiB), as JSON.
pub(super) const MAX_PATCH: usize = 1 << 20;
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

/// Why a sidecar cannot be given this configuration (JSON), if it cannot: which part is large. `own`: the profile without the pod's annotations; `with`: with them.
pub(super) fn configuration(
    json: &str,
    name: &str,
    own: &Profile,
    with: &Profile,
) -> Option<String> {
    if json.len() <= MAX_CONFIGURATION {
        return None;
    }
    let length = |profile: &Profile| match &profile.config {
        SidecarConfig::Inline {
            credentials,
            routes,
        } => {
            let credentials: usize = (credentials.iter())
                .map(|(name, value)| name.len() + value.to_string().len())
                .sum();
            credentials + routes.iter().map(|r| r.to_string().len()).sum::<usize>()
        }
        SidecarConfig::ConfigMap { .. } => 0,
    };
    let of_profile = length(own);
    let of_pod = length(with).saturating_sub(of_profile);
    let rest = json.len().saturating_sub(of_profile + of_pod);
    let most = of_profile.max(of_pod).max(rest);
    let (part, mend) = if most == of_profile {
        (
            format!("`credentials` and `routes` of profile {name}"),
            "put the configuration into a ConfigMap, and name it in `configMap` of the profile",
        )
    } else if most == of_pod {
        (
            "the annotations credentials and routes".into(),
            "leave out of them what the pod does not use, or use a profile with `configMap`",
        )
    } else {
        (
            "the variables that the profile rewrites".into(),
            "make their URLs shorter, or name fewer",
        )
    };
    Some(format!(
        "the sidecar's configuration would be {} KiB, and a variable of more than 128 KiB starts no program; {} KiB of it are {part}: {mend}",
        json.len().div_ceil(1024),
        most.div_ceil(1024),
    ))
}

/// Why a patch of this many bytes is too large, if it is: which part is large.
pub(super) fn patch(length: usize, operations: &[Value]) -> Option<String> {
    if length <= MAX_PATCH {
        return None;
    }
    let ours = |operation: &&Value| {
        let value = operation.get("value").unwrap_or(&Value::Null);
        text(value, "name").starts_with(SIDECAR)
    };
    let of_profile: usize = (operations.iter().filter(ours))
        .map(|o| o.to_string().len())
        .sum();
    let (part, most, mend) = if of_profile > length / 2 {
        (
            "the sidecar and its volumes",
            of_profile,
            "make `noProxy`, `mounts`, `credentials` and `routes` of the profile smaller; a large configuration belongs into a ConfigMap (`configMap`)",
        )
    } else {
        (
            "changes of the pod's own containers and annotations",
            length - of_profile,
            "make the pod's variables and annotations smaller, or fewer",
        )
    };
    Some(format!(
        "the patch would be {} KiB, more than 1024; {} KiB of it are {part}: {mend}",
        length.div_ceil(1024),
        most.div_ceil(1024),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_part_that_makes_a_configuration_too_large_is_named() {
        let profile = |length: usize| {
            let mut profile = super::super::tests::profile();
            profile.config = SidecarConfig::Inline {
                credentials: [("a".to_owned(), json!("x".repeat(length)))]
                    .into_iter()
                    .collect(),
                routes: vec![json!({})],
            };
            profile
        };
        let (small, large) = (profile(10), profile(150_000));
        let text = |length| "x".repeat(length);
        assert_eq!(
            configuration(&text(MAX_CONFIGURATION), "default", &large, &large),
            None
        );
        for (own, with, part) in [
            (
                &large,
                &large,
                "147 KiB of it are `credentials` and `routes` of profile default: put the configuration into a ConfigMap, and name it in `configMap` of the profile",
            ),
            (
                &small,
                &large,
                "147 KiB of it are the annotations credentials and routes: leave out of them what the pod does not use, or use a profile with `configMap`",
            ),
            (
                &small,
                &small,
                "147 KiB of it are the variables that the profile rewrites: make their URLs shorter, or name fewer",
            ),
        ] {
            assert_eq!(
                configuration(&text(150_100), "default", own, with),
                Some(format!(
                    "the sidecar's configuration would be 147 KiB, and a variable of more than 128 KiB starts no program; {part}"
                ))
            );
        }
    }

    #[test]
    fn the_part_that_makes_a_patch_too_large_is_named() {
        let operation = |name: &str, length: usize| json!({"op": "add", "value": {"name": name, "x": "x".repeat(length)}});
        let made = |ours, theirs| {
            let operations = [
                operation("token-sidecar-mount-0", ours),
                operation("A", theirs),
            ];
            patch(ours + theirs, &operations)
        };
        assert_eq!(made(MAX_PATCH, 0), None);
        assert_eq!(
            made(MAX_PATCH, 1000).unwrap(),
            "the patch would be 1025 KiB, more than 1024; 1025 KiB of it are the sidecar and its volumes: make `noProxy`, `mounts`, `credentials` and `routes` of \
             the profile smaller; a large configuration belongs into a ConfigMap (`configMap`)"
        );
        assert_eq!(
            made(1000, MAX_PATCH).unwrap(),
            "the patch would be 1025 KiB, more than 1024; 1024 KiB of it are changes of the pod's own containers and annotations: make the pod's variables and \
             annotations smaller, or fewer"
        );
    }

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
