//! The token flow as a whole: files, exchanges over loopback, reload, readiness, metrics.

#[path = "token/chain_tests.rs"]
mod chains;

use super::*;
use crate::{
    net::raw_server::{RawServer, reply},
    token::{
        file::tests::TestDir,
        params::{
            AuthorityParams, ClientAuthentication, EndpointParams, EntraClientAssertionParams,
            GrantParams, SubjectTokenParams, TargetParams, TenantParams, TokenExchangeParams,
            tests as variations,
        },
        slot::Injectable,
        subject::tests::jwt,
    },
};
use prometheus::Registry;
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, timeout};
use url::Url;

const FAR: u64 = 100_000_000_000;
const OK: &str = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;

fn subject(name: &str, file: PathBuf) -> SubjectTokenParams {
    SubjectTokenParams {
        name: name.into(),
        file,
    }
}

pub(crate) fn exchanged(name: &str, endpoint: Url) -> CredentialParams {
    CredentialParams {
        name: name.into(),
        grant: GrantParams::TokenExchange(TokenExchangeParams {
            endpoint: EndpointParams {
                url: endpoint,
                client_authentication: ClientAuthentication::None { client_id: None },
                parameters: vec![],
                authority: AuthorityParams::default(),
            },
            subject_token: "pod".into(),
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
            requested_token_type: None,
            target: TargetParams {
                audience: vec![],
                resource: vec![],
                scope: None,
            },
            actor_token: None,
        }),
        injection: Arc::default(),
        exchange_timeout: Duration::from_secs(10),
        caller_cache: Default::default(),
    }
}

