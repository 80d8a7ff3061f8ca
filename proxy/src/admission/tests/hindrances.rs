//! Ways to the sidecar's token that a pod's author may have left open, or have thought of: each is refused, or at least said.

use super::*;

fn problems(pod: &Value, profile: Profile) -> Vec<String> {
    with(pod, profile).map(|i| i.pod().clone()).unwrap_err()
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod();
    change(&mut pod);
    pod
}

#[test]
fn nobody_names_the_sidecars_volumes_in_advance() {
    for (volume, profile) in [
        ("token-sidecar-token", projected()),
        ("token-sidecar-token", profile()),
        ("token-sidecar-config", projected()),
    ] {
        for (list, key, uses) in [
            ("containers", "volumeMounts", "mounts"),
            ("initContainers", "volumeMounts", "mounts"),
            ("ephemeralContainers", "volumeMounts", "mounts"),
            ("containers", "volumeDevices", "uses"),
        ] {
            let pod = changed(|p| {
                let thief = json!({"name": "thief", key: [{"name": volume, "mountPath": "/steal", "devicePath": "/dev/x"}]});
                let all = p["spec"].as_object_mut().unwrap().entry(list);
                all.or_insert(json!([])).as_array_mut().unwrap().push(thief);
            });
            assert_eq!(
                problems(&pod, profile.clone()),
                [format!(
                    "container thief {uses} volume {volume}, which is the sidecar's alone; take that out of its {key}"
                )]
            );
        }
    }
}

#[test]
fn nobody_looks_into_the_sidecar_or_loosens_it() {
    let pod = changed(|p| {
        p["spec"]["ephemeralContainers"] =
            json!([{"name": "debug", "targetContainerName": "token-sidecar"}]);
    });
    assert_eq!(
        problems(&pod, profile()),
        [
            "ephemeral container debug shares the sidecar's processes, where the tokens are; give it another targetContainerName"
        ]
    );
    for key in [
        "container.apparmor.security.beta.kubernetes.io/token-sidecar",
        "container.seccomp.security.alpha.kubernetes.io/token-sidecar",
    ] {
        let pod = changed(|p| p["metadata"]["annotations"] = json!({key: "unconfined"}));
        assert_eq!(
            problems(&pod, profile()),
            [format!(
                "annotation {key} would change how the sidecar is confined; take it out"
            )]
        );
    }
    let other = "container.apparmor.security.beta.kubernetes.io/app";
    let pod = changed(|p| p["metadata"]["annotations"] = json!({other: "unconfined"}));
    injected(&pod, profile());
}

/// Its webhook looks for the annotation alone, whatever it says.
#[test]
fn aks_proxy_is_refused_before_and_after_it_is_there() {
    let key = "azure.workload.identity/inject-proxy-sidecar";
    let annotation = format!(
        "annotation {key}: AKS' proxy would hold the pod's token and hand it to the workload, with a privileged init container; take the annotation out: the sidecar replaces the proxy"
    );
    for value in ["true", "false", ""] {
        for profile in [profile(), projected()] {
            let pod = changed(|p| p["metadata"]["annotations"] = json!({key: value}));
            assert_eq!(problems(&pod, profile), [annotation.as_str()]);
        }
    }
    let container = |name: &str| {
        format!(
            "container {name} is AKS' proxy, which would hold the pod's token and hand it to the workload; take it out, and the annotation {key} with it: the sidecar replaces the proxy"
        )
    };
    let with_proxy = |p: &mut Value| {
        p["spec"]["initContainers"] = json!([{"name": "azwi-proxy-init", "securityContext": {"privileged": true}}, {"name": "azwi-proxy", "restartPolicy": "Always"}]);
    };
    assert_eq!(
        problems(&changed(with_proxy), profile()),
        [container("azwi-proxy-init"), container("azwi-proxy")]
    );
    // And when it comes between the two calls.
    let mut pod = injected(&pod(), profile());
    pod["metadata"]["annotations"][key] = "true".into();
    assert_eq!(problems(&pod, profile()), [annotation]);
}

