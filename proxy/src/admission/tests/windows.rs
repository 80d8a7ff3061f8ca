//! Pods for Windows are refused, by whatever they say it; pods that may run on Linux are not.

use super::*;

/// A pod whose spec has this, too.
fn on(extra: &Value) -> Value {
    let mut pod = pod();
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.extend(extra.as_object().unwrap().clone());
    pod
}

fn affinity(terms: &Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

fn os(operator: &str, values: &[&str]) -> Value {
    json!({"key": "kubernetes.io/os", "operator": operator, "values": values})
}

#[test]
fn they_are_refused_whatever_says_it() {
    let zone = json!({"key": "zone", "operator": "In", "values": ["windows"]});
    for (extra, said) in [
        (json!({"os": {"name": "windows"}}), "spec.os.name"),
        (
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
            "nodeSelector kubernetes.io/os",
        ),
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}),
            "nodeSelector beta.kubernetes.io/os",
        ),
        (
            affinity(&json!([{"matchExpressions": [zone, os("In", &["windows"])]}])),
            "its node affinity",
        ),
        (
            affinity(
                &json!([{"matchExpressions": [os("NotIn", &["linux"])]}, {"matchExpressions": [os("In", &["windows"])]}]),
            ),
            "its node affinity",
        ),
    ] {
        let problems = with(&on(&extra), profile()).map(|i| i.pod().clone());
        assert_eq!(
            problems.unwrap_err(),
            [format!(
                "a pod for Windows ({said}); the sidecar runs on Linux: leave it out with token-sidecar.io/inject: \"false\", or move the pod to Linux"
            )]
        );
    }
}

#[test]
fn pods_that_may_run_on_linux_are_not() {
    let zone = json!({"key": "zone", "operator": "In", "values": ["windows"]});
    for extra in [
        json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}}),
        json!({"os": null, "nodeSelector": null, "affinity": null}),
        affinity(&json!([{"matchExpressions": [zone]}])),
        affinity(&json!([{"matchExpressions": [os("In", &["windows", "linux"])]}])),
        affinity(&json!([{"matchExpressions": [os("NotIn", &["windows"])]}])),
        affinity(
            &json!([{"matchExpressions": [os("In", &["windows"])]}, {"matchExpressions": [zone]}]),
        ),
        affinity(&json!([])),
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [os("In", &["windows"])]}}]}}}),
    ] {
        injected(&on(&extra), profile());
    }
}
