//! The webhook as a process: what it serves besides reviews, what it refuses, how it reloads, how it stops.

use crate::{
    lab::program,
    webhook_lab::{Injector, certify, install, patched, recorded},
};
use harness::{
    body,
    certs::Ca,
    client::Client,
    process::{AS_SIDECAR, Process},
    wait::eventually,
};
use http::{Method, Request};
use std::fs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn probes_and_what_is_no_review() {
    let injector = Injector::start().await;
    let admin = Client::new(injector.admin);
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = admin.get(path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let json = "application/json";
    let large = "x".repeat((8 << 20) + 1);
    for (method, path, kind, text, status) in [
        (Method::POST, "/", json, "{}", 404),
        (Method::GET, "/mutate", json, "", 405),
        (Method::POST, "/mutate", "text/plain", "{}", 415),
        (Method::POST, "/mutate", json, "{", 400),
        (Method::POST, "/mutate", json, "{}", 400),
        (Method::POST, "/mutate", json, &large, 413),
    ] {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("content-type", kind);
        let answer = injector
            .client()
            .send(request.body(body::full(text.to_owned())).unwrap())
            .await
            .unwrap();
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {path} {kind}: {}",
            answer.text()
        );
    }
    injector
        .metric("two errors", |m| {
            m.0.contains("token_sidecar_injections_total{namespace=\"\",result=\"error\"} 2")
        })
        .await;
    // Not without TLS, and not for those who trust another authority.
    assert!(Client::new(injector.address).get("/mutate").await.is_err());
    assert!(
        Client::new(injector.address)
            .tls(&Ca::new().unwrap())
            .unwrap()
            .get("/mutate")
            .await
            .is_err()
    );
    injector
        .process
        .logged("does the caBundle belong")
        .await
        .unwrap();
}

#[tokio::test]
async fn dry_runs_are_answered_and_not_counted() {
    let injector = Injector::start().await;
    let review = recorded("dry-run");
    let response = injector.response(&review).await;
    assert!(patched(&review, &response)["spec"]["initContainers"].is_array());
    injector.response(&recorded("no-volumes")).await;
    let metrics = injector
        .metric("one review", |m| m.0.contains("result=\"injected\"} 1"))
        .await;
    assert!(
        metrics
            .0
            .contains("token_sidecar_admission_duration_seconds_count 2"),
        "{}",
        metrics.0
    );
}

#[tokio::test]
async fn profiles_are_reloaded_whole_or_not_at_all() {
    let injector = Injector::start().await;
    let image = |response: &serde_json::Value| {
        patched(&recorded("deployment"), response)["spec"]["initContainers"][0]["image"].clone()
    };
    let write = |text: &str| {
        let new = injector.dir.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, injector.dir.join("profiles.yaml")).unwrap();
    };
    let good = "profiles:\n  default:\n    image: second:2\n    token: {aks: {}}\n    rewrite: [{variable: BACKEND_API_URL, scope: x/.default}]\n";
    write(&good.replace("image: second:2", "imag: second:2"));
    injector
        .metric("the refusal to be counted", |m| {
            m.0.contains("token_sidecar_config_reloads_total{result=\"failure\"} 1")
        })
        .await;
    let said = injector
        .process
        .logged("profiles not reloaded")
        .await
        .unwrap();
    assert!(
        said.contains(
            "profiles.yaml:3:5: profiles.default.imag: unknown key; did you mean `image`?"
        ),
        "{said}"
    );
    assert_eq!(
        image(&injector.response(&recorded("deployment")).await),
        "registry.example/token-sidecar:0.1.0"
    );
    write(good);
    injector
        .metric("the new ones", |m| {
            m.0.contains("token_sidecar_config_reloads_total{result=\"success\"} 2")
        })
        .await;
    assert_eq!(
        image(&injector.response(&recorded("deployment")).await),
        "second:2"
    );
}

