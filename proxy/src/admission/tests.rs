//! What injection does to pods, what it refuses in which words, and that it can be taken back.

use super::{
    check::{Environment, Fault},
    inject::{Injection, Outcome, Request, inject},
    profile::{Profile, Profiles, Rewrite, RewriteCredential, SidecarConfig, TokenSource},
    remove::remove,
};
use serde_json::{Map, Value, json};

mod again;
mod aks;
mod hindrances;
mod identity;
mod listeners;
mod mesh;
mod mounts;
mod proxy;
mod refusals;
mod told;
mod unread;
mod variables;
mod windows;

use aks::aks;

fn rewrite(variable: &str) -> Rewrite {
    Rewrite {
        variable: variable.into(),
        containers: Vec::new(),
        upstream: None,
        credential: RewriteCredential::Scope("api://orders/.default".into()),
        allow_insecure_http: false,
        port: None,
    }
}

pub(crate) fn profile() -> Profile {
    Profile {
        image: "registry.example/token-sidecar:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        native: true,
        port: 8080,
        admin_port: 9090,
        uid: 64117,
        workers: 2,
        log_level: "info".into(),
        resources: Map::new(),
        token: TokenSource::Aks {
            identity_binding: false,
        },
        rewrite: vec![rewrite("BACKEND_API_URL")],
        config: SidecarConfig::Inline {
            credentials: Map::new(),
            routes: Vec::new(),
        },
        mounts: Vec::new(),
        allow_host_network: false,
        proxy: vec![],
        allow_added_trust: false,
        annotations: None,
    }
}

pub(super) fn projected() -> Profile {
    Profile {
        token: TokenSource::Projected {
            audience: "sts".into(),
            expiration: 3600,
            env: vec![
                ("AZURE_CLIENT_ID", "c".into()),
                ("AZURE_TENANT_ID", "t".into()),
            ],
        },
        ..profile()
    }
}

fn with(pod: &Value, profile: Profile) -> Result<Injection, Vec<String>> {
    with_check(pod, profile, &|_, _| Ok(()))
}

fn with_check(
    pod: &Value,
    profile: Profile,
    check: &super::check::Check,
) -> Result<Injection, Vec<String>> {
    let profiles = Profiles([("default".to_owned(), profile)].into());
    let request = Request {
        profiles: &profiles,
        check,
        asked: true,
        profile: None,
        job: false,
    };
    inject(pod, &request).map_err(|refusal| refusal.0)
}

fn injected(pod: &Value, profile: Profile) -> Value {
    let injection = with(pod, profile).unwrap();
    assert_eq!(injection.outcome, Outcome::Injected);
    injection.pod().clone()
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}, {"name": "BACKEND_API_URL", "value": "https://orders.example/api/"}]}]}
    })
}

fn env<'p>(container: &'p Value, name: &str) -> &'p Value {
    let all = container["env"].as_array().unwrap();
    all.iter()
        .find(|e| e["name"] == name)
        .unwrap_or(&Value::Null)
}

/// The list under a key, made when there is none.
fn list<'p>(object: &'p mut Value, key: &str) -> &'p mut Vec<Value> {
    if object[key].is_null() {
        object[key] = json!([]);
    }
    object[key].as_array_mut().unwrap()
}

#[test]
fn a_native_sidecar_with_the_variable_rewritten() {
    let pod = injected(&pod(), profile());
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["name"], "token-sidecar");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(
        sidecar["startupProbe"]["httpGet"],
        json!({"path": "/startupz", "port": 9090})
    );
    assert_eq!(
        sidecar["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 9090})
    );
    assert_eq!(
        sidecar["livenessProbe"]["httpGet"],
        json!({"path": "/livez", "port": 9090})
    );
    assert_eq!(
        sidecar["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false, "readOnlyRootFilesystem": true,
            "runAsGroup": 64117, "runAsNonRoot": true, "runAsUser": 64117, "seccompProfile": {"type": "RuntimeDefault"}
        })
    );
    assert_eq!(
        sidecar["args"],
        json!([
            "--listen",
            "127.0.0.1:8080",
            "--admin",
            "[::]:9090",
            "--workers",
            "2"
        ])
    );
    assert_eq!(
        env(sidecar, "TOKEN_SIDECAR_UPSTREAM")["value"],
        "https://orders.example/api/"
    );
    assert_eq!(
        env(sidecar, "TOKEN_SIDECAR_SCOPE")["value"],
        "api://orders/.default"
    );
    // Whoever appends a path to it finds the slash that was there.
    assert_eq!(
        env(&pod["spec"]["containers"][0], "BACKEND_API_URL")["value"],
        "http://127.0.0.1:8080/"
    );
    let metadata = &pod["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({"azure.workload.identity/use": "true", "token-sidecar.io/injected": "true"})
    );
    assert_eq!(
        metadata["annotations"]["azure.workload.identity/skip-containers"],
        "app"
    );
}

