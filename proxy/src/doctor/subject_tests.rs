//! Subject tokens of every kind of wrongness, in real files, with a clock of our own.

use super::*;
use crate::{
    doctor::report::Status,
    net::raw_server::TestDir,
    token::params::{
        AuthorityParams, ClientAuthentication, ClientCredentialsParams, EndpointParams,
        EntraClientAssertionParams, GrantParams, TargetParams, TenantParams,
    },
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

/// What Kubernetes adds for a pod.
fn bound(claims: Value) -> Value {
    let mut claims = claims;
    claims["kubernetes.io"] =
        json!({ "namespace": "shop", "pod": { "name": "backend-0" }, "node": { "name": "aks-0" } });
    claims
}

fn entra() -> Expectations {
    Expectations {
        entra: true,
        ..Expectations::default()
    }
}

/// What comes of a file that `write` makes in a directory of its own.
fn examined(
    write: impl FnOnce(&Path) -> std::path::PathBuf,
    wanted: &Expectations,
    around: &Facts,
) -> (Vec<Step>, Subject) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = TestDir::new();
        let params = SubjectTokenParams {
            name: "pod".into(),
            file: write(dir.path()),
        };
        let clock = Clock::anchored(Duration::from_secs(NOW));
        examine(&params, wanted, around, &clock)
    })
}

/// The steps for a plain file with this content; `None`: no file.
fn of_file(content: Option<&str>, wanted: &Expectations) -> Vec<Step> {
    let write = |dir: &Path| {
        let file = dir.join("token");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        file
    };
    examined(write, wanted, &Facts::default()).0
}

fn steps(content: Option<&str>, for_entra: bool) -> Vec<Step> {
    let wanted = Expectations {
        entra: for_entra,
        ..Expectations::default()
    };
    of_file(content, &wanted)
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
    assert_eq!(
        names,
        ["file", "mount", "age", "issuer", "subject", "audience"]
    );
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
        assert_eq!(status(&steps, "file"), (Status::Fail, code));
        assert!(
            !steps[0].commands.is_empty() && !steps[0].mend.is_empty(),
            "{code}"
        );
        // What an expired token says is as good as ever for finding out whose it is.
        assert_eq!(steps.len(), if code == "expired" { 4 } else { 1 }, "{code}");
    }
    let steps = steps(Some(&expired), true);
    assert!(
        steps[0].detail.ends_with("it expired 5 s ago"),
        "{}",
        steps[0].detail
    );
}

#[test]
fn what_stands_in_the_tokens_place_is_told() {
    let bom = format!("\u{feff}{}", jwt(&good()));
    let bearer = format!("Bearer {}", jwt(&good()));
    for (content, part) in [
        (&*bom, "byte order mark"),
        (&*bearer, "`Bearer `"),
        ("<html>", "HTML"),
    ] {
        let steps = steps(Some(content), true);
        assert_eq!(status(&steps, "file"), (Status::Fail, "not_a_jwt"));
        assert!(steps[0].detail.contains(part), "{}", steps[0].detail);
    }
    // A volume that is mounted elsewhere, or not at all.
    let write = |dir: &Path| dir.join("wi/token/azure-identity-token");
    let (steps, subject) = examined(write, &entra(), &Facts::default());
    assert!(
        steps[0].detail.contains("nothing is mounted there"),
        "{}",
        steps[0].detail
    );
    assert_eq!(subject.failed.as_deref(), Some("subject token pod: file"));
}