#[test]
fn a_token_of_identity_bindings_is_as_good() {
    let holding = |audience: &str| {
        changed(|p| {
            p["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}}]);
            p["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
        })
    };
    for audience in ["api://AKSIdentityBinding", "api://AzureADTokenExchange"] {
        assert_eq!(
            problems(&holding(audience), profile()),
            [format!(
                "container app mounts volume t, a token of the sidecar's audience ({audience}), so that it would still hold a credential; take the mount out"
            )]
        );
        let mut debugged = holding(audience);
        let mut app = debugged["spec"]["containers"][0].take();
        debugged["spec"]["containers"] = pod()["spec"]["containers"].take();
        app["name"] = "debug".into();
        debugged["spec"]["ephemeralContainers"] = json!([app]);
        assert!(problems(&debugged, profile())[0].starts_with("container debug mounts volume t"));
        // Another authority's sidecar has nothing to do with it.
        injected(&holding(audience), projected());
    }
}

#[test]
fn the_workloads_own_paths_stay() {
    let pod = changed(|p| {
        p["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
        p["spec"]["containers"][0]["env"].as_array_mut().unwrap().extend([
            json!({"name": "OTHER", "value": "/var/run/secrets/azure/wizard"}),
            json!({"name": "BELOW", "value": "/var/run/secrets/azure/wi/token/azure-identity-token"}),
            json!({"name": "SAME", "value": "/var/run/secrets/azure//wi/"}),
        ]);
    });
    let after = injected(&aks(&pod), profile());
    let names: Vec<&str> = after["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"OTHER"), "{names:?}");
    assert!(
        !names.contains(&"BELOW") && !names.contains(&"SAME"),
        "{names:?}"
    );
    assert_eq!(remove(&after).unwrap().unwrap(), aks(&pod));
}

#[test]
fn ways_through_the_node_are_said() {
    let warned = |change: &dyn Fn(&mut Value)| with(&changed(change), profile()).unwrap().warnings;
    let says = |way: &str| {
        vec![format!(
            "container app {way}, and may reach the sidecar's token through the node"
        )]
    };
    let security = |value: Value| {
        move |p: &mut Value| p["spec"]["containers"][0]["securityContext"] = value.clone()
    };
    assert_eq!(
        warned(&security(json!({"privileged": true}))),
        says("is privileged")
    );
    for capability in ["SYS_ADMIN", "CAP_SYS_PTRACE", "ALL"] {
        assert_eq!(
            warned(&security(
                json!({"capabilities": {"add": ["NET_ADMIN", capability]}})
            )),
            says(&format!("has the capability {capability}"))
        );
    }
    let none = json!({"privileged": false, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}});
    assert_eq!(warned(&security(none)), Vec::<String>::new());
    let mounted = |path: &str, mount: &str| {
        let (path, mount) = (path.to_owned(), mount.to_owned());
        move |p: &mut Value| {
            p["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": path}}]);
            p["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": mount, "mountPath": "/host"}]);
        }
    };
    for path in [
        "/",
        "/var",
        "/var/lib/kubelet",
        "/var/lib/kubelet/pods",
        "/var/lib//kubelet/",
        "/run/containerd/containerd.sock",
    ] {
        assert_eq!(
            warned(&mounted(path, "v")),
            says(&format!("mounts the node's {path}"))
        );
        assert_eq!(warned(&mounted(path, "other")), Vec::<String>::new());
    }
    assert_eq!(
        warned(&mounted("/var/lib/kubelet-data", "v")),
        Vec::<String>::new()
    );
}

/// The API server mounts a token for itself into every container, which names no audience.
#[test]
fn the_api_servers_token_is_as_good_where_the_audience_is_the_api_servers() {
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    let of = |audience: &str| Profile {
        token: TokenSource::Projected {
            audience: audience.into(),
            expiration: 3600,
            env: Vec::new(),
        },
        ..profile()
    };
    for own in [
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.cluster.local",
    ] {
        let problems = with(&pod, of(own)).map(|i| i.pod().clone()).unwrap_err();
        assert_eq!(
            problems,
            [format!(
                "container app mounts volume kube-api-access-x, a token for the API server, which is the sidecar's audience too ({own}), so that it would still \
                 hold a credential; set `token.projected.audience` of the profile to another that the authority takes, or `automountServiceAccountToken: false` \
                 in the pod"
            )]
        );
    }
    injected(&pod, of("sts"));
    injected(&pod, profile());
}
