//! Arguments, exit codes, the documented shape of the JSON, and the look at a sidecar that runs.

use super::{examine, examine_with, run};
use crate::lab::Lab;
use harness::{
    authority::Options,
    serve::{Server, handler},
    volume::{Layout, TokenVolume},
};
use http::{Request, Response};
use serde_json::Value;
use std::collections::BTreeSet;

/// proxy/README.md documents these, and no others.
#[tokio::test]
async fn the_json_has_the_documented_fields() {
    let lab = Lab::new().await;
    let setup = lab.quick().env("AZURE_CLIENT_ID", "nobody");
    let examined = examine(&setup).await;
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let set =
        |names: &[&str]| -> BTreeSet<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    assert_eq!(
        keys(&examined.json),
        set(&[
            "version", "ok", "passed", "warnings", "failed", "skipped", "steps"
        ])
    );
    assert_eq!(
        (&examined.json["version"], &examined.json["ok"]),
        (&1.into(), &false.into())
    );
    let mut seen = BTreeSet::new();
    let mut counts = [0, 0, 0, 0];
    let always = set(&["of", "step", "status", "detail"]);
    for step in examined.steps() {
        let keys = keys(step);
        assert!(keys.is_superset(&always), "{step}");
        seen.extend(keys);
        let statuses = ["pass", "warn", "fail", "skip"];
        counts[statuses.iter().position(|s| step["status"] == *s).unwrap()] += 1;
    }
    let numbers =
        ["passed", "warnings", "failed", "skipped"].map(|n| examined.json[n].as_u64().unwrap());
    assert_eq!(numbers, counts);
    let all = set(&[
        "of",
        "step",
        "status",
        "code",
        "detail",
        "mend",
        "commands",
        "blockedBy",
    ]);
    assert!(seen.is_subset(&all), "{seen:?}");
    assert_eq!(seen, &all - &set(&["blockedBy"]));
    // The documentation names each.
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    for field in keys(&examined.json).union(&all) {
        assert!(
            readme.contains(&format!("| `{field}` |"))
                || readme.contains(&format!("| `steps[].{field}` |")),
            "{field} is not documented"
        );
    }
}

#[tokio::test]
async fn exit_codes_say_what_kind_of_end_it_was() {
    let lab = Lab::new().await;
    assert_eq!(run(&lab.quick(), &[]).await.status.code(), Some(0));
    lab.authority.configure(|o| o.applications.clear());
    let unwell = run(&lab.quick(), &[]).await;
    assert_eq!(unwell.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&unwell.stdout).into_owned();
    assert!(
        printed.ends_with("1 failed: credential default: exchange\n"),
        "{printed}"
    );
    let before = lab.authority.requests().len();
    // Bad configuration, bad arguments: the reasons on standard error, nothing on the other, nothing asked.
    let bad = run(
        &lab.aks().config("routes: []\nlisen: x\n"),
        &["--output", "json"],
    )
    .await;
    assert_eq!((bad.status.code(), &*bad.stdout), (Some(64), &b""[..]));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("lisen"));
    // Without what AKS' webhook sets, it is told how it comes to be set.
    for (variable, part) in [
        (
            "AZURE_CLIENT_ID",
            "kubectl annotate serviceaccount <service account> -n <namespace> azure.workload.identity/client-id=",
        ),
        ("AZURE_FEDERATED_TOKEN_FILE", "azure.workload.identity/use"),
    ] {
        let mut setup = lab.quick();
        setup.env.remove(variable);
        let bad = run(&setup, &[]).await;
        assert_eq!(bad.status.code(), Some(64));
        let said = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert!(
            said.contains(&format!("{variable} is not set")) && said.contains(part),
            "{said}"
        );
    }
    for arguments in [["--output", "xml"], ["--request", "health"]] {
        let bad = run(&lab.quick(), &arguments).await;
        assert_eq!(bad.status.code(), Some(64), "{arguments:?}");
        assert!(String::from_utf8_lossy(&bad.stderr).contains(arguments[1]));
    }
    assert_eq!(lab.authority.requests().len(), before);
}

#[tokio::test]
async fn a_sidecar_that_must_run_and_be_ready_is_looked_at() {
    let lab = Lab::without_token(
        Options::default(),
        TokenVolume::new(Layout::Nested).unwrap(),
    )
    .await;
    let sidecar = lab.sidecar().await;
    let admin = sidecar.admin().to_string();
    let closed = harness::ports::closed().unwrap();
    let free = closed.address().to_string();
    let other = Server::start(
        None,
        handler(|_, _| async { Response::new(harness::body::full("hello")) }),
    )
    .await
    .unwrap();
    let other = other.address().to_string();
    for (address, step, code) in [
        (&free, "readyz", "not_running"),
        (&admin, "readyz", "not_ready"),
        (&other, "metrics", "no_metrics"),
    ] {
        let examined = examine_with(&lab.quick(), &["--sidecar", address]).await;
        examined.assert("sidecar", step, "fail", code);
        if code == "not_ready" {
            examined.assert_says("sidecar", "readyz", "subject token pod");
            examined.assert("sidecar", "metrics", "pass", "");
        }
    }
    // Without the option, nothing there is no fault.
    examine(&lab.quick())
        .await
        .assert("sidecar", "readyz", "skip", "");
}

#[tokio::test]
async fn a_sidecar_whose_renewals_fail_is_ready_for_now() {
    let lab = Lab::new().await;
    lab.authority
        .configure(|o| o.refresh_in = Some(std::time::Duration::from_secs(1)));
    let sidecar = lab.ready_sidecar().await;
    lab.authority
        .configure(|o| o.applications[0].federated.clear());
    sidecar
        .metric("a renewal to fail", |m| {
            let failed = [
                ("credential", "default"),
                ("result", "failure"),
                ("error", "aadsts_70025"),
            ];
            m.value("token_sidecar_exchanges_total", &failed)
                .is_some_and(|n| n >= 1.0)
        })
        .await
        .unwrap();
    let examined = examine_with(&lab.quick(), &["--sidecar", &sidecar.admin().to_string()]).await;
    examined.assert("sidecar", "readyz", "warn", "ready_for_now");
    examined.assert_says("sidecar", "readyz", "aadsts_70025");
    examined.assert("credential default", "exchange", "fail", "aadsts_70025");
}

/// What says that it is ready and has no metrics: an answer without them, none at all, or one without end.
#[tokio::test]
async fn a_sidecar_that_exports_nothing_is_told() {
    let lab = Lab::new().await;
    for (status, length, part) in [
        (500, 100, "answers 500"),
        (200, 100, "answers 200"),
        (200, 5 << 20, "/metrics: "),
    ] {
        let server = Server::start(
            None,
            handler(move |request: Request<_>, _| async move {
                let (status, text) = match request.uri().path() {
                    "/readyz" => (200, r#"{"ready":true,"conditions":[]}"#.to_owned()),
                    _ => (status, "x".repeat(length)),
                };
                let response = Response::builder().status(status);
                response.body(harness::body::full(text)).unwrap()
            }),
        )
        .await
        .unwrap();
        let address = server.address().to_string();
        let examined = examine_with(&lab.quick(), &["--sidecar", &address]).await;
        examined.assert("sidecar", "readyz", "pass", "");
        examined.assert("sidecar", "metrics", "fail", "no_metrics");
        examined.assert_says("sidecar", "metrics", part);
    }
}
