//! AKS' workload identity webhook (azure-workload-identity): what it puts into pods, found and taken out of the workload's containers, and
//! how it is told to leave them alone. It may run before this injector or after it.

use super::{
    patch::{Patch, items, text},
    paths::Roots,
    pod::{self, Container, LISTS},
    problems::Problems,
    profile::{Profile, TokenSource},
    settled::is_own,
    status::{Done, Item, Status},
    wish::shown,
};
use serde_json::Value;
use std::collections::HashSet;

/// The pod label by which it is asked for.
pub(super) const USE: &str = "azure.workload.identity/use";
/// The pod annotation that names containers it leaves alone, separated by `;`.
pub(super) const SKIP: &str = "azure.workload.identity/skip-containers";
/// The pod annotation by which its token is for an identity binding.
pub(super) const BINDING: &str = "azure.workload.identity/use-identity-binding";
/// The pod annotation by which it adds a proxy; whatever its value.
pub(super) const PROXY: &str = "azure.workload.identity/inject-proxy-sidecar";
/// That proxy's containers.
pub(super) const PROXY_CONTAINERS: [&str; 2] = ["azwi-proxy-init", "azwi-proxy"];
/// The audience of its tokens.
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// The audience of its tokens for identity bindings.
pub(super) const BINDING_AUDIENCE: &str = "api://AKSIdentityBinding";
/// All of them.
pub(super) const AUDIENCES: [&str; 2] = [AUDIENCE, BINDING_AUDIENCE];
/// What its variables begin with.
const VARIABLES: [&str; 4] = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", TOKEN_FILE, AUTHORITY];
pub(super) const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const PROXY_VARIABLES: &str = "AZURE_KUBERNETES_";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
/// What it sets [`AUTHORITY`] to, by the cloud.
const AUTHORITIES: [&str; 4] = [
    "https://login.microsoftonline.com",
    "https://login.microsoftonline.us",
    "https://login.partner.microsoftonline.cn",
    "https://login.chinacloudapi.cn",
];

/// What a container was given by it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Given {
    /// Its variables, those of the workload's own choice included.
    pub(super) env: Vec<Value>,
    /// Mounts of the token.
    pub(super) mounts: Vec<Value>,
}

/// Whether the pod asks for it.
pub(super) fn asked(pod: &Value) -> bool {
    pod.pointer("/metadata/labels")
        .is_some_and(|labels| text(labels, USE) == "true")
}

/// Whether a volume is its token: `azure-identity-token` up to v1.5, `azure-workload-identity-reserved-…` since v1.6.
pub(super) fn is_token_volume(volume: &Value) -> bool {
    let name = text(volume, "name");
    let named =
        name == "azure-identity-token" || name.starts_with("azure-workload-identity-reserved-");
    named && audiences(volume).next().is_some()
}

/// The audiences of a volume's projected service-account tokens; empty: the API server's.
pub(super) fn audiences(volume: &Value) -> impl Iterator<Item = &str> {
    let sources = volume
        .pointer("/projected/sources")
        .and_then(Value::as_array);
    sources
        .into_iter()
        .flatten()
        .filter_map(|s| s.get("serviceAccountToken"))
        .map(|t| text(t, "audience"))
}

/// The names of its token volumes in a pod.
pub(super) fn token_volumes(pod: &Value) -> HashSet<String> {
    let volumes = pod
        .get("spec")
        .map_or(&[][..], |spec| items(spec, "volumes"));
    volumes
        .iter()
        .filter(|v| is_token_volume(v))
        .map(|v| text(v, "name").to_owned())
        .collect()
}

/// Whether a variable is one that it sets.
pub(super) fn is_variable(name: &str) -> bool {
    VARIABLES.contains(&name) || name.starts_with(PROXY_VARIABLES)
}

/// What the sidecar may take over of variables that its webhook sets. The webhook leaves alone what a manifest sets already, so that who writes the pod
/// may have said them.
pub(super) struct Trust {
    /// There is an identity binding, for which alone it sets the token proxy's.
    binding: bool,
    /// The profile trusts whoever added them.
    added: bool,
}

impl Trust {
    pub(super) fn new(pod: &Value, profile: &Profile) -> Self {
        let volumes = pod.get("spec").map_or(&[][..], |s| items(s, "volumes"));
        let bound = |v: &Value| is_token_volume(v) && audiences(v).any(|a| a == BINDING_AUDIENCE);
        Self {
            binding: volumes.iter().any(bound),
            added: profile.allow_added_trust,
        }
    }

    /// Whether it is one that leads the token nowhere else.
    pub(super) fn may(&self, variable: &Value) -> bool {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if name == AUTHORITY {
            return self.added || AUTHORITIES.contains(&value.trim_end_matches('/'));
        }
        !name.starts_with(PROXY_VARIABLES) || self.binding && variable.get("value").is_some()
    }
}

