//! What injection gives the sidecar is what the sidecar takes: a container as it stands in an injected pod is run, against the development authority.

use crate::{
    lab::Lab,
    request_lab::plain_upstream,
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

/// A value as the kubelet expands it: `$$` is a dollar, `$(NAME)` the value of a variable before it, and everything else stays.
fn expanded(value: &str, before: &BTreeMap<String, OsString>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((plain, dollar)) = rest.split_once('$') {
        out.push_str(plain);
        let reference = dollar.strip_prefix('(').and_then(|r| r.split_once(')'));
        let known = reference.and_then(|(name, after)| Some((before.get(name)?, after)));
        rest = match (dollar.strip_prefix('$'), known) {
            (Some(after), _) => {
                out.push('$');
                after
            }
            (None, Some((value, after))) => {
                out.push_str(value.to_str().unwrap());
                after
            }
            (None, None) => {
                out.push('$');
                dollar
            }
        };
    }
    out + rest
}

/// Runs the sidecar of a pod as the kubelet would: its args, its variables, and what AKS gives it. `url` is what every ConfigMap and Secret holds.
fn run(pod: &Value, aks: &BTreeMap<String, OsString>, url: &str) -> Process {
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
        let value = match variable["value"].as_str() {
            Some(value) => expanded(value, &env),
            None => {
                assert_eq!(variable["valueFrom"], reference());
                url.to_owned()
            }
        };
        env.insert(variable["name"].as_str().unwrap().into(), value.into());
    }
    Process::spawn(crate::lab::program(), &args, &env).unwrap()
}

/// A value that only the kubelet reads.
fn reference() -> Value {
    json!({"configMapKeyRef": {"name": "settings", "key": "url"}})
}

/// How a pod tells its upstreams.
#[derive(Clone, Copy)]
struct Told {
    /// Two of them, not one.
    two: bool,
    /// The URL of the last one is in a ConfigMap.
    by_map: bool,
}

/// A pod with one upstream or two, injected.
async fn pod(lab: &Lab, told: Told) -> (Value, SocketAddr) {
    let second = ports::free().unwrap().port();
    // The upstream is on localhost here, where no workload's variable may point: so the profile says it, but for a ConfigMap's, which nobody can read yet.
    let rewrite = |variable: &str, by_map: bool, port: &str| {
        let upstream = match by_map {
            true => String::new(),
            false => format!("upstream: '{}', ", lab.upstream.url()),
        };
        format!("      - {{variable: {variable}, {upstream}scope: '{SCOPE}'{port}}}\n")
    };
    let profiles = format!(
        "profiles:\n  default:\n    image: i\n    token: {{aks: {{}}}}\n    rewrite:\n{}{}",
        rewrite("BACKEND_API_URL", told.by_map && !told.two, ""),
        rewrite("SECOND_API_URL", told.by_map, &format!(", port: {second}"))
    );
    let injector = Injector::with(&profiles).await;
    let mut review = recorded("no-volumes");
    let object = &mut review["request"]["object"];
    let (port, admin) = (ports::free().unwrap(), ports::free().unwrap());
    object["metadata"]["annotations"] = json!({
        "token-sidecar.io/port": port.port().to_string(), "token-sidecar.io/admin-port": admin.port().to_string()
    });
    let mut env = vec![json!({"name": "BACKEND_API_URL", "value": "https://orders.example"})];
    if told.two {
        env.push(json!({"name": "SECOND_API_URL", "value": "https://second.example/"}));
    }
    if let (true, Some(last)) = (told.by_map, env.last_mut()) {
        *last = json!({"name": last["name"], "valueFrom": reference()});
    }
    object["spec"]["containers"][0]["env"] = env.into();
    (patched(&review, &injector.response(&review).await), admin)
}

/// Starts a pod's sidecar and waits until it is ready; `None` when one of its ports was taken meanwhile.
async fn started(lab: &Lab, told: Told, url: &str) -> Option<(Value, Process)> {
    let (pod, admin) = pod(lab, told).await;
    let mut process = run(&pod, &lab.aks().env, url);
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
    let plain = plain_upstream(&lab).await;
    // A Secret that a person wrote with an editor ends in a line feed.
    let url = format!("{}/\n", plain.url());
    // One upstream is told by two variables, two by a whole configuration.
    for (two, by_map, told_by) in [
        (false, false, "TOKEN_SIDECAR_UPSTREAM"),
        (false, true, "TOKEN_SIDECAR_UPSTREAM"),
        (true, false, "TOKEN_SIDECAR_CONFIG_TEXT"),
        (true, true, "TOKEN_SIDECAR_CONFIG_TEXT"),
    ] {
        let mut tries = 0;
        let (pod, mut process) = loop {
            tries += 1;
            match started(&lab, Told { two, by_map }, &url).await {
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
    assert_eq!(plain.requests().len(), 2);
}

/// Whoever may edit the ConfigMap alone has a say on the URL alone.
#[tokio::test]
async fn a_config_maps_value_cannot_say_more_than_a_url() {
    let lab = Lab::new().await;
    let (two, by_map) = (true, true);
    let (pod, _) = pod(&lab, Told { two, by_map }).await;
    for url in [
        // What would have ended the text of a JSON configuration, and of a YAML one.
        r#"https://evil.example"}],"routes":[{"name":"evil","upstream":"https://evil.example","credential":"backend-api-url"#,
        "https://evil.example\", \"allowInsecureHttp\": \"true",
        "https://evil.example\n  allowInsecureHttp: true\n",
        "https://evil.example}",
        "https://evil.example'\"}",
        "https://me:s3cr3t@evil.example",
        "https://evil.example/?key=s3cr3t",
        "$(TOKEN_SIDECAR_CONFIG_TEXT)",
        "\n",
    ] {
        let mut process = run(&pod, &lab.aks().env, url);
        let status = process.wait().await.unwrap();
        let said = process.output();
        assert_eq!(status.code(), Some(64), "{url}: {said}");
        assert!(
            said.contains("routes[1].upstream.env: ")
                && said.contains("TOKEN_SIDECAR_UPSTREAM_")
                && said.contains(
                    "where the value comes from (the pod's `env`, a ConfigMap, a Secret)"
                ),
            "{url}: {said}"
        );
        assert!(!said.contains("evil") && !said.contains("s3cr3t"), "{said}");
    }
}
