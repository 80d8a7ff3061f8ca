//! Pods that have the sidecar already, or say so: the same rules, and the sidecar that the profile makes.

use super::*;

const STATUS: &str = "token-sidecar.io/status";

fn sidecar(pod: &Value) -> &Value {
    let lists = ["initContainers", "containers"].map(|l| pod["spec"][l].as_array());
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|c| c["name"] == "token-sidecar")
        .unwrap()
}

fn problems(pod: &Value, profile: Profile) -> Vec<String> {
    with(pod, profile).map(|i| i.pod().clone()).unwrap_err()
}

/// A pod whose author says that it is injected, with a container of their own.
fn forged() -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({STATUS: "{\"version\":1,\"profile\":\"default\",\"volumes\":[\"token-sidecar-token\"]}"});
    pod["spec"]["initContainers"] = json!([{"name": "token-sidecar", "image": "evil", "command": ["/bin/sh"], "restartPolicy": "Always"}]);
    pod["spec"]["volumes"] = json!([{"name": "token-sidecar-token", "projected": {"sources": [{"serviceAccountToken": {"audience": "sts", "path": "token"}}]}}]);
    pod
}

#[test]
fn who_says_so_is_held_to_the_same_rules() {
    let mut pod = forged();
    pod["spec"]["hostPID"] = true.into();
    pod["spec"]["shareProcessNamespace"] = true.into();
    let app = &mut pod["spec"]["containers"][0];
    app["securityContext"] = json!({"runAsUser": 64117});
    app["volumeMounts"] = json!([{"name": "token-sidecar-token", "mountPath": "/steal"}]);
    let problems = problems(&pod, projected());
    for (problem, expected) in problems.iter().zip([
        "shareProcessNamespace: ",
        "hostPID: ",
        "container app mounts volume token-sidecar-token, which is the sidecar's alone",
        "container app runs as uid 64117",
    ]) {
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert_eq!(problems.len(), 4, "{problems:?}");
}

/// Whoever writes pods may hold up nobody else's with what they write.
#[test]
fn who_says_that_very_much_was_done_is_refused() {
    let mut pod = forged();
    let env: Vec<Value> = (0..6_000)
        .map(|i| json!({"name": format!("A{i}"), "value": "b"}))
        .collect();
    pod["spec"]["containers"][0]["env"] = env.into();
    let item = json!({"container": "app", "list": "env", "index": 0, "done": "removed", "was": {"name": "B"}});
    let status = json!({"version": 1, "profile": "default", "items": vec![item; 100]});
    pod["metadata"]["annotations"][STATUS] = status.to_string().into();
    assert_eq!(
        problems(&pod, projected()),
        [
            "the annotation token-sidecar.io/status tells of 100 changes, which would be looked for among 600000 entries, more than 500000; take it out, and the sidecar with it"
        ]
    );
}

#[test]
fn a_sidecar_of_somebody_elses_making_is_replaced() {
    let injection = with(&forged(), projected()).unwrap();
    assert_eq!(injection.outcome, Outcome::Injected);
    assert_eq!(
        injection.warnings,
        [
            "the container token-sidecar was not as profile default makes it (args, command, env, image, imagePullPolicy, livenessProbe, ports, \
             readinessProbe, resources, securityContext, startupProbe, terminationMessagePolicy, volumeMounts) and is put in anew; whoever changes it \
             must leave it alone"
        ]
    );
    let honest = injected(&pod(), projected());
    assert_eq!(sidecar(injection.pod()), sidecar(&honest));
    assert_eq!(
        injection.pod()["spec"]["containers"],
        honest["spec"]["containers"]
    );
    assert_eq!(
        injection.pod()["spec"]["volumes"],
        honest["spec"]["volumes"]
    );
}

/// Another webhook may have put a container before it since.
#[test]
fn a_sidecar_that_is_put_in_anew_keeps_its_place() {
    let mut pod = injected(&pod(), projected());
    let list = pod["spec"]["initContainers"].as_array_mut().unwrap();
    list.insert(0, json!({"name": "first", "image": "i"}));
    list[1]["image"] = "evil".into();
    let again = with(&pod, projected()).unwrap();
    assert_eq!(again.outcome, Outcome::Injected);
    let list = again.pod()["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["first", "token-sidecar"]);
    assert_ne!(list[1]["image"], "evil");
}

#[test]
fn the_profiles_list_of_annotations_holds() {
    let strict = Profile {
        annotations: Some(Vec::new()),
        ..projected()
    };
    let mut pod = injected(&pod(), strict.clone());
    pod["metadata"]["annotations"]["token-sidecar.io/image"] = "evil".into();
    assert_eq!(
        problems(&pod, strict),
        [
            "profile default does not let pods use the annotation token-sidecar.io/image; take it out"
        ]
    );
}

/// Another webhook, after the first call.
#[test]
fn what_makes_it_unsafe_later_is_refused() {
    let mut pod = injected(&pod(), projected());
    pod["spec"]["shareProcessNamespace"] = true.into();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({
        "name": "agent", "securityContext": {"runAsUser": 64117}, "volumeMounts": [{"name": "token-sidecar-token", "mountPath": "/t"}]
    }));
    let problems = problems(&pod, projected());
    assert_eq!(problems.len(), 3, "{problems:?}");
}

/// What the API server and well-behaved webhooks make of an injected pod.
fn grown(profile: &Profile, pod: &Value) -> Value {
    let mut pod = injected(pod, profile.clone());
    let volumes = pod["spec"].get_mut("volumes");
    for volume in volumes.and_then(Value::as_array_mut).into_iter().flatten() {
        for kind in ["projected", "configMap"] {
            if volume.get(kind).is_some() {
                volume[kind]["defaultMode"] = 420.into();
            }
        }
    }
    let spec = pod["spec"].as_object_mut().unwrap();
    let volumes = spec.entry("volumes").or_insert(json!([]));
    let volumes = volumes.as_array_mut().unwrap();
    volumes.insert(0, json!({"name": "kube-api-access-1", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}));
    volumes.push(json!({"name": "ca", "configMap": {"name": "ca", "defaultMode": 420}}));
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let container = container.as_object_mut().unwrap();
            container.insert(
                "terminationMessagePath".into(),
                "/dev/termination-log".into(),
            );
            container.insert("imagePullPolicy".into(), "Always".into());
            let env = container.entry("env").or_insert(json!([]));
            env.as_array_mut().unwrap().insert(0, json!({"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}));
            let ca = if profile.allow_added_trust {
                let file = json!({"name": "SSL_CERT_FILE", "value": "/etc/ssl/certs/all.pem"});
                let way = json!({"name": "https_proxy", "value": "http://proxy.example:3128"});
                env.as_array_mut().unwrap().extend([file, way]);
                "/etc/ssl/certs"
            } else {
                "/cluster/ca"
            };
            let mounts = container.entry("volumeMounts").or_insert(json!([]));
            mounts.as_array_mut().unwrap().extend([
                json!({"name": "kube-api-access-1", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}),
                json!({"name": "ca", "mountPath": ca, "readOnly": true}),
            ]);
            for key in ["startupProbe", "readinessProbe", "livenessProbe"] {
                if let Some(probe) = container.get_mut(key) {
                    probe["successThreshold"] = 1.into();
                    probe["httpGet"]["scheme"] = "HTTP".into();
                }
            }
            if container["name"] == "token-sidecar" {
                container.insert("resources".into(), json!({"limits": {"cpu": "1"}}));
                let image = format!(
                    "{}@sha256:{}",
                    container["image"].as_str().unwrap(),
                    "0".repeat(64)
                );
                container.insert("image".into(), image.into());
            }
        }
    }
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "mesh"}));
    pod
}

