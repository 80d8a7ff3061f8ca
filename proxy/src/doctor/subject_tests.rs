//! Subject tokens of every kind of wrongness, in real files, with a clock of our own.

use super::*;
use crate::{
    doctor::report::Status,
    net::raw_server::TestDir,
    token::params::{AuthorityParams, EntraClientAssertionParams, TenantParams},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn jwt(claims: &Value) -> String {
    let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
    format!(
        "{}.{}.c2lnbmF0dXJl",
        part(&json!({"alg": "RS256"})),
        part(claims)
    )
}

fn good() -> Value {
    json!({
        "iss": "https://westeurope.oic.prod-aks.azure.com/t/i/",
        "sub": "system:serviceaccount:shop:backend",
        "aud": ["api://AzureADTokenExchange"],
        "iat": NOW - 600,
        "exp": NOW + 3000,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

/// The steps for a file with this content; `None`: no file.
fn steps(content: Option<&str>, entra: bool) -> Vec<Step> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = TestDir::new();
        let file = dir.path().join("token");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let params = SubjectTokenParams {
            name: "pod".into(),
            file,
        };
        let clock = Clock::anchored(Duration::from_secs(NOW));
        examine(&params, &Expectations { entra }, &clock).0
    })
}

fn status(steps: &[Step], step: &str) -> (Status, &'static str) {
    let step = steps.iter().find(|s| s.step == step).unwrap();
    (step.status, step.code)
}

#[test]
fn a_good_token_passes_every_step_and_is_never_shown() {
    let token = jwt(&good());
    let steps = steps(Some(&token), true);
    let names: Vec<_> = steps.iter().map(|s| s.step).collect();
    assert_eq!(names, ["file", "age", "issuer", "subject", "audience"]);
    assert!(steps.iter().all(|s| s.status == Status::Pass), "{steps:?}");
    let shown = format!("{steps:?}");
    assert!(shown.contains("its / at the end included") && shown.contains("namespace shop"));
    for part in token.split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn a_file_that_is_not_usable_is_one_failure_with_its_reason() {
    let expired = jwt(&with("exp", json!(NOW - 5)));
    for (content, code) in [
        (None, "missing"),
        (Some(""), "empty"),
        (Some("hello"), "not_a_jwt"),
        (Some(&*expired), "expired"),
        (Some(&*"x".repeat(70_000)), "too_large"),
    ] {
        let steps = steps(content, true);
        assert_eq!(steps.len(), 1, "{code}");
        assert_eq!(status(&steps, "file"), (Status::Fail, code));
        assert!(!steps[0].commands.is_empty(), "{code}");
    }
}

#[test]
fn what_entra_would_refuse_is_seen_before_it_is_asked() {
    for (claims, step, expected) in [
        (
            with("iss", json!("https://kubernetes.default.svc.cluster.local")),
            "issuer",
            (Status::Fail, "issuer_not_public"),
        ),
        (
            with("iss", json!("kubernetes/serviceaccount")),
            "issuer",
            (Status::Fail, "issuer_not_public"),
        ),
        (
            with("aud", json!("https://kubernetes.default.svc")),
            "audience",
            (Status::Warn, "audience"),
        ),
        (
            with("aud", json!(["api://AKSIdentityBinding"])),
            "audience",
            (Status::Warn, "audience"),
        ),
        (
            with("aud", json!([])),
            "audience",
            (Status::Fail, "no_audience"),
        ),
        (
            with("sub", json!("someone")),
            "subject",
            (Status::Warn, "not_a_service_account"),
        ),
        (
            with("sub", Value::Null),
            "subject",
            (Status::Fail, "no_subject"),
        ),
        (
            with("iat", json!(NOW + 120)),
            "age",
            (Status::Fail, "clock_behind"),
        ),
        (
            with("iat", json!(NOW - 30_000)),
            "age",
            (Status::Warn, "not_rotated"),
        ),
    ] {
        let steps = steps(Some(&jwt(&claims)), true);
        assert_eq!(status(&steps, step), expected, "{claims}");
    }
}

#[test]
fn another_authority_may_want_other_claims() {
    let mut claims = with("iss", json!("https://kubernetes.default.svc.cluster.local"));
    claims["aud"] = json!("https://sts.example.com");
    let steps = steps(Some(&jwt(&claims)), false);
    assert!(steps.iter().all(|s| s.status == Status::Pass), "{steps:?}");
}

#[test]
fn entra_is_expected_where_a_credential_says_so() {
    let entra = |subject: &str| CredentialParams {
        name: "arm".into(),
        grant: GrantParams::EntraClientAssertion(EntraClientAssertionParams {
            tenant: TenantParams {
                authority_host: "https://login.microsoftonline.com".parse().unwrap(),
                tenant_id: "t".into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "c".into(),
            scope: "s/.default".into(),
            subject_token: subject.into(),
        }),
        injection: Arc::default(),
        exchange_timeout: Duration::from_secs(1),
        caller_cache: Default::default(),
    };
    let pod = SubjectTokenParams {
        name: "pod".into(),
        file: "/x".into(),
    };
    assert!(expectations(&pod, &[entra("other"), entra("pod")]).entra);
    assert!(!expectations(&pod, &[entra("other")]).entra);
}

#[test]
fn spans_are_readable() {
    for (seconds, shown) in [
        (5, "5 s"),
        (125, "2 min"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), shown);
    }
}
