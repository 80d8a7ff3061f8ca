//! What the tests of the request flow share: configurations of several routes, a ready sidecar, a report of all rows that failed.

use crate::lab::{Lab, PATIENT, start};
use harness::{
    authority::options::{RESOURCE, SCOPE},
    body::{self, Body},
    client::{Answer, Client},
    process::Sidecar,
    upstream::{Received, Upstream},
    wait::{LONG, within},
};
use http::Request;
use tokio::task::JoinSet;

/// A configuration: lines for the top level, then one flow-style map for each route. All routes use the credential `backend`, and wait for its token
/// patiently unless they say for how long.
pub(crate) fn config(top: &str, routes: &[String]) -> String {
    let mut text = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\n{top}\n\
         credentials:\n  backend: {{ entraClientAssertion: {{ scope: {SCOPE} }} }}\nroutes:\n"
    );
    for route in routes {
        let wait = if route.contains("tokenWait") {
            ""
        } else {
            PATIENT
        };
        text.push_str(&format!("  - {{ credential: backend, {route}{wait} }}\n"));
    }
    text
}

/// One route named `backend` to `url`; `more` is put behind (`, timeouts: …`).
pub(crate) fn route(url: &str, more: &str) -> String {
    format!("name: backend, upstream: '{url}'{more}")
}

/// A sidecar with this configuration, ready.
pub(crate) async fn ready(lab: &Lab, config: impl Into<String>) -> Sidecar {
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    sidecar
}

/// An upstream over plain http (HTTP/1.1, or h2 by prior knowledge) that asks for tokens of the lab's authority.
pub(crate) async fn plain_upstream(lab: &Lab) -> Upstream {
    Upstream::http(lab.authority.access_tokens(), RESOURCE)
        .await
        .unwrap()
}

/// A lab, an upstream over plain http, and a ready sidecar with one route there.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) upstream: Upstream,
    pub(crate) sidecar: Sidecar,
}

impl Bench {
    /// `top`: further lines of the configuration; `more`: further keys of the route.
    pub(crate) async fn new(top: &str, more: &str) -> Self {
        let lab = Lab::new().await;
        let upstream = plain_upstream(&lab).await;
        let sidecar = ready(&lab, config(top, &[route(&upstream.url(), more)])).await;
        Self {
            lab,
            upstream,
            sidecar,
        }
    }

    /// Sends through the sidecar.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.sidecar.client().send(request).await.unwrap()
    }

    /// Sends through the sidecar, and gives what the upstream received.
    pub(crate) async fn received(&self, request: Request<Body>) -> Received {
        let before = self.upstream.requests().len();
        let answer = self.send(request).await;
        let received = self.upstream.requests().since(before);
        assert_eq!(
            received.len(),
            1,
            "{} {}\n{}",
            answer.status,
            answer.text(),
            self.sidecar.process.output()
        );
        received.into_iter().next().unwrap()
    }
}

/// A GET as bytes.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A GET.
pub(crate) fn get_request(path: &str) -> Request<Body> {
    Request::get(path).body(body::empty()).unwrap()
}

/// Many at once, over a connection each.
pub(crate) async fn at_once(client: &Client, count: usize, path: &'static str) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        tasks.spawn(async move { client.get(path).await.unwrap() });
    }
    within(LONG, "all answers", tasks.join_all()).await.unwrap()
}

/// Collects what is wrong in a table of rows, so that one run shows all of it.
#[derive(Default)]
pub(crate) struct Report(Vec<String>);

impl Report {
    /// Notes a failure of `row`.
    pub(crate) fn note(&mut self, row: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{row}: {what}"));
    }

    /// Notes a failure of `row` unless `ok`.
    pub(crate) fn check(&mut self, row: &str, ok: bool, what: impl std::fmt::Display) {
        if !ok {
            self.note(row, what);
        }
    }

    /// Panics with all failures, if there are any.
    pub(crate) fn end(self) {
        assert!(
            self.0.is_empty(),
            "{} rows failed:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}

/// An answer of the sidecar's own: problem+json with this status and reason, `Proxy-Status`, and nothing secret.
pub(crate) fn problem(answer: &Answer, status: u16, reason: &str) -> Result<(), String> {
    let json = answer.json();
    let said = || format!("{} {:?} {}", answer.status, answer.headers, answer.text());
    if answer.status != status || json["status"] != status {
        return Err(format!("status is not {status}: {}", said()));
    }
    if json["reason"] != reason {
        return Err(format!("reason is not {reason}: {}", said()));
    }
    if answer.header("content-type") != "application/problem+json" {
        return Err(format!("not problem+json: {}", said()));
    }
    if !answer
        .header("proxy-status")
        .starts_with("token-sidecar; error=")
    {
        return Err(format!("no Proxy-Status: {}", said()));
    }
    if json["title"].as_str().is_none_or(str::is_empty)
        || json["detail"].as_str().is_none_or(str::is_empty)
    {
        return Err(format!("does not say what to do: {}", said()));
    }
    if answer.text().contains("Bearer ") || answer.text().contains("eyJ") {
        return Err(format!("a secret: {}", said()));
    }
    let retry = answer.header("retry-after").parse::<u64>().ok();
    if (status == 503) != retry.is_some_and(|seconds| seconds >= 1) {
        return Err(format!("Retry-After belongs to 503 alone: {}", said()));
    }
    Ok(())
}