/// Reports what the sidecar would take over and must not: who wrote the pod may have said where the token is mounted, and which file it is.
pub(super) fn refuse_misplaced(pod: &Value, profile: &Profile, problems: &mut Problems) {
    if !matches!(profile.token, TokenSource::Aks { .. }) || !asked(pod) {
        return;
    }
    let volumes = token_volumes(pod);
    // There is no sidecar in it yet, or no longer.
    let mut all = pod::containers(pod);
    let Some((name, given)) = all.find_map(|c| Some((c.name, given(&volumes, c.value)?))) else {
        return;
    };
    let paths = given.mounts.iter().map(|m| text(m, "mountPath"));
    for path in paths.clone().filter(|path| is_own(path, profile)) {
        problems.push(format!(
            "container {} mounts AKS' token at {}, which the sidecar would take over, and has or trusts something else there; take the mount out: AKS' webhook \
             mounts it by itself",
            shown(name),
            shown(path)
        ));
    }
    let roots = Roots::new(paths);
    let file = given.env.iter().find(|e| text(e, "name") == TOKEN_FILE);
    if file.is_some_and(|file| !roots.has(text(file, "value"))) {
        problems.push(format!(
            "container {}: {TOKEN_FILE} is not a file of AKS' token, which the sidecar would take it for; take the variable out: AKS' webhook sets it by itself",
            shown(name)
        ));
    }
}

/// What the sidecar takes over of what a container was given: nothing where nobody asked for its webhook, which then has not been here.
pub(super) fn taken_over(
    given: Given,
    pod: &Value,
    profile: &Profile,
    warnings: &mut Problems,
) -> Option<Given> {
    if !asked(pod) {
        return None;
    }
    let trust = Trust::new(pod, profile);
    let (env, not): (Vec<Value>, Vec<Value>) = given
        .env
        .into_iter()
        .partition(|variable| trust.may(variable));
    for variable in not {
        warnings.push(format!(
            "{} of the workload is not what AKS' webhook sets, and decides who gets the sidecar's token; the sidecar does not take it over; take it out \
             of the pod, or name the authority in the profile (`token.projected.authorityHost`)",
            shown(text(&variable, "name"))
        ));
    }
    Some(Given { env, ..given })
}

/// What a container was given, if it has the token.
fn given(volumes: &HashSet<String>, container: &Value) -> Option<Given> {
    let mounts: Vec<Value> = items(container, "volumeMounts")
        .iter()
        .filter(|m| volumes.contains(text(m, "name")))
        .cloned()
        .collect();
    if mounts.is_empty() {
        return None;
    }
    // Of several with one name, the kubelet takes the last.
    let mut seen = HashSet::new();
    let mut env: Vec<Value> = items(container, "env")
        .iter()
        .rev()
        .filter(|e| is_variable(text(e, "name")) && seen.insert(text(e, "name")))
        .cloned()
        .collect();
    env.reverse();
    Some(Given { env, mounts })
}

/// Takes the token out of every container but the sidecar: its mounts, and the variables that hold paths below them. Client and tenant ids stay:
/// they are no secret, and nobody can tell whether they were the workload's own. Gives what the first of them had.
pub(super) fn strip(patch: &mut Patch, status: &mut Status) -> Option<Given> {
    let volumes = token_volumes(&patch.object);
    if volumes.is_empty() {
        return None;
    }
    let mut first = None;
    for list in LISTS {
        let count = patch
            .get(&["spec", list])
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        for i in 0..count {
            let place = i.to_string();
            let Some(container) = patch.get(&["spec", list, &place]).cloned() else {
                continue;
            };
            let name = text(&container, "name");
            if name == pod::SIDECAR {
                continue;
            }
            let Some(given) = given(&volumes, &container) else {
                continue;
            };
            let below = Roots::new(given.mounts.iter().map(|m| text(m, "mountPath")));
            let env = |item: &Value| below.has(text(item, "value"));
            let mount = |item: &Value| volumes.contains(text(item, "name"));
            for (key, goes) in [
                ("volumeMounts", &mount as &dyn Fn(&Value) -> bool),
                ("env", &env),
            ] {
                let all = items(&container, key);
                let go: Vec<usize> = (0..all.len())
                    .filter(|i| all.get(*i).is_some_and(goes))
                    .collect();
                patch.remove_all(&["spec", list, &place, key], &go);
                // As they are taken out: from the end, so that indices stay what they are.
                status.items.extend(go.iter().rev().map(|index| Item {
                    container: name.to_owned(),
                    list: key.into(),
                    index: *index,
                    done: Done::Removed,
                    was: all.get(*index).cloned(),
                }));
            }
            first.get_or_insert(given);
        }
    }
    first
}

/// Tells it to leave alone what `skip` says, beside what the pod names already.
pub(super) fn skip(patch: &mut Patch, status: &mut Status, skip: impl Fn(&Container<'_>) -> bool) {
    let now = patch
        .get(&["metadata", "annotations", SKIP])
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut wanted: Vec<&str> = Vec::new();
    let mut named: HashSet<&str> = HashSet::new();
    let kept: HashSet<&str> = pod::containers(&patch.object)
        .filter(|c| !skip(c))
        .map(|c| c.name)
        .collect();
    let containers = pod::containers(&patch.object).filter(&skip).map(|c| c.name);
    for name in now.split(';').map(str::trim).chain(containers) {
        if !name.is_empty() && !kept.contains(name) && named.insert(name) {
            wanted.push(name);
        }
    }
    let wanted = wanted.join(";");
    status.annotate(patch, SKIP, &wanted);
}