#[test]
fn what_others_may_add_stays() {
    let mapped = Profile {
        config: SidecarConfig::ConfigMap {
            name: "m".into(),
            key: "k".into(),
        },
        rewrite: vec![Rewrite {
            credential: RewriteCredential::ConfigMap,
            port: Some(8081),
            ..rewrite("BACKEND_API_URL")
        }],
        ..projected()
    };
    let added = Profile {
        rewrite: vec![
            rewrite("BACKEND_API_URL"),
            Rewrite {
                containers: vec!["app".into()],
                upstream: Some("https://b.example".into()),
                ..rewrite("ADDED")
            },
        ],
        ..projected()
    };
    let ordinary = Profile {
        native: false,
        ..projected()
    };
    let trusting = Profile {
        allow_added_trust: true,
        ..projected()
    };
    for profile in [profile(), projected(), mapped, added, ordinary, trusting] {
        let mut start = pod();
        start["spec"]["initContainers"] = json!([{"name": "migrate"}]);
        let pod = grown(&profile, &start);
        let again = with(&pod, profile.clone()).unwrap();
        assert_eq!(again.warnings, Vec::<String>::new());
        assert_eq!(again.pod()["spec"], pod["spec"]);
        // And once more, now that places are remembered as they are.
        let pod = again.pod().clone();
        assert_eq!(with(&pod, profile).unwrap().outcome, Outcome::Unchanged);
    }
}

