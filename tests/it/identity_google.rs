//! Google's workload identity federation, with and without a service account.

use crate::lab::{Lab, PATIENT, assert_passes, start};
use harness::{
    authority::{Endpoint, Fault, Options, google::GoogleOptions},
    issuer::ProjectedToken,
    process::SidecarSetup,
    volume::{Layout, TokenVolume},
};

async fn lab() -> Lab {
    let volume = TokenVolume::new(Layout::Flat).unwrap();
    let lab = Lab::without_token(Options::default(), volume).await;
    let token = ProjectedToken {
        audiences: vec![GoogleOptions::default().subject_audience],
        ..ProjectedToken::default()
    };
    let token = lab.authority.issuer().mint(&token).unwrap();
    lab.volume.write(token).unwrap();
    lab
}

fn setup(lab: &Lab, more: &str) -> SidecarSetup {
    let google = GoogleOptions::default();
    lab.aks().config(format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  storage:\n    googleSts:\n      audience: {}\n      tokenEndpoint: {}\n{more}\n\
         routes:\n  - {{ name: storage, upstream: '{}', credential: storage{PATIENT} }}\n",
        google.provider,
        lab.authority.google_token_endpoint(),
        lab.upstream.url(),
    ))
}

fn impersonating(lab: &Lab, account: &str) -> SidecarSetup {
    let more = format!(
        "      impersonation: {{ serviceAccount: {account}, lifetime: 20m, endpoint: '{}' }}",
        lab.authority.authority_host()
    );
    setup(lab, &more)
}

#[tokio::test]
async fn a_federated_token_is_injected_directly() {
    let lab = lab().await;
    let sidecar = start(&setup(&lab, "")).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.endpoint, Endpoint::GoogleSts);
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(
        request.field("scope"),
        Some("https://www.googleapis.com/auth/cloud-platform")
    );
}

#[tokio::test]
async fn a_service_account_is_impersonated_and_the_federated_token_stays_inside() {
    let lab = lab().await;
    let sidecar = start(&impersonating(&lab, "orders@p.iam.gserviceaccount.com")).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let issued = lab.authority.issued().all();
    let endpoints: Vec<_> = issued.iter().map(|i| i.endpoint).collect();
    assert_eq!(endpoints, [Endpoint::GoogleSts, Endpoint::IamCredentials]);
    assert_eq!(issued[1].lifetime.as_secs(), 1200);
    let sent = lab.upstream.requests().all();
    assert!(sent.iter().all(|r| r.bearer() == Some(&*issued[1].token)));
    assert!(!sidecar.process.output().contains(&issued[0].token));
    // Its life is what `expireTime` says.
    let expiry = sidecar
        .metrics()
        .await
        .unwrap()
        .value(
            "token_sidecar_issued_token_expiry_timestamp_seconds",
            &[("credential", "storage")],
        )
        .unwrap();
    let now = harness::keys::unix_now().as_secs_f64();
    assert!(
        expiry > now + 600.0 && expiry <= now + 1200.0,
        "{}",
        expiry - now
    );
}

#[tokio::test]
async fn refusals_of_either_step_are_named_with_what_to_do() {
    let lab = lab().await;
    let sidecar = start(&impersonating(&lab, "nobody@p.iam.gserviceaccount.com")).await;
    let answer = sidecar.pending("google_permission_denied").await.unwrap();
    assert!(answer.text().contains("roles/iam.workloadIdentityUser"));
    assert!(!answer.text().contains("iam.serviceAccounts.getAccessToken"));
    drop(sidecar);

    // Entra's audience is not Google's.
    lab.rotate();
    let sidecar = start(&setup(&lab, "")).await;
    let answer = sidecar.pending("invalid_grant").await.unwrap();
    assert!(answer.text().contains("audience"), "{}", answer.text());
}

#[tokio::test]
async fn a_throttling_api_is_left_alone_and_the_token_comes_when_it_has_passed() {
    let lab = lab().await;
    let body = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}"#;
    lab.authority.fail_once(
        Endpoint::IamCredentials,
        Fault::Reply {
            status: 429,
            headers: vec![("retry-after", "1".into())],
            body: body.into(),
        },
    );
    let sidecar = start(&impersonating(&lab, "orders@p.iam.gserviceaccount.com")).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let count = sidecar.metrics().await.unwrap().value(
        "token_sidecar_exchanges_total",
        &[("error", "google_resource_exhausted")],
    );
    assert_eq!(count, Some(1.0));
}
