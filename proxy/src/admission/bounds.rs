//! How large a pod may be to be looked at: far above every pod that a cluster would take, and below what would hold up everybody else's. And how large what
//! injection makes of it may be: what a cluster, and Linux, would take.

use super::{
    patch::{entries, items, text},
    pod::{self, SIDECAR},
    profile::{Profile, SidecarConfig},
    status::Item,
    wish::STATUS,
};
use serde_json::Value;
use std::collections::HashMap;

/// Containers of all kinds.
const MAX_CONTAINERS: usize = 500;
/// Variables, mounts, devices and ports of all containers, volumes, labels and annotations, together.
const MAX_ITEMS: usize = 20_000;
/// The longest configuration, in bytes, that a sidecar can be given: Linux starts no program with a variable of more than 128 KiB, its name, `=` and a zero byte
/// included (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_CONFIGURATION: usize = (128 << 10) - "TOKEN_SIDECAR_CONFIG_TEXT=".len() - 1;
/// The largest patch, in bytes: of a pod that fits into the API server's storage (1.5 MiB), as JSON.
pub(super) const MAX_PATCH: usize = 1 << 20;
/// Entries of containers' lists that are looked at to take an earlier injection back, together. Each thing that was done is looked for in one list: far more
/// than a pod of the bounds above needs, and milliseconds.
const MAX_LOOKS: usize = 500_000;
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

/// Why what an annotation says was done to a pod is too much to be looked for, if it is: whoever writes pods can write anything there.
pub(super) fn too_much_done(pod: &Value, done: &[Item]) -> Option<String> {
    let mut lengths = HashMap::<(&str, &str), usize>::new();
    for container in pod::containers(pod) {
        for list in OF_CONTAINERS {
            // Names may come twice in what no API server has judged yet.
            let length = lengths.entry((container.name, list)).or_default();
            *length = (*length).max(items(container.value, list).len());
        }
    }
    let looks: usize = (done.iter())
        .filter_map(|item| lengths.get(&(&*item.container, &*item.list)))
        .sum();
    (looks > MAX_LOOKS).then(|| {
        format!(
            "the annotation {STATUS} tells of {} changes, which would be looked for among {looks} entries, more than {MAX_LOOKS}; take it out, and the sidecar with it",
            done.len()
        )
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
    fn what_was_done_has_an_end() {
        let done = |count: usize, list: &str| -> Vec<Item> {
            let item =
                json!({"container": "a", "list": list, "index": 0, "done": "removed", "was": {}});
            vec![serde_json::from_value(item).unwrap(); count]
        };
        let env = |length: usize| json!({"name": "a", "env": vec![json!({}); length]});
        let pod = |containers: Value| json!({"spec": {"initContainers": containers}});
        let one = pod(json!([env(5_000)]));
        assert_eq!(too_much_done(&one, &done(100, "env")), None);
        let told = "the annotation token-sidecar.io/status tells of 101 changes, which would be looked for among 505000 entries, more than 500000; take it out, and the \
                    sidecar with it";
        let twice = pod(json!([env(5_000), env(0)]));
        for pod in [&one, &twice] {
            let problem = too_much_done(pod, &done(101, "env"));
            assert_eq!(problem.as_deref(), Some(told));
        }
        assert_eq!(too_much_done(&one, &done(10_000, "volumeMounts")), None);
        // As much as any pod needs.
        let many: Vec<Value> = (0..MAX_CONTAINERS)
            .map(|i| json!({"name": i.to_string(), "env": vec![json!({}); 39]}))
            .collect();
        let many = pod(many.into());
        let mut each = done(12 * MAX_CONTAINERS, "env");
        for (i, item) in each.iter_mut().enumerate() {
            item.container = (i % MAX_CONTAINERS).to_string();
        }
        assert_eq!(too_much_done(&many, &each), None);
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
