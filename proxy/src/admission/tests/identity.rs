//! Whatever the pod: the operations give the pod that injection promises, twice is once, and taking it out gives back what was there.

use super::super::profile::{Mount, MountSource};
use super::*;
use proptest::prelude::*;

/// A container: env, mounts and ports of all kinds, or none.
fn container(index: usize) -> impl Strategy<Value = Value> {
    let variable = prop_oneof![
        Just(json!({"name": "BACKEND_API_URL", "value": "https://a.example/x/"})),
        Just(json!({"name": "BACKEND_API_URL", "value": "https://b.example"})),
        "[A-Z]{1,3}".prop_map(|n| json!({"name": n, "value": "v"})),
        Just(json!({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})),
        Just(json!({"name": "AZURE_CLIENT_ID", "value": "own"})),
    ];
    let mount = prop_oneof![
        Just(json!({"name": "data", "mountPath": "/data"})),
        Just(json!({"name": "tmp", "mountPath": "/tmp"}))
    ];
    let list = |item: BoxedStrategy<Value>| {
        prop_oneof![
            Just(None),
            Just(Some(Value::Null)),
            proptest::collection::vec(item, 0..4).prop_map(|all| Some(all.into())),
        ]
    };
    (list(variable.boxed()), list(mount.boxed())).prop_map(move |(env, mounts)| {
        let mut container = json!({"name": format!("c{index}"), "image": "i"});
        if let Some(env) = env {
            container["env"] = env;
        }
        if let Some(mounts) = mounts {
            container["volumeMounts"] = mounts;
        }
        container
    })
}

fn map(key: &'static str) -> impl Strategy<Value = Option<Value>> {
    let skip = "azure.workload.identity/skip-containers";
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!({}))),
        Just(Some(json!({"app": "x"}))),
        Just(Some(if key == "labels" {
            json!({"azure.workload.identity/use": "true"})
        } else {
            json!({skip: "c0; c1"})
        })),
    ]
}

fn pods() -> impl Strategy<Value = Value> {
    let lists = (0..3_usize, 1..4_usize).prop_flat_map(|(init, ordinary)| {
        let init: Vec<_> = (0..init).map(|i| container(i + 10)).collect();
        let ordinary: Vec<_> = (0..ordinary).map(container).collect();
        (init, ordinary)
    });
    let volumes = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!([]))),
        Just(Some(json!([{"name": "data", "emptyDir": {}}])))
    ];
    (
        lists,
        volumes,
        map("labels"),
        map("annotations"),
        any::<bool>(),
    )
        .prop_map(|((init, ordinary), volumes, labels, annotations, bare)| {
            let mut pod = json!({"spec": {"containers": ordinary}});
            if !init.is_empty() {
                pod["spec"]["initContainers"] = init.into();
            }
            if let Some(volumes) = volumes {
                pod["spec"]["volumes"] = volumes;
            }
            if !bare {
                pod["metadata"] = json!({"name": "p"});
                if let Some(labels) = labels {
                    pod["metadata"]["labels"] = labels;
                }
                if let Some(annotations) = annotations {
                    pod["metadata"]["annotations"] = annotations;
                }
            }
            pod
        })
}

fn profiles() -> impl Strategy<Value = Profile> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(aks, native, mounted)| {
        let mut profile = if aks { profile() } else { projected() };
        if mounted {
            profile.mounts.push(Mount {
                source: MountSource::Secret("files".into()),
                path: "/etc/files".into(),
            });
        }
        profile.native = native;
        profile.rewrite.push(Rewrite {
            containers: vec!["c0".into()],
            upstream: Some("https://c.example".into()),
            ..rewrite("ADDED")
        });
        profile
    })
}

proptest! {
    #[test]
    fn injection_can_be_repeated_and_taken_back(pod in pods(), profile in profiles(), patched in any::<bool>()) {
        let pod = if patched { aks(&pod) } else { pod };
        let after = injected(&pod, profile.clone());
        assert_eq!(with(&after, profile).unwrap().outcome, Outcome::Unchanged);
        assert_eq!(remove(&after).unwrap().unwrap(), pod);
        assert_eq!(remove(&pod), Ok(None));
    }

    #[test]
    fn no_pod_panics(text in "\\PC{0,40}", key in "(metadata|spec|containers|initContainers|volumes|env|labels|annotations)") {
        for odd in [json!(text), json!([text]), json!({key.clone(): text}), json!({"spec": {key.clone(): {"x": text}}}), json!({"spec": {"containers": [{key: [text]}]}})] {
            drop(with(&odd, profile()));
            drop(remove(&odd));
        }
    }
}
