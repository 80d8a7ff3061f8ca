//! How long the webhook takes for a review, from the body's bytes to the answer's text, by the pod's size. Prints; asserts nothing about time.
//!
//! `cargo bench -p token-sidecar --bench admission`.

use serde_json::{Value, json};
use std::{
    hint::black_box,
    io::{self, Write as _},
};
use token_sidecar::{
    admission::{profile::Profiles, review::answer},
    config::{
        Document,
        profiles::{check, load_profiles},
    },
};
use tokio::time::Instant;

const PROFILES: &str = "profiles: {default: {image: i, token: {aks: {}}, rewrite: [{variable: BACKEND_API_URL, scope: api://x/.default}]}}";
const ROUNDS: usize = 2000;

/// A review of a pod with so many containers, each with variables and mounts.
fn review(containers: usize) -> String {
    let container = |i: usize| {
        let mut env: Vec<Value> = (0..40)
            .map(|v| json!({"name": format!("SETTING_{v}"), "value": "a value of some length, as settings have"}))
            .collect();
        env.push(json!({"name": "BACKEND_API_URL", "value": "https://orders.example.com/api"}));
        let mounts: Vec<Value> = (0..10)
            .map(|m| json!({"name": format!("volume-{m}"), "mountPath": format!("/var/lib/data/{m}"), "readOnly": true}))
            .collect();
        json!({"name": format!("container-{i}"), "image": "registry.example/app:1", "env": env, "volumeMounts": mounts, "resources": {}})
    };
    let pod = json!({
        "metadata": {"generateName": "web-", "labels": {"token-sidecar.io/inject": "true"}},
        "spec": {"containers": (0..containers).map(container).collect::<Vec<_>>()},
    });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "namespace": "shop", "operation": "CREATE", "object": pod,
            "resource": {"group": "", "version": "v1", "resource": "pods"},
        }
    })
    .to_string()
}

fn main() -> io::Result<()> {
    let document = Document::Text {
        name: "profiles".into(),
        text: PROFILES.into(),
    };
    let profiles = load_profiles(document).unwrap_or_else(|_| Profiles::default());
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:>12}  {:>10}  {:>10}  {:>10}  result",
        "pod", "p50", "p99", "max"
    )?;
    for containers in [1, 5, 25, 250] {
        let body = review(containers);
        let mut result = "error";
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                if let Ok(answer) = answer(body.as_bytes(), &profiles, &check, None) {
                    result = answer.result;
                    black_box(answer.review.to_string());
                }
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        let at = |part: usize| times.get(ROUNDS * part / 100).copied().unwrap_or_default();
        let max = times.last().copied().unwrap_or_default();
        let size = format!("{} KiB", body.len() / 1024);
        writeln!(
            out,
            "{size:>12}  {:>10.1?}  {:>10.1?}  {max:>10.1?}  {result}",
            at(50),
            at(99)
        )?;
    }
    Ok(())
}