/// The kubelet's layout: the volume's root has `..data`, which each rotation swaps.
fn projected(dir: &Path, token: &str) -> std::path::PathBuf {
    std::fs::create_dir(dir.join("..2026")).unwrap();
    std::fs::write(dir.join("..2026/token"), token).unwrap();
    std::os::unix::fs::symlink("..2026", dir.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/token", dir.join("token")).unwrap();
    dir.join("token")
}

#[test]
fn a_mount_that_the_kubelet_cannot_renew_is_told() {
    let token = jwt(&bound(good()));
    let in_a_pod = Facts {
        pod: Some("backend-0".into()),
        ..Facts::default()
    };
    let whole = |dir: &Path| projected(dir, &token);
    assert_eq!(
        status(&examined(whole, &entra(), &in_a_pod).0, "mount"),
        (Status::Pass, "")
    );
    let single = |dir: &Path| {
        std::fs::write(dir.join("token"), &token).unwrap();
        dir.join("token")
    };
    let (steps, _) = examined(single, &entra(), &in_a_pod);
    assert_eq!(status(&steps, "mount"), (Status::Warn, "sub_path"));
    // On a laptop it is a copy.
    assert_eq!(
        status(&examined(single, &entra(), &Facts::default()).0, "mount"),
        (Status::Pass, "")
    );
}

#[test]
fn what_the_token_says_of_its_pod_fills_the_commands_in() {
    let mut claims = bound(with("iat", json!(NOW + 120)));
    claims["exp"] = json!(NOW + 3600);
    let write = |dir: &Path| projected(dir, &jwt(&claims));
    let (steps, subject) = examined(write, &entra(), &Facts::default());
    assert_eq!(status(&steps, "age"), (Status::Fail, "clock_behind"));
    let age = steps.iter().find(|s| s.step == "age").unwrap();
    assert!(
        age.commands[0].starts_with("kubectl debug node/aks-0 "),
        "{:?}",
        age.commands
    );
    assert_eq!(subject.facts.pod.as_deref(), Some("backend-0"));
    assert_eq!(subject.facts.account(), Some(("shop", "backend")));
}

#[test]
fn a_day_old_token_is_renewed_whatever_its_life() {
    let day = 86_400;
    for (age, status_then) in [
        (day - 60, Status::Pass),
        (day + 60, Status::Pass),
        (day + 600, Status::Warn),
    ] {
        let mut claims = bound(good());
        claims["iat"] = json!(NOW - age);
        claims["exp"] = json!(NOW + 6 * day);
        let steps = steps(Some(&jwt(&claims)), true);
        assert_eq!(status(&steps, "age").0, status_then, "{age}");
    }
}

#[test]
fn identity_bindings_and_realms_want_audiences_of_their_own() {
    let binding = Expectations {
        binding: true,
        ..Expectations::default()
    };
    let realm = Expectations {
        realms: vec!["https://kc.example.com/realms/mcp".into()],
        ..Expectations::default()
    };
    for (wanted, audience, expected, part) in [
        (&binding, "api://AKSIdentityBinding", Status::Pass, ""),
        (
            &binding,
            "api://AzureADTokenExchange",
            Status::Warn,
            "use-identity-binding",
        ),
        (
            &entra(),
            "api://AKSIdentityBinding",
            Status::Warn,
            "that is for identity bindings",
        ),
        (
            &realm,
            "https://kc.example.com/realms/mcp",
            Status::Pass,
            "",
        ),
        (
            &realm,
            "api://AzureADTokenExchange",
            Status::Warn,
            "not https://kc.example.com/realms/mcp",
        ),
        (
            &entra(),
            "https://kubernetes.default.svc",
            Status::Warn,
            "the pod's token for the API server",
        ),
    ] {
        let steps = of_file(Some(&jwt(&with("aud", json!([audience])))), wanted);
        let step = steps.iter().find(|s| s.step == "audience").unwrap();
        assert_eq!(step.status, expected, "{audience}");
        assert!(step.detail.contains(part), "{}", step.detail);
        // Only Entra must be able to read the issuer's keys.
        let inner = with("iss", json!("https://kubernetes.default.svc"));
        let steps = of_file(Some(&jwt(&inner)), wanted);
        assert_eq!(status(&steps, "issuer").0 == Status::Fail, wanted.entra);
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
            with("iss", json!("http://issuer.example.com/")),
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
            with("sub", json!("system:serviceaccount::backend")),
            "subject",
            (Status::Warn, "not_a_service_account"),
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
            bound(with("iat", json!(NOW - 30_000))),
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
    let mut bound = entra("pod");
    let GrantParams::EntraClientAssertion(p) = &mut bound.grant else {
        return;
    };
    p.tenant.identity_binding = Some(crate::net::token_proxy::TokenProxyParams {
        url: "https://10.0.0.1/".parse().unwrap(),
        server_name: None,
        roots: crate::net::token_proxy::Roots::System,
    });
    let wanted = expectations(&pod, &[bound]);
    assert!(wanted.binding && !wanted.entra);
    let keycloak = CredentialParams {
        grant: GrantParams::ClientCredentials(ClientCredentialsParams {
            endpoint: EndpointParams {
                url: "https://kc.example.com/realms/mcp/protocol/openid-connect/token"
                    .parse()
                    .unwrap(),
                client_authentication: ClientAuthentication::ClientAssertion {
                    client_id: None,
                    subject_token: "pod".into(),
                },
                parameters: vec![],
                authority: AuthorityParams::default(),
            },
            target: TargetParams::default(),
        }),
        ..entra("x")
    };
    assert_eq!(
        expectations(&pod, &[keycloak]).realms,
        ["https://kc.example.com/realms/mcp"]
    );
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
