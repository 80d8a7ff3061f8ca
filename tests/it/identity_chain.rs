//! Several identities in one pod: several tokens of one projected volume, and credentials that use each other's tokens.

use crate::lab::{Lab, PATIENT, assert_passes, start};
use harness::{
    authority::{
        Application, Endpoint, Fault, FederatedCredential, Gate, Options,
        options::{CLIENT, SCOPE},
    },
    issuer::{ENTRA_AUDIENCE, ProjectedToken},
    process::Sidecar,
    volume::{Layout, TokenVolume},
};
use http::Request;
use std::time::Duration;

/// The application that trusts the managed identity [`CLIENT`] instead of the cluster.
pub(crate) const OTHER: &str = "66666666-6666-4666-8666-666666666666";
/// The object id that the authority's tokens for applications carry.
const OBJECT: &str = "33333333-3333-4333-8333-333333333333";

/// A lab in whose tenant a second application trusts tokens of the first.
pub(crate) async fn lab() -> Lab {
    let lab = Lab::new().await;
    let issuer = lab.authority.access_tokens().issuer().to_owned();
    lab.authority.configure(|options| {
        options.applications.push(Application {
            client_id: OTHER.into(),
            federated: vec![FederatedCredential {
                issuer: Some(issuer),
                subject: OBJECT.into(),
                audience: ENTRA_AUDIENCE.into(),
            }],
        });
    });
    lab
}

fn chained(lab: &Lab) -> String {
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         subjectTokens:\n  managed-token: {{ credential: managed }}\n\
         credentials:\n\
         \x20 other: {{ entraClientAssertion: {{ scope: {SCOPE}, clientId: {OTHER}, subjectToken: managed-token }} }}\n\
         \x20 managed: {{ entraClientAssertion: {{ scope: {ENTRA_AUDIENCE}/.default }} }}\n\
         routes:\n  - {{ name: backend, upstream: '{}', credential: other }}\n",
        lab.upstream.url()
    )
}

async fn get(sidecar: &Sidecar, host: &str) -> u16 {
    let request = Request::get("/users/123")
        .header("host", host)
        .body(harness::body::empty())
        .unwrap();
    sidecar
        .client()
        .send(request)
        .await
        .unwrap()
        .status
        .as_u16()
}

#[tokio::test]
async fn one_credentials_token_is_anothers_assertion_and_no_request_carries_it() {
    let lab = lab().await;
    let sidecar = start(&lab.aks().config(chained(&lab))).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let issued = lab.authority.issued().all();
    assert_eq!(issued.len(), 2);
    let (parent, child) = (&issued[0], &issued[1]);
    assert_eq!(child.subject_token, parent.token);
    let sent: Vec<_> = lab.upstream.requests().all();
    assert!(sent.iter().all(|r| r.bearer() == Some(&*child.token)));
    // Neither in logs nor in what the admin port says.
    for path in ["/readyz", "/metrics"] {
        let text = sidecar.admin_get(path).await.unwrap().text();
        assert!(!text.contains(&parent.token) && !text.contains(&child.token));
    }
    assert!(!sidecar.process.output().contains(&parent.token));
}

#[tokio::test]
async fn a_renewed_parent_is_what_the_childs_next_exchange_sends() {
    let lab = lab().await;
    lab.authority
        .configure(|options| options.refresh_in = Some(Duration::from_secs(1)));
    let sidecar = start(&lab.aks().config(chained(&lab))).await;
    sidecar.ready().await.unwrap();
    let is_child = |client: &str| client == OTHER;
    // Three different parents' tokens reach the child's exchange, each the newest of its time.
    lab.authority
        .requests()
        .wait_until("three parents' tokens to be sent", |requests| {
            let mut sent: Vec<_> = requests
                .iter()
                .filter(|r| is_child(r.field("client_id").unwrap_or_default()))
                .filter_map(|r| r.field("client_assertion"))
                .collect();
            sent.dedup();
            sent.len() >= 3
        })
        .await
        .unwrap();
    assert_passes(&sidecar).await;
    lab.authority.configure(|options| options.refresh_in = None);
}

