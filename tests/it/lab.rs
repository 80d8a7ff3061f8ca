//! What most tests need: an authority, an upstream that verifies its tokens, a token volume, and a real sidecar process between them.

use harness::{
    authority::{
        Authority, Options,
        options::{RESOURCE, SCOPE},
    },
    certs::Ca,
    demo::stage::aks_environment,
    process::{Sidecar, SidecarSetup},
    upstream::Upstream,
    volume::{Layout, TokenVolume},
};
use std::path::Path;

/// The multi-call binary that is the sidecar and the MCP server.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_demo"))
}

/// Further keys of a route whose requests are to pass although they need a new token first: by default they would wait for it for two seconds, which a busy
/// machine may need for an exchange.
pub(crate) const PATIENT: &str = ", tokenWait: 1m";

/// Everything but the sidecar.
pub(crate) struct Lab {
    pub(crate) ca: Ca,
    pub(crate) authority: Authority,
    pub(crate) upstream: Upstream,
    pub(crate) volume: TokenVolume,
}

impl Lab {
    /// Default options, nested layout, a good projected token in place.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// As [`Lab::new`], with other options.
    pub(crate) async fn with(options: Options) -> Self {
        let lab = Self::without_token(options, TokenVolume::new(Layout::Nested).unwrap()).await;
        lab.rotate();
        lab
    }

    /// The volume as it is.
    pub(crate) async fn without_token(options: Options, volume: TokenVolume) -> Self {
        let ca = Ca::new().unwrap();
        let authority = Authority::start(&ca, options).await.unwrap();
        let upstream = Upstream::https(&ca, authority.access_tokens(), RESOURCE)
            .await
            .unwrap();
        Self {
            ca,
            authority,
            upstream,
            volume,
        }
    }

    /// Writes a new projected token, and gives it.
    pub(crate) fn rotate(&self) -> String {
        let token = self.authority.projected_token().unwrap();
        self.volume.write(&token).unwrap();
        token
    }

    /// What AKS injects, and the root certificate: for a sidecar with a configuration file.
    pub(crate) fn aks(&self) -> SidecarSetup {
        aks_environment(&self.ca, &self.authority, &self.volume)
    }

    /// [`Lab::aks`] and the two settings of the quick start.
    pub(crate) fn quick(&self) -> SidecarSetup {
        self.aks()
            .env("TOKEN_SIDECAR_UPSTREAM", self.upstream.url())
            .env("TOKEN_SIDECAR_SCOPE", SCOPE)
    }

    /// [`Lab::quick`] as a configuration, with a route that is [`PATIENT`].
    pub(crate) fn patient(&self) -> SidecarSetup {
        self.aks().config(format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials:\n  default: {{ entraClientAssertion: {{ scope: {SCOPE} }} }}\n\
             routes:\n  - {{ name: default, upstream: '{}', credential: default{PATIENT} }}\n",
            self.upstream.url()
        ))
    }

    /// A configuration with one Entra credential and one route, both called `backend`.
    pub(crate) fn config(&self) -> String {
        format!(
            "listen: {{listen}}\nadmin: {{admin}}\n\
             credentials:\n  backend: {{ entraClientAssertion: {{ scope: {SCOPE} }} }}\n\
             routes:\n  - {{ name: backend, upstream: '{}', credential: backend }}\n",
            self.upstream.url()
        )
    }

    /// Starts the quick-start sidecar; does not wait for readiness.
    pub(crate) async fn sidecar(&self) -> Sidecar {
        start(&self.quick()).await
    }

    /// Starts the quick-start sidecar and waits for readiness.
    pub(crate) async fn ready_sidecar(&self) -> Sidecar {
        let sidecar = self.sidecar().await;
        sidecar.ready().await.unwrap();
        sidecar
    }

    /// As [`Lab::ready_sidecar`], of [`Lab::patient`].
    pub(crate) async fn patient_sidecar(&self) -> Sidecar {
        let sidecar = start(&self.patient()).await;
        sidecar.ready().await.unwrap();
        sidecar
    }

    /// The `client_assertion` of the newest token request.
    pub(crate) fn last_assertion(&self) -> String {
        let request = self.authority.requests().last().unwrap();
        request
            .field("client_assertion")
            .unwrap_or_default()
            .to_owned()
    }
}

/// Starts a sidecar and waits until its admin port answers.
pub(crate) async fn start(setup: &SidecarSetup) -> Sidecar {
    Sidecar::start(program(), setup).await.unwrap()
}

/// The request got 200, the token was good.
pub(crate) async fn assert_passes(sidecar: &Sidecar) {
    let answer = sidecar.client().get("/users/123").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["id"]),
        (200, &"123".into()),
        "{}\n{}",
        answer.text(),
        sidecar.process.output()
    );
}

/// The request was refused for want of a token: 503, `Retry-After`, a problem that names the reason, nothing of the authority's text.
pub(crate) async fn assert_unavailable(sidecar: &Sidecar) {
    let answer = sidecar.client().get("/users/123").await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|seconds| seconds >= 1),
        "{:?}",
        answer.headers
    );
    assert_eq!(answer.json()["status"], 503, "{}", answer.text());
    assert!(
        !answer.text().contains("AADSTS") && !answer.text().contains("Refused by script"),
        "{}",
        answer.text()
    );
}
