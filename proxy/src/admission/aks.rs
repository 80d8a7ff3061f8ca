//! AKS' workload identity webhook (azure-workload-identity): what it puts into pods, found and taken out of the workload's containers, and
//! how it is told to leave them alone. It may run before this injector or after it.

use super::{
    patch::{Patch, items, text},
    pod::{self, Container, LISTS},
    status::{Done, Item, Status},
};
use serde_json::Value;

/// The pod label by which it is asked for.
pub(super) const USE: &str = "azure.workload.identity/use";
/// The pod annotation that names containers it leaves alone, separated by `;`.
pub(super) const SKIP: &str = "azure.workload.identity/skip-containers";
/// The audience of its tokens.
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// What its variables begin with.
const VARIABLES: [&str; 4] = [
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
];
const PROXY_VARIABLES: &str = "AZURE_KUBERNETES_";

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
fn token_volumes(pod: &Value) -> Vec<String> {
    let volumes = pod
        .get("spec")
        .map_or(&[][..], |spec| items(spec, "volumes"));
    volumes
        .iter()
        .filter(|v| is_token_volume(v))
        .map(|v| text(v, "name").to_owned())
        .collect()
}

/// What a container was given, if it has the token.
pub(super) fn given(pod: &Value, container: &Value) -> Option<Given> {
    let volumes = token_volumes(pod);
    let mounts: Vec<Value> = items(container, "volumeMounts")
        .iter()
        .filter(|m| volumes.iter().any(|v| v == text(m, "name")))
        .cloned()
        .collect();
    let env = items(container, "env").iter().filter(|e| {
        let name = text(e, "name");
        VARIABLES.contains(&name) || name.starts_with(PROXY_VARIABLES)
    });
    (!mounts.is_empty()).then(|| Given {
        env: env.cloned().collect(),
        mounts,
    })
}

/// Takes the token out of every container but the sidecar: its mounts, and the variables that hold paths below them. Client and tenant ids stay:
/// they are no secret, and nobody can tell whether they were the workload's own. Gives what the first of them had.
pub(super) fn strip(patch: &mut Patch, status: &mut Status) -> Option<Given> {
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
            let name = text(&container, "name").to_owned();
            if name == pod::SIDECAR {
                continue;
            }
            let Some(given) = given(&patch.object, &container) else {
                continue;
            };
            let below = |value: &str| {
                given.mounts.iter().any(|m| {
                    !text(m, "mountPath").is_empty() && value.starts_with(text(m, "mountPath"))
                })
            };
            let env = |item: &Value| below(text(item, "value"));
            let mount = |item: &Value| given.mounts.contains(item);
            // From the end, so that indices stay what they are.
            for (key, goes) in [
                ("volumeMounts", &mount as &dyn Fn(&Value) -> bool),
                ("env", &env),
            ] {
                for (index, item) in items(&container, key)
                    .iter()
                    .enumerate()
                    .rev()
                    .filter(|(_, item)| goes(item))
                {
                    patch.remove(&["spec", list, &place, key, &index.to_string()]);
                    status.items.push(Item {
                        container: name.clone(),
                        list: key.into(),
                        index,
                        done: Done::Removed,
                        was: Some(item.clone()),
                    });
                }
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
        .unwrap_or_default()
        .to_owned();
    let containers: Vec<(String, bool)> = pod::containers(&patch.object)
        .map(|c| (c.name.to_owned(), skip(&c)))
        .collect();
    let kept = |name: &str| !containers.iter().any(|(n, skip)| n == name && !skip);
    let mut names: Vec<&str> = now
        .split(';')
        .map(str::trim)
        .filter(|n| !n.is_empty() && kept(n))
        .collect();
    for (name, skip) in &containers {
        if *skip && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let wanted = names.join(";");
    status.annotate(patch, SKIP, &wanted);
}
