//! The forward proxy of a profile: the sidecar's, whatever others say, and nobody else's.

use super::*;

fn behind_a_proxy() -> Profile {
    Profile {
        proxy: vec![
            ("HTTPS_PROXY", "http://proxy.example:3128".into()),
            ("NO_PROXY", "sts.example,$(X)".into()),
        ],
        ..projected()
    }
}

#[test]
fn the_sidecar_alone_has_it() {
    let before = pod();
    let after = injected(&before, behind_a_proxy());
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(
        env(sidecar, "HTTPS_PROXY")["value"],
        "http://proxy.example:3128"
    );
    // The kubelet puts nothing in.
    assert_eq!(env(sidecar, "NO_PROXY")["value"], "sts.example,$$(X)");
    let workload = &after["spec"]["containers"][0];
    assert_eq!(env(workload, "HTTPS_PROXY"), &Value::Null);
    assert_eq!(remove(&after).unwrap().unwrap(), before);
}

#[test]
fn another_one_does_not_take_its_place() {
    let after = injected(&pod(), behind_a_proxy());
    let unchanged = with(&after, behind_a_proxy()).unwrap();
    assert_eq!(unchanged.outcome, Outcome::Unchanged);
    let mut changed = after.clone();
    let variables = list(&mut changed["spec"]["initContainers"][0], "env");
    for variable in variables.iter_mut() {
        if variable["name"] == "HTTPS_PROXY" {
            variable["value"] = "http://other.example:3128".into();
        }
    }
    // The sidecar looks at this name first.
    variables.push(json!({"name": "https_proxy", "value": "http://other.example:3128"}));
    assert_eq!(injected(&changed, behind_a_proxy())["spec"], after["spec"]);
}
