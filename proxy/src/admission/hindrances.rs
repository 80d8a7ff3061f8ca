//! What a sidecar must not be put beside: what could reach its tokens, what has its names, its user or its ports, and AKS' other ways to a token.
//!
//! Every check goes through the pod once: a pod can be made large.

use super::{
    aks, mounts,
    patch::{entries, items, text},
    pod::{self, Container, SIDECAR, containers, everybody, is_ours},
    problems::Problems,
    profile::{Profile, TokenSource},
    windows,
    wish::shown,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Annotations whose keys end in the name of a container whose confinement they change.
const CONFINEMENT: [&str; 2] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
];

/// What the API server's own audience begins with, where nobody has set another. A token that names no audience is for it.
const API_SERVER: &str = "https://kubernetes.default.svc";

/// Reports what makes a sidecar unsafe or impossible in a pod that has none. `ports`: those that it will listen on, and what for.
pub(super) fn hindrances(
    pod: &Value,
    profile: &Profile,
    ports: &BTreeMap<u16, String>,
    problems: &mut Problems,
) {
    const NOTHING: &Value = &Value::Null;
    let spec = pod.get("spec").unwrap_or(NOTHING);
    let yes = |key: &str| spec.get(key).and_then(Value::as_bool) == Some(true);
    if containers(pod).all(|c| c.list != "containers") {
        problems.push("the pod has no containers; check the indentation of `spec.containers`");
    }
    if yes("hostNetwork") && !profile.allow_host_network {
        problems.push(
            "hostNetwork: whatever runs on the node could reach the sidecar's listener and use this pod's identity; take hostNetwork out, or \
             set `allowHostNetwork: true` in the profile",
        );
    }
    for key in ["shareProcessNamespace", "hostPID"] {
        if yes(key) {
            problems.push(format!(
                "{key}: the workload could look into the sidecar's process, where the tokens are; take {key} out"
            ));
        }
    }
    windows::refuse(spec, problems);
    names(spec, pod, problems);
    users(spec, pod, profile, problems);
    let mut said = HashSet::new();
    for (name, port) in pod::ports(pod) {
        if let Some(what) = ports.get(&port)
            && said.insert((name, port))
        {
            problems.push(format!(
                "port {port} is container {}'s and would be the sidecar's {what}; set the annotation token-sidecar.io/port or \
                 token-sidecar.io/admin-port (or `port`, `adminPort`, `rewrite[].port` of the profile) to another",
                shown(name)
            ));
        }
    }
    tokens(spec, pod, profile, problems);
    mounts::refuse_shared(spec, pod, profile, problems);
    binding(spec, profile, problems);
    aks::refuse_misplaced(pod, profile, problems);
    aks_proxy(pod, problems);
}

/// The sidecar's names, and who refers to them.
fn names(spec: &Value, pod: &Value, problems: &mut Problems) {
    if everybody(pod).any(|c| c.name == SIDECAR) {
        problems.push(format!(
            "a container is named {SIDECAR} already and is not of this injector's making; rename or remove it"
        ));
    }
    for volume in items(spec, "volumes") {
        let name = text(volume, "name");
        if is_ours(name) {
            problems.push(format!(
                "a volume is named {name} already, which is the sidecar's; rename it"
            ));
        }
    }
    // There or not: whoever names the volume in advance has it once it is added.
    for container in everybody(pod) {
        for (list, uses) in [("volumeMounts", "mounts"), ("volumeDevices", "uses")] {
            for item in items(container.value, list) {
                let name = text(item, "name");
                if is_ours(name) {
                    problems.push(format!(
                        "container {} {uses} volume {name}, which is the sidecar's alone; take that out of its {list}",
                        shown(container.name)
                    ));
                }
            }
        }
        if text(container.value, "targetContainerName") == SIDECAR {
            problems.push(format!(
                "ephemeral container {} shares the sidecar's processes, where the tokens are; give it another targetContainerName",
                shown(container.name)
            ));
        }
    }
    for key in entries_of(pod, "annotations") {
        if CONFINEMENT
            .iter()
            .any(|c| key.strip_prefix(c) == Some(SIDECAR))
        {
            problems.push(format!(
                "annotation {key} would change how the sidecar is confined; take it out"
            ));
        }
    }
}