#[tokio::test]
async fn the_serving_certificate_is_reloaded() {
    let mut injector = Injector::start().await;
    injector.response(&recorded("deployment")).await;
    // A key that does not belong to the certificate changes nothing.
    let other = Ca::new().unwrap();
    let (_, key) = other
        .write_leaf("other", &other.leaf(&["localhost"]).unwrap())
        .unwrap();
    // In one step: half a key would be another refusal.
    let new = injector.dir.join("tls.key.new");
    fs::copy(key, &new).unwrap();
    fs::rename(new, injector.dir.join("tls.key")).unwrap();
    injector
        .metric("the refusal to be counted", |m| {
            m.0.contains("token_sidecar_certificate_reloads_total{result=\"failure\"} 1")
        })
        .await;
    injector.response(&recorded("deployment")).await;
    // A pair of another authority is taken over.
    certify(&other, injector.dir.path());
    injector
        .metric("the new one", |m| {
            m.0.contains("token_sidecar_certificate_reloads_total{result=\"success\"} 1")
        })
        .await;
    assert!(
        injector.client().get("/").await.is_err(),
        "the certificate before is still served"
    );
    injector.ca = other;
    injector.response(&recorded("deployment")).await;
    assert!(!injector.process.output().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn how_long_the_serving_certificate_is_good_is_told() {
    let injector = Injector::start().await;
    let told = |from: u64, to: u64| {
        [("not_before", from), ("expiry", to)].map(|(what, at)| {
            format!("\ntoken_sidecar_certificate_{what}_timestamp_seconds {at}\n")
        })
    };
    let dated = |from, to| injector.ca.dated_leaf(&["localhost"], from, to).unwrap();
    // 2020-01-01 to 2100-01-01.
    let good = dated((2020, 1, 1), (2100, 1, 1));
    install(&injector.ca, &good, injector.dir.path());
    let shown = told(1_577_836_800, 4_102_444_800);
    injector
        .metric("the new one's times", |m| {
            shown.iter().all(|s| m.0.contains(s))
        })
        .await;
    injector
        .process
        .logged("2100-01-01T00:00:00")
        .await
        .unwrap();
    // One that has expired does not take its place.
    install(
        &injector.ca,
        &dated((2020, 1, 1), (2021, 1, 1)),
        injector.dir.path(),
    );
    let metrics = injector
        .metric("the refusal to be counted", |m| {
            // Its files come one after the other: there may have been a pair that does not belong together.
            m.0.contains("token_sidecar_certificate_reloads_total{result=\"failure\"}")
                && injector
                    .process
                    .output()
                    .contains("and the one before has not")
        })
        .await;
    assert!(shown.iter().all(|s| metrics.0.contains(s)), "{}", metrics.0);
    injector.response(&recorded("deployment")).await;
}

#[tokio::test]
async fn a_review_at_hand_is_answered_before_the_end() {
    let mut injector = Injector::start().await;
    let text = recorded("deployment").to_string();
    let config = injector.ca.client(harness::certs::Alpn::Http1).unwrap();
    let stream = tokio::net::TcpStream::connect(injector.address)
        .await
        .unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config)
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&text.as_bytes()[..100]).await.unwrap();
    stream.flush().await.unwrap();
    // Another connection says that ours was accepted before it.
    injector.response(&recorded("not-asked")).await;
    injector
        .process
        .signal(rustix::process::Signal::TERM)
        .unwrap();
    injector.process.logged("\"stopping\"").await.unwrap();
    eventually("the listener to close", || async {
        tokio::net::TcpStream::connect(injector.address).await.err()
    })
    .await
    .unwrap();
    stream.write_all(&text.as_bytes()[100..]).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("JSONPatch"),
        "{answer}"
    );
    assert_eq!(
        injector.process.wait().await.unwrap().code(),
        Some(0),
        "{}",
        injector.process.output()
    );
}

#[tokio::test]
async fn what_keeps_it_from_starting() {
    let dir = harness::temp::TempDir::new("token-sidecar-webhook").unwrap();
    fs::write(dir.join("bad.yaml"), "profiles: {a: {token: {aks: {}}}}").unwrap();
    fs::write(
        dir.join("good.yaml"),
        "profiles: {a: {image: i, token: {aks: {}}}}",
    )
    .unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    for (args, code, said) in [
        (
            vec!["--profiles", &file("bad.yaml")],
            64,
            "profiles.a.image: missing; it has no default",
        ),
        (
            vec!["--profiles", &file("good.yaml"), "--listen", "x"],
            64,
            "--listen: not a listener",
        ),
        (
            vec![
                "--profiles",
                &file("good.yaml"),
                "--certificate",
                "/nonexistent",
            ],
            64,
            "the serving certificate's file /nonexistent cannot be used",
        ),
    ] {
        let args = [vec![AS_SIDECAR, "webhook"], args].concat();
        let args: Vec<std::ffi::OsString> = args.into_iter().map(Into::into).collect();
        let mut process = Process::spawn(program(), &args, &[].into()).unwrap();
        let status = process.wait().await.unwrap();
        assert_eq!(status.code(), Some(code), "{}", process.output());
        assert!(process.output().contains(said), "{}", process.output());
    }
}
