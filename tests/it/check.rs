//! `token-sidecar check` as a real process against the development authority: a test for each cause that it must name, with the mend and the command. What the parts share is
//! here.

mod callers;
mod clients;
mod credentials;
mod entra;
mod injected;
mod secrets;
mod shape;
mod upstreams;
mod way;

use crate::lab::{Lab, program};
use harness::{process::SidecarSetup, temp::TempDir};
use serde_json::Value;
use std::{fs, process::Output};
use tokio::process::Command;

const CREDENTIAL: &str = "credential default";
/// Of a configuration whose one credential has this name.
const BACKEND: &str = "credential backend";

fn dir() -> TempDir {
    TempDir::new("token-sidecar-check").unwrap()
}

/// A configuration with one route for each credential.
fn config(lab: &Lab, more: &str, credentials: &[(&str, &str)]) -> SidecarSetup {
    let credential = |(name, inside): &(&str, &str)| format!("  {name}: {{ {inside} }}\n");
    let route = |(name, _): &(&str, &str)| {
        format!(
            "  - {{ name: {name}, match: {{ pathPrefix: /{name} }}, upstream: '{}', credential: {name} }}\n",
            lab.upstream.url()
        )
    };
    lab.aks().config(format!(
        "listen: {{listen}}\nadmin: {{admin}}\n{more}credentials:\n{}routes:\n{}",
        credentials.iter().map(credential).collect::<String>(),
        credentials.iter().map(route).collect::<String>(),
    ))
}

/// The doctor's JSON, its exit code, and everything it printed.
struct Examined {
    json: Value,
    code: Option<i32>,
    printed: String,
}

/// Runs it with what the sidecar would be run with. Nothing answers at port 1: no sidecar runs there.
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
            .replace("{inbound}", "127.0.0.1:2")
            .replace("{admin}", "127.0.0.1:1");
        fs::write(&file, text).unwrap();
        command.arg("--config").arg(file);
    } else {
        command.args(["--admin", "127.0.0.1:1"]);
    }
    command.env_clear().envs(&setup.env);
    command.output().await.unwrap()
}

async fn examine(setup: &SidecarSetup) -> Examined {
    examine_with(setup, &[]).await
}

async fn examine_with(setup: &SidecarSetup, args: &[&str]) -> Examined {
    let output = run(setup, &[&["--output", "json"], args].concat()).await;
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
    fn steps(&self) -> &[Value] {
        self.json["steps"].as_array().unwrap()
    }

    fn find(&self, of: &str, step: &str) -> Option<&Value> {
        let named = |s: &&Value| s["of"] == of && s["step"] == step;
        self.steps().iter().find(named)
    }

    #[track_caller]
    fn step(&self, of: &str, step: &str) -> &Value {
        self.find(of, step)
            .unwrap_or_else(|| panic!("no step {step} of {of} in {}", self.printed))
    }

    /// What the one authority is called.
    fn authority(&self) -> String {
        let place = self.steps().iter().find_map(|s| {
            let of = s["of"].as_str()?;
            (of.starts_with("authority ") || of.starts_with("token proxy ")).then_some(of)
        });
        place
            .unwrap_or_else(|| panic!("no authority in {}", self.printed))
            .to_owned()
    }

    /// The step went so, with this code; and when it failed, the whole did, and it says why and what mends it.
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
        if status == "fail" {
            assert_eq!(self.code, Some(1), "{}", self.printed);
        }
        if ["fail", "warn"].contains(&status) {
            for field in ["detail", "mend"] {
                let text = found[field].as_str().unwrap_or_default();
                assert!(text.len() > 10, "{field} of {step}: {}", self.printed);
            }
        }
    }

    #[track_caller]
    fn assert_command(&self, of: &str, step: &str, part: &str) {
        let commands = self.step(of, step)["commands"].to_string();
        assert!(commands.contains(part), "{part} is not in {commands}");
    }

    #[track_caller]
    fn assert_says(&self, of: &str, step: &str, part: &str) {
        let found = self.step(of, step);
        let text = format!("{} | {}", found["detail"], found["mend"]);
        assert!(text.contains(part), "{part} is not in {text}");
    }

    /// The step was not reached, because of another one.
    #[track_caller]
    fn assert_blocked(&self, of: &str, step: &str, by: &str) {
        self.assert(of, step, "skip", "");
        assert_eq!(self.step(of, step)["blockedBy"], by, "{}", self.printed);
    }

    /// Nothing failed, and the process says so.
    #[track_caller]
    fn assert_well(&self) {
        assert_eq!(
            (self.code, &self.json["ok"]),
            (Some(0), &Value::Bool(true)),
            "{}",
            self.printed
        );
    }
}