fn entries_of<'p>(pod: &'p Value, map: &str) -> impl Iterator<Item = &'p str> {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    entries(metadata, map)
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}

fn users(spec: &Value, pod: &Value, profile: &Profile, problems: &mut Problems) {
    let user = |of: &Value| {
        of.pointer("/securityContext/runAsUser")
            .and_then(Value::as_u64)
    };
    let uid = u64::from(profile.uid);
    for container in everybody(pod).filter(|c| c.name != SIDECAR) {
        if user(container.value).or(user(spec)) == Some(uid) {
            problems.push(format!(
                "container {} runs as uid {uid}, which is the sidecar's and must be its alone; give it another runAsUser, or set `uid` of the \
                 profile to another",
                shown(container.name)
            ));
        }
    }
}

/// Volumes of the workload with a token that would do as well as the sidecar's. AKS' own is taken out of its hands later.
fn tokens(spec: &Value, pod: &Value, profile: &Profile, problems: &mut Problems) {
    let own = match &profile.token {
        TokenSource::Aks { .. } => aks::AUDIENCE,
        TokenSource::Projected { audience, .. } => audience,
    };
    let api_server = own.starts_with(API_SERVER);
    let as_good = |audience: &&str| {
        *audience == own
            || api_server && audience.is_empty()
            || aks::AUDIENCES.contains(&own) && aks::AUDIENCES.contains(audience)
    };
    let volumes: HashMap<&str, &str> = items(spec, "volumes")
        .iter()
        .filter(|v| !aks::is_token_volume(v))
        .filter_map(|v| Some((text(v, "name"), aks::audiences(v).find(as_good)?)))
        .collect();
    if volumes.is_empty() {
        return;
    }
    for container in everybody(pod) {
        for mount in items(container.value, "volumeMounts") {
            let name = text(mount, "name");
            let audience = volumes.get(name).copied();
            if audience == Some("") {
                problems.push(format!(
                    "container {} mounts volume {}, a token for the API server, which is the sidecar's audience too ({own}), so that it would still hold a \
                     credential; set `token.projected.audience` of the profile to another that the authority takes, or `automountServiceAccountToken: false` in \
                     the pod",
                    shown(container.name),
                    shown(name)
                ));
            } else if let Some(audience) = audience {
                problems.push(format!(
                    "container {} mounts volume {}, a token of the sidecar's audience ({audience}), so that it would still hold a credential; \
                     take the mount out",
                    shown(container.name),
                    shown(name)
                ));
            }
        }
    }
}

/// AKS' webhook was here before anybody asked it for an identity binding.
fn binding(spec: &Value, profile: &Profile, problems: &mut Problems) {
    let wanted = TokenSource::Aks {
        identity_binding: true,
    };
    let other = |v: &Value| {
        aks::is_token_volume(v) && !aks::audiences(v).any(|a| a == aks::BINDING_AUDIENCE)
    };
    if profile.token == wanted && items(spec, "volumes").iter().any(other) {
        problems.push(format!(
            "AKS' webhook has given the pod a token that is not for the identity binding which the profile wants; set the annotation {}: \"true\" in the pod \
             template, or have this injector called first (by the name of its webhook configuration)",
            aks::BINDING
        ));
    }
}

/// AKS' proxy, which leads calls of the metadata service to itself and answers them with the pod's tokens.
fn aks_proxy(pod: &Value, problems: &mut Problems) {
    // Its webhook looks at the key alone, whatever the value.
    if entries_of(pod, "annotations").any(|key| key == aks::PROXY) {
        problems.push(format!(
            "annotation {}: AKS' proxy would hold the pod's token and hand it to the workload, with a privileged init container; take the \
             annotation out: the sidecar replaces the proxy",
            aks::PROXY
        ));
    }
    for Container { name, .. } in
        containers(pod).filter(|c| aks::PROXY_CONTAINERS.contains(&c.name))
    {
        problems.push(format!(
            "container {name} is AKS' proxy, which would hold the pod's token and hand it to the workload; take it out, and the annotation {} \
             with it: the sidecar replaces the proxy",
            aks::PROXY
        ));
    }
}
