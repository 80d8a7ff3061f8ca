//! Credentials that a profile's rewrites name and its `credentials` do not have: pods may bring them by annotation, unless the profile lets none.
//! Whether a pod does is seen when it comes, not here.

use super::super::{
    fields::{Fields, shown},
    tree::{Node, Value},
};
use crate::admission::profile::{Profile, RewriteCredential, SidecarConfig};
use sidecar_runtime::suggest;

/// Reports such a credential where no pod can bring it, and warns of one that looks like a slip of a name that the profile has.
pub(super) fn check(profile: &Fields<'_>, params: &Profile) {
    let SidecarConfig::Inline { credentials, .. } = &params.config else {
        return;
    };
    let own = || credentials.keys().map(String::as_str);
    let closed =
        (params.annotations.as_ref()).is_some_and(|a| a.iter().all(|a| a != "credentials"));
    let nodes = profile.items("rewrite").unwrap_or_default();
    for (i, (rewrite, node)) in params.rewrite.iter().zip(nodes).enumerate() {
        let RewriteCredential::Named(name) = &rewrite.credential else {
            continue;
        };
        if credentials.contains_key(name) {
            continue;
        }
        let path = profile.join(&format!("rewrite[{i}].credential"));
        let at = child(node, "credential").unwrap_or(node).at;
        let name = shown(name);
        let problems = profile.context.problems;
        if closed {
            let hint = profile.context.hint(&name, own());
            let message = format!(
                "no credential is named `{name}`, and no pod can bring it{hint}; declare it under `credentials`, or add credentials to `annotations`"
            );
            problems.error(at, path, message);
        } else if let Some(near) = suggest::nearest(&name, own()) {
            let message = format!(
                "no credential is named `{name}`, so each pod must bring it by annotation; did you mean `{near}`?"
            );
            problems.warning(at, path, message);
        }
    }
}

/// What stands under a key of a map.
pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries.iter().find(|e| e.key == key).map(|e| &e.node)
}