#[test]
fn what_could_change_what_it_does_goes() {
    let mut pod = injected(&pod(), projected());
    let honest = pod.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    spec["volumes"].as_array_mut().unwrap().extend([
        json!({"name": "scratch", "emptyDir": {}}),
        json!({"name": "bin", "configMap": {"name": "bin"}}),
    ]);
    spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] =
        86400.into();
    let container = &mut spec["initContainers"][0];
    container["env"].as_array_mut().unwrap().extend([
        json!({"name": "TOKEN_SIDECAR_CONFIG_TEXT", "value": "listen: 0.0.0.0:1"}),
        json!({"name": "AZURE_AUTHORITY_HOST", "value": "https://evil.example"}),
        json!({"name": "AZURE_CLIENT_ID", "value": "other"}),
        json!({"name": "LD_PRELOAD", "value": "/tmp/evil.so"}),
        json!({"name": "AZURE_OF_LATER_VERSIONS", "value": "x"}),
    ]);
    container["volumeMounts"].as_array_mut().unwrap().extend([
        json!({"name": "scratch", "mountPath": "/tmp"}),
        json!({"name": "bin", "mountPath": "/usr/local/bin"}),
    ]);
    container["args"]
        .as_array_mut()
        .unwrap()
        .push("--listen=0.0.0.0:1".into());
    container["lifecycle"] = json!({"postStart": {"exec": {"command": ["x"]}}});
    container["readinessProbe"]["exec"] = json!({"command": ["x"]});
    // Another container's, passed on by Istio's agent.
    container["livenessProbe"]["httpGet"]["path"] = "/app-health/app/livez".into();
    container["securityContext"]["privileged"] = true.into();
    container["securityContext"]["appArmorProfile"] = json!({"type": "Unconfined"});
    container["terminationMessagePath"] = "/etc/token-sidecar/log".into();
    container["ports"][0]["hostPort"] = 80.into();
    let again = with(&pod, projected()).unwrap();
    assert_eq!(sidecar(again.pod()), sidecar(&honest));
    assert_eq!(
        again.pod()["spec"]["volumes"][0],
        honest["spec"]["volumes"][0]
    );
    assert_eq!(
        again.warnings,
        [
            "the container token-sidecar was not as profile default makes it (args, env, lifecycle, livenessProbe, ports, readinessProbe, securityContext, terminationMessagePath, volumeMounts) and is put in anew; whoever changes it must leave it alone"
        ]
    );
}

