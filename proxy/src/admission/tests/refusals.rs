//! Every refusal, with the exact words.

use super::*;

fn refused(change: impl FnOnce(&mut Value), profile: Profile, expected: &str) {
    let mut pod = pod();
    change(&mut pod);
    let problems = with(&pod, profile).map(|i| i.pod().clone()).unwrap_err();
    assert_eq!(problems, [expected]);
}

#[test]
fn what_is_unsafe() {
    refused(
        |p| p["spec"]["hostNetwork"] = true.into(),
        profile(),
        "hostNetwork: whatever runs on the node could reach the sidecar's listener and use this pod's identity; take hostNetwork out, or set `allowHostNetwork: true` in the profile",
    );
    refused(
        |p| p["spec"]["shareProcessNamespace"] = true.into(),
        profile(),
        "shareProcessNamespace: the workload could look into the sidecar's process, where the tokens are; take shareProcessNamespace out",
    );
    refused(
        |p| p["spec"]["hostPID"] = true.into(),
        profile(),
        "hostPID: the workload could look into the sidecar's process, where the tokens are; take hostPID out",
    );
    let uid = "container app runs as uid 64117, which is the sidecar's and must be its alone; give it another runAsUser, or set `uid` of the profile to another";
    refused(
        |p| p["spec"]["securityContext"] = json!({"runAsUser": 64117}),
        profile(),
        uid,
    );
    refused(
        |p| p["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 64117}),
        profile(),
        uid,
    );
    refused(
        |p| {
            p["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "sts", "path": "t"}}]}}]);
            p["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
        },
        projected(),
        "container app mounts volume t, a token of the sidecar's audience (sts), so that it would still hold a credential; take the mount out",
    );
    let mut allowed = pod();
    allowed["spec"]["hostNetwork"] = true.into();
    // Another user for the one container is as good as none for the pod.
    allowed["spec"]["securityContext"] = json!({"runAsUser": 64117});
    allowed["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    injected(
        &allowed,
        Profile {
            allow_host_network: true,
            ..profile()
        },
    );
}

#[test]
fn what_is_taken() {
    let mend = "set the annotation token-sidecar.io/port or token-sidecar.io/admin-port (or `port`, `adminPort`, `rewrite[].port` of the profile) to another";
    refused(
        |p| {
            p["spec"]["containers"][0]["ports"] =
                json!([{"containerPort": 9090}, {"containerPort": 8080, "protocol": "UDP"}])
        },
        profile(),
        &format!("port 9090 is container app's and would be the sidecar's admin port; {mend}"),
    );
    refused(
        |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]),
        profile(),
        &format!(
            "port 8080 is container app's and would be the sidecar's listener of backend-api-url; {mend}"
        ),
    );
    // What the kubelet asks the workload for is the workload's, declared or not; and it is said once.
    let port = |port: Value| json!({"httpGet": {"path": "/", "port": port}});
    for (key, value, declared) in [
        ("readinessProbe", port(8080.into()), json!([])),
        (
            "livenessProbe",
            port("8080".into()),
            json!([{"containerPort": 70000}, {"name": "x"}]),
        ),
        (
            "startupProbe",
            json!({"tcpSocket": {"port": 8080}}),
            json!(null),
        ),
        (
            "livenessProbe",
            json!({"grpc": {"port": 8080}}),
            json!(null),
        ),
        (
            "lifecycle",
            json!({"preStop": port(8080.into())}),
            json!(null),
        ),
        (
            "lifecycle",
            json!({"postStart": port(8080.into())}),
            json!([{"containerPort": 8080}]),
        ),
    ] {
        refused(
            |p| {
                p["spec"]["containers"][0][key] = value;
                p["spec"]["containers"][0]["ports"] = declared;
            },
            profile(),
            &format!(
                "port 8080 is container app's and would be the sidecar's listener of backend-api-url; {mend}"
            ),
        );
    }
    let mut elsewhere = pod();
    let app = &mut elsewhere["spec"]["containers"][0];
    app["readinessProbe"] = json!({"httpGet": {"host": "10.0.0.1", "port": 8080}});
    app["livenessProbe"] = json!({"httpGet": {"port": "http"}});
    injected(&elsewhere, profile());
    let taken = "a container is named token-sidecar already and is not of this injector's making; rename or remove it";
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        refused(
            |p| {
                p["spec"]
                    .as_object_mut()
                    .unwrap()
                    .entry(list)
                    .or_insert(json!([]))
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "token-sidecar"}))
            },
            profile(),
            taken,
        );
    }
    refused(
        |p| p["spec"]["volumes"] = json!([{"name": "token-sidecar-token"}]),
        profile(),
        "a volume is named token-sidecar-token already, which is the sidecar's; rename it",
    );
}

