//! Recorded reviews of many kinds of pods, over real TLS; their patches applied by a library that is not ours.

use crate::webhook_lab::{Injector, patched, recorded};
use serde_json::{Value, json};
use token_sidecar::admission::remove::remove;

const PATH: &str = "/var/run/secrets/azure/wi";

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

fn container<'p>(pod: &'p Value, name: &str) -> &'p Value {
    containers(pod)
        .find(|c| c["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {pod:#}"))
}

fn variable<'p>(container: &'p Value, name: &str) -> &'p Value {
    let env = container["env"].as_array().into_iter().flatten();
    env.rev()
        .find(|e| e["name"] == name)
        .map_or(&Value::Null, |e| &e["value"])
}

/// No container but the sidecar has AKS' token or a way to find it.
fn assert_alone(pod: &Value) {
    for container in containers(pod).filter(|c| c["name"] != "token-sidecar") {
        let text = container.to_string();
        assert!(
            !text.contains(PATH)
                && !text.contains("AZURE_FEDERATED_TOKEN_FILE")
                && !text.contains("azure-workload-identity-reserved"),
            "{container:#}"
        );
        let skip = pod["metadata"]["annotations"]["azure.workload.identity/skip-containers"]
            .as_str()
            .unwrap();
        assert!(skip.split(';').any(|s| container["name"] == s), "{skip}");
    }
}

/// Asks, applies, and holds what must hold for every pod that is injected.
async fn inject(injector: &Injector, name: &str) -> Value {
    let review = recorded(name);
    let response = injector.response(&review).await;
    assert_eq!(response["allowed"], true, "{name}: {response:#}");
    let pod = patched(&review, &response);
    let sidecar = container(&pod, "token-sidecar");
    assert_eq!(
        sidecar["securityContext"]["readOnlyRootFilesystem"], true,
        "{name}"
    );
    assert_eq!(
        pod["metadata"]["labels"]["token-sidecar.io/injected"], "true",
        "{name}"
    );
    assert_alone(&pod);
    // What the workload is made of, beside the variables and the token, is what it was.
    for before in containers(&review["request"]["object"]) {
        let after = container(&pod, before["name"].as_str().unwrap());
        for key in [
            "image",
            "command",
            "ports",
            "readinessProbe",
            "restartPolicy",
            "resources",
        ] {
            assert_eq!(after.get(key), before.get(key), "{name}: {key}");
        }
    }
    // Asked again, as after a change by another webhook, there is nothing to do; and it can be taken back.
    let mut again = review.clone();
    again["request"]["object"] = pod.clone();
    let response = injector.response(&again).await;
    assert_eq!(
        (&response["allowed"], response.get("patch")),
        (&json!(true), None),
        "{name}"
    );
    assert_eq!(
        remove(&pod).unwrap().unwrap(),
        review["request"]["object"],
        "{name}"
    );
    pod
}

#[tokio::test]
async fn pods_of_every_kind_of_workload() {
    let injector = Injector::start().await;

    let pod = inject(&injector, "deployment").await;
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "token-sidecar");
    assert_eq!(
        variable(container(&pod, "web"), "BACKEND_API_URL"),
        "http://127.0.0.1:64117"
    );
    assert_eq!(
        variable(container(&pod, "token-sidecar"), "TOKEN_SIDECAR_UPSTREAM"),
        "https://orders.example.com/api"
    );
    assert_eq!(
        pod["metadata"]["annotations"]["prometheus.io/scrape"],
        "true"
    );

    let pod = inject(&injector, "statefulset").await;
    assert_eq!(
        variable(container(&pod, "backup"), "BACKEND_API_URL"),
        "http://127.0.0.1:64117/"
    );
    assert_eq!(container(&pod, "db").get("restartPolicy"), None);

    let pod = inject(&injector, "job").await;
    assert_eq!(
        (
            &pod["spec"]["initContainers"][0]["restartPolicy"],
            &pod["spec"]["restartPolicy"]
        ),
        (&json!("Always"), &json!("OnFailure"))
    );

    let pod = inject(&injector, "cronjob").await;
    let sidecar = container(&pod, "token-sidecar");
    let from = sidecar["env"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["name"] == "TOKEN_SIDECAR_UPSTREAM")
        .unwrap();
    assert_eq!(
        from["valueFrom"]["configMapKeyRef"],
        json!({"name": "settings", "key": "backend"})
    );

    let pod = inject(&injector, "init-containers").await;
    let names: Vec<&Value> = pod["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(
        names,
        ["token-sidecar", "wait-for-db", "migrate", "log-shipper"]
    );
    assert_eq!(
        variable(container(&pod, "migrate"), "BACKEND_API_URL"),
        "http://127.0.0.1:64117"
    );
    assert_eq!(
        variable(container(&pod, "shop"), "BACKEND_API_URL"),
        "http://127.0.0.1:64117"
    );
    assert_eq!(
        variable(container(&pod, "shop"), "INVENTORY_API_URL"),
        "http://127.0.0.1:64118"
    );

    let pod = inject(&injector, "no-volumes").await;
    assert_eq!(pod["spec"].get("volumes"), None);

    let metrics = injector
        .metric("the reviews to be counted", |m| {
            m.0.contains("token_sidecar_injections_total{namespace=\"shop\",result=\"injected\"} 6")
        })
        .await;
    assert!(
        metrics
            .0
            .contains("token_sidecar_injections_total{namespace=\"shop\",result=\"unchanged\"} 6"),
        "{}",
        metrics.0
    );
    assert!(
        metrics
            .0
            .contains("token_sidecar_admission_duration_seconds_count 12"),
        "{}",
        metrics.0
    );
}

