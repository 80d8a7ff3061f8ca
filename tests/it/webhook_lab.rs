//! A real webhook process with a certificate of its own, and reviews to send it.

use crate::lab::program;
use harness::{
    certs::{Ca, Leaf},
    client::{Answer, Client},
    process::{AS_SIDECAR, Metrics, Process},
    temp::TempDir,
    wait::eventually,
};
use http::Request;
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The recorded reviews and the profiles that go with them.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/admission")
}

/// A recorded review.
pub(crate) fn recorded(name: &str) -> Value {
    let text = fs::read(samples().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A webhook that runs.
pub(crate) struct Injector {
    pub(crate) process: Process,
    pub(crate) ca: Ca,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
}

impl Injector {
    /// With the sample profiles, in the namespace `injector`.
    pub(crate) async fn start() -> Self {
        Self::with(&fs::read_to_string(samples().join("profiles.yaml")).unwrap()).await
    }

    /// With other profiles.
    pub(crate) async fn with(profiles: &str) -> Self {
        Self::listening(profiles, "127.0.0.1:0").await
    }

    /// With other profiles; `every` is where it listens, for reviews as for probes.
    pub(crate) async fn listening(profiles: &str, every: &str) -> Self {
        let (ca, dir) = (
            Ca::new().unwrap(),
            TempDir::new("token-sidecar-webhook").unwrap(),
        );
        fs::write(dir.join("profiles.yaml"), profiles).unwrap();
        certify(&ca, dir.path());
        Self::of(ca, dir, every, "injector").await
    }

    /// With the profiles and the certificate that are in a directory.
    pub(crate) async fn of(ca: Ca, dir: TempDir, every: &str, namespace: &str) -> Self {
        let mut args: Vec<OsString> = vec![AS_SIDECAR.into(), "webhook".into()];
        for (option, file) in [
            ("--profiles", "profiles.yaml"),
            ("--certificate", "tls.crt"),
            ("--key", "tls.key"),
        ] {
            args.extend([option.into(), dir.join(file).into()]);
        }
        for option in [
            &format!("--listen={every}"),
            &format!("--admin={every}"),
            &format!("--namespace={namespace}"),
            "--shutdown-delay=0s",
            "--log-level=debug",
        ] {
            args.push(option.into());
        }
        let process = Process::spawn(program(), &args, &[].into()).unwrap();
        let admin = address(&process, "\"admin port\"").await;
        let address = address(&process, "\"listening\"").await;
        Self {
            process,
            ca,
            address,
            admin,
            dir,
        }
    }

    /// A client that trusts the authority of the certificate.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address).tls(&self.ca).unwrap()
    }

    /// Sends a review.
    pub(crate) async fn ask(&self, review: &Value) -> Answer {
        let request =
            Request::post("/mutate?timeout=5s").header("content-type", "application/json");
        self.client()
            .send(
                request
                    .body(harness::body::full(review.to_string()))
                    .unwrap(),
            )
            .await
            .unwrap()
    }

    /// The `response` of a review that was answered.
    pub(crate) async fn response(&self, review: &Value) -> Value {
        let answer = self.ask(review).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["kind"], "AdmissionReview");
        assert_eq!(answer.json()["response"]["uid"], review["request"]["uid"]);
        answer.json()["response"].clone()
    }

    /// Waits until the metrics satisfy `wanted`.
    pub(crate) async fn metric(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        eventually(what, || async {
            let metrics = Metrics(Client::new(self.admin).get("/metrics").await.ok()?.text());
            wanted(&metrics).then_some(metrics)
        })
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", self.process.output()))
    }
}

/// Puts a new certificate for `localhost` into a directory, each file in one step.
pub(crate) fn certify(ca: &Ca, dir: &Path) {
    install(ca, &ca.leaf(&["localhost"]).unwrap(), dir);
}

/// Puts a certificate into a directory, each file in one step.
pub(crate) fn install(ca: &Ca, leaf: &Leaf, dir: &Path) {
    let (chain, key) = ca.write_leaf("webhook", leaf).unwrap();
    for (from, to) in [(chain, "tls.crt"), (key, "tls.key")] {
        let new = dir.join(format!("{to}.new"));
        fs::copy(from, &new).unwrap();
        fs::rename(new, dir.join(to)).unwrap();
    }
}

/// The address that a log line with `text` names.
async fn address(process: &Process, text: &str) -> SocketAddr {
    let line = process
        .logged(text)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", process.output()));
    let line: Value = serde_json::from_str(&line).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

/// The pod with a response's patch applied by a library that is not ours.
pub(crate) fn patched(review: &Value, response: &Value) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut pod = review["request"]["object"].clone();
    if response["patch"].is_null() {
        return pod;
    }
    assert_eq!(response["patchType"], "JSONPatch");
    let text = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&text).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}
