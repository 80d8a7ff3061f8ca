//! The harness judged by itself: an authority that accepts everything, or an upstream that lets every token pass, would prove nothing.

use harness::{
    Result,
    authority::{
        Authority, Endpoint, Fault, Gate, Options, StsClient,
        options::{CLIENT, RESOURCE, SCOPE, TENANT},
    },
    body,
    certs::Ca,
    client::{Answer, Client},
    forward_proxy::ForwardProxy,
    issuer::ProjectedToken,
    raw,
    upstream::Upstream,
};
use http::{Request, Version, header};
use serde_json::json;
use std::time::Duration;

mod parts;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

struct Lab {
    ca: Ca,
    authority: Authority,
}

impl Lab {
    async fn new() -> Self {
        let ca = Ca::new().unwrap();
        let authority = Authority::start(&ca, Options::default()).await.unwrap();
        Self { ca, authority }
    }

    async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let client = Client::new(self.authority.address()).tls(&self.ca)?;
        client.send(request.body(body::full(body))?).await
    }

    /// A good request with some fields replaced (an empty value removes the field).
    async fn entra(&self, assertion: &str, changes: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("client_id", CLIENT),
            ("scope", SCOPE),
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        ];
        let mut tenant = TENANT;
        for (name, value) in changes {
            if *name == "tenant" {
                tenant = value;
                continue;
            }
            form.retain(|(known, _)| known != name);
            if !value.is_empty() {
                form.push((name, value));
            }
        }
        self.post(&format!("/{tenant}/oauth2/v2.0/token"), &form, None)
            .await
            .unwrap()
    }

    async fn sts(&self, extra: &[(&str, &str)], authorization: Option<&str>) -> Answer {
        let token = self.authority.projected_token().unwrap();
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", &token),
            ("subject_token_type", JWT),
        ];
        form.extend_from_slice(extra);
        self.post("/sts/token", &form, authorization).await.unwrap()
    }
}

