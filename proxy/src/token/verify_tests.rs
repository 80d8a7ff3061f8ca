//! Tokens from text to verdict: every algorithm, forged ones, several issuers, and what is remembered.

use super::{
    test_keys::{AUDIENCE, ISSUER, NOW, TestKey, claims, claims_with, jwks},
    *,
};
use async_trait::async_trait;
use fetch::{FetchError, KeySource};
use jwk::{Algorithm, KeySet};
use prometheus::Registry;
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::time::sleep;

#[derive(Clone)]
struct Published(Arc<Mutex<String>>);

#[async_trait]
impl KeySource for Published {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        Ok(KeySet::parse(self.0.lock().unwrap().as_bytes())?)
    }
}

struct Lab {
    verifier: Verifier,
    published: Vec<Published>,
    registry: Registry,
}

impl Lab {
    /// One issuer for each set of keys: [`ISSUER`], and that with `/1`, `/2` … behind it.
    fn new(sets: &[&[&TestKey]]) -> Self {
        Self::with(sets, |_| ())
    }

    fn with(sets: &[&[&TestKey]], change: impl FnOnce(&mut VerifyParams)) -> Self {
        let clock = Clock::anchored(Duration::from_secs(NOW));
        let readiness = Readiness::with_clock(clock.clone());
        let registry = Registry::new();
        let metrics = InboundMetrics::register(&registry, clock.clone()).unwrap();
        let mut params = claims::tests::params();
        let template = params.issuers.pop().unwrap();
        let (mut issuers, mut published) = (Vec::new(), Vec::new());
        for (i, keys) in sets.iter().enumerate() {
            let mut issuer = template.clone();
            if i > 0 {
                issuer.issuer = format!("{ISSUER}/{i}").into();
            }
            let source = Published(Arc::new(Mutex::new(jwks(keys))));
            published.push(source.clone());
            let keys = IssuerKeys::new(params.keys);
            drop(spawn(
                "keys",
                Arc::clone(&keys).run(
                    Arc::new(source),
                    readiness.register(i.to_string()),
                    metrics.issuer(&issuer.issuer),
                    0,
                ),
            ));
            issuers.push(Issuer {
                keys,
                metrics: metrics.issuer(&issuer.issuer),
            });
            params.issuers.push(issuer);
        }
        change(&mut params);
        Self {
            verifier: Verifier {
                seen: Seen::new(params.max_seen),
                params,
                clock,
                issuers,
                metrics,
            },
            published,
            registry,
        }
    }

    async fn judge(&self, text: &str) -> Result<Arc<CallerToken>, Refusal> {
        self.verifier
            .verify(text, Instant::now() + Duration::from_secs(2))
            .await
    }

    async fn refusal(&self, text: &str) -> Refusal {
        self.judge(text).await.map(drop).unwrap_err()
    }

