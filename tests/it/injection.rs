//! Credentials that do not go into `Authorization: Bearer`: bound by DPoP (RFC 9449), transaction tokens, static secrets. The servers here are small, and check
//! what they get as real ones would.

use crate::lab::{PATIENT, start};
use harness::{
    body::{self, Body, full},
    dpop::{Expected, Refused, Verifier},
    issuer::{Issuer, ProjectedToken},
    process::{Sidecar, SidecarSetup},
    record::Record,
    serve::{Server, handler},
    temp::TempDir,
    volume::{Layout, TokenVolume},
    wait::eventually,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

pub(crate) fn reply(
    status: StatusCode,
    headers: &[(&str, &str)],
    text: impl Into<String>,
) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(full(text.into())).unwrap()
}

/// An authorization server that issues what it is told to, to whoever proves to have a key when that is wanted.
pub(crate) struct Sts {
    server: Server,
    shared: Arc<StsShared>,
}

#[derive(Default)]
struct StsShared {
    verifier: Verifier,
    /// `token_type` and further members of the replies.
    says: Mutex<(String, String)>,
    url: OnceLock<String>,
    requests: AtomicUsize,
    issued: AtomicUsize,
    /// The key that each token is bound to.
    bound: Mutex<HashMap<String, String>>,
}

impl Sts {
    pub(crate) async fn start(token_type: &str, more: &str) -> Self {
        let shared = Arc::new(StsShared::default());
        *shared.says.lock().unwrap() = (token_type.to_owned(), more.to_owned());
        let state = Arc::clone(&shared);
        let server = Server::start(
            None,
            handler(move |request: Request<_>, _| {
                let state = Arc::clone(&state);
                async move { state.answer(request.headers()) }
            }),
        )
        .await
        .unwrap();
        let url = format!("http://{}/token", server.address());
        shared.url.set(url).unwrap();
        Self { server, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/token?tenant=a", self.server.address())
    }

    fn issued(&self) -> usize {
        self.shared.issued.load(SeqCst)
    }

    fn thumbprint(&self, token: &str) -> Option<String> {
        self.shared.bound.lock().unwrap().get(token).cloned()
    }
}

impl StsShared {
    fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        self.requests.fetch_add(1, SeqCst);
        let (token_type, more) = self.says.lock().unwrap().clone();
        let token = format!("token-{}", self.issued.load(SeqCst) + 1);
        if token_type == "DPoP" {
            let expected = Expected {
                method: &Method::POST,
                url: self.url.get().unwrap(),
                token: None,
                thumbprint: None,
            };
            match self.verifier.check(headers, &expected) {
                Ok(thumbprint) => {
                    self.bound.lock().unwrap().insert(token.clone(), thumbprint);
                }
                Err(Refused::Nonce) => {
                    let nonce = self.verifier.nonce.lock().unwrap().clone().unwrap();
                    return reply(
                        StatusCode::BAD_REQUEST,
                        &[("dpop-nonce", &nonce)],
                        r#"{"error":"use_dpop_nonce"}"#,
                    );
                }
                Err(Refused::Proof(why)) => {
                    return reply(
                        StatusCode::BAD_REQUEST,
                        &[],
                        format!(r#"{{"error":"invalid_dpop_proof","error_description":"{why}"}}"#),
                    );
                }
            }
        }
        self.issued.fetch_add(1, SeqCst);
        reply(
            StatusCode::OK,
            &[],
            format!(
                r#"{{"access_token":"{token}","token_type":"{token_type}","expires_in":3600{more}}}"#
            ),
        )
    }
}

/// What an upstream received: the request's head, and its body.
#[derive(Clone)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

pub(crate) type Judge = Arc<dyn Fn(&Got) -> Response<Body> + Send + Sync>;

pub(crate) struct Upstream {
    pub(crate) server: Server,
    pub(crate) got: Arc<Record<Got>>,
}

impl Upstream {
    pub(crate) async fn start(judge: Judge) -> Self {
        let got = Arc::new(Record::new());
        let record = Arc::clone(&got);
        let server = Server::start(
            None,
            handler(move |request: Request<hyper::body::Incoming>, _| {
                let (record, judge) = (Arc::clone(&record), Arc::clone(&judge));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let entry = Got {
                        method: parts.method,
                        path: parts.uri.path().to_owned(),
                        headers: parts.headers,
                        body: String::from_utf8(body.to_vec()).unwrap(),
                    };
                    let answer = judge(&entry);
                    record.push(entry);
                    answer
                }
            }),
        )
        .await
        .unwrap();
        Self { server, got }
    }

    /// Takes whatever comes.
    pub(crate) async fn open() -> Self {
        Self::start(Arc::new(|_| reply(StatusCode::OK, &[], "ok"))).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

pub(crate) fn one<'g>(got: &'g Got, name: &str) -> &'g str {
    let all: Vec<_> = got.headers.get_all(name).iter().collect();
    assert_eq!(all.len(), 1, "{name}");
    all[0].to_str().unwrap()
}

