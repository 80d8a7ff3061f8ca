//! A pod (or a pod template) as JSON: its containers, the names in it that are ours, and whether it is shaped as a pod is.

use super::{
    patch::{items, text},
    problems::Problems,
};
use serde_json::Value;

/// The sidecar's container.
pub(super) const SIDECAR: &str = "token-sidecar";
/// Where containers are that injection may change. Ephemeral containers are not its business.
pub(super) const LISTS: [&str; 2] = ["initContainers", "containers"];
/// The volume of our own projected token.
pub(super) const TOKEN_VOLUME: &str = "token-sidecar-token";
/// The volume of a profile's ConfigMap.
pub(super) const CONFIG_VOLUME: &str = "token-sidecar-config";

/// What the volumes of a profile's `mounts` are called; a number follows.
pub(super) const MOUNT_VOLUME: &str = "token-sidecar-mount-";

/// Whether a volume's name is one of ours.
pub(super) fn is_ours(volume: &str) -> bool {
    [TOKEN_VOLUME, CONFIG_VOLUME].contains(&volume) || volume.starts_with(MOUNT_VOLUME)
}

/// A container and where it is.
pub(super) struct Container<'p> {
    pub(super) list: &'static str,
    pub(super) index: usize,
    pub(super) name: &'p str,
    pub(super) value: &'p Value,
}

/// The init containers, then the containers.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = Container<'_>> {
    of(pod, &LISTS)
}

/// Those, and the ephemeral ones: whoever may hold something of the pod's.
pub(super) fn everybody(pod: &Value) -> impl Iterator<Item = Container<'_>> {
    of(
        pod,
        &["initContainers", "containers", "ephemeralContainers"],
    )
}

fn of<'p>(pod: &'p Value, lists: &'static [&'static str]) -> impl Iterator<Item = Container<'p>> {
    lists.iter().flat_map(move |list| {
        let all = pod.get("spec").map_or(&[][..], |spec| items(spec, list));
        all.iter().enumerate().map(move |(index, value)| Container {
            list,
            index,
            name: text(value, "name"),
            value,
        })
    })
}

/// The sidecar, if there is a container of its name.
pub(super) fn sidecar(pod: &Value) -> Option<Container<'_>> {
    containers(pod).find(|c| c.name == SIDECAR)
}

/// Where a container says what the kubelet asks of it.
const HANDLERS: [&str; 5] = [
    "/startupProbe",
    "/readinessProbe",
    "/livenessProbe",
    "/lifecycle/postStart",
    "/lifecycle/preStop",
];

/// The ports that containers listen on, as far as they say so: those that they declare, and those that the kubelet asks by number. Some come twice.
pub(super) fn ports(pod: &Value) -> impl Iterator<Item = (&str, u16)> {
    containers(pod).flat_map(|c| {
        let declared = items(c.value, "ports")
            .iter()
            .filter(|p| matches!(text(p, "protocol"), "" | "TCP"))
            .filter_map(|p| p.get("containerPort"));
        let asked = HANDLERS
            .iter()
            .filter_map(move |handler| c.value.pointer(handler))
            .flat_map(|handler| ["httpGet", "tcpSocket", "grpc"].map(|kind| handler.get(kind)))
            .flatten()
            // Another host is another's port.
            .filter(|action| text(action, "host").is_empty())
            .filter_map(|action| action.get("port"));
        declared.chain(asked).filter_map(move |port| {
            // A number as text is one to the kubelet, too.
            let number = match port.as_str() {
                Some(text) => text.parse().ok(),
                None => port.as_u64()?.try_into().ok(),
            };
            Some((c.name, number?))
        })
    })
}

/// Reports what is not shaped as a pod is. Everything else here, and every change, counts on that.
pub(super) fn misshapen(pod: &Value, problems: &mut Problems) {
    let mut expect = |value: Option<&Value>, path: &str, list: bool| {
        let right = match value {
            None | Some(Value::Null) => true,
            Some(value) => {
                if list {
                    value.is_array()
                } else {
                    value.is_object()
                }
            }
        };
        if !right {
            let what = if list { "list" } else { "map" };
            problems.push(format!("{path} is not a {what}; check the indentation"));
        }
    };
    expect(pod.get("metadata"), "metadata", false);
    for key in ["labels", "annotations"] {
        expect(
            pod.pointer(&format!("/metadata/{key}")),
            &format!("metadata.{key}"),
            false,
        );
    }
    expect(pod.get("spec"), "spec", false);
    for key in [
        "initContainers",
        "containers",
        "ephemeralContainers",
        "volumes",
    ] {
        let list = pod.pointer(&format!("/spec/{key}"));
        expect(list, &format!("spec.{key}"), true);
        for (i, item) in list
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = format!("spec.{key}[{i}]");
            expect(
                Some(item)
                    .filter(|i| !i.is_null())
                    .or(Some(&Value::Bool(false))),
                &path,
                false,
            );
            for inner in ["env", "volumeMounts", "volumeDevices", "ports"] {
                if key != "volumes" {
                    expect(item.get(inner), &format!("{path}.{inner}"), true);
                }
            }
        }
    }
}
