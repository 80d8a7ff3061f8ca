//! Files of a profile for the sidecar: they come with it, to it alone, and go with it.

use super::super::profile::{Mount, MountSource};
use super::*;

pub(super) fn mounted() -> Profile {
    let mount = |path: &str, source| Mount {
        source,
        path: path.into(),
    };
    Profile {
        mounts: vec![
            mount("/etc/orders-ca", MountSource::ConfigMap("orders-ca".into())),
            mount("/etc/sts", MountSource::Secret("sts-client".into())),
        ],
        ..projected()
    }
}

#[test]
fn they_come_and_go_with_the_sidecar() {
    let mut before = pod();
    before["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let after = injected(&before, mounted());
    assert_eq!(
        after["spec"]["initContainers"][0]["volumeMounts"],
        json!([
            {"name": "token-sidecar-token", "mountPath": "/var/run/secrets/token-sidecar", "readOnly": true},
            {"name": "token-sidecar-mount-0", "mountPath": "/etc/orders-ca", "readOnly": true},
            {"name": "token-sidecar-mount-1", "mountPath": "/etc/sts", "readOnly": true},
        ])
    );
    let volumes = after["spec"]["volumes"].as_array().unwrap();
    assert_eq!(
        volumes[2..],
        [
            json!({"name": "token-sidecar-mount-0", "configMap": {"name": "orders-ca"}}),
            json!({"name": "token-sidecar-mount-1", "secret": {"secretName": "sts-client"}}),
        ]
    );
    assert_eq!(after["spec"]["containers"][0].get("volumeMounts"), None);
    assert_eq!(with(&after, mounted()).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(remove(&after).unwrap().unwrap(), before);

    // As the API server completes them.
    let mut grown = after.clone();
    grown["spec"]["volumes"][2]["configMap"]["defaultMode"] = 420.into();
    grown["spec"]["volumes"][3]["secret"]["defaultMode"] = 420.into();
    assert_eq!(with(&grown, mounted()).unwrap().outcome, Outcome::Unchanged);
    // As nobody should: the profile's comes back.
    for (pointer, odd) in [
        ("/spec/volumes/3/secret/secretName", json!("other")),
        (
            "/spec/volumes/2",
            json!({"name": "token-sidecar-mount-0", "hostPath": {"path": "/"}}),
        ),
        (
            "/spec/initContainers/0/volumeMounts/1/mountPath",
            json!("/elsewhere"),
        ),
        (
            "/spec/initContainers/0/volumeMounts/2/readOnly",
            json!(false),
        ),
    ] {
        let mut changed = grown.clone();
        *changed.pointer_mut(pointer).unwrap() = odd;
        let again = injected(&changed, mounted());
        let pod = serde_json::to_string(&again["spec"]).unwrap();
        assert!(
            !pod.contains("elsewhere") && !pod.contains("hostPath") && !pod.contains("other"),
            "{pod}"
        );
        let mounts = |pod: &Value| {
            let all = &pod["spec"]["initContainers"][0]["volumeMounts"];
            let mut all = all.as_array().unwrap().clone();
            all.sort_by_key(Value::to_string);
            all
        };
        assert_eq!(mounts(&again), mounts(&grown), "{pointer}");
    }
    // Another profile has other files, or none.
    let mut fewer = mounted();
    fewer.mounts.remove(0);
    let again = injected(&grown, fewer.clone());
    let (once, again) = (injected(&before, fewer).to_string(), again);
    assert!(
        !once.contains("orders-ca") && !again.to_string().contains("orders-ca"),
        "{again:#}"
    );
    assert_eq!(
        remove(&injected(&again, projected())).unwrap().unwrap(),
        before
    );
}

#[test]
fn nobody_else_has_the_secret() {
    let holds = |holder: &str| {
        vec![format!(
            "{holder} has the Secret sts-client, which is the sidecar's alone (`mounts` of the profile), so that the workload would hold a credential; take it out"
        )]
    };
    let key =
        json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "sts-client", "key": "s"}}});
    for (pointer, value, expected) in [
        (
            "volumes",
            json!([{"name": "v", "secret": {"secretName": "sts-client"}}]),
            holds("volume v"),
        ),
        (
            "volumes",
            json!([{"name": "v", "projected": {"sources": [{"configMap": {"name": "sts-client"}}, {"secret": {"name": "sts-client"}}]}}]),
            holds("volume v"),
        ),
        (
            "initContainers",
            json!([{"name": "i", "env": [key]}]),
            holds("container i"),
        ),
        (
            "ephemeralContainers",
            json!([{"name": "e", "envFrom": [{"secretRef": {"name": "sts-client"}}]}]),
            holds("container e"),
        ),
        (
            "volumes",
            json!([{"name": "v", "secret": {"secretName": "orders-ca"}}, {"name": "w", "configMap": {"name": "sts-client"}}]),
            vec![],
        ),
    ] {
        let mut pod = pod();
        pod["spec"][pointer] = value;
        let said = match with(&pod, mounted()) {
            Ok(_) => vec![],
            Err(problems) => problems,
        };
        assert_eq!(said, expected, "{pod:#}");
        // It is nobody's business where the profile has none.
        injected(&pod, projected());
    }
}

#[test]
fn their_names_are_the_sidecars() {
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "token-sidecar-mount-7", "emptyDir": {}}]);
    assert_eq!(
        with(&pod, projected())
            .map(|i| i.pod().clone())
            .unwrap_err(),
        ["a volume is named token-sidecar-mount-7 already, which is the sidecar's; rename it"]
    );
    pod["spec"]["volumes"] = json!([]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "token-sidecar-mount-0", "mountPath": "/x"}]);
    assert_eq!(
        with(&pod, mounted()).map(|i| i.pod().clone()).unwrap_err(),
        [
            "container app mounts volume token-sidecar-mount-0, which is the sidecar's alone; take that out of its volumeMounts"
        ]
    );
}