#[test]
fn a_token_of_our_own_is_mounted_into_the_sidecar_alone() {
    let pod = injected(&pod(), projected());
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(
        sidecar["volumeMounts"],
        json!([{"name": "token-sidecar-token", "mountPath": "/var/run/secrets/token-sidecar", "readOnly": true}])
    );
    assert_eq!(
        env(sidecar, "AZURE_FEDERATED_TOKEN_FILE")["value"],
        "/var/run/secrets/token-sidecar/token"
    );
    assert_eq!(env(sidecar, "AZURE_CLIENT_ID")["value"], "c");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "token-sidecar-token", "projected": {"sources": [{"serviceAccountToken": {"audience": "sts", "expirationSeconds": 3600, "path": "token"}}]}}])
    );
    assert_eq!(pod["spec"]["containers"][0].get("volumeMounts"), None);
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"token-sidecar.io/injected": "true"})
    );
    // Where the pod asks AKS' webhook for tokens, too, nobody gets one.
    let mut asking = self::pod();
    asking["metadata"]["labels"] = json!({"azure.workload.identity/use": "true"});
    let annotations = injected(&asking, projected())["metadata"]["annotations"].clone();
    assert_eq!(
        annotations["azure.workload.identity/skip-containers"],
        "token-sidecar;app"
    );
}

#[test]
fn an_ordinary_container_comes_last_and_init_containers_keep_their_variable() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "env": [{"name": "BACKEND_API_URL", "value": "https://orders.example"}]}]);
    pod["metadata"]["annotations"] = json!({"token-sidecar.io/native": "false"});
    let injection = with(&pod, profile()).unwrap();
    assert_eq!(
        injection.warnings[0],
        "init container migrate keeps BACKEND_API_URL: it runs before the sidecar, which is an ordinary container here"
    );
    let after = injection.pod();
    assert_eq!(after["spec"]["containers"][1]["name"], "token-sidecar");
    assert_eq!(after["spec"]["containers"][1].get("restartPolicy"), None);
    assert_eq!(
        after["spec"]["initContainers"],
        pod["spec"]["initContainers"]
    );
}

#[test]
fn different_upstreams_get_listeners_of_their_own() {
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "b", "env": [
        {"name": "BACKEND_API_URL", "value": "https://b.example"}, {"name": "OTHER", "value": "https://orders.example/api/"}]}));
    let other = Rewrite {
        credential: RewriteCredential::Scope("api://other/.default".into()),
        ..rewrite("OTHER")
    };
    let profile = Profile {
        rewrite: vec![rewrite("BACKEND_API_URL"), other],
        ..profile()
    };
    let after = injected(&pod, profile);
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(sidecar.get("args"), None);
    let config: Value = serde_json::from_str(
        env(sidecar, "TOKEN_SIDECAR_CONFIG_TEXT")["value"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        config,
        json!({
            "listen": "127.0.0.1:8080", "admin": "[::]:9090", "workers": 2,
            "credentials": {
                "backend-api-url": {"entraClientAssertion": {"scope": "api://orders/.default"}},
                "other": {"entraClientAssertion": {"scope": "api://other/.default"}},
            },
            "routes": [
                {"name": "backend-api-url", "upstream": "https://orders.example/api/", "credential": "backend-api-url"},
                {"name": "backend-api-url-2", "upstream": "https://b.example", "credential": "backend-api-url", "listen": "127.0.0.1:8081"},
                {"name": "other", "upstream": "https://orders.example/api/", "credential": "other", "listen": "127.0.0.1:8082"},
            ]
        })
    );
    let b = &after["spec"]["containers"][1];
    assert_eq!(env(b, "BACKEND_API_URL")["value"], "http://127.0.0.1:8081");
    assert_eq!(env(b, "OTHER")["value"], "http://127.0.0.1:8082/");
}

#[test]
fn a_variable_from_elsewhere_is_set_where_the_profile_says() {
    let mut pod = pod();
    pod["spec"]["containers"] = json!([{"name": "app", "envFrom": [{"configMapRef": {"name": "settings"}}]}, {"name": "other"}]);
    let named = Rewrite {
        containers: vec!["app".into()],
        upstream: Some("https://orders.example".into()),
        ..rewrite("BACKEND_API_URL")
    };
    let after = injected(
        &pod,
        Profile {
            rewrite: vec![named],
            ..profile()
        },
    );
    assert_eq!(
        after["spec"]["containers"][0]["env"],
        json!([{"name": "BACKEND_API_URL", "value": "http://127.0.0.1:8080"}])
    );
    assert_eq!(after["spec"]["containers"][1], json!({"name": "other"}));
    assert_eq!(remove(&after).unwrap().unwrap(), pod);
}