pub(crate) struct Bench {
    pub(crate) dir: TestDir,
    pub(crate) readiness: Readiness,
    registry: Registry,
    metrics: TokenMetrics,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        Self {
            dir: TestDir::new(),
            readiness: Readiness::new(),
            registry,
            metrics,
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    pub(crate) fn write(&self, id: &str) {
        std::fs::write(self.file(), jwt(FAR, id)).unwrap();
    }

    pub(crate) fn params(&self, credentials: Vec<CredentialParams>) -> TokenParams {
        TokenParams {
            subject_tokens: vec![subject("pod", self.file())],
            credentials,
            ..TokenParams::default()
        }
    }

    pub(crate) fn start(&self, params: TokenParams) -> Result<TokenFlow, TokenFlowError> {
        TokenFlow::start(
            params,
            Clock::system(),
            self.readiness.clone(),
            self.metrics.clone(),
        )
    }

    pub(crate) fn shown(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

/// Waits for a token, also where the slot answers "not now" at once.
pub(crate) async fn token(slot: &Slot) -> Injectable {
    timeout(Duration::from_secs(20), async {
        loop {
            match slot.wait(Instant::now() + Duration::from_secs(5)).await {
                Ok(found) => return found,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .expect("a token")
}

#[tokio::test]
async fn a_file_that_comes_late_becomes_a_token_and_readiness_tells_the_story() {
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    let flow = bench
        .start(bench.params(vec![exchanged("orders", server.url())]))
        .unwrap();
    let (slot, _, unavailable) = flow.handle("orders");
    assert!(slot.load(Instant::now()).is_none());
    let names: Vec<_> = bench
        .readiness
        .report()
        .conditions
        .into_iter()
        .map(|c| (c.name, c.ready))
        .collect();
    assert_eq!(
        names,
        [
            ("credential orders".to_owned(), false),
            ("subject token pod".to_owned(), false)
        ]
    );
    bench.write("a");
    assert_eq!(token(&slot).await.header, "Bearer issued");
    assert!(bench.readiness.report().ready);
    assert!(
        server
            .form(0)
            .iter()
            .any(|(n, v)| n == "subject_token" && *v == jwt(FAR, "a"))
    );
    unavailable.inc();
    assert!(
        bench
            .shown()
            .contains(r#"token_sidecar_token_unavailable_total{credential="orders"} 1"#)
    );
    // No series and no reason shows a token.
    let told = format!("{} {:?}", bench.shown(), bench.readiness.report());
    assert!(
        !told.contains("issued\"") && !told.contains("eyJ"),
        "{told}"
    );
}

#[tokio::test]
async fn reload_keeps_what_is_unchanged_stops_what_is_gone_and_starts_what_is_new() {
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    bench.write("a");
    let (a, b, c) = (
        exchanged("a", server.url()),
        exchanged("b", server.url()),
        exchanged("c", server.url()),
    );
    let mut flow = bench.start(bench.params(vec![a.clone(), b])).unwrap();
    let (slot_a, _, _) = flow.handle("a");
    let (slot_b, _, _) = flow.handle("b");
    let first = token(&slot_a).await;
    token(&slot_b).await;
    flow.apply(bench.params(vec![a.clone(), c.clone()]), None)
        .unwrap();
    let (kept, _, _) = flow.handle("a");
    assert!(Arc::ptr_eq(&kept, &slot_a));
    assert_eq!(kept.load(Instant::now()).unwrap().serial, first.serial);
    token(&flow.handle("c").0).await;
    // Requests that still hold the old slot finish with its token; nobody renews it.
    assert!(slot_b.load(Instant::now()).is_some());
    assert_eq!(server.requests().len(), 3);
    let names: Vec<_> = bench
        .readiness
        .report()
        .conditions
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(names, ["credential a", "credential c", "subject token pod"]);
    assert!(!bench.shown().contains(r#"credential="b""#));
    // A change of the credential itself starts it anew: the old token may be for another audience.
    let mut changed = a.clone();
    if let GrantParams::TokenExchange(p) = &mut changed.grant {
        p.target.audience = vec!["other".into()];
    }
    flow.apply(bench.params(vec![changed, c.clone()]), None)
        .unwrap();
    let (fresh, _, _) = flow.handle("a");
    assert!(!Arc::ptr_eq(&fresh, &slot_a));
    token(&fresh).await;
    assert!(
        server
            .form(3)
            .contains(&("audience".into(), "other".into()))
    );
    assert!(
        bench
            .shown()
            .contains(r#"exchanges_total{credential="a",error="",result="success"}"#)
    );
    flow.stop();
    let (gone, _, _) = flow.handle("a");
    assert_eq!(
        &*gone
            .wait(Instant::now() + Duration::from_secs(5))
            .await
            .unwrap_err()
            .reason,
        "credential_removed"
    );
}

#[tokio::test]
async fn another_way_to_the_same_token_keeps_it_though_the_authority_fails() {
    type Change = fn(&mut TokenParams, &std::path::Path);
    let changes: [(&str, Change); 3] = [
        ("exchangeTimeout", |params, _| {
            params.credentials[0].exchange_timeout = Duration::from_secs(7);
        }),
        ("caFile", |params, dir| {
            let ca = rcgen::generate_simple_self_signed(vec!["as.example".into()]).unwrap();
            std::fs::write(dir.join("ca.pem"), ca.cert.pem()).unwrap();
            if let GrantParams::TokenExchange(p) = &mut params.credentials[0].grant {
                p.endpoint.authority.ca_file = Some(dir.join("ca.pem"));
            }
        }),
        ("the subject token's file", |params, dir| {
            std::fs::write(dir.join("moved"), jwt(FAR, "moved")).unwrap();
            params.subject_tokens[0].file = dir.join("moved");
        }),
    ];
    for (name, change) in changes {
        let server = RawServer::start(|n| match n {
            0 => reply("200 OK", "", OK),
            _ => reply("500 Internal Server Error", "", "{}"),
        })
        .await;
        let bench = Bench::new();
        bench.write("a");
        let mut params = bench.params(vec![exchanged("a", server.url())]);
        let mut flow = bench.start(params.clone()).unwrap();
        let (slot, _, unavailable) = flow.handle("a");
        let serial = token(&slot).await.serial;
        change(&mut params, bench.dir.path());
        flow.apply(params.clone(), None).unwrap();
        let (kept, _, _) = flow.handle("a");
        assert!(Arc::ptr_eq(&kept, &slot), "{name}");
        // The new way is tried without waiting for the time to renew.
        timeout(Duration::from_secs(20), async {
            let failed = r#"exchanges_total{credential="a",error="http_5xx",result="failure"}"#;
            while !bench.shown().contains(failed) {
                assert_eq!(
                    kept.load(Instant::now()).expect("still there").serial,
                    serial,
                    "{name}"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("tried soon");
        assert_eq!(kept.load(Instant::now()).unwrap().serial, serial, "{name}");
        let sent = jwt(
            FAR,
            if params.subject_tokens[0].file == bench.file() {
                "a"
            } else {
                "moved"
            },
        );
        assert!(
            server.form(1).contains(&("subject_token".into(), sent)),
            "{name}"
        );
        // One condition each, ready; and the series go on.
        timeout(Duration::from_secs(20), async {
            while !bench.readiness.report().ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("ready");
        assert_eq!(bench.readiness.report().conditions.len(), 2, "{name}");
        unavailable.inc();
        let shown = bench.shown();
        assert!(
            shown.contains(r#"token_unavailable_total{credential="a"} 1"#),
            "{shown}"
        );
        assert!(shown.contains(r#"issued_token_expiry_timestamp_seconds{credential="a"}"#));
        // The same again is no change: nothing is asked of the authority for it.
        flow.apply(params, None).unwrap();
        assert!(Arc::ptr_eq(&flow.handle("a").0, &slot));
        // And another token is another token after all that, too.
        let mut other = exchanged("a", server.url());
        if let GrantParams::TokenExchange(p) = &mut other.grant {
            p.target.scope = Some("other".into());
        }
        flow.apply(bench.params(vec![other]), None).unwrap();
        let (fresh, _, _) = flow.handle("a");
        assert!(fresh.load(Instant::now()).is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_token_is_never_served_for_another_client_scope_or_audience() {
    let authority = || Url::parse("http://127.0.0.1:1/token").unwrap();
    for (base, variations) in [
        variations::entra(authority()),
        variations::token_exchange(authority()),
    ] {
        for (name, varied, same) in variations {
            // Its file would have to be there; see the test above.
            if name == "ca_file" {
                continue;
            }
            // No subject token is there, so nothing is exchanged.
            let bench = Bench::new();
            let params = |grant: &GrantParams| TokenParams {
                subject_tokens: vec![
                    subject("pod", bench.file()),
                    subject("other", bench.dir.path().join("other")),
                ],
                credentials: vec![CredentialParams {
                    name: "a".into(),
                    grant: grant.clone(),
                    injection: Arc::default(),
                    exchange_timeout: Duration::from_secs(10),
                    caller_cache: Default::default(),
                }],
                ..TokenParams::default()
            };
            let mut flow = bench.start(params(&base)).unwrap();
            let (slot, _, _) = flow.handle("a");
            let far = Instant::now() + Duration::from_secs(3600);
            slot.store(http::HeaderValue::from_static("Bearer base"), far);
            flow.apply(params(&varied), None).unwrap();
            let (now, _, _) = flow.handle("a");
            assert_eq!(now.load(Instant::now()).is_some(), same, "{name}");
            assert_eq!(Arc::ptr_eq(&now, &slot), same, "{name}");
            // Requests under way finish with what they have.
            assert!(slot.load(Instant::now()).is_some());
        }
    }
}

#[tokio::test]
async fn a_reload_that_cannot_be_built_changes_nothing() {
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    bench.write("a");
    let good = exchanged("a", server.url());
    let mut flow = bench.start(bench.params(vec![good.clone()])).unwrap();
    let (slot, _, _) = flow.handle("a");
    token(&slot).await;

    let mut no_ca = exchanged("b", Url::parse("https://sts.example.com/").unwrap());
    if let GrantParams::TokenExchange(p) = &mut no_ca.grant {
        p.endpoint.authority.ca_file = Some("/nonexistent/ca.pem".into());
    }
    let error = flow.apply(bench.params(vec![no_ca]), None).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        error.to_string().contains("`b`") && source.contains("/nonexistent/ca.pem"),
        "{source}"
    );

    let unknown = TokenParams {
        credentials: vec![good],
        ..TokenParams::default()
    };
    let error = flow.apply(unknown, None).unwrap_err().to_string();
    assert!(
        error.contains("`pod`") && error.contains("subjectTokens"),
        "{error}"
    );

    assert!(Arc::ptr_eq(&flow.handle("a").0, &slot));
    assert!(bench.readiness.report().ready);
}

#[tokio::test]
async fn a_hung_authority_delays_no_other_credential() {
    // Accepts and never answers: nobody accepts from the backlog.
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", hung.local_addr().unwrap())).unwrap();
    let server = RawServer::json(OK).await;
    let bench = Bench::new();
    bench.write("a");
    let mut waits = exchanged("waits", url.clone());
    waits.exchange_timeout = Duration::from_secs(3600);
    let entra = CredentialParams {
        name: "entra".into(),
        grant: GrantParams::EntraClientAssertion(EntraClientAssertionParams {
            tenant: TenantParams {
                authority_host: url,
                tenant_id: "t".into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "c".into(),
            scope: "s/.default".into(),
            subject_token: "pod".into(),
        }),
        injection: Arc::default(),
        exchange_timeout: Duration::from_secs(3600),
        caller_cache: Default::default(),
    };
    let flow = bench
        .start(bench.params(vec![waits, entra, exchanged("quick", server.url())]))
        .unwrap();
    token(&flow.handle("quick").0).await;
    assert!(flow.handle("waits").0.load(Instant::now()).is_none());
    assert!(flow.handle("entra").0.load(Instant::now()).is_none());
}

#[tokio::test]
async fn a_slow_body_ends_with_the_exchanges_timeout_and_a_huge_one_at_the_cap() {
    // 10 MB, or a body that never ends.
    let server = RawServer::start(|_| reply("200 OK", "", &"x".repeat(10 * 1024 * 1024))).await;
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow_url = Url::parse(&format!("http://{}/", slow.local_addr().unwrap())).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = slow.accept().await.unwrap();
            crate::net::raw_server::read_request(&mut stream).await;
            tokio::io::AsyncWriteExt::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"access_token\":",
            )
            .await
            .unwrap();
            held.push(stream);
        }
    });
    let bench = Bench::new();
    bench.write("a");
    let mut trickle = exchanged("slow", slow_url);
    trickle.exchange_timeout = Duration::from_millis(300);
    let _flow = bench
        .start(bench.params(vec![trickle, exchanged("huge", server.url())]))
        .unwrap();
    timeout(Duration::from_secs(20), async {
        let seen = |series: &str| bench.shown().contains(series);
        while !(seen(r#"exchanges_total{credential="slow",error="timeout",result="failure"}"#)
            && seen(
                r#"exchanges_total{credential="huge",error="reply_too_large",result="failure"}"#,
            ))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("both fail in their own way");
}
