//! `webhook --probe` against real webhooks over TLS: one that is well, and each way in which it is not, with cause and mend.

use crate::{
    lab::program,
    webhook_lab::{Injector, install, samples},
};
use harness::{
    certs::{Ca, Leaf},
    process::AS_SIDECAR,
    temp::TempDir,
};
use std::{fs, path::Path, process::Stdio};
use tokio::process::Command;

/// Exit code, what was printed, what went to standard error.
async fn probed(url: &str, ca: &Path, profiles: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .env_clear()
        .arg(AS_SIDECAR)
        .args(["webhook", "--probe", url, "--ca"])
        .arg(ca)
        .arg("--profiles")
        .arg(profiles)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn url(injector: &Injector) -> String {
    format!("https://localhost:{}/mutate", injector.address.port())
}

/// A webhook with the sample profiles and this certificate.
async fn serving(ca: Ca, leaf: &Leaf, namespace: &str) -> Injector {
    let dir = TempDir::new("token-sidecar-probed").unwrap();
    fs::copy(samples().join("profiles.yaml"), dir.join("profiles.yaml")).unwrap();
    install(&ca, leaf, dir.path());
    Injector::of(ca, dir, "127.0.0.1:0", namespace).await
}

/// That the probe fails at one step, with this cause and mend, and that no profile was asked for if the way is not open.
fn fails(said: &(Option<i32>, String, String), step: &str, cause: &str, mend: &str) {
    let (code, out, err) = said;
    assert_eq!((*code, err.as_str()), (Some(1), ""), "{out}");
    let line = out.lines().find(|l| l.starts_with("[FAIL]")).unwrap();
    assert!(line.contains(step) && line.contains(cause), "{out}");
    let after = out.split_once(line).unwrap().1;
    let told = after.lines().nth(1).unwrap();
    assert!(told.contains("mend: ") && told.contains(mend), "{out}");
    assert!(
        out.ends_with(&format!("failed: {}\n", out_of(out))),
        "{out}"
    );
}

/// The names of the steps that failed, as the last line has them.
fn out_of(out: &str) -> String {
    let failed = out.lines().filter_map(|l| l.strip_prefix("[FAIL] "));
    let names: Vec<String> = failed
        .map(|l| l.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    names.join("; ")
}

#[tokio::test]
async fn a_webhook_that_is_well_injects_every_profile() {
    let injector = Injector::start().await;
    let profiles = samples().join("profiles.yaml");
    let (code, out, err) = probed(&url(&injector), &injector.ca.file(), &profiles).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for step in [
        "webhook: connect",
        "webhook: tls",
        "profile default: review",
        "profile file: review",
        "profile keycloak: review",
    ] {
        assert!(out.contains(&format!("[ok]   {step}: ")), "{step}: {out}");
    }
    assert!(out.ends_with("everything passes\n"), "{out}");
    // Dry runs count as nothing.
    injector
        .metric("reviews that are not counted", |m| {
            m.0.contains("token_sidecar_admission_duration_seconds_count 3")
                && !m.0.contains("result=\"injected\"}")
        })
        .await;
}

#[tokio::test]
async fn what_is_wrong_with_its_certificate_is_told() {
    let injector = Injector::start().await;
    let profiles = samples().join("profiles.yaml");
    let (here, ca) = (url(&injector), injector.ca.file());
    // The bundle of another authority.
    let other = Ca::named("another root").unwrap();
    let said = probed(&here, &other.file(), &profiles).await;
    fails(&said, "webhook: tls", "caBundle", "of one make");
    assert!(said.1.contains("another root"), "{}", said.1);
    assert!(
        said.1
            .contains("[skip] profile default: review: not reached"),
        "{}",
        said.1
    );
    // Another name.
    let address = here.replace("localhost", "127.0.0.1");
    let said = probed(&address, &ca, &profiles).await;
    fails(
        &said,
        "webhook: tls",
        "is not for 127.0.0.1 but for localhost",
        "with certificate.source=secret put one for SERVICE.NAMESPACE.svc into the Secret",
    );
    // Expired.
    let ca = Ca::new().unwrap();
    let old = ca.dated_leaf(&["localhost"], (2020, 1, 1), (2021, 1, 1));
    let expired = serving(ca, &old.unwrap(), "injector").await;
    let said = probed(&url(&expired), &expired.ca.file(), &profiles).await;
    fails(&said, "webhook: tls", "expired", "of one make");
}

#[tokio::test]
async fn a_webhook_that_is_not_there_is_told() {
    let ca = Ca::new().unwrap();
    let profiles = samples().join("profiles.yaml");
    let closed = harness::ports::closed().unwrap();
    let there = format!("https://localhost:{}/mutate", closed.address().port());
    let said = probed(&there, &ca.file(), &profiles).await;
    fails(
        &said,
        "webhook: connect",
        "connection_refused",
        "networkPolicy.callersFrom",
    );
    // Something else is: the port of probes and metrics, by plain http.
    let injector = Injector::start().await;
    let plain = format!("https://localhost:{}/mutate", injector.admin.port());
    let said = probed(&plain, &injector.ca.file(), &profiles).await;
    fails(&said, "webhook: tls", "speaks no TLS", "check the port");
    let said = probed(
        "https://no-such-service.invalid/mutate",
        &ca.file(),
        &profiles,
    )
    .await;
    fails(&said, "webhook: dns", "no-such-service.invalid", "Service");
}

#[tokio::test]
async fn answers_that_inject_nothing_are_failures() {
    let known = "profiles:\n  default:\n    image: i\n    token: {aks: {}}\n    rewrite: [{variable: A, scope: x/.default}]\n";
    let injector = Injector::with(known).await;
    let (ca, dir) = (injector.ca.file(), injector.dir.path());
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    // A profile that the webhook has not taken over.
    let newer = file("newer.yaml", &known.replace("default:", "newer:"));
    let said = probed(&url(&injector), &ca, &newer).await;
    fails(
        &said,
        "profile newer: review",
        "no profile is named `newer`",
        "takes over a changed file",
    );
    // Another path, and another server.
    let known = file("known.yaml", known);
    let elsewhere = url(&injector).replace("/mutate", "/");
    let said = probed(&elsewhere, &ca, &known).await;
    fails(&said, "profile default: review", "answers 404", "/mutate");
    // A webhook that takes the pod's namespace for its own lets it pass.
    let other = Ca::new().unwrap();
    let leaf = other.leaf(&["localhost"]).unwrap();
    let own = serving(other, &leaf, "token-sidecar-probe").await;
    let said = probed(&url(&own), &own.ca.file(), &known).await;
    fails(
        &said,
        "profile default: review",
        "without a sidecar",
        "--namespace",
    );
    // What a pod must give itself is not asked for.
    let given = file(
        "given.yaml",
        "profiles:\n  default:\n    image: i\n    token: {aks: {}}\n    rewrite: [{variable: A, credential: own}]\n",
    );
    let (code, out, _) = probed(&url(&injector), &ca, &given).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("[skip] profile default: review: not asked: its credential `own`"),
        "{out}"
    );
    assert!(
        out.ends_with("nothing fails; 1 not asked: profile default\n"),
        "{out}"
    );
}

#[tokio::test]
async fn wrong_arguments_exit_64_and_ask_nobody() {
    let ca = Ca::new().unwrap();
    let profiles = samples().join("profiles.yaml");
    let (code, out, err) = probed("http://localhost:1/mutate", &ca.file(), &profiles).await;
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains("by https only"), "{err}");
    let (code, _, err) = probed(
        "https://localhost:1/mutate",
        &ca.file(),
        "/nonexistent".as_ref(),
    )
    .await;
    assert_eq!(code, Some(64));
    assert!(err.starts_with("/nonexistent"), "{err}");
    // A bundle that is none is a finding, not an argument.
    let said = probed(
        "https://localhost:1/mutate",
        "/dev/null".as_ref(),
        &profiles,
    )
    .await;
    fails(&said, "webhook: tls", "/dev/null", "PEM");
}
