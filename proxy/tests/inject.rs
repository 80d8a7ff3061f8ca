//! `inject` and `uninject` as people run them: files and pipes, what goes where, exit codes.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const POD: &str = "kind: Pod\nmetadata:\n  name: web # the shop\nspec:\n  containers:\n  - name: web\n    env:\n    - name: BACKEND_API_URL\n      value: https://orders.example.com\n";

/// Runs the program with something on its standard input: exit code, standard output, standard error.
fn run(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_token-sidecar"))
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Small enough for the pipe: nobody need read meanwhile. A program that refuses its arguments reads nothing at all.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn profiles() -> String {
    let sample: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples/admission/profiles.yaml");
    sample.display().to_string()
}

#[test]
fn there_and_back_through_pipes() {
    let (code, injected, notes) = run(&["inject", "--profiles", &profiles(), "-f", "-"], POD);
    assert_eq!(
        (code, notes.as_str()),
        (
            Some(0),
            "standard input:1: pod/web: no container sets INVENTORY_API_URL (profile default, rewrite[1]), so that nothing is rewritten for it; correct \
             whichever is wrong, unless the entry is for other pods\nstandard input:1: pod/web: sidecar put in\n"
        )
    );
    assert!(
        injected.contains("  name: web # the shop\n")
            && injected.contains("- name: token-sidecar\n"),
        "{injected}"
    );
    let (code, again, notes) = run(&["inject", "--profiles", &profiles(), "-f", "-"], &injected);
    assert_eq!((code, again.as_str()), (Some(0), injected.as_str()));
    assert!(
        notes.ends_with("unchanged, the sidecar is in it\n"),
        "{notes}"
    );
    let (code, bare, notes) = run(&["uninject", "-f", "-"], &injected);
    assert_eq!(
        (code, bare.as_str(), notes.as_str()),
        (
            Some(0),
            POD,
            "standard input:1: pod/web: sidecar taken out\n"
        )
    );
}

#[test]
fn a_diff_instead() {
    let (code, diff, _) = run(
        &[
            "inject",
            "--profiles",
            &profiles(),
            "--profile",
            "keycloak",
            "-f",
            "-",
            "--diff",
        ],
        POD,
    );
    assert_eq!(code, Some(0));
    let head = "--- standard input\n+++ standard input (new)\n@@ -1,9 +1,";
    assert!(
        diff.starts_with(head) && diff.contains("\n-      value: https://orders.example.com\n"),
        "{diff}"
    );
    assert_eq!(run(&["uninject", "-f", "-", "--diff"], POD).1, "");
}

#[test]
fn several_files_are_documents_of_one_stream() {
    let dir = std::env::temp_dir().join(format!("token-sidecar-inject-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (a, b) = (dir.join("a.yaml"), dir.join("b.yaml"));
    std::fs::write(&a, POD.trim_end()).unwrap();
    std::fs::write(&b, "kind: Service\nmetadata: {name: web}\n").unwrap();
    let (a, b) = (a.display().to_string(), b.display().to_string());
    let (code, text, notes) = run(
        &["inject", "--profiles", &profiles(), "-f", &a, "-f", &b],
        "",
    );
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        text.ends_with("\n---\nkind: Service\nmetadata: {name: web}\n"),
        "{text}"
    );
    assert!(
        notes.contains("service/web: left alone, no pod in it"),
        "{notes}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_is_refused_prints_nothing_to_apply() {
    let both = format!(
        "{POD}---\n{}",
        POD.replace("spec:\n", "spec:\n  hostNetwork: true\n")
    );
    let (code, out, err) = run(&["inject", "--profiles", &profiles(), "-f", "-"], &both);
    assert_eq!((code, out.as_str()), (Some(65), ""));
    assert!(
        err.starts_with("standard input:11: pod/web: hostNetwork: "),
        "{err}"
    );

    let (code, out, err) = run(&["inject", "--profiles", "/nonexistent", "-f", "-"], POD);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.starts_with("/nonexistent: cannot be read"), "{err}");
    let (code, _, err) = run(&["uninject", "-f", "/nonexistent"], "");
    assert_eq!(code, Some(64));
    assert!(err.starts_with("/nonexistent: cannot be read"), "{err}");
    let (code, _, err) = run(&["uninject", "-f", "-"], "{{ template }}: x\n  y");
    assert_eq!(code, Some(65));
    assert_eq!(
        err,
        "standard input:1:13: a key must be text; a template must be rendered first, as `helm template` does\n"
    );
    assert_eq!(run(&["inject", "-f", "-"], POD).0, Some(64));
}
