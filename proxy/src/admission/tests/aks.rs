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
    let file = format!("{AKS_PATH}/token/azure-identity-token");
    for key in ["initContainers", "containers"] {
        for container in pod["spec"][key].as_array_mut().into_iter().flatten() {
            if skip.iter().any(|s| container["name"] == *s) {
                continue;
            }
            let env = list(container, "env");
            for (name, value) in [
                ("AZURE_CLIENT_ID", "id"),
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_FEDERATED_TOKEN_FILE", &file),
            ] {
                if !env.iter().any(|e| e["name"] == name) {
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
        let token =
            json!({"audience": "api://AzureADTokenExchange", "path": "token/azure-identity-token"});
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
