//! `webhook --check` as hooks and people run it: what it says, where, and its exit code. What is wrong with profiles is in `config`'s own tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Exit code, standard output, standard error. With no environment: nothing of it may be needed.
fn checked(args: &[&str]) -> (Option<i32>, String, String) {
    checked_with(&[], args)
}

/// The same, with these variables.
fn checked_with(env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_token-sidecar"))
        .args(["webhook", "--check"])
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn sample() -> String {
    let path = "../tests/samples/admission/profiles.yaml";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    path.display().to_string()
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("token-sidecar-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn good_profiles_are_named_on_one_line() {
    let (code, out, err) = checked(&["--profiles", &sample()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "ok: profiles default, file, keycloak\n");
    // An empty variable says nothing; one that is wrong is told.
    for (level, expected) in [("", Some(0)), ("loud", Some(64))] {
        let env = [("TOKEN_SIDECAR_LOG_LEVEL", level)];
        assert_eq!(checked_with(&env, &["--profiles", &sample()]).0, expected);
    }
}

#[test]
fn a_likely_slip_is_told_and_fails_nothing() {
    let folder = Folder::new("check-slip");
    let text = "profiles:\n  default:\n    image: x\n    token: {aks: {}}\n    credentials: {orders: {entraClientAssertion: {scope: x/.default}}}\n    rewrite: [{variable: A, credential: order}]\n";
    let (code, out, err) = checked(&["--profiles", &folder.file("p.yaml", text)]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "ok: profiles default\n"),
        "{err}"
    );
    assert!(
        err.starts_with("warning: ") && err.contains("did you mean `orders`?"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn wrong_ones_and_wrong_options_are_told_with_their_place() {
    let folder = Folder::new("check-profiles");
    let file = folder.file(
        "p.yaml",
        "profiles:\n  default:\n    imag: x\n    token: {}\n",
    );
    let (code, out, err) = checked(&["--profiles", &file]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    let told = format!("{file}:3:5: profiles.default.imag: unknown key; did you mean `image`?\n");
    assert!(err.contains(&told), "{err}");
    assert!(err.contains("give one of aks, projected"), "{err}");
    let (code, out, err) = checked(&["--profiles", &sample(), "--log-format", "xml"]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.starts_with("--log-format: "), "{err}");
    let (code, _, err) = checked(&["--profiles", "/nonexistent/p.yaml"]);
    assert_eq!(code, Some(64));
    assert!(err.starts_with("/nonexistent/p.yaml: "), "{err}");
}

#[test]
fn a_certificate_is_looked_at_when_it_is_given() {
    let folder = Folder::new("check-certificate");
    let key = KeyPair::generate().unwrap();
    let made = |year: i32| {
        let mut params = CertificateParams::new(vec!["webhook".into()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    let (good, old) = (
        folder.file("good.crt", &made(2999)),
        folder.file("old.crt", &made(2001)),
    );
    let key = folder.file("tls.key", &key.serialize_pem());
    let other = folder.file("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let profiles = sample();
    let look = |certificate: &str, key: &str| {
        checked(&[
            "--profiles",
            &profiles,
            "--certificate",
            certificate,
            "--key",
            key,
        ])
    };
    let (code, out, err) = look(&good, &key);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.ends_with("; certificate good until 2999-01-01T00:00:00.000Z\n"),
        "{out}"
    );
    for (certificate, key, says) in [
        (&old, &key, "it has expired (2001-01-01T00:00:00.000Z)"),
        (&good, &other, "other.key"),
        (&key, &key, "holds no certificate"),
    ] {
        let (code, out, err) = look(certificate, key);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{says}");
        assert!(err.contains(says), "{says}: {err}");
        assert!(!err.contains("BEGIN"), "{err}");
    }
    // One of the two is enough to want both; the other has its default.
    let (code, _, err) = checked(&["--profiles", &profiles, "--certificate", &good]);
    assert_eq!(code, Some(64));
    assert!(err.contains("/etc/token-sidecar/tls/tls.key"), "{err}");
}

/// An option that would do nothing is refused, and one that is for serving is read as if it served.
#[test]
fn options_are_for_what_they_say() {
    let (code, out, err) = checked(&["--profiles", &sample(), "--ca", "/nonexistent/ca.crt"]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(
        err.contains("--check") && err.contains("--ca <FILE>"),
        "{err}"
    );
    for (option, value, says) in [
        (
            "--listen",
            "unix:/run/webhook.sock",
            "a Unix socket, which nobody calls from outside of the pod; write IP:PORT such as [::]:8443",
        ),
        (
            "--admin",
            "unix:/run/admin.sock",
            "a Unix socket, which nobody calls from outside of the pod; write IP:PORT such as [::]:9090",
        ),
        (
            "--listen",
            "localhost:8443",
            "not a listener; write IP:PORT such as [::]:8443 (a name is not an IP)",
        ),
        (
            "--admin",
            "[::]:8443",
            "the address of `--listen`, too; choose another port",
        ),
        (
            "--namespace",
            "Token_Sidecar",
            "not a namespace's name (at most 63 of a-z, 0-9 and `-`, begun and ended by a letter or digit); write the injector's own",
        ),
        (
            "--namespace",
            "",
            "not a namespace's name (at most 63 of a-z, 0-9 and `-`, begun and ended by a letter or digit); write the injector's own",
        ),
    ] {
        let (code, out, err) = checked(&["--profiles", &sample(), option, value]);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{option} {value}");
        assert_eq!(err, format!("{option}: {says}\n"));
    }
    let zero = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let (code, _, err) = checked(&[&["--profiles", &sample()], &zero[..]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

/// `--probe` serves nothing: what is said of serving is refused.
#[test]
fn a_probe_takes_no_option_of_serving() {
    for (option, value) in [
        ("--certificate", "tls.crt"),
        ("--key", "tls.key"),
        ("--listen", "[::]:8443"),
        ("--admin", "[::]:9090"),
        ("--namespace", "injector"),
        ("--shutdown-delay", "1s"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_token-sidecar"))
            .args(["webhook", "--probe", "https://x.y.svc/mutate", "--ca", "/x"])
            .args(["--profiles", &sample(), option, value])
            .env_clear()
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{option}: {err}");
        assert!(err.contains("--probe") && err.contains(option), "{err}");
    }
}
