//! Entra: the projected token's file, what a federated credential lacks, and every number that a federated pod can meet.

use super::{CREDENTIAL, Examined, examine, run};
use crate::lab::Lab;
use harness::{
    authority::{
        Application, Endpoint, Fault, FederatedCredential, Options,
        options::{CLIENT, SCOPE},
    },
    volume::{Layout, TokenVolume},
};

#[tokio::test]
async fn everything_passes_in_the_order_of_the_chain() {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let admin = sidecar.admin().to_string();
    let output = run(&lab.quick(), &["--sidecar", &admin]).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.ends_with("everything passes\n"), "{printed}");
    let mut at = 0;
    for step in [
        "configuration: read",
        "pod: file",
        "pod: mount",
        "pod: age",
        "pod: issuer",
        "pod: subject",
        "pod: audience",
        ": dns",
        ": connect",
        ": tls",
        ": http",
        ": clock",
        "default: exchange",
        "default: dns",
        "default: connect",
        "default: tls",
        "sidecar: readyz",
        "sidecar: metrics",
    ] {
        let found = printed[at..].find(&format!("{step}: "));
        at += found.unwrap_or_else(|| panic!("{step} is not there, or not in order: {printed}"));
    }
    assert!(
        !printed.contains("[skip]") && !printed.contains("[warn]"),
        "{printed}"
    );
    // It asked for one token, as the sidecar did; the upstream was sent nothing.
    assert_eq!(lab.authority.issued().len(), 2);
    assert_eq!(lab.upstream.requests().len(), 0);
}

#[tokio::test]
async fn what_the_token_file_lacks_is_named() {
    for (content, code) in [
        (None, "missing"),
        (Some(""), "empty"),
        (Some("not a token"), "not_a_jwt"),
    ] {
        let lab =
            Lab::without_token(Options::default(), TokenVolume::new(Layout::Flat).unwrap()).await;
        if let Some(content) = content {
            lab.volume.write(content).unwrap();
        }
        let examined = examine(&lab.quick()).await;
        examined.assert("subject token pod", "file", "fail", code);
        examined.assert_command("subject token pod", "file", "kubectl get pod");
        // The authority is looked at all the same; it is not bothered with nothing.
        examined.assert(&examined.authority(), "http", "pass", "");
        examined.assert_blocked(CREDENTIAL, "exchange", "subject token pod: file");
        assert_eq!(lab.authority.requests().len(), 0);
    }
}

/// The authority refuses on the merits, not by script.
#[tokio::test]
async fn a_federated_credential_that_does_not_fit_is_told_by_what_differs() {
    let fits = FederatedCredential::default;
    for (federated, code, command) in [
        (vec![], "aadsts_70025", "federated-credential create"),
        (
            vec![FederatedCredential {
                issuer: Some("https://elsewhere.example/".into()),
                ..fits()
            }],
            "aadsts_700211",
            "--issuer https://",
        ),
        (
            vec![FederatedCredential {
                subject: "system:serviceaccount:other:sa".into(),
                ..fits()
            }],
            "aadsts_700213",
            "--subject system:serviceaccount:demo:workload",
        ),
        (
            vec![FederatedCredential {
                subject: fits().subject.to_uppercase(),
                ..fits()
            }],
            "aadsts_7002138",
            "federated-credential update",
        ),
        (
            vec![FederatedCredential {
                audience: "api://Other".into(),
                ..fits()
            }],
            "aadsts_700212",
            "--audiences api://AzureADTokenExchange",
        ),
    ] {
        let lab = Lab::with(Options {
            applications: vec![Application {
                client_id: CLIENT.into(),
                federated,
            }],
            ..Options::default()
        })
        .await;
        let examined = examine(&lab.quick()).await;
        examined.assert(CREDENTIAL, "exchange", "fail", code);
        examined.assert_command(CREDENTIAL, "exchange", command);
    }
}

#[tokio::test]
async fn a_wrong_tenant_client_or_scope_is_told() {
    let lab = Lab::new().await;
    for (variable, value, code, command) in [
        (
            "AZURE_TENANT_ID",
            "99999999-9999-4999-8999-999999999999",
            "aadsts_90002",
            "kubectl annotate serviceaccount workload -n demo azure.workload.identity/tenant-id=",
        ),
        (
            "AZURE_CLIENT_ID",
            "99999999-9999-4999-8999-999999999999",
            "aadsts_700016",
            "kubectl annotate serviceaccount workload -n demo azure.workload.identity/client-id=",
        ),
        (
            "TOKEN_SIDECAR_SCOPE",
            "api://nobody/.default",
            "aadsts_500011",
            "az ad sp show --id api://nobody",
        ),
    ] {
        let examined = examine(&lab.quick().env(variable, value)).await;
        examined.assert(CREDENTIAL, "exchange", "fail", code);
        examined.assert_command(CREDENTIAL, "exchange", command);
    }
}

