//! `token-sidecar check` as a real process against the development authority: a test for each cause that it must name, with the command that mends it.

use crate::lab::{Lab, program};
use harness::{
    authority::{
        Application, Endpoint, Fault, FederatedCredential, Options,
        options::{CLIENT, SCOPE},
    },
    process::SidecarSetup,
    temp::TempDir,
    volume::{Layout, TokenVolume},
};
use serde_json::Value;
use std::{fs, process::Output};
use tokio::process::Command;

/// The doctor's JSON, its exit code, and everything it printed.
struct Examined {
    json: Value,
    code: Option<i32>,
    printed: String,
}

async fn run(setup: &SidecarSetup, args: &[&str]) -> Output {
    let dir = TempDir::new("token-sidecar-check").unwrap();
    let mut command = Command::new(program());
    command
        .arg(harness::process::AS_SIDECAR)
        .arg("check")
        .args(args);
    if let Some(text) = &setup.config {
        let file = dir.join("config.yaml");
        let text = text
            .replace("{listen}", "127.0.0.1:0")
            .replace("{admin}", "127.0.0.1:1");
        fs::write(&file, text).unwrap();
        command.arg("--config").arg(file);
    } else {
        // Nothing answers at port 1: no sidecar runs.
        command.args(["--admin", "127.0.0.1:1"]);
    }
    command.env_clear().envs(&setup.env);
    command.output().await.unwrap()
}

async fn examine(setup: &SidecarSetup) -> Examined {
    let output = run(setup, &["--output", "json"]).await;
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Examined {
        json: serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{printed}")),
        code: output.status.code(),
        printed,
    }
}

impl Examined {
    fn step(&self, of: &str, step: &str) -> &Value {
        self.json["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["of"] == of && s["step"] == step)
            .unwrap_or_else(|| panic!("no step {step} of {of} in {}", self.printed))
    }

    #[track_caller]
    fn assert(&self, of: &str, step: &str, status: &str, code: &str) {
        let found = self.step(of, step);
        assert_eq!(
            (
                found["status"].as_str(),
                found["code"].as_str().unwrap_or_default()
            ),
            (Some(status), code),
            "{}",
            self.printed
        );
        assert_eq!(
            self.code,
            Some(i32::from(status == "fail")),
            "{}",
            self.printed
        );
        if status == "fail" {
            assert!(
                found["detail"].as_str().unwrap().len() > 20,
                "{}",
                self.printed
            );
        }
    }

    #[track_caller]
    fn assert_command(&self, of: &str, step: &str, part: &str) {
        let commands = self.step(of, step)["commands"].to_string();
        assert!(commands.contains(part), "{commands}");
    }
}

const CREDENTIAL: &str = "credential default";

#[tokio::test]
async fn everything_passes_and_no_token_is_printed() {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let admin = sidecar.admin().to_string();
    for format in ["text", "json"] {
        let output = run(&lab.quick(), &["--output", format, "--sidecar", &admin]).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{printed}");
        for token in lab
            .authority
            .issued()
            .all()
            .iter()
            .flat_map(|i| [i.token.clone(), i.subject_token.clone()])
        {
            let signature = token.rsplit('.').next().unwrap();
            assert!(!printed.contains(signature), "{printed}");
        }
        if format == "text" {
            assert!(printed.ends_with("everything passes\n"), "{printed}");
            for step in [
                "file", "age", "issuer", "subject", "audience", "reach", "clock", "exchange",
                "upstream", "readyz", "metrics",
            ] {
                assert!(
                    printed.contains(&format!(": {step}: ")),
                    "{step}: {printed}"
                );
            }
        }
    }
    // It asked for one token each time, as the sidecar would.
    assert_eq!(lab.authority.issued().len(), 3);
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
        assert_eq!(examined.step(CREDENTIAL, "reach")["status"], "pass");
        assert_eq!(examined.step(CREDENTIAL, "exchange")["status"], "skip");
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
            "--subject system:serviceaccount:",
        ),
        (
            vec![FederatedCredential {
                subject: fits().subject.to_uppercase(),
                ..fits()
            }],
            "aadsts_7002138",
            "federated-credential list",
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
            "az account show --query tenantId",
        ),
        (
            "AZURE_CLIENT_ID",
            "99999999-9999-4999-8999-999999999999",
            "aadsts_700016",
            "azure.workload.identity/client-id=",
        ),
        (
            "TOKEN_SIDECAR_SCOPE",
            "api://nobody/.default",
            "aadsts_500011",
            "az ad sp list",
        ),
    ] {
        let examined = examine(&lab.quick().env(variable, value)).await;
        examined.assert(CREDENTIAL, "exchange", "fail", code);
        examined.assert_command(CREDENTIAL, "exchange", command);
    }
}