#[test]
fn what_cannot_be_rewritten() {
    let value = |value: Value| move |p: &mut Value| p["spec"]["containers"][0]["env"][1] = value;
    let mend = "set `rewrite[].upstream` in the profile, or write the URL into the pod";
    for (entry, problem) in [
        (json!({"name": "BACKEND_API_URL", "value": ""}), format!("is empty; {mend}")),
        (json!({"name": "BACKEND_API_URL", "value": "https://$(HOST)/"}), format!("refers to other variables; {mend}")),
        (
            json!({"name": "BACKEND_API_URL", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}),
            format!("has a `valueFrom` that means something else to another container; {mend}"),
        ),
        (
            json!({"name": "BACKEND_API_URL", "value": "http://localhost:8080/x"}),
            "points at localhost already; write the upstream's URL there, since the sidecar takes it over".to_owned(),
        ),
        (
            json!({"name": "BACKEND_API_URL", "value": "http://[::1]:8080"}),
            "points at localhost already; write the upstream's URL there, since the sidecar takes it over".to_owned(),
        ),
    ] {
        refused(value(entry), profile(), &format!("container app: BACKEND_API_URL {problem}"));
    }
    refused(
        |p| p["spec"]["containers"][0]["env"] = json!([]),
        profile(),
        "the sidecar would have nothing to do: no container sets BACKEND_API_URL, and there are no routes; set the variable in the pod (`env`, not `envFrom`), or add routes to the profile or the annotation token-sidecar.io/routes",
    );
    let fixed = Profile {
        rewrite: vec![Rewrite {
            port: Some(8085),
            ..rewrite("BACKEND_API_URL")
        }],
        ..profile()
    };
    refused(
        |p| {
            p["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "b", "env": [{"name": "BACKEND_API_URL", "value": "https://b.example"}]}))
        },
        fixed,
        "container b: BACKEND_API_URL has different values in different containers, which cannot share the port 8085; take `rewrite[].port` out of the profile",
    );
}

#[test]
fn what_is_asked_wrongly() {
    let annotate =
        |annotations: Value| move |p: &mut Value| p["metadata"]["annotations"] = annotations;
    refused(
        annotate(json!({"token-sidecar.io/profile": "defaut"})),
        profile(),
        "no profile is named `defaut`; did you mean `default`?; set the annotation token-sidecar.io/profile to one of them",
    );
    refused(
        annotate(json!({"token-sidecar.io/imagee": "x"})),
        profile(),
        "annotation token-sidecar.io/imagee is not known; did you mean `image`?",
    );
    refused(
        annotate(json!({"token-sidecar.io/image": "x"})),
        Profile {
            annotations: Some(vec!["port".into()]),
            ..profile()
        },
        "profile default does not let pods use the annotation token-sidecar.io/image; take it out",
    );
    let mapped = Profile {
        config: SidecarConfig::ConfigMap {
            name: "m".into(),
            key: "k".into(),
        },
        rewrite: Vec::new(),
        ..profile()
    };
    refused(
        annotate(json!({"token-sidecar.io/routes": "[{name: x}]"})),
        mapped,
        "profile default takes the sidecar's configuration from the ConfigMap m, so that the annotations credentials and routes have no place; put them into the ConfigMap, or use another profile",
    );
    refused(
        annotate(json!({"token-sidecar.io/status": "{}"})),
        profile(),
        "the annotation token-sidecar.io/status is not readable (missing field `version` at line 1 column 2); take it out, and the sidecar with it",
    );
    refused(
        annotate(json!({"token-sidecar.io/status": "{\"version\":1,\"profile\":\"x\"}"})),
        profile(),
        "the annotation token-sidecar.io/status says that the sidecar is there, but no container is named token-sidecar; take the annotation out",
    );
    refused(
        annotate(json!({"token-sidecar.io/status": "{\"version\":2,\"profile\":\"x\"}"})),
        profile(),
        "the annotation token-sidecar.io/status is of version 2, which this version does not know; use the version that injected the sidecar",
    );
}

#[test]
fn what_is_no_pod() {
    for (pod, expected) in [
        (
            json!({"spec": {"containers": {}}}),
            vec!["spec.containers is not a list; check the indentation"],
        ),
        (
            json!({"metadata": {"labels": []}, "spec": {"containers": [7]}}),
            vec![
                "metadata.labels is not a map; check the indentation",
                "spec.containers[0] is not a map; check the indentation",
            ],
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "env": {}}]}}),
            vec!["spec.containers[0].env is not a list; check the indentation"],
        ),
    ] {
        assert_eq!(
            with(&pod, profile()).map(|i| i.pod().clone()).unwrap_err(),
            expected
        );
    }
    let none = with(&json!({"spec": {"containers": []}}), profile())
        .map(|i| i.pod().clone())
        .unwrap_err();
    assert_eq!(
        none,
        ["the pod has no containers; check the indentation of `spec.containers`"]
    );
    refused(
        |p| p["spec"]["containers"] = vec![json!({}); 501].into(),
        profile(),
        "the pod has 501 containers, more than 500; split it",
    );
}