/// Codes that the development authority has no merits for come by script: every number that a federated pod can meet (and those about people) is named, with what mends it and
/// a command.
#[tokio::test]
async fn every_code_of_entra_is_told_with_a_command() {
    let lab = Lab::new().await;
    let setup = lab.quick();
    for number in [
        70021, 700_211, 700_212, 700_213, 7_002_138, 70025, 700_024, 900_144, 90023, 9_002_313,
        9_001_023, 50001, 650_057, 70011, 28002, 700_022, 700_011, 7_000_215, 7_000_222, 7_000_218,
        700_222, 700_229, 700_238, 700_223, 700_027, 90061, 50013, 500_131, 500_133, 65001, 50105,
        53003, 530_035, 50005, 53000, 70043, 1_002_016, 900_382, 90038, 900_439, 7_000_112, 70001,
        90055, 90024, 90033, 90006, 50033, 90012, 50196, 82001, 50074, 50076, 50079, 50173,
    ] {
        lab.authority
            .fail_once(Endpoint::Entra, Fault::Aadsts(number));
        let examined = examine(&setup).await;
        examined.assert(CREDENTIAL, "exchange", "fail", &format!("aadsts_{number}"));
        let commands = examined.step(CREDENTIAL, "exchange")["commands"].as_array();
        assert!(commands.is_some_and(|c| !c.is_empty()), "{number}");
        assert!(
            examined.printed.contains("Refused by script."),
            "{}",
            examined.printed
        );
    }
}

#[tokio::test]
async fn odd_answers_of_an_authority_are_told() {
    let lab = Lab::new().await;
    for (fault, code) in [
        (Fault::html(502), "http_5xx"),
        (Fault::html(403), "http_4xx"),
        (Fault::status(429), "http_429"),
        (Fault::not_json(), "reply_not_json"),
        (Fault::without("access_token"), "reply_no_access_token"),
        (Fault::throttled("120"), "aadsts_90055"),
        (Fault::redirect("https://elsewhere.example/"), "http_3xx"),
        (Fault::HugeBody(100_000), "reply_too_large"),
        (Fault::Reset, "http_protocol_error"),
    ] {
        lab.authority.fail_once(Endpoint::Entra, fault);
        let examined = examine(&lab.quick()).await;
        let found = examined.step(CREDENTIAL, "exchange");
        assert_eq!(
            (&found["status"], &found["code"]),
            (&"fail".into(), &code.into()),
            "{}",
            examined.printed
        );
        if code == "aadsts_90055" {
            examined.assert_says(CREDENTIAL, "exchange", "2 min of patience");
        }
    }
}

#[tokio::test]
async fn an_authority_that_hangs_is_given_up_on() {
    let lab = Lab::new().await;
    lab.authority.fail_always(Endpoint::Entra, Fault::Hang);
    // It bounds each layer of the way there as well, which a busy machine takes its time for.
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  default: {{ exchangeTimeout: 5s, entraClientAssertion: {{ scope: {SCOPE} }} }}\n\
         routes:\n  - {{ name: backend, upstream: '{}', credential: default }}\n",
        lab.upstream.url()
    );
    let examined = examine(&lab.aks().config(config)).await;
    let found = examined.step(CREDENTIAL, "exchange");
    assert_eq!(
        (&found["status"], &found["code"]),
        (&"fail".into(), &"timeout".into()),
        "{}",
        examined.printed
    );
}

/// In a pod: by the variable that Kubernetes sets there, and the host name.
fn in_a_pod(lab: &Lab) -> harness::process::SidecarSetup {
    lab.quick()
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .env("HOSTNAME", "workload-0")
}

#[tokio::test]
async fn a_mount_without_renewal_and_a_missing_one_are_told_in_the_pod() {
    let lab = Lab::new().await;
    let dir = harness::temp::TempDir::new("token-sidecar-check").unwrap();
    let copy = dir.join("azure-identity-token");
    std::fs::write(&copy, lab.authority.projected_token().unwrap()).unwrap();
    let examined = examine(&in_a_pod(&lab).env("AZURE_FEDERATED_TOKEN_FILE", &copy)).await;
    examined.assert("subject token pod", "mount", "warn", "sub_path");
    examined.assert_well();
    // On a laptop every host has a name, and a copy is no mount.
    let outside = lab.quick().env("HOSTNAME", "laptop");
    let examined = examine(&outside.env("AZURE_FEDERATED_TOKEN_FILE", &copy)).await;
    examined.assert("subject token pod", "mount", "pass", "");
    let none = dir.join("nowhere/token");
    let examined = examine(&in_a_pod(&lab).env("AZURE_FEDERATED_TOKEN_FILE", &none)).await;
    examined.assert("subject token pod", "file", "fail", "missing");
    examined.assert_says("subject token pod", "file", "nothing is mounted there");
    examined.assert_command(
        "subject token pod",
        "file",
        "kubectl get pod workload-0 -n <namespace>",
    );
    let expired = {
        let issuer = lab.authority.issuer();
        let token = harness::issuer::ProjectedToken {
            issued_ago: std::time::Duration::from_secs(7200),
            ..Default::default()
        };
        issuer.mint(&token).unwrap()
    };
    std::fs::write(&copy, expired).unwrap();
    let examined: Examined =
        examine(&in_a_pod(&lab).env("AZURE_FEDERATED_TOKEN_FILE", &copy)).await;
    examined.assert("subject token pod", "file", "fail", "expired");
    examined.assert_command("subject token pod", "file", "kubectl describe node node-0");
    examined.assert("subject token pod", "audience", "pass", "");
}