/// Codes that the development authority has no merits for come by script: every number that a federated pod can meet is named and has a command.
#[tokio::test]
async fn every_code_of_entra_is_told_with_a_command() {
    let lab = Lab::new().await;
    for number in [
        70021, 700_024, 900_144, 90023, 9_002_313, 9_001_023, 50001, 650_057, 70011, 28002,
        700_022, 700_011, 7_000_215, 7_000_222, 7_000_218, 700_222, 700_229, 700_238, 700_223,
        700_027, 90061, 50013, 500_131, 500_133, 65001, 50105, 53003, 530_035, 50005, 53000, 70043,
        1_002_016, 900_382, 90038, 900_439, 7_000_112, 70001, 90055, 90024, 90033, 90006, 50033,
        90012, 50196,
    ] {
        lab.authority
            .fail_once(Endpoint::Entra, Fault::Aadsts(number));
        let examined = examine(&lab.quick()).await;
        examined.assert(CREDENTIAL, "exchange", "fail", &format!("aadsts_{number}"));
        assert!(
            !examined.step(CREDENTIAL, "exchange")["commands"]
                .as_array()
                .unwrap()
                .is_empty(),
            "{number}"
        );
    }
}

#[tokio::test]
async fn odd_answers_of_an_authority_are_told() {
    let lab = Lab::new().await;
    for (fault, code) in [
        (Fault::html(502), "http_5xx"),
        (Fault::not_json(), "reply_not_json"),
        (Fault::without("access_token"), "reply_no_access_token"),
        (Fault::throttled("120"), "aadsts_90055"),
        (Fault::redirect("https://elsewhere.example/"), "http_3xx"),
    ] {
        lab.authority.fail_once(Endpoint::Entra, fault);
        examine(&lab.quick())
            .await
            .assert(CREDENTIAL, "exchange", "fail", code);
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_reached_is_told_by_why() {
    let lab = Lab::new().await;
    let free = harness::ports::free().unwrap();
    let untrusted = {
        let mut setup = lab.quick();
        setup.env.remove("SSL_CERT_FILE");
        setup
    };
    for (setup, code) in [
        (
            lab.quick()
                .env("AZURE_AUTHORITY_HOST", "https://no-such-host.invalid/"),
            "dns_error",
        ),
        (
            lab.quick().env(
                "AZURE_AUTHORITY_HOST",
                format!("https://localhost:{}/", free.port()),
            ),
            "connection_refused",
        ),
        (untrusted, "tls_certificate_error"),
    ] {
        let examined = examine(&setup).await;
        examined.assert(CREDENTIAL, "reach", "fail", code);
        assert!(
            !examined.step(CREDENTIAL, "reach")["commands"]
                .as_array()
                .unwrap()
                .is_empty(),
            "{code}"
        );
        assert_eq!(examined.step(CREDENTIAL, "exchange")["status"], "skip");
    }
}

#[tokio::test]
async fn an_authority_that_hangs_is_given_up_on() {
    let lab = Lab::new().await;
    lab.authority.fail_always(Endpoint::Entra, Fault::Hang);
    let config = format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  default: {{ exchangeTimeout: 300ms, entraClientAssertion: {{ scope: {SCOPE} }} }}\n\
         routes:\n  - {{ name: backend, upstream: '{}', credential: default }}\n",
        lab.upstream.url()
    );
    examine(&lab.aks().config(config))
        .await
        .assert(CREDENTIAL, "exchange", "fail", "timeout");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told() {
    let lab = Lab::new().await;
    let free = harness::ports::free().unwrap();
    for (upstream, code) in [
        (
            format!("https://localhost:{}", free.port()),
            "connection_refused",
        ),
        ("https://no-such-host.invalid".to_owned(), "dns_error"),
        (format!("http://{free}"), "connection_refused"),
    ] {
        let examined = examine(&lab.quick().env("TOKEN_SIDECAR_UPSTREAM", upstream)).await;
        examined.assert("route default", "upstream", "fail", code);
        assert_eq!(examined.step(CREDENTIAL, "exchange")["status"], "pass");
    }
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
    let free = harness::ports::free().unwrap().to_string();
    for (address, code) in [(&free, "not_running"), (&admin, "not_ready")] {
        let output = run(&lab.quick(), &["--output", "json", "--sidecar", address]).await;
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let step = json["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["step"] == "readyz")
            .unwrap();
        assert_eq!(
            (step["status"].as_str(), step["code"].as_str()),
            (Some("fail"), Some(code)),
            "{json}"
        );
        if code == "not_ready" {
            assert!(
                step["detail"]
                    .as_str()
                    .unwrap()
                    .contains("subject token pod"),
                "{json}"
            );
        }
    }
    // Without the option, nothing there is no fault.
    assert_eq!(
        examine(&lab.quick()).await.step("sidecar", "readyz")["status"],
        "skip"
    );
}

#[tokio::test]
async fn a_bad_configuration_is_refused_as_ever() {
    let lab = Lab::new().await;
    let output = run(&lab.aks().config("routes: []\nlisen: x\n"), &[]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lisen"));
    assert_eq!(lab.authority.requests().len(), 0);
}