#[test]
fn a_config_map_has_the_whole_configuration() {
    let mapped = Profile {
        config: SidecarConfig::ConfigMap {
            name: "sidecar".into(),
            key: "config.yaml".into(),
        },
        rewrite: vec![Rewrite {
            credential: RewriteCredential::ConfigMap,
            port: Some(8081),
            ..rewrite("BACKEND_API_URL")
        }],
        ..projected()
    };
    let after = injected(&pod(), mapped);
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(
        env(sidecar, "TOKEN_SIDECAR_CONFIG")["value"],
        "/etc/token-sidecar/config.yaml"
    );
    assert_eq!(
        sidecar["volumeMounts"][1],
        json!({"name": "token-sidecar-config", "mountPath": "/etc/token-sidecar", "readOnly": true})
    );
    assert_eq!(
        after["spec"]["volumes"][1],
        json!({"name": "token-sidecar-config", "configMap": {"name": "sidecar"}})
    );
    assert_eq!(
        env(&after["spec"]["containers"][0], "BACKEND_API_URL")["value"],
        "http://127.0.0.1:8081/"
    );
}

#[test]
fn annotations_win_over_the_profile() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "token-sidecar.io/image": "mine:2", "token-sidecar.io/log-level": "debug", "token-sidecar.io/port": "8180", "token-sidecar.io/admin-port": "9190",
        "token-sidecar.io/resources": "limits: {memory: 64Mi}",
        "token-sidecar.io/credentials": "extra: {entraClientAssertion: {scope: api://x/.default}}",
        "token-sidecar.io/routes": "[{name: extra, match: {host: x.example}, upstream: 'https://x.example/$A', credential: extra}]",
    });
    let after = injected(&pod, profile());
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(sidecar["image"], "mine:2");
    assert_eq!(sidecar["resources"], json!({"limits": {"memory": "64Mi"}}));
    assert_eq!(env(sidecar, "TOKEN_SIDECAR_LOG_LEVEL")["value"], "debug");
    assert_eq!(sidecar["ports"][0]["containerPort"], 9190);
    let text = env(sidecar, "TOKEN_SIDECAR_CONFIG_TEXT")["value"]
        .as_str()
        .unwrap();
    // The kubelet makes one of two: `$(NAME)` in a value is no reference.
    assert!(text.contains("https://x.example/$$A"), "{text}");
    let config: Value = serde_json::from_str(text).unwrap();
    assert_eq!(config["listen"], "127.0.0.1:8180");
    assert_eq!(config["routes"][0]["name"], "extra");
    // The profile's first listener is the other route's.
    assert_eq!(config["routes"][1]["listen"], "127.0.0.1:8181");
    assert_eq!(
        env(&after["spec"]["containers"][0], "BACKEND_API_URL")["value"],
        "http://127.0.0.1:8181/"
    );
}

#[test]
fn an_annotations_limit_lowers_the_profiles_request() {
    let resources =
        json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
    let profile = || Profile {
        resources: resources.as_object().unwrap().clone(),
        ..profile()
    };
    let mut pod = pod();
    let key = "token-sidecar.io/resources";
    pod["metadata"]["annotations"] = json!({key: "limits: {memory: 16Mi, cpu: 5m}"});
    let after = injected(&pod, profile());
    assert_eq!(
        after["spec"]["initContainers"][0]["resources"],
        json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi", "cpu": "5m"}})
    );
    // What it says itself is another resource.
    pod["metadata"]["annotations"] = json!({key: "{requests: {cpu: 5m}, limits: {memory: 16Mi}}"});
    let after = injected(&pod, profile());
    assert_eq!(
        after["spec"]["initContainers"][0]["resources"]["requests"],
        json!({"cpu": "5m", "memory": "16Mi"})
    );
    pod["metadata"]["annotations"] = json!({key: "requests: {memory: 256Mi}"});
    assert_eq!(
        with(&pod, profile()).unwrap_err(),
        [
            "annotation token-sidecar.io/resources: requests.memory: 256Mi is above the limit 128Mi, and Kubernetes refuses such a pod; lower it, or raise `limits.memory`"
        ]
    );
}

#[test]
fn pods_that_do_not_ask_are_left_alone() {
    let profiles = Profiles::default();
    let request = Request {
        profiles: &profiles,
        check: &|_, _| Ok(()),
        asked: false,
        profile: None,
        job: false,
    };
    let injection = inject(&pod(), &request).unwrap();
    assert_eq!(
        (injection.outcome, injection.into_operations()),
        (Outcome::NotAsked, vec![])
    );
    let mut no = pod();
    no["metadata"]["labels"] = json!({"token-sidecar.io/inject": "false"});
    assert_eq!(
        inject(
            &no,
            &Request {
                asked: true,
                ..request
            }
        )
        .unwrap()
        .outcome,
        Outcome::NotAsked
    );
}