#[tokio::test]
async fn aks_webhook_before_and_after() {
    let injector = Injector::start().await;

    // It was there first: the token moves to the sidecar.
    let pod = inject(&injector, "aks-before").await;
    let sidecar = container(&pod, "token-sidecar");
    assert_eq!(
        variable(sidecar, "AZURE_FEDERATED_TOKEN_FILE"),
        "/var/run/secrets/azure/wi/token/azure-identity-token"
    );
    assert_eq!(
        variable(sidecar, "AZURE_CLIENT_ID"),
        "7d8cdf74-0001-4d6a-9c11-0d6d1a3e5b77"
    );
    assert_eq!(sidecar["volumeMounts"][0]["mountPath"], PATH);
    assert_eq!(
        container(&pod, "web")["volumeMounts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // It comes later: it sees whom to leave alone.
    let pod = inject(&injector, "aks-after").await;
    assert_eq!(
        pod["metadata"]["annotations"]["azure.workload.identity/skip-containers"],
        "migrate;web"
    );
    assert_eq!(container(&pod, "token-sidecar").get("volumeMounts"), None);

    // And what it gives to a container that yet another webhook has added is taken away at the second call.
    let mut review = recorded("aks-after");
    review["request"]["object"] = pod;
    let before = recorded("aks-before");
    let theirs = &before["request"]["object"]["spec"];
    let mut mesh = theirs["containers"][0].clone();
    mesh["name"] = "mesh".into();
    let object = &mut review["request"]["object"];
    object["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(mesh);
    object["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(theirs["volumes"][2].clone());
    let response = injector.response(&review).await;
    let pod = patched(&review, &response);
    assert_alone(&pod);
    assert_eq!(
        pod["metadata"]["annotations"]["azure.workload.identity/skip-containers"],
        "migrate;web;mesh"
    );
}

#[tokio::test]
async fn what_is_refused_and_what_is_left_alone() {
    let injector = Injector::start().await;
    let refused = injector.response(&recorded("host-network")).await;
    assert_eq!(
        (&refused["allowed"], refused.get("patch")),
        (&json!(false), None)
    );
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("token-sidecar is not injected: hostNetwork: ")
            && message.contains("allowHostNetwork"),
        "{message}"
    );

    for name in ["ephemeral-container", "not-asked"] {
        let response = injector.response(&recorded(name)).await;
        assert_eq!(
            response,
            json!({"uid": recorded(name)["request"]["uid"], "allowed": true}),
            "{name}"
        );
    }
    for namespace in ["kube-system", "injector"] {
        let mut review = recorded("deployment");
        review["request"]["namespace"] = namespace.into();
        let response = injector.response(&review).await;
        assert_eq!(
            (&response["allowed"], response.get("patch")),
            (&json!(true), None),
            "{namespace}"
        );
    }
    let mut misspelt = recorded("deployment");
    misspelt["request"]["object"]["metadata"]["annotations"]["token-sidecar.io/profil"] =
        "default".into();
    let response = injector.response(&misspelt).await;
    assert_eq!(
        response["status"]["message"],
        "token-sidecar is not injected: annotation token-sidecar.io/profil is not known; did you mean `profile`?"
    );
    // The configuration that would come of it is checked as the sidecar checks it.
    let mut insecure = recorded("deployment");
    insecure["request"]["object"]["spec"]["containers"][0]["env"][1]["value"] =
        "http://orders.shop.svc".into();
    let response = injector.response(&insecure).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("container web: BACKEND_API_URL: plain http off loopback"),
        "{message}"
    );
    injector
        .process
        .logged("plain http off loopback")
        .await
        .unwrap();
}

#[tokio::test]
async fn other_profiles() {
    let injector = Injector::start().await;
    let with = |profile: &str| {
        let mut review = recorded("deployment");
        review["request"]["object"]["metadata"]["annotations"]["token-sidecar.io/profile"] =
            profile.into();
        review
    };
    let review = with("keycloak");
    let pod = patched(&review, &injector.response(&review).await);
    let sidecar = container(&pod, "token-sidecar");
    let config: Value = serde_json::from_str(
        variable(sidecar, "TOKEN_SIDECAR_CONFIG_TEXT")
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        config["routes"],
        json!([{"name": "backend-api-url", "upstream": "https://orders.example.com/api", "credential": "shop"}])
    );
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let token = &volumes
        .iter()
        .find(|v| v["name"] == "token-sidecar-token")
        .unwrap()["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(
        token,
        &json!({"audience": "https://sso.example.com/realms/shop", "expirationSeconds": 1800, "path": "token"})
    );
    let holders: Vec<&Value> = containers(&pod)
        .filter(|c| c.to_string().contains("token-sidecar-token"))
        .map(|c| &c["name"])
        .collect();
    assert_eq!(holders, ["token-sidecar"]);

    let review = with("file");
    let pod = patched(&review, &injector.response(&review).await);
    assert_eq!(
        variable(container(&pod, "web"), "BACKEND_API_URL"),
        "http://127.0.0.1:8081"
    );
    assert_eq!(
        pod["spec"]["volumes"].as_array().unwrap().last().unwrap()["configMap"]["name"],
        "token-sidecar"
    );

    let response = injector.response(&with("keyclaok")).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("no profile is named `keyclaok`; did you mean `keycloak`?"),
        "{message}"
    );
}
