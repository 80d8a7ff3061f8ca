//! AKS' workload identity webhook, before this injector or after it: the sidecar has the token, and nobody else.

use super::*;

/// What AKS' webhook mounts.
const AKS_PATH: &str = "/var/run/secrets/azure/wi";
const AKS_VOLUME: &str = "azure-workload-identity-reserved-4f2d";

/// What AKS' webhook (v1.6) does to a pod, as far as this injector is concerned.
pub(super) fn aks(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if pod["metadata"]["labels"]["azure.workload.identity/use"] != "true" {
        return pod;
    }
    let skip = pod["metadata"]["annotations"]["azure.workload.identity/skip-containers"]
        .as_str()
        .unwrap_or_default();
    let skip: Vec<String> = skip.split(';').map(|s| s.trim().to_owned()).collect();
    let binding =
        pod["metadata"]["annotations"]["azure.workload.identity/use-identity-binding"] == "true";
    let audience = match binding {
        true => "api://AKSIdentityBinding",
        false => "api://AzureADTokenExchange",
    };
    let file = format!("{AKS_PATH}/token/azure-identity-token");
    let ca = format!("{AKS_PATH}/ca-cert/ca.crt");
    let mut variables = vec![
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", &file),
    ];
    if binding {
        variables.extend([
            ("AZURE_KUBERNETES_TOKEN_PROXY", "https://10.0.0.1"),
            ("AZURE_KUBERNETES_CA_FILE", &ca),
        ]);
    }
    for key in ["initContainers", "containers"] {
        for container in pod["spec"][key].as_array_mut().into_iter().flatten() {
            if skip.iter().any(|s| container["name"] == *s) {
                continue;
            }
            let env = list(container, "env");
            for (name, value) in &variables {
                if !env.iter().any(|e| e["name"] == *name) {
                    env.push(json!({"name": name, "value": value}));
                }
            }
            let mounts = list(container, "volumeMounts");
            if !mounts.iter().any(|m| m["name"] == AKS_VOLUME) {
                mounts.push(json!({"name": AKS_VOLUME, "mountPath": AKS_PATH, "readOnly": true}));
            }
        }
    }
    let volumes = list(&mut pod["spec"], "volumes");
    if !volumes.iter().any(|v| v["name"] == AKS_VOLUME) {
        let token = json!({"audience": audience, "path": "token/azure-identity-token"});
        volumes.push(
            json!({"name": AKS_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}),
        );
    }
    pod
}

/// The workload's containers hold no token, the sidecar does.
fn assert_alone(pod: &Value) {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let sidecar = container["name"] == "token-sidecar";
            let mounts = container["volumeMounts"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|m| m["name"] == AKS_VOLUME);
            let file = container["env"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|e| e["name"] == "AZURE_FEDERATED_TOKEN_FILE");
            assert_eq!((mounts, file), (sidecar, sidecar), "{container:#}");
        }
    }
}

#[test]
fn aks_webhook_may_come_before_or_after() {
    let mut asking = pod();
    asking["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
    asking["spec"]["initContainers"] = json!([{"name": "migrate"}]);

    let ours_first = aks(&injected(&asking, profile()));
    assert_alone(&ours_first);
    let again = with(&ours_first, profile()).unwrap();
    assert_eq!(again.outcome, Outcome::Unchanged);

    let theirs_first = injected(&aks(&asking), profile());
    assert_alone(&theirs_first);
    assert_eq!(
        aks(&theirs_first),
        theirs_first,
        "called again, their webhook has nothing to do"
    );
    let sidecar =
        |pod: &Value| env(&pod["spec"]["initContainers"][0], "AZURE_CLIENT_ID")["value"].clone();
    assert_eq!(
        (sidecar(&ours_first), sidecar(&theirs_first)),
        (json!("id"), json!("id"))
    );
    assert_eq!(remove(&theirs_first).unwrap().unwrap(), aks(&asking));
}

#[test]
fn what_comes_in_between_the_two_calls_is_cleaned_up() {
    // Another webhook adds a container after ours, and AKS' gives it the token.
    let mut pod = injected(&pod(), profile());
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "mesh"}));
    let pod = aks(&pod);
    assert!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"] == AKS_VOLUME);
    let again = injected(&pod, profile());
    assert_alone(&again);
    assert_eq!(
        again["metadata"]["annotations"]["azure.workload.identity/skip-containers"],
        "app;mesh"
    );
    assert_eq!(aks(&again), again);
    assert_eq!(with(&again, profile()).unwrap().outcome, Outcome::Unchanged);
}