/// The token with another character in its signature.
fn badly_signed(token: &str) -> String {
    let at = token.len() - 9;
    let other = if token[at..].starts_with('x') {
        "y"
    } else {
        "x"
    };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// AADSTS code, status, assertion, changed fields.
type Case<'a> = (u64, u16, String, Vec<(&'a str, &'a str)>);

fn code(answer: &Answer) -> u64 {
    answer.json()["error_codes"][0].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn entra_issues_a_token_that_the_upstream_accepts() {
    let lab = Lab::new().await;
    let upstream = Upstream::https(&lab.ca, lab.authority.access_tokens(), RESOURCE)
        .await
        .unwrap();
    let answer = lab
        .entra(&lab.authority.projected_token().unwrap(), &[])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let reply = answer.json();
    assert_eq!(
        (&reply["token_type"], &reply["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    let token = reply["access_token"].as_str().unwrap();
    assert_eq!(lab.authority.issued().len(), 1);

    for client in [
        Client::new(upstream.address()),
        Client::new(upstream.address()).http2(),
    ] {
        let client = client.tls(&lab.ca).unwrap();
        let with = |token: &str| {
            Request::get("/users/123")
                .header("authorization", format!("Bearer {token}"))
                .body(body::empty())
                .unwrap()
        };
        let good = client.send(with(token)).await.unwrap();
        assert_eq!(
            (good.status.as_u16(), &good.json()["id"]),
            (200, &json!("123"))
        );
        let bad = client.send(with("bench-token")).await.unwrap();
        assert_eq!(bad.status, 401);
        assert!(
            bad.header("www-authenticate").contains("invalid_token"),
            "{bad:?}"
        );
        let none = client.get("/users/123").await.unwrap();
        assert_eq!(
            (none.status.as_u16(), none.header("www-authenticate")),
            (401, "Bearer realm=\"echo\"")
        );
    }
    let versions: Vec<_> = upstream
        .requests()
        .all()
        .iter()
        .map(|request| request.version)
        .collect();
    assert_eq!(versions[0], Version::HTTP_11);
    assert_eq!(versions[3], Version::HTTP_2);
    assert_eq!(
        upstream.requests().all()[0].token.as_deref(),
        Some(harness::fingerprint(token).as_str())
    );
}

#[tokio::test]
async fn entra_refuses_what_the_real_one_refuses() {
    let lab = Lab::new().await;
    let issuer = lab.authority.issuer();
    let good = lab.authority.projected_token().unwrap();
    let with = |change: &dyn Fn(&mut ProjectedToken)| {
        let mut token = ProjectedToken::default();
        change(&mut token);
        issuer.mint(&token).unwrap()
    };
    let foreign = {
        let mut claims = issuer.claims(&ProjectedToken::default());
        // The slash at the end counts.
        claims["iss"] = issuer.url().trim_end_matches('/').into();
        issuer.sign(&claims).unwrap()
    };
    let cases: Vec<Case<'_>> = vec![
        (
            90002,
            400,
            good.clone(),
            vec![("tenant", "99999999-9999-4999-8999-999999999999")],
        ),
        (
            700016,
            400,
            good.clone(),
            vec![("client_id", "99999999-9999-4999-8999-999999999999")],
        ),
        (900144, 400, good.clone(), vec![("client_id", "")]),
        (900144, 400, good.clone(), vec![("grant_type", "")]),
        (
            900144,
            400,
            good.clone(),
            vec![("client_assertion_type", "")],
        ),
        (7000218, 401, good.clone(), vec![("client_assertion", "")]),
        (70003, 400, good.clone(), vec![("grant_type", "password")]),
        (82001, 400, good.clone(), vec![("grant_type", EXCHANGE)]),
        (70011, 400, good.clone(), vec![("scope", RESOURCE)]),
        (
            70011,
            400,
            good.clone(),
            vec![("scope", "api://backend/.default api://b/.default")],
        ),
        (
            500011,
            400,
            good.clone(),
            vec![("scope", "api://other/.default")],
        ),
        (50027, 401, "garbage".into(), vec![]),
        (700211, 401, foreign, vec![]),
        (
            700212,
            401,
            with(&|token| token.audiences = vec!["api://AKSIdentityBinding".into()]),
            vec![],
        ),
        (
            700213,
            401,
            with(&|token| token.service_account = "other".into()),
            vec![],
        ),
        (
            7002138,
            401,
            with(&|token| token.service_account = "Workload".into()),
            vec![],
        ),
        (
            700024,
            401,
            with(&|token| token.issued_ago = Duration::from_secs(4000)),
            vec![],
        ),
        (700027, 401, badly_signed(&good), vec![]),
    ];
    for (aadsts, status, assertion, changes) in cases {
        let answer = lab.entra(&assertion, &changes).await;
        assert_eq!(
            (code(&answer), answer.status.as_u16()),
            (aadsts, status),
            "{changes:?}: {}",
            answer.text()
        );
        let description = answer.json()["error_description"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            description.starts_with(&format!("AADSTS{aadsts}: "))
                && description.contains("Trace ID: "),
            "{description}"
        );
    }
    assert!(lab.authority.issued().is_empty());

    issuer.roll_unpublished().unwrap();
    let answer = lab
        .entra(&lab.authority.projected_token().unwrap(), &[])
        .await;
    assert_eq!(code(&answer), 700027);
    issuer.roll().unwrap();
    assert_eq!(
        lab.entra(&lab.authority.projected_token().unwrap(), &[])
            .await
            .status,
        200
    );
    assert_eq!(
        lab.entra(&good, &[]).await.status,
        200,
        "the first key is still published"
    );
}

#[tokio::test]
async fn the_exchange_endpoint_takes_all_parameters_and_only_them() {
    let lab = Lab::new().await;
    let access = "urn:ietf:params:oauth:token-type:access_token";
    let actor = lab.authority.projected_token().unwrap();
    let all = [
        ("audience", "orders"),
        ("audience", "api://backend"),
        ("resource", "https://orders.example.com"),
        ("scope", "orders.read"),
        ("requested_token_type", access),
        ("actor_token", &actor),
        ("actor_token_type", JWT),
    ];
    let answer = lab.sts(&all, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["issued_token_type"], access);
    let claims = lab
        .authority
        .access_tokens()
        .verify(answer.json()["access_token"].as_str().unwrap(), "orders")
        .unwrap();
    assert_eq!(
        claims["aud"],
        json!(["https://orders.example.com", "orders", "api://backend"])
    );
    assert_eq!(claims["act"]["sub"], ProjectedToken::default().subject());

    for (wrong, error) in [
        (vec![("audience", "unknown")], "invalid_target"),
        (vec![("resource", "not-absolute")], "invalid_request"),
        (vec![("scope", "orders.read admin")], "invalid_scope"),
        (vec![("actor_token", actor.as_str())], "invalid_request"),
        (vec![("requested_token_type", "urn:x")], "invalid_request"),
        (vec![("grant_type", EXCHANGE)], "invalid_request"),
        (vec![("client_secret", "x")], "invalid_request"),
    ] {
        let answer = lab.sts(&wrong, None).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]),
            (400, &json!(error)),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn the_exchange_endpoint_authenticates_clients() {
    let lab = Lab::new().await;
    let set = |client: StsClient| {
        lab.authority
            .configure(|options| options.sts_client = client)
    };
    set(StsClient::Basic {
        id: "a b".into(),
        secret: "s:+".into(),
    });
    // base64 of `a+b:s%3A%2B`: both parts are form-encoded first.
    assert_eq!(
        lab.sts(&[], Some("Basic YStiOnMlM0ElMkI=")).await.status,
        200
    );
    assert_eq!(lab.sts(&[], Some("Basic YSBiOnM6Kw==")).await.status, 401);
    assert_eq!(lab.sts(&[], None).await.json()["error"], "invalid_client");
    set(StsClient::Post {
        id: "a".into(),
        secret: "s".into(),
    });
    assert_eq!(
        lab.sts(&[("client_id", "a"), ("client_secret", "s")], None)
            .await
            .status,
        200
    );
    assert_eq!(
        lab.sts(&[("client_id", "a"), ("client_secret", "t")], None)
            .await
            .status,
        401
    );
    set(StsClient::Assertion {
        subject: ProjectedToken::default().subject(),
        audience: harness::issuer::ENTRA_AUDIENCE.into(),
    });
    let token = lab.authority.projected_token().unwrap();
    assert_eq!(
        lab.sts(
            &[
                ("client_assertion", &token),
                ("client_assertion_type", ASSERTION_TYPE)
            ],
            None
        )
        .await
        .status,
        200
    );
    assert_eq!(
        lab.sts(
            &[
                ("client_assertion", "x"),
                ("client_assertion_type", ASSERTION_TYPE)
            ],
            None
        )
        .await
        .status,
        401
    );
}
