//! What the tests of the inbound side share: an issuer of callers' tokens, a workload that knows nothing of tokens, and a sidecar in front of it.

use crate::lab::{program, start};
use harness::{
    body::{self, Body},
    caller_issuer::{CallerIssuer, Discovery},
    certs::Ca,
    client::{Answer, Client},
    process::{Sidecar, SidecarSetup},
    workload::{Received, Workload},
};
use http::{Request, request::Builder};

/// The workload as its callers know it.
pub(crate) const RESOURCE: &str = "https://mcp.example.com/mcp";

/// Everything around the inbound side.
pub(crate) struct InboundLab {
    pub(crate) ca: Ca,
    pub(crate) issuer: CallerIssuer,
    pub(crate) workload: Workload,
}

impl InboundLab {
    pub(crate) async fn new() -> Self {
        Self::with(Discovery::OpenId).await
    }

    pub(crate) async fn with(discovery: Discovery) -> Self {
        let ca = Ca::new().unwrap();
        Self {
            issuer: CallerIssuer::start(&ca, discovery).await.unwrap(),
            workload: Workload::start().await.unwrap(),
            ca,
        }
    }

    /// A configuration with an inbound side alone. `more` are further keys of it, as flow-style YAML behind a comma.
    pub(crate) fn config(&self, more: &str) -> String {
        self.config_for(&format!(
            "issuers: [{{ issuer: '{}', caFile: '{}' }}]{more}",
            self.issuer.url(),
            self.ca.file().display()
        ))
    }

    /// As [`InboundLab::config`], with all keys but listener, workload and resource.
    pub(crate) fn config_for(&self, keys: &str) -> String {
        format!(
            "listen: '{{listen}}'\nadmin: '{{admin}}'\n\
             inbound: {{ listen: '{{inbound}}', upstream: '{}', resource: '{RESOURCE}', {keys} }}\n",
            self.workload.url()
        )
    }

    /// A sidecar that is ready.
    pub(crate) async fn sidecar(&self, more: &str) -> Sidecar {
        self.ready(self.config(more)).await
    }

    /// A sidecar with this configuration, ready.
    pub(crate) async fn ready(&self, config: String) -> Sidecar {
        let sidecar = start(&SidecarSetup::default().config(config)).await;
        sidecar.ready().await.unwrap();
        sidecar
    }

    /// A sidecar that is not waited for.
    pub(crate) async fn started(&self, config: String) -> Sidecar {
        Sidecar::start(program(), &SidecarSetup::default().config(config))
            .await
            .unwrap()
    }

    /// A good token of `subject`.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.issuer.token(subject, RESOURCE).unwrap()
    }

    /// The last request that the workload received.
    pub(crate) fn last(&self) -> Received {
        self.workload.received().last().unwrap()
    }
}

/// A GET with a bearer token.
pub(crate) fn with_token(path: &str, token: &str) -> Request<Body> {
    bare(Request::get(path).header("authorization", format!("Bearer {token}")))
}

/// A request without a body.
pub(crate) fn bare(builder: Builder) -> Request<Body> {
    builder.body(body::empty()).unwrap()
}

/// A client of the inbound listener.
pub(crate) fn client(sidecar: &Sidecar) -> Client {
    Client::new(sidecar.inbound())
}

/// Sends to the inbound listener.
pub(crate) async fn send(sidecar: &Sidecar, request: Request<Body>) -> Answer {
    client(sidecar).send(request).await.unwrap()
}