#[test]
fn an_identity_binding_is_asked_for_and_taken_back() {
    const KEY: &str = "azure.workload.identity/use-identity-binding";
    let bound = || Profile {
        token: TokenSource::Aks {
            identity_binding: true,
        },
        ..profile()
    };
    let ours = injected(&pod(), bound());
    assert_eq!(ours["metadata"]["annotations"][KEY], "true");
    assert_eq!(remove(&ours).unwrap().unwrap(), pod());
    let both = aks(&ours);
    assert_alone(&both);
    let sidecar = &both["spec"]["initContainers"][0];
    assert_eq!(
        env(sidecar, "AZURE_KUBERNETES_TOKEN_PROXY")["value"],
        "https://10.0.0.1"
    );
    assert_eq!(with(&both, bound()).unwrap().outcome, Outcome::Unchanged);
    // A profile without it takes it back, to what it was.
    for was in [None, Some("false")] {
        let mut before = pod();
        if let Some(was) = was {
            before["metadata"]["annotations"] = json!({KEY: was});
        }
        let again = injected(&injected(&before, bound()), profile());
        assert_eq!(
            again["metadata"]["annotations"].get(KEY),
            was.map(Value::from).as_ref()
        );
        assert_eq!(remove(&again).unwrap().unwrap(), before);
    }
    // Its webhook was first: with the annotation of the pod's own it is right, without it is too late.
    let mut asking = pod();
    asking["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
    assert_eq!(
        with(&aks(&asking), bound())
            .map(|i| i.pod().clone())
            .unwrap_err(),
        [format!(
            "AKS' webhook has given the pod a token that is not for the identity binding which the profile wants; set the annotation {KEY}: \"true\" in the pod \
             template, or have this injector called first (by the name of its webhook configuration)"
        )]
    );
    asking["metadata"]["annotations"] = json!({KEY: "true"});
    for profile in [bound(), profile()] {
        let theirs_first = injected(&aks(&asking), profile);
        assert_alone(&theirs_first);
        let sidecar = &theirs_first["spec"]["initContainers"][0];
        assert!(env(sidecar, "AZURE_KUBERNETES_CA_FILE").is_object());
        let app = &theirs_first["spec"]["containers"][0];
        assert!(env(app, "AZURE_KUBERNETES_CA_FILE").is_null());
    }
}

/// So that a configuration which insists on the token proxy is taken where there will be one.
#[test]
fn a_configuration_may_count_on_the_token_proxy() {
    for identity_binding in [true, false] {
        let profile = Profile {
            token: TokenSource::Aks { identity_binding },
            ..profile()
        };
        let check = move |_: &str, environment: &Environment| {
            let names = environment.variables.iter().map(|(name, _)| name.as_str());
            let there = names.clone().any(|n| n == "AZURE_KUBERNETES_TOKEN_PROXY");
            assert_eq!(there, identity_binding);
            assert!(names.clone().any(|n| n == "AZURE_CLIENT_ID"));
            Ok(())
        };
        with_check(&pod(), profile, &check).unwrap();
    }
}

/// A pod that brings what looks like its webhook's, with variables that say who gets the token.
fn alike(label: bool, variables: &[(&str, &str)]) -> Value {
    let mut pod = pod();
    if label {
        pod["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
    }
    let token = json!({"audience": "api://AzureADTokenExchange", "path": "t"});
    pod["spec"]["volumes"] = json!([{"name": "azure-identity-token", "projected": {"sources": [{"serviceAccountToken": token}]}}]);
    let app = &mut pod["spec"]["containers"][0];
    for (name, value) in variables {
        list(app, "env").push(json!({"name": name, "value": value}));
    }
    list(app, "volumeMounts").push(json!({"name": "azure-identity-token", "mountPath": "/t"}));
    pod
}

/// The sidecar's variables of these names.
fn taken_over(pod: &Value) -> Vec<&str> {
    let env = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
    let names = env.iter().filter_map(|e| e["name"].as_str());
    names.filter(|n| n.starts_with("AZURE_")).collect()
}

#[test]
fn a_manifests_own_variables_do_not_say_who_gets_the_token() {
    const EVIL: [(&str, &str); 4] = [
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_AUTHORITY_HOST", "https://evil.example/"),
        ("AZURE_KUBERNETES_TOKEN_PROXY", "https://evil.example"),
        ("AZURE_KUBERNETES_CA_DATA", "evil"),
    ];
    // Nobody asked for its webhook, so that it has not been here.
    let unasked = with(&alike(false, &EVIL), profile()).unwrap();
    assert_eq!(taken_over(unasked.pod()), [""; 0]);
    let sidecar = &unasked.pod()["spec"]["initContainers"][0];
    assert_eq!(sidecar.get("volumeMounts"), None);
    // It was asked for, and leaves a manifest's own variables alone.
    let asked = with(&alike(true, &EVIL), profile()).unwrap();
    assert_eq!(taken_over(asked.pod()), ["AZURE_CLIENT_ID"]);
    let names: Vec<_> = asked
        .warnings
        .iter()
        .filter_map(|w| w.split(' ').next())
        .collect();
    assert_eq!(names, EVIL.map(|(name, _)| name)[1..]);
    // Nor do they when they stand in the sidecar that the pod says it has.
    let mut forged = asked.pod().clone();
    for (name, value) in &EVIL[1..] {
        let variable = json!({"name": name, "value": value});
        list(&mut forged["spec"]["initContainers"][0], "env").push(variable);
    }
    let again = with(&forged, profile()).unwrap();
    assert_eq!(again.pod(), asked.pod());
}

#[test]
fn a_manifest_says_neither_where_the_sidecar_has_the_token_nor_which_file_it_is() {
    let placed = |path: &str, file: Option<Value>, profile: Profile| {
        let mut pod = alike(true, &[]);
        let app = &mut pod["spec"]["containers"][0];
        app["volumeMounts"][0]["mountPath"] = path.into();
        if let Some(file) = file {
            list(app, "env").push(file);
        }
        with(&pod, profile).map(|i| i.pod().clone())
    };
    let mount = |path: &str| {
        format!(
            "container app mounts AKS' token at {path}, which the sidecar would take over, and has or trusts something else there; take the mount out: AKS' \
             webhook mounts it by itself"
        )
    };
    for path in [
        "/usr/local/bin",
        "/etc/ssl/certs",
        "/t/../usr/local/bin",
        "/ca/x",
        "/",
    ] {
        let profile = Profile {
            mounts: vec![crate::admission::profile::Mount {
                source: crate::admission::profile::MountSource::ConfigMap("ca".into()),
                path: "/ca".into(),
            }],
            ..profile()
        };
        assert_eq!(placed(path, None, profile).unwrap_err(), [mount(path)]);
    }
    let trusting = Profile {
        allow_added_trust: true,
        ..profile()
    };
    placed("/etc/ssl/certs", None, trusting).unwrap();
    // Of no matter where the sidecar does not take it over.
    placed("/usr/local/bin", None, projected()).unwrap();
    let mut unasked = alike(false, &[]);
    unasked["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] = "/usr/local/bin".into();
    with(&unasked, profile()).unwrap();
    let file = |value: &str| Some(json!({"name": "AZURE_FEDERATED_TOKEN_FILE", "value": value}));
    let secret = json!({"name": "AZURE_FEDERATED_TOKEN_FILE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    for odd in [file("/etc/shadow"), file("/t/../etc/shadow"), Some(secret)] {
        assert_eq!(
            placed("/t", odd, profile()).unwrap_err(),
            [
                "container app: AZURE_FEDERATED_TOKEN_FILE is not a file of AKS' token, which the sidecar would take it for; take the variable out: AKS' webhook sets it by itself"
            ]
        );
    }
    let good = placed("/t", file("/t/t"), profile()).unwrap();
    assert_eq!(taken_over(&good), ["AZURE_FEDERATED_TOKEN_FILE"]);
}

#[test]
fn what_its_webhook_sets_is_taken_over() {
    for (host, trusting, taken) in [
        ("https://login.microsoftonline.com/", false, true),
        ("https://login.microsoftonline.us", false, true),
        ("https://login.partner.microsoftonline.cn/", false, true),
        ("https://login.chinacloudapi.cn/", false, true),
        (
            "https://login.microsoftonline.com.evil.example/",
            false,
            false,
        ),
        ("https://login.airgapped.example/", false, false),
        ("https://login.airgapped.example/", true, true),
    ] {
        let profile = Profile {
            allow_added_trust: trusting,
            ..profile()
        };
        let after = injected(
            &alike(true, &[("AZURE_AUTHORITY_HOST", host)]),
            profile.clone(),
        );
        assert_eq!(
            taken_over(&after) == ["AZURE_AUTHORITY_HOST"],
            taken,
            "{host}"
        );
        let again = with(&after, profile).unwrap();
        assert_eq!(again.outcome, Outcome::Unchanged);
    }
}

#[test]
fn of_a_token_proxy_only_what_its_webhook_could_have_set_is_taken_over() {
    const PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
    let bound = |audience: &str| json!({"projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}});
    let mut pod = alike(true, &[(PROXY, "https://10.0.0.1")]);
    let after = injected(&pod, profile());
    assert_eq!(taken_over(&after), [""; 0]);
    // A volume of the pod's own is none of its webhook's.
    let mut other = bound("api://AKSIdentityBinding");
    other["name"] = "other".into();
    list(&mut pod["spec"], "volumes").push(other);
    assert_eq!(taken_over(&injected(&pod, profile())), [""; 0]);
    let mut its = bound("api://AKSIdentityBinding");
    its["name"] = "azure-identity-token".into();
    pod["spec"]["volumes"] = json!([its]);
    assert_eq!(taken_over(&injected(&pod, profile())), [PROXY]);
    // Of several with one name the last; and its webhook writes values.
    let app = &mut pod["spec"]["containers"][0];
    list(app, "env").push(json!({"name": PROXY, "value": "https://10.0.0.2"}));
    let after = injected(&pod, profile());
    assert_eq!(taken_over(&after), [PROXY]);
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(env(sidecar, PROXY)["value"], "https://10.0.0.2");
    let app = &mut pod["spec"]["containers"][0];
    list(app, "env")
        .push(json!({"name": PROXY, "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}));
    assert_eq!(taken_over(&injected(&pod, profile())), [""; 0]);
}

#[test]
fn what_only_has_its_name_stays_with_the_workload() {
    let mut pod = alike(true, &[]);
    pod["spec"]["volumes"] = json!([{"name": "azure-identity-token", "emptyDir": {}}]);
    let after = injected(&pod, profile());
    let app = &after["spec"]["containers"][0];
    assert_eq!(
        app["volumeMounts"],
        pod["spec"]["containers"][0]["volumeMounts"]
    );
    assert_eq!(after["spec"]["initContainers"][0].get("volumeMounts"), None);
}

/// Nobody asked for its webhook, but a label may come later.
#[test]
fn with_a_token_of_ones_own_its_webhook_leaves_everybody_alone() {
    let key = "azure.workload.identity/skip-containers";
    for label in [true, false] {
        let after = injected(&alike(label, &[]), projected());
        assert_eq!(after["metadata"]["annotations"][key], "token-sidecar;app");
    }
    let none = injected(&pod(), projected());
    assert_eq!(none["metadata"]["annotations"].get(key), None);
}

#[test]
fn what_cannot_be_remembered_is_not_begun() {
    let long = format!("/t/{}", "x".repeat(300 << 10));
    let pod = alike(true, &[("A_PATH", &long)]);
    let problems = with(&pod, profile()).map(|i| i.pod().clone()).unwrap_err();
    assert!(problems[0].contains("larger than annotations may be (256 KiB)"));
}

#[test]
fn its_webhook_is_never_told_to_leave_the_sidecar_alone() {
    let key = "azure.workload.identity/skip-containers";
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({key: "other; token-sidecar ;app"});
    let after = injected(&pod, profile());
    assert_eq!(after["metadata"]["annotations"][key], "other;app");
    assert_alone(&aks(&after));
    assert_eq!(remove(&after).unwrap().unwrap(), pod);
}

#[test]
fn what_its_webhook_adds_to_a_sidecar_that_has_the_token_stays() {
    let mut pod = injected(&alike(true, &[]), profile());
    let entra =
        json!({"name": "AZURE_AUTHORITY_HOST", "value": "https://login.microsoftonline.com/"});
    list(&mut pod["spec"]["initContainers"][0], "env").insert(0, entra);
    let again = with(&pod, profile()).unwrap();
    assert_eq!(again.warnings, [""; 0]);
    assert_eq!(again.outcome, Outcome::Unchanged);
    // A file that is not the token's is nothing that it adds.
    let mut forged = aks(&injected(&labelled(), profile()));
    let honest = forged.clone();
    let env = list(&mut forged["spec"]["initContainers"][0], "env");
    let file = env
        .iter_mut()
        .find(|e| e["name"] == "AZURE_FEDERATED_TOKEN_FILE");
    file.unwrap()["value"] = "/etc/shadow".into();
    let names = |pod: &Value| taken_over(pod).len();
    let again = with(&forged, profile()).unwrap();
    assert_eq!(names(again.pod()), names(&honest) - 1);
    assert!(again.warnings[0].contains("(env) and is put in anew"));
}

fn labelled() -> Value {
    let mut pod = pod();
    pod["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
    pod
}