struct Bench {
    sts: Sts,
    upstream: Upstream,
    sidecar: Sidecar,
    _volume: TokenVolume,
}

/// A sidecar with one credential, which `inject` is of.
async fn bench(sts: Sts, upstream: Upstream, exchange: &str, inject: &str) -> Bench {
    let volume = TokenVolume::new(Layout::Nested).unwrap();
    let issuer = Issuer::new("https://issuer.example/").unwrap();
    volume
        .write(issuer.mint(&ProjectedToken::default()).unwrap())
        .unwrap();
    let config = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\nsubjectTokens: {{ pod: {{ file: '{}' }} }}\n\
         credentials:\n  c:\n    tokenExchange: {{ tokenEndpoint: '{}'{exchange} }}\n    inject: {{ {inject} }}\n\
         routes:\n  - {{ name: r, upstream: '{}/base', credential: c, replayBuffer: 1KiB{PATIENT} }}\n",
        volume.file().display(),
        sts.url(),
        upstream.url()
    );
    let sidecar = start(&SidecarSetup::default().config(config)).await;
    Bench {
        sts,
        upstream,
        sidecar,
        _volume: volume,
    }
}

/// An upstream that takes tokens of the STS with a proof of the key that they are bound to, and the nonce that it wants at the time.
pub(crate) async fn bound_upstream(sts: &Sts, verifier: &Arc<Verifier>) -> Upstream {
    let (state, verifier) = (Arc::clone(&sts.shared), Arc::clone(verifier));
    let address = Arc::new(OnceLock::<String>::new());
    let own = Arc::clone(&address);
    let upstream = Upstream::start(Arc::new(move |got: &Got| {
        let refuse = |challenge: &str| {
            let nonce = verifier.nonce.lock().unwrap().clone().unwrap_or_default();
            reply(
                StatusCode::UNAUTHORIZED,
                &[("www-authenticate", challenge), ("dpop-nonce", &nonce)],
                "refused",
            )
        };
        let Some(token) = one(got, "authorization").strip_prefix("DPoP ") else {
            return refuse(r#"DPoP error="invalid_token""#);
        };
        let Some(thumbprint) = state.bound.lock().unwrap().get(token).cloned() else {
            return refuse(r#"DPoP error="invalid_token""#);
        };
        let url = format!("{}{}", own.get().unwrap(), got.path);
        let expected = Expected {
            method: &got.method,
            url: &url,
            token: Some(token),
            thumbprint: Some(&thumbprint),
        };
        match verifier.check(&got.headers, &expected) {
            Ok(_) => reply(StatusCode::OK, &[("dpop-nonce", "next")], got.body.clone()),
            Err(Refused::Nonce) => refuse(r#"DPoP error="use_dpop_nonce""#),
            Err(Refused::Proof(why)) => refuse(&format!(
                r#"DPoP error="invalid_dpop_proof", error_description="{}""#,
                why.replace('"', "'")
            )),
        }
    }))
    .await;
    address.set(upstream.url()).unwrap();
    upstream
}

/// RFC 9449: the token request proves the key and gets a nonce; each request has a proof of its own; an upstream that wants a nonce gets it at the
/// second try, with the same token.
#[tokio::test]
async fn dpop_proofs_hold_at_the_authority_and_at_the_upstream() {
    let sts = Sts::start("DPoP", "").await;
    sts.shared.verifier.want("as-nonce");
    let verifier = Arc::new(Verifier::default());
    let upstream = bound_upstream(&sts, &verifier).await;
    let bench = bench(sts, upstream, "", "tokenType: DPoP").await;
    bench.sidecar.ready().await.unwrap();
    // The first attempt had no nonce.
    assert_eq!(bench.sts.shared.requests.load(SeqCst), 2);
    assert_eq!(bench.sts.issued(), 1);

    let client = bench.sidecar.client();
    let answer = client.get("/orders/1?secret=x").await.unwrap();
    assert_eq!(answer.status, 200, "{} {:?}", answer.text(), answer.headers);
    assert_eq!(answer.header("dpop-nonce"), "", "the nonce is ours");
    let got = bench.upstream.got.last().unwrap();
    assert_eq!(got.path, "/base/orders/1");
    assert!(bench.sts.thumbprint("token-1").is_some());

    // Another nonce is wanted: one replay, for a body too, and no exchange.
    for (round, nonce) in ["up-1", "up-2"].into_iter().enumerate() {
        verifier.want(nonce);
        let before = bench.upstream.got.len();
        let request = Request::post("/orders").body(full("body")).unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "body"),
            "{round}"
        );
        assert_eq!(bench.upstream.got.len() - before, 2, "{round}");
        verifier.want("next");
        let answer = client.get("/again").await.unwrap();
        assert_eq!(answer.status, 200, "the nonce of the last response is used");
        assert_eq!(bench.upstream.got.len() - before, 3, "{round}");
    }
    // A body that is too large to send again: the 401 passes, the nonce is kept, the token too.
    verifier.want("up-3");
    let large = "x".repeat(4096);
    let large = || Request::post("/orders").body(full(large.clone())).unwrap();
    assert_eq!(client.send(large()).await.unwrap().status, 401);
    assert_eq!(client.send(large()).await.unwrap().status, 200);
    assert_eq!(
        bench.sts.issued(),
        1,
        "a nonce is no reason to get another token"
    );

    // A token that is refused is replaced as any other.
    bench.sts.shared.bound.lock().unwrap().clear();
    assert_eq!(client.get("/orders/2").await.unwrap().status, 200);
    assert_eq!(bench.sts.issued(), 2);
    let said = bench.sidecar.process.output();
    assert!(
        !said.contains("token-1") && !said.contains("dpop+jwt"),
        "{said}"
    );
}

/// A reply of a type that the route cannot send is refused, either way.
#[tokio::test]
async fn a_token_of_a_type_that_the_route_cannot_send_is_refused() {
    for (issued, inject) in [
        ("Bearer", "tokenType: DPoP"),
        // One that binds tokens without having seen a proof.
        ("dpop", ""),
        ("N_A", ""),
        ("Bearer", "tokenType: N_A, header: Txn-Token"),
    ] {
        let sts = Sts::start("", "").await;
        *sts.shared.says.lock().unwrap() = (issued.into(), String::new());
        let bench = bench(sts, Upstream::open().await, "", inject).await;
        let pending = bench.sidecar.pending("reply_token_type").await.unwrap();
        assert!(!pending.text().contains("token-1"));
        assert_eq!(bench.sidecar.client().get("/x").await.unwrap().status, 503);
        assert!(bench.upstream.got.is_empty(), "{issued} {inject}");
    }
}

/// draft-ietf-oauth-transaction-tokens: no access token (`N_A`), in a field of its own, never in `Authorization`.
#[tokio::test]
async fn a_transaction_token_goes_into_its_own_field() {
    let sts = Sts::start(
        "N_A",
        r#","issued_token_type":"urn:ietf:params:oauth:token-type:txn_token""#,
    )
    .await;
    let bench = bench(
        sts,
        Upstream::open().await,
        ", requestedTokenType: 'urn:ietf:params:oauth:token-type:txn_token'",
        "header: Txn-Token, tokenType: N_A",
    )
    .await;
    bench.sidecar.ready().await.unwrap();
    let request = Request::get("/x")
        .header("txn-token", "forged")
        .header("authorization", "Bearer forged")
        .body(body::empty())
        .unwrap();
    assert_eq!(
        bench.sidecar.client().send(request).await.unwrap().status,
        200
    );
    let got = bench.upstream.got.last().unwrap();
    assert_eq!(one(&got, "txn-token"), "token-1");
    assert!(!got.headers.contains_key("authorization"));
}

/// A secret from a file, under its own name; it takes over when the file changes, and is never shown.
#[tokio::test]
async fn a_static_secret_is_read_from_its_file_and_followed() {
    let dir = TempDir::new("token-sidecar-secret").unwrap();
    let file = dir.join("token");
    let upstream = Upstream::open().await;
    let config = format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\n\
         credentials:\n  vault:\n    staticSecret: {{ file: '{}' }}\n    inject: {{ header: X-Vault-Token }}\n\
         routes:\n  - {{ name: r, upstream: '{}', credential: vault }}\n",
        file.display(),
        upstream.url()
    );
    let sidecar = start(&SidecarSetup::default().config(config)).await;
    sidecar.pending("static_secret_unreadable").await.unwrap();
    assert_eq!(sidecar.client().get("/x").await.unwrap().status, 503);
    std::fs::write(&file, "hvs.first\n").unwrap();
    sidecar.ready().await.unwrap();
    let request = || {
        Request::get("/x")
            .header("x-vault-token", "forged")
            .header("authorization", "Bearer forged")
            .body(body::empty())
            .unwrap()
    };
    assert_eq!(sidecar.client().send(request()).await.unwrap().status, 200);
    let got = upstream.got.last().unwrap();
    assert_eq!(one(&got, "x-vault-token"), "hvs.first");
    assert!(!got.headers.contains_key("authorization"));
    std::fs::write(&file, "hvs.second").unwrap();
    eventually("the second secret", || async {
        sidecar.client().send(request()).await.ok()?;
        (one(&upstream.got.last()?, "x-vault-token") == "hvs.second").then_some(())
    })
    .await
    .unwrap();
    let said = sidecar.process.output();
    assert!(!said.contains("hvs."), "{said}");
    assert!(
        !sidecar
            .admin_get("/metrics")
            .await
            .unwrap()
            .text()
            .contains("hvs.")
    );
}