/// Whom it trusts and which way it calls: who writes a pod can write a sidecar into it, and say that it was injected.
#[test]
fn what_decides_trust_and_way_goes() {
    let honest = injected(&pod(), projected());
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "No_Proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        let mut forged = honest.clone();
        let variable = json!({"name": name, "value": "/evil"});
        list(&mut forged["spec"]["initContainers"][0], "env").push(variable);
        let again = with(&forged, projected()).unwrap();
        assert_eq!(sidecar(again.pod()), sidecar(&honest), "{name}");
        assert!(again.warnings[0].contains("(env) and is put in anew"));
    }
    let mounted = mounts::mounted();
    let honest = injected(&pod(), mounted.clone());
    for path in ["/etc/ssl/certs", "/etc/hosts", "/etc/orders-ca/ca.pem"] {
        let mut forged = honest.clone();
        let volume = json!({"name": "evil", "configMap": {"name": "evil"}});
        list(&mut forged["spec"], "volumes").push(volume);
        let mount = json!({"name": "evil", "mountPath": path, "subPath": "x"});
        list(&mut forged["spec"]["initContainers"][0], "volumeMounts").push(mount);
        let again = with(&forged, mounted.clone()).unwrap();
        assert_eq!(sidecar(again.pod()), sidecar(&honest), "{path}");
        assert!(again.warnings[0].contains("(volumeMounts) and is put in anew"));
    }
}

#[test]
fn another_profile_is_taken_over() {
    let earlier = injected(&pod(), projected());
    let later = Profile {
        image: "registry.example/token-sidecar:2".into(),
        native: false,
        ..profile()
    };
    let again = injected(&earlier, later.clone());
    let new = injected(&pod(), later);
    assert_eq!(again["spec"]["containers"], new["spec"]["containers"]);
    assert_eq!(again["spec"]["volumes"], json!([]));
    assert_eq!(remove(&again).unwrap().unwrap(), pod());
}

/// As when the profiles' defaults change between two versions: with everything that the API server and others have added meanwhile.
#[test]
fn other_ports_are_taken_over() {
    let moved = |profile: Profile| Profile {
        port: 64117,
        admin_port: 64116,
        ..profile
    };
    for profile in [projected(), profile()] {
        let mut before = pod();
        list(&mut before["spec"]["containers"][0], "env")
            .push(json!({"name": "SECOND_API_URL", "value": "https://second.example"}));
        let both = Profile {
            rewrite: vec![rewrite("BACKEND_API_URL"), rewrite("SECOND_API_URL")],
            ..profile
        };
        let again = injected(&grown(&both, &before), moved(both.clone()));
        let new = grown(&moved(both.clone()), &before);
        assert_eq!(again["spec"], new["spec"]);
        assert!(
            !again.to_string().contains("8080") && !again.to_string().contains("9090"),
            "{again:#}"
        );
        assert_eq!(
            with(&again, moved(both)).unwrap().outcome,
            Outcome::Unchanged
        );
        let back = remove(&again).unwrap().unwrap();
        for url in ["https://orders.example/api/", "https://second.example"] {
            assert!(back.to_string().contains(url), "{back:#}");
        }
        assert!(!back.to_string().contains("127.0.0.1"), "{back:#}");
    }
}

#[test]
fn a_status_takes_nothing_of_the_workloads() {
    let mut pod = injected(&pod(), projected());
    let status = "{\"version\":1,\"profile\":\"default\",\"volumes\":[\"data\",\"token-sidecar-token\"],\"items\":[{\"container\":\"app\",\"list\":\"env\",\"index\":0,\"done\":\"added\"}]}";
    pod["metadata"]["annotations"][STATUS] = status.into();
    pod["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "data", "emptyDir": {}}));
    pod["spec"]["containers"][0]["env"][1] =
        json!({"name": "BACKEND_API_URL", "value": "https://orders.example/api/"});
    let again = injected(&pod, projected());
    assert_eq!(again["spec"]["volumes"][1]["name"], "data");
    assert_eq!(
        again["spec"]["containers"][0]["env"][0],
        json!({"name": "A", "value": "1"})
    );
    let taken = remove(&pod).unwrap().unwrap();
    assert_eq!(
        taken["spec"]["volumes"],
        json!([{"name": "data", "emptyDir": {}}])
    );
    assert_eq!(
        taken["spec"]["containers"][0]["env"][0],
        json!({"name": "A", "value": "1"})
    );
    let mut large = pod.clone();
    large["metadata"]["annotations"][STATUS] = " ".repeat(300 << 10).into();
    assert_eq!(
        problems(&large, projected()),
        [
            "the annotation token-sidecar.io/status is larger than annotations may be; take it out, and the sidecar with it"
        ]
    );
}