#[tokio::test]
async fn a_child_says_that_it_waits_for_its_parent() {
    let lab = lab().await;
    let gate = Gate::closed();
    lab.authority
        .fail_always(Endpoint::Entra, Fault::Gate(gate.clone()));
    let sidecar = start(&lab.aks().config(chained(&lab))).await;
    lab.authority.requests().wait_for(1).await.unwrap();
    let answer = sidecar
        .pending("waiting for the token of credential `managed` (subject token `managed-token`)")
        .await
        .unwrap();
    assert!(
        answer.text().contains("credential other"),
        "{}",
        answer.text()
    );
    assert_eq!(lab.authority.requests().len(), 1, "the parent's alone");
    lab.authority.heal(Endpoint::Entra);
    gate.open();
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn circles_end_the_start_with_their_path() {
    let lab = Lab::new().await;
    let config = chained(&lab).replace(
        &format!("scope: {ENTRA_AUDIENCE}/.default"),
        &format!("scope: {ENTRA_AUDIENCE}/.default, subjectToken: other-token"),
    );
    let config = config.replace(
        "credentials:\n",
        "  other-token: { credential: other }\ncredentials:\n",
    );
    let error = Sidecar::start(crate::lab::program(), &lab.aks().config(config))
        .await
        .err()
        .expect("it does not start")
        .to_string();
    assert!(
        error.contains("`other` -> (subject token `managed-token`) `managed` -> (subject token `other-token`) -> `other`"),
        "{error}"
    );
    assert!(lab.authority.requests().is_empty());
}

#[tokio::test]
async fn one_projected_volume_holds_tokens_of_several_audiences() {
    let volume = TokenVolume::new(Layout::Flat).unwrap();
    let lab = Lab::without_token(
        Options {
            sts_subject_audiences: vec!["https://sts.example.com".into()],
            ..Options::default()
        },
        volume,
    )
    .await;
    let mint = |audience: &str| {
        let token = ProjectedToken {
            audiences: vec![audience.into()],
            ..ProjectedToken::default()
        };
        lab.authority.issuer().mint(&token).unwrap()
    };
    let write = || {
        let (entra, sts) = (mint(ENTRA_AUDIENCE), mint("https://sts.example.com"));
        let files = [("entra/token", &*entra), ("sts", &*sts)];
        lab.volume.write_several(&files).unwrap();
        (entra, sts)
    };
    let first = write();
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         subjectTokens:\n  pod: {{ file: '{}' }}\n  sts: {{ file: '{}' }}\n\
         credentials:\n\
         \x20 entra: {{ entraClientAssertion: {{ scope: {SCOPE} }} }}\n\
         \x20 sts: {{ tokenExchange: {{ tokenEndpoint: '{}', subjectToken: sts }} }}\n\
         routes:\n\
         \x20 - {{ name: entra, match: {{ host: entra.example }}, upstream: '{upstream}', credential: entra{PATIENT} }}\n\
         \x20 - {{ name: sts, match: {{ host: sts.example }}, upstream: '{upstream}', credential: sts{PATIENT} }}\n",
        lab.volume.path("entra/token").display(),
        lab.volume.path("sts").display(),
        lab.authority.token_endpoint(),
        upstream = lab.upstream.url(),
    );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    assert_eq!(get(&sidecar, "entra.example").await, 200);
    assert_eq!(get(&sidecar, "sts.example").await, 200);
    let sent = |endpoint, field| {
        let all = lab.authority.requests().all();
        let last = all.iter().rfind(|r| r.endpoint == endpoint).unwrap();
        last.field(field).unwrap().to_owned()
    };
    assert_eq!(sent(Endpoint::Entra, "client_assertion"), first.0);
    assert_eq!(sent(Endpoint::Sts, "subject_token"), first.1);

    // One swap rotates both, and each is seen by the credential that uses it.
    let second = write();
    for subject in ["pod", "sts"] {
        sidecar
            .metric("both rotations to be seen", |metrics| {
                metrics
                    .value(
                        "token_sidecar_subject_token_rotations_total",
                        &[("subject_token", subject)],
                    )
                    .is_some_and(|count| count >= 2.0)
            })
            .await
            .unwrap();
    }
    for token in lab.authority.issued().all() {
        lab.authority.access_tokens().revoke(&token.token);
    }
    assert_eq!(get(&sidecar, "entra.example").await, 200);
    assert_eq!(get(&sidecar, "sts.example").await, 200);
    assert_eq!(sent(Endpoint::Entra, "client_assertion"), second.0);
    assert_eq!(sent(Endpoint::Sts, "subject_token"), second.1);
}

/// envoyproxy/ai-gateway#1036: a rotation that blocks must not stall the others. One authority never answers; a credential of another is renewed
/// again and again meanwhile, also when it uses a third one's token; and what waits for the hung one waits alone.
#[tokio::test]
async fn one_blocked_rotation_does_not_stall_the_rest() {
    let lab = lab().await;
    lab.authority
        .configure(|options| options.refresh_in = Some(Duration::from_secs(1)));
    lab.authority.fail_always(Endpoint::Sts, Fault::Hang);
    let config = chained(&lab)
        .replace(
            "credentials:\n",
            &format!(
                "  hung-token: {{ credential: hung }}\ncredentials:\n\
                 \x20 hung: {{ exchangeTimeout: 10m, tokenExchange: {{ tokenEndpoint: '{}' }} }}\n\
                 \x20 child: {{ entraClientAssertion: {{ scope: {SCOPE}, clientId: {CLIENT}, subjectToken: hung-token }} }}\n",
                lab.authority.token_endpoint()
            ),
        )
        .replace(
            "routes:\n",
            &format!(
                "routes:\n  - {{ name: child, match: {{ host: child.example }}, upstream: '{}', credential: child }}\n",
                lab.upstream.url()
            ),
        );
    let sidecar = start(&lab.aks().config(config)).await;
    // Two tokens for each of the credentials that can be had, and more.
    lab.authority.issued().wait_for(6).await.unwrap();
    assert_passes(&sidecar).await;
    let answer = sidecar
        .pending("waiting for the token of credential `hung`")
        .await
        .unwrap();
    assert!(
        answer.text().contains("credential child"),
        "{}",
        answer.text()
    );
    assert_eq!(get(&sidecar, "child.example").await, 503);
    let hung = lab
        .authority
        .requests()
        .count(|r| r.endpoint == Endpoint::Sts);
    assert_eq!(hung, 1);
    lab.authority.configure(|options| options.refresh_in = None);
}
