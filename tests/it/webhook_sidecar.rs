//! What injection gives the sidecar is what the sidecar takes: a container as it stands in an injected pod is run, against the development authority.

use crate::{
    lab::Lab,
    webhook_lab::{Injector, patched, recorded},
};
use harness::{
    authority::options::SCOPE,
    client::Client,
    ports,
    process::{AS_SIDECAR, Process},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr};

/// Runs the sidecar of a pod as the kubelet would: its args, its variables (`$$` is a dollar), and what AKS gives it.
fn run(pod: &Value, aks: &BTreeMap<String, OsString>) -> Process {
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["name"], "token-sidecar");
    let mut args: Vec<OsString> = vec![AS_SIDECAR.into()];
    args.extend(
        sidecar["args"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|a| a.as_str().unwrap().into()),
    );
    let mut env = aks.clone();
    for variable in sidecar["env"].as_array().unwrap() {
        let value = variable["value"].as_str().unwrap().replace("$$", "$");
        env.insert(variable["name"].as_str().unwrap().into(), value.into());
    }
    Process::spawn(crate::lab::program(), &args, &env).unwrap()
}

/// A pod with one upstream or two, injected.
async fn pod(lab: &Lab, two: bool) -> (Value, SocketAddr) {
    let second = ports::free().unwrap().port();
    // The upstream is on localhost here, where no workload's variable may point: so the profile says it.
    let rewrite = |variable: &str, port: &str| {
        let upstream = lab.upstream.url();
        format!(
            "      - {{variable: {variable}, upstream: '{upstream}', scope: '{SCOPE}'{port}}}\n"
        )
    };
    let profiles = format!(
        "profiles:\n  default:\n    image: i\n    token: {{aks: {{}}}}\n    rewrite:\n{}{}",
        rewrite("BACKEND_API_URL", ""),
        rewrite("SECOND_API_URL", &format!(", port: {second}"))
    );
    let injector = Injector::with(&profiles).await;
    let mut review = recorded("no-volumes");
    let object = &mut review["request"]["object"];
    let (port, admin) = (ports::free().unwrap(), ports::free().unwrap());
    object["metadata"]["annotations"] = json!({
        "token-sidecar.io/port": port.port().to_string(), "token-sidecar.io/admin-port": admin.port().to_string()
    });
    let mut env = vec![json!({"name": "BACKEND_API_URL", "value": "https://orders.example"})];
    if two {
        env.push(json!({"name": "SECOND_API_URL", "value": "https://second.example/"}));
    }
    object["spec"]["containers"][0]["env"] = env.into();
    (patched(&review, &injector.response(&review).await), admin)
}

/// Starts a pod's sidecar and waits until it is ready; `None` when one of its ports was taken meanwhile.
async fn started(lab: &Lab, two: bool) -> Option<(Value, Process)> {
    let (pod, admin) = pod(lab, two).await;
    let mut process = run(&pod, &lab.aks().env);
    let readyz = Client::new(admin);
    let ready = eventually("the sidecar to be ready, or to end", || {
        let (ended, readyz) = (process.ended(), readyz.clone());
        async move {
            let ready = readyz.get("/readyz").await.is_ok_and(|a| a.status == 200);
            if ready { Some(None) } else { ended.map(Some) }
        }
    });
    match ready
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", process.output()))
    {
        None => Some((pod, process)),
        Some(status) if status.code() == Some(71) => None,
        Some(status) => panic!("{status}: {}", process.output()),
    }
}

#[tokio::test]
async fn an_injected_sidecar_serves_its_workload() {
    let lab = Lab::new().await;
    // One upstream is told by two variables, two by a whole configuration.
    for (two, told_by) in [
        (false, "TOKEN_SIDECAR_UPSTREAM"),
        (true, "TOKEN_SIDECAR_CONFIG_TEXT"),
    ] {
        let mut tries = 0;
        let (pod, mut process) = loop {
            tries += 1;
            match started(&lab, two).await {
                Some(started) => break started,
                None => assert!(tries < 5, "no free ports"),
            }
        };
        let sidecar = &pod["spec"]["initContainers"][0];
        assert!(
            sidecar["env"]
                .as_array()
                .unwrap()
                .iter()
                .any(|e| e["name"] == told_by),
            "{sidecar:#}"
        );
        let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert_eq!(variables.len(), 1 + usize::from(two));
        for variable in variables {
            let url = variable["value"].as_str().unwrap();
            let address = url
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .parse()
                .unwrap();
            let answer = Client::new(address).get("/users/123").await.unwrap();
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["id"]),
                (200, &"123".into()),
                "{url}: {}\n{}",
                answer.text(),
                process.output()
            );
        }
        process.stop().await.unwrap();
    }
}
