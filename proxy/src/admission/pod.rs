//! A pod (or a pod template) as JSON: its containers, and what there is in it that a sidecar must not be put beside.

use super::{
    aks,
    patch::{items, text},
    profile::{Profile, TokenSource},
    wish::shown,
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

/// A container and where it is.
pub(super) struct Container<'p> {
    pub(super) list: &'static str,
    pub(super) index: usize,
    pub(super) name: &'p str,
    pub(super) value: &'p Value,
}

/// The init containers, then the containers.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = Container<'_>> {
    LISTS.into_iter().flat_map(move |list| {
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

/// The ports that containers say they listen on.
pub(super) fn ports(pod: &Value) -> impl Iterator<Item = (&str, u64)> {
    containers(pod).flat_map(|c| {
        let ports = items(c.value, "ports")
            .iter()
            .filter(|p| matches!(text(p, "protocol"), "" | "TCP"));
        ports.filter_map(move |p| Some((c.name, p.get("containerPort")?.as_u64()?)))
    })
}

/// Reports what is not shaped as a pod is. Everything else here, and every change, counts on that.
pub(super) fn misshapen(pod: &Value, problems: &mut Vec<String>) {
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
            for inner in ["env", "volumeMounts", "ports"] {
                if key != "volumes" {
                    expect(item.get(inner), &format!("{path}.{inner}"), true);
                }
            }
        }
    }
}

/// Reports what makes a sidecar unsafe or impossible here. `ports`: those that it will listen on, and what for.
pub(super) fn hindrances(
    pod: &Value,
    profile: &Profile,
    ports: &[(u16, String)],
    problems: &mut Vec<String>,
) {
    const NOTHING: &Value = &Value::Null;
    let spec = pod.get("spec").unwrap_or(NOTHING);
    let yes = |key: &str| spec.get(key).and_then(Value::as_bool) == Some(true);
    if containers(pod).all(|c| c.list != "containers") {
        problems
            .push("the pod has no containers; check the indentation of `spec.containers`".into());
    }
    if yes("hostNetwork") && !profile.allow_host_network {
        problems.push(
            "hostNetwork: whatever runs on the node could reach the sidecar's listener and use this pod's identity; take hostNetwork out, or \
             set `allowHostNetwork: true` in the profile"
                .into(),
        );
    }
    for key in ["shareProcessNamespace", "hostPID"] {
        if yes(key) {
            problems.push(format!(
                "{key}: the workload could look into the sidecar's process, where the tokens are; take {key} out"
            ));
        }
    }
    if spec.pointer("/os/name").and_then(Value::as_str) == Some("windows") {
        problems.push("a Windows pod; the sidecar runs on Linux: leave it out with token-sidecar.io/inject: \"false\"".into());
    }
    names(spec, pod, problems);
    users(spec, pod, profile, problems);
    for (name, port) in self::ports(pod) {
        if let Some((_, what)) = ports.iter().find(|(p, _)| u64::from(*p) == port) {
            problems.push(format!(
                "port {port} is container {}'s and would be the sidecar's {what}; set the annotation token-sidecar.io/port or \
                 token-sidecar.io/admin-port (or `port`, `adminPort`, `rewrite[].port` of the profile) to another",
                shown(name)
            ));
        }
    }
    let audience = match &profile.token {
        TokenSource::Aks => aks::AUDIENCE,
        TokenSource::Projected { audience, .. } => audience,
    };
    for volume in items(spec, "volumes")
        .iter()
        .filter(|v| !aks::is_token_volume(v))
    {
        if aks::audiences(volume).any(|a| a == audience) {
            let name = text(volume, "name");
            for holder in containers(pod).filter(|c| {
                items(c.value, "volumeMounts")
                    .iter()
                    .any(|m| text(m, "name") == name)
            }) {
                problems.push(format!(
                    "container {} mounts volume {}, a token of the sidecar's audience ({audience}), so that it would still hold a credential; \
                     take the mount out",
                    shown(holder.name),
                    shown(name)
                ));
            }
        }
    }
}

fn names(spec: &Value, pod: &Value, problems: &mut Vec<String>) {
    let ephemeral = items(spec, "ephemeralContainers")
        .iter()
        .map(|c| text(c, "name"));
    if containers(pod)
        .map(|c| c.name)
        .chain(ephemeral)
        .any(|n| n == SIDECAR)
    {
        problems.push(format!(
            "a container is named {SIDECAR} already and is not of this injector's making; rename or remove it"
        ));
    }
    for volume in items(spec, "volumes") {
        let name = text(volume, "name");
        if [TOKEN_VOLUME, CONFIG_VOLUME].contains(&name) {
            problems.push(format!(
                "a volume is named {name} already, which is the sidecar's; rename it"
            ));
        }
    }
}

fn users(spec: &Value, pod: &Value, profile: &Profile, problems: &mut Vec<String>) {
    let user = |of: &Value| {
        of.pointer("/securityContext/runAsUser")
            .and_then(Value::as_u64)
    };
    let uid = u64::from(profile.uid);
    for container in containers(pod).filter(|c| c.name != SIDECAR) {
        if user(container.value).or(user(spec)) == Some(uid) {
            problems.push(format!(
                "container {} runs as uid {uid}, which is the sidecar's and must be its alone; give it another runAsUser, or set `uid` of the \
                 profile to another",
                shown(container.name)
            ));
        }
    }
}