#[test]
fn everything_is_said_at_once_and_the_configuration_is_checked() {
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = true.into();
    pod["spec"]["shareProcessNamespace"] = true.into();
    let check = |text: &str, environment: &Environment| {
        let mut variables = environment.variables.iter();
        assert!(
            text.contains("https://orders.example/api/")
                && variables.any(|(n, _)| n == "AZURE_CLIENT_ID")
        );
        Err(vec![Fault {
            path: "routes[0].upstream".into(),
            message: "is wrong".into(),
            other: None,
        }])
    };
    let problems = with_check(&pod, profile(), &check)
        .map(|i| i.pod().clone())
        .unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].starts_with("hostNetwork")
            && problems[2] == "container app: BACKEND_API_URL: is wrong",
        "{problems:?}"
    );
}

#[test]
fn a_job_that_would_never_end() {
    let profiles = Profiles(
        [(
            "default".to_owned(),
            Profile {
                native: false,
                ..profile()
            },
        )]
        .into(),
    );
    let request = Request {
        profiles: &profiles,
        check: &|_, _| Ok(()),
        asked: true,
        profile: None,
        job: true,
    };
    let refusal = inject(&pod(), &request)
        .map(|i| i.pod().clone())
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "a Job whose sidecar is an ordinary container never ends; leave out `native: false` (Kubernetes 1.29 or newer), or leave the sidecar out"
    );
}

/// What a review costs does not grow with the faults times the annotation: an annotation is read once for all of them, and what is not said is not told.
#[test]
fn many_faults_in_a_large_annotation_are_told_at_the_cost_of_one_reading() {
    use super::super::{check::work, problems::MAX_SAID};
    let list = ["x"; 60].join(",");
    let credentials = (0..400).map(|i| format!("c{i}: *all\n"));
    let credentials = format!("c: &all [{list}]\n{}", credentials.collect::<String>());
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "token-sidecar.io/credentials": credentials,
        "token-sidecar.io/routes": "[{name: a}, {name: b}]",
    });
    let check = |_: &str, _: &Environment| {
        let fault = |path: String| Fault {
            path,
            message: "is wrong".into(),
            other: None,
        };
        let credentials = (0..50).map(|i| fault(format!("credentials.c{i}.grant")));
        let routes = (0..50).map(|i| fault(format!("routes[{}].match", i % 2)));
        Err(routes.zip(credentials).flat_map(<[_; 2]>::from).collect())
    };
    work::READ.set(0);
    work::TOLD.set(0);
    let problems = with_check(&pod, profile(), &check)
        .map(|i| i.pod().clone())
        .unwrap_err();
    assert_eq!((work::READ.get(), work::TOLD.get()), (2, MAX_SAID));
    assert_eq!(problems.len(), MAX_SAID + 1, "{problems:?}");
    assert_eq!(
        [&problems[2], &problems[3], &problems[MAX_SAID]],
        [
            "annotation token-sidecar.io/routes: line 1, column 13: [1].match: is wrong",
            "annotation token-sidecar.io/credentials: line 3, column 5: c1.grant: is wrong",
            "and 80 more",
        ]
    );
}