    /// `inbound_verifications_total` as `issuer result` -> count.
    fn counted(&self, issuer: &str, result: &str) -> u64 {
        self.registry
            .gather()
            .iter()
            .filter(|f| f.name() == "token_sidecar_inbound_verifications_total")
            .flat_map(|f| f.get_metric().to_vec())
            .filter(|m| {
                let value = |name| {
                    m.get_label()
                        .iter()
                        .find(|l| l.name() == name)
                        .map(|l| l.value())
                };
                value("issuer") == Some(issuer) && value("result") == Some(result)
            })
            .map(|m| m.get_counter().get_value() as u64)
            .sum()
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_every_algorithm_are_verified() {
    let keys: Vec<TestKey> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .zip(Algorithm::ALL)
        .map(|(kid, algorithm)| TestKey::new(kid, algorithm))
        .collect();
    let lab = Lab::new(&[&keys.iter().collect::<Vec<_>>()]);
    for key in &keys {
        let token = lab.judge(&key.sign(&claims())).await.unwrap();
        assert_eq!(token.exp(), Duration::from_secs(NOW + 3600));
        assert_eq!(&**token.issuer(), ISSUER);
        assert_eq!(token.subject().claims().sub.as_deref(), Some("ada"));
    }
    assert_eq!(lab.counted(ISSUER, "verified"), 5);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_or_signed_by_another_is_refused() {
    for algorithm in Algorithm::ALL {
        let key = TestKey::new("k", algorithm);
        let lab = Lab::new(&[&[&key]]);
        let good = key.sign(&claims());
        let parts: Vec<&str> = good.split('.').collect();
        let other = TestKey::new("k", algorithm);
        let richer = key.sign(&claims_with("scope", json!("admin")));
        let payload = richer.split('.').nth(1).unwrap();
        for forged in [
            other.sign(&claims()),
            format!("{}.{payload}.{}", parts[0], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], "AAAA"),
            format!("{}.{}.{}", parts[0], parts[1], "A".repeat(342)),
        ] {
            assert_eq!(
                lab.refusal(&forged).await,
                Refusal::Signature,
                "{algorithm:?}"
            );
        }
        assert!(lab.judge(&good).await.is_ok());
    }
}

/// A public key, which everybody has, used as an HMAC secret; a key of one type used as if it were another: the token's `alg` decides nothing.
#[tokio::test(start_paused = true)]
async fn algorithms_cannot_be_confused() {
    let (rsa, ec) = (
        TestKey::new("rsa", Algorithm::Rs256),
        TestKey::new("ec", Algorithm::Es256),
    );
    let lab = Lab::new(&[&[&rsa, &ec]]);
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    for (key, alg, kid, refusal) in [
        (&rsa, "HS256", "rsa", Refusal::Algorithm),
        (&rsa, "none", "rsa", Refusal::Algorithm),
        (&rsa, "ES256", "rsa", Refusal::Key),
        (&ec, "RS256", "ec", Refusal::Key),
        (&ec, "ES384", "ec", Refusal::Key),
        (&ec, "EdDSA", "ec", Refusal::Key),
        (&rsa, "PS256", "rsa", Refusal::Signature),
        (&ec, "RS256", "rsa", Refusal::Signature),
    ] {
        let text = key.sign_as(&header(alg, kid), &claims());
        // In the cooldown after the first fetch, so that an unknown key is told at once.
        assert_eq!(lab.refusal(&text).await, refusal, "{alg} {kid}");
    }
    let unsigned = rsa.sign_as(&header("none", "rsa"), &claims());
    let (message, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(
        lab.refusal(&format!("{message}.")).await,
        Refusal::Algorithm
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_token_brings_along_does_not_count() {
    let (theirs, ours) = (
        TestKey::new("k", Algorithm::Es256),
        TestKey::new("mine", Algorithm::Es256),
    );
    let lab = Lab::new(&[&[&theirs]]);
    for header in [
        json!({ "alg": "ES256", "kid": "k", "jwk": ours.jwk() }),
        json!({ "alg": "ES256", "jwk": ours.jwk(), "jku": "https://evil.example/" }),
    ] {
        let text = ours.sign_as(&header, &claims());
        assert_eq!(lab.refusal(&text).await, Refusal::Signature);
    }
}

#[tokio::test(start_paused = true)]
async fn each_issuer_speaks_for_itself_alone() {
    let (a, b) = (
        TestKey::new("k", Algorithm::Es256),
        TestKey::new("k", Algorithm::Es256),
    );
    let lab = Lab::new(&[&[&a], &[&b]]);
    let second = format!("{ISSUER}/1");
    let of = |iss: Value| claims_with("iss", iss);
    assert!(lab.judge(&a.sign(&of(json!(ISSUER)))).await.is_ok());
    let token = lab.judge(&b.sign(&of(json!(second)))).await.unwrap();
    assert_eq!(&**token.issuer(), second);
    assert_eq!(
        lab.refusal(&b.sign(&of(json!(ISSUER)))).await,
        Refusal::Signature
    );
    for iss in [
        json!("https://issuer.example/tenant/"),
        json!("https://issuer.example/TENANT"),
        json!("https://evil.example"),
        json!([ISSUER]),
        json!(""),
        json!(null),
    ] {
        assert_eq!(lab.refusal(&a.sign(&of(iss))).await, Refusal::Issuer);
    }
    assert_eq!(lab.counted("none", "issuer"), 6);
    assert_eq!(lab.counted(ISSUER, "signature"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_issuers_algorithms_can_be_narrowed() {
    let (rsa, ec) = (
        TestKey::new("rsa", Algorithm::Rs256),
        TestKey::new("ec", Algorithm::Es256),
    );
    let lab = Lab::with(&[&[&rsa, &ec]], |params| {
        params.issuers[0].algorithms = vec![Algorithm::Es256];
    });
    assert!(lab.judge(&ec.sign(&claims())).await.is_ok());
    assert_eq!(lab.refusal(&rsa.sign(&claims())).await, Refusal::Algorithm);
}

/// The signature comes first: who cannot sign learns nothing of what is asked for.
#[tokio::test(start_paused = true)]
async fn claims_of_a_forged_token_are_not_judged() {
    let (key, other) = (
        TestKey::new("k", Algorithm::Es256),
        TestKey::new("k", Algorithm::Es256),
    );
    let lab = Lab::new(&[&[&key]]);
    let stale = claims_with("exp", json!(1));
    assert_eq!(lab.refusal(&other.sign(&stale)).await, Refusal::Signature);
    assert_eq!(lab.refusal(&key.sign(&stale)).await, Refusal::Expired);
    let foreign = claims_with("aud", json!("https://other.example"));
    assert_eq!(lab.refusal(&key.sign(&foreign)).await, Refusal::Audience);
    assert_eq!(AUDIENCE, claims()["aud"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_verified_once_while_it_and_its_key_last() {
    let (a, b) = (
        TestKey::new("a", Algorithm::Es256),
        TestKey::new("b", Algorithm::Es256),
    );
    let lab = Lab::new(&[&[&a, &b]]);
    let text = a.sign(&claims());
    let first = lab.judge(&text).await.unwrap();
    let again = lab.judge(&text).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(
        (lab.counted(ISSUER, "verified"), lab.counted(ISSUER, "seen")),
        (1, 1)
    );
    // The key is taken away: what it has signed is worth nothing from then on, seen or not.
    *lab.published[0].0.lock().unwrap() = jwks(&[&b]);
    sleep(Duration::from_secs(901)).await;
    let other = b.sign(&claims());
    lab.judge(&other).await.unwrap();
    assert_eq!(lab.refusal(&text).await, Refusal::Key);
    // It expires.
    sleep(Duration::from_secs(2700)).await;
    assert_eq!(lab.refusal(&other).await, Refusal::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_remembered() {
    let key = TestKey::new("k", Algorithm::Es256);
    let lab = Lab::with(&[&[&key]], |params| {
        params.required_scopes = vec!["admin".into()];
    });
    let text = key.sign(&claims());
    for _ in 0..3 {
        assert_eq!(lab.refusal(&text).await, Refusal::Scope);
    }
    assert!(lab.verifier.seen.is_empty());
    assert_eq!(lab.counted(ISSUER, "scope"), 3);
}

#[tokio::test(start_paused = true)]
async fn one_more_character_is_another_token() {
    let key = TestKey::new("k", Algorithm::Es256);
    let lab = Lab::new(&[&[&key]]);
    let text = key.sign(&claims());
    lab.judge(&text).await.unwrap();
    for other in [
        format!("{text}A"),
        format!("{text}="),
        format!(" {text}"),
        text[..text.len() - 1].to_owned(),
    ] {
        assert!(lab.judge(&other).await.is_err());
    }
}

/// Who can keep the sidecar from an issuer must not prolong a withdrawn key's life for ever, however long the tokens live that it has signed.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_seen_counts_no_longer_than_the_keys_may_be_used() {
    let key = TestKey::new("k", Algorithm::Es256);
    let lab = Lab::new(&[&[&key]]);
    let text = key.sign(&claims_with("exp", json!(NOW + 400_000)));
    lab.judge(&text).await.unwrap();
    *lab.published[0].0.lock().unwrap() = String::new();
    sleep(Duration::from_secs(86_000)).await;
    lab.judge(&text).await.unwrap();
    sleep(Duration::from_secs(86_400)).await;
    assert!(matches!(
        lab.refusal(&text).await,
        Refusal::Unavailable { .. }
    ));
    *lab.published[0].0.lock().unwrap() = jwks(&[&key]);
    sleep(Duration::from_secs(3600)).await;
    lab.judge(&text).await.unwrap();
}
