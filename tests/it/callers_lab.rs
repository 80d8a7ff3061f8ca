//! What the tests on behalf of callers share: an authorization server that answers as a test says, and a bench with everything around the sidecar.

use crate::{
    inbound_lab::{InboundLab, send, with_token},
    injection::{Upstream, one, reply},
    lab::{PATIENT, start},
};
use harness::{
    body::Body,
    client::Answer,
    issuer::{Issuer, ProjectedToken},
    process::{Sidecar, SidecarSetup},
    record::Record,
    serve::{Server, handler},
    volume::{Layout, TokenVolume},
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// The fields of a token request.
pub(crate) type Form = HashMap<String, String>;

type Answers = Arc<Mutex<Box<dyn Fn(&Form, usize) -> Response<Body> + Send>>>;

/// An authorization server that answers as a test says.
pub(crate) struct Sts {
    server: Server,
    pub(crate) forms: Arc<Record<Form>>,
    answers: Answers,
}

pub(crate) fn issued(token: &str, life: u64) -> Response<Body> {
    let text = format!(
        r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{life},"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}}"#
    );
    reply(StatusCode::OK, &[], text)
}

pub(crate) fn refused(status: StatusCode, text: &str) -> Response<Body> {
    reply(status, &[], text)
}

impl Sts {
    /// Issues a token that says for whom, and which one it is.
    pub(crate) async fn start() -> Self {
        let answers: Answers = Arc::new(Mutex::new(Box::new(|form, number| {
            issued(&format!("{}-{number}", subject(form)), 3600)
        })));
        let forms = Arc::new(Record::new());
        let (record, say) = (Arc::clone(&forms), Arc::clone(&answers));
        let server = Server::start(
            None,
            handler(move |request: Request<hyper::body::Incoming>, _| {
                let (record, say) = (Arc::clone(&record), Arc::clone(&say));
                async move {
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    let form: Form = form_urlencoded::parse(&bytes).into_owned().collect();
                    let number = record.push_numbered(|_| form.clone());
                    // Long enough for calls at once to be at once.
                    sleep(Duration::from_millis(50)).await;
                    let answers = say.lock().unwrap();
                    answers(&form, number + 1)
                }
            }),
        )
        .await
        .unwrap();
        Self {
            server,
            forms,
            answers,
        }
    }

    pub(crate) fn say(&self, answers: impl Fn(&Form, usize) -> Response<Body> + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/token", self.server.address())
    }
}

/// `sub` of the caller's token that is exchanged.
pub(crate) fn subject(form: &Form) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = form["subject_token"].split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// All of them: callers' issuer and workload, authorization server, upstream, and a sidecar with a credential for callers and the pod's own.
pub(crate) struct Bench {
    pub(crate) lab: InboundLab,
    pub(crate) sts: Sts,
    pub(crate) upstream: Upstream,
    pub(crate) sidecar: Sidecar,
    _volume: TokenVolume,
}

impl Bench {
    /// Handles outlast any test.
    pub(crate) async fn new() -> Self {
        Self::with(Upstream::open().await, "", ", handleGrace: 10m").await
    }

    /// `route`: further keys of the route; `more`: further keys of the inbound side.
    pub(crate) async fn with(upstream: Upstream, route: &str, more: &str) -> Self {
        let (lab, sts) = (InboundLab::new().await, Sts::start().await);
        let volume = TokenVolume::new(Layout::Nested).unwrap();
        let issuer = Issuer::new("https://issuer.example/").unwrap();
        volume
            .write(issuer.mint(&ProjectedToken::default()).unwrap())
            .unwrap();
        let config = format!(
            "{}log: {{ level: trace }}\nsubjectTokens: {{ pod: {{ file: '{}' }} }}\n\
             credentials:\n  user: {{ tokenExchange: {{ tokenEndpoint: '{sts}', subjectToken: caller, audience: [orders], scope: orders.read,\n\
             \x20   clientAuthentication: {{ clientAssertion: {{ subjectToken: pod }} }} }} }}\n\
             \x20 pod: {{ tokenExchange: {{ tokenEndpoint: '{sts}', audience: [pods] }} }}\n\
             routes:\n  - {{ name: orders, upstream: '{}', credential: user{PATIENT}{route} }}\n\
             \x20 - {{ name: pods, match: {{ pathPrefix: /pods }}, upstream: '{}', credential: pod{PATIENT} }}\n",
            lab.config(more),
            volume.file().display(),
            upstream.url(),
            upstream.url(),
            sts = sts.url(),
        );
        let sidecar = start(&SidecarSetup::default().config(config)).await;
        sidecar.ready().await.unwrap();
        sts.forms.clear();
        Self {
            lab,
            sts,
            upstream,
            sidecar,
            _volume: volume,
        }
    }

    /// A handle of this caller's, which lasts for the grace.
    pub(crate) async fn handle(&self, user: &str) -> String {
        let answer = send(&self.sidecar, with_token("/hello", &self.lab.token(user))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.lab.last().handle().unwrap().to_owned()
    }

    /// A call of the workload's with this handle.
    pub(crate) async fn call(&self, handle: &str, path: &str) -> Answer {
        self.sidecar
            .client()
            .send(with_token(path, handle))
            .await
            .unwrap()
    }

    /// `Authorization` of what reached the upstream last.
    pub(crate) fn sent(&self) -> String {
        one(&self.upstream.got.last().unwrap(), "authorization").to_owned()
    }
}
