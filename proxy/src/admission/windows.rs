//! Pods for Windows, where the sidecar does not run: told by what they say of their node. What a runtime class adds is out of sight.

use super::{
    patch::{items, text},
    problems::Problems,
};
use serde_json::Value;

/// The labels of nodes that tell the operating system; the second is that of old clusters.
const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
const WINDOWS: &str = "windows";

/// Reports a pod that can run on Windows alone, and what says so.
pub(super) fn refuse(spec: &Value, problems: &mut Problems) {
    let os = spec.pointer("/os/name").and_then(Value::as_str) == Some(WINDOWS);
    let selector = spec.get("nodeSelector").unwrap_or(&Value::Null);
    let selected = LABELS.into_iter().find(|l| text(selector, l) == WINDOWS);
    let said = match (os, selected) {
        (true, _) => "spec.os.name".to_owned(),
        (_, Some(label)) => format!("nodeSelector {label}"),
        _ if by_affinity(spec) => "its node affinity".to_owned(),
        _ => return,
    };
    problems.push(format!(
        "a pod for Windows ({said}); the sidecar runs on Linux: leave it out with token-sidecar.io/inject: \"false\", or move the pod to Linux"
    ));
}

/// Every choice of nodes is one of Windows'.
fn by_affinity(spec: &Value) -> bool {
    let required =
        spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    let terms = required.map_or(&[][..], |r| items(r, "nodeSelectorTerms"));
    let windows = |e: &Value| {
        let mut values = items(e, "values").iter().filter_map(Value::as_str);
        LABELS.contains(&text(e, "key"))
            && match text(e, "operator") {
                "In" => values.next() == Some(WINDOWS) && values.all(|v| v == WINDOWS),
                // There is no third.
                "NotIn" => values.any(|v| v == "linux"),
                _ => false,
            }
    };
    !terms.is_empty()
        && terms
            .iter()
            .all(|term| items(term, "matchExpressions").iter().any(windows))
}
