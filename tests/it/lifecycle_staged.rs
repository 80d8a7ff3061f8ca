//! Configurations that change what tokens are for: the one in force stays until the new one's tokens are there.

use crate::{
    lab::{Lab, assert_passes, start},
    lifecycle::reload,
};
use harness::{
    authority::{Endpoint, Fault},
    process::{Metrics, Sidecar},
    wait::{LONG, until, within},
};
use std::time::Duration;

const WAITING: &str = "token_sidecar_config_waiting_since_timestamp_seconds";

/// A scope that the authority does not know.
fn with_a_typo(lab: &Lab) -> String {
    let config = lab.config().replace("/.default", "-typo/.default");
    assert_ne!(config, lab.config());
    config
}

/// Another credential, for the same upstream.
fn with_another(lab: &Lab) -> String {
    let config = lab.config().replace("backend: {", "other: {");
    config.replace("credential: backend", "credential: other")
}

fn waiting(metrics: &Metrics) -> bool {
    metrics.value(WAITING, &[]).expect("always there") > 0.0
}

async fn waits_for_a_token(lab: &Lab, sidecar: &Sidecar, config: &str) {
    let asked = lab.authority.requests().len();
    sidecar.write_config(config).unwrap();
    sidecar
        .metric("a configuration that waits", waiting)
        .await
        .unwrap();
    until("a try", || lab.authority.requests().len() > asked)
        .await
        .unwrap();
}

/// Ready all the time, and this is said.
async fn ready_says(sidecar: &Sidecar, what: &str) {
    within(LONG, what, async {
        loop {
            let ready = sidecar.admin_get("/readyz").await.unwrap();
            assert_eq!(ready.status, 200, "{}", ready.text());
            if ready.text().contains(what) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_change_that_gets_no_token_harms_nobody_and_takes_over_once_it_gets_one() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    lab.authority
        .fail_always(Endpoint::Entra, Fault::status(503));
    waits_for_a_token(&lab, &sidecar, &with_another(&lab)).await;
    let said = sidecar
        .process
        .logged("the changed configuration waits")
        .await
        .unwrap();
    assert!(
        said.contains("WARN") && said.contains("credential other: "),
        "{said}"
    );
    ready_says(
        &sidecar,
        "a changed one waits, the one before stays in force: credential other: ",
    )
    .await;
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 1);

    reload(&sidecar, "success", || lab.authority.heal(Endpoint::Entra)).await;
    // At once: it comes with its token.
    let ready = sidecar.admin_get("/readyz").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    let ready = ready.text();
    assert!(
        ready.contains("[+] credential other") && !ready.contains("configuration"),
        "{ready}"
    );
    assert!(!waiting(&sidecar.metrics().await.unwrap()));
    assert_passes(&sidecar).await;
    assert_eq!(lab.authority.issued().len(), 2, "one exchange for it");
    let used = lab.upstream.requests().all();
    let bearer = |n: usize| used[n].headers[http::header::AUTHORIZATION].clone();
    assert_ne!(bearer(0), bearer(used.len() - 1));
}

#[tokio::test]
async fn a_change_that_is_taken_back_while_it_waits_is_forgotten() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(lab.config())).await;
    sidecar.ready().await.unwrap();
    waits_for_a_token(&lab, &sidecar, &with_a_typo(&lab)).await;
    ready_says(&sidecar, "aadsts_500011").await;
    assert_passes(&sidecar).await;
    reload(&sidecar, "success", || {
        sidecar.write_config(&lab.config()).unwrap();
    })
    .await;
    assert!(!waiting(&sidecar.metrics().await.unwrap()));
    let ready = sidecar.admin_get("/readyz").await.unwrap().text();
    assert!(!ready.contains("configuration"), "{ready}");
    assert_passes(&sidecar).await;
    assert_eq!(
        lab.authority.issued().len(),
        1,
        "the token in force was never touched"
    );
}

#[tokio::test]
async fn with_nothing_to_lose_a_change_takes_over_at_once() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(with_a_typo(&lab))).await;
    until("a try", || !lab.authority.requests().is_empty())
        .await
        .unwrap();
    lab.authority
        .fail_always(Endpoint::Entra, Fault::status(503));
    reload(&sidecar, "success", || {
        sidecar.write_config(&with_another(&lab)).unwrap();
    })
    .await;
    assert!(!waiting(&sidecar.metrics().await.unwrap()));
    let answer = sidecar.client().get("/").await.unwrap();
    assert_eq!(answer.status, 503);
    lab.authority.heal(Endpoint::Entra);
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}
