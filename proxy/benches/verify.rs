//! What verifying a caller's token costs: one that was seen before, one that was not, and the bare signature check that the latter cannot do without.
//! `cargo bench -p token-sidecar --bench verify`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up measures nothing"
)]

#[path = "../src/token/verify/test_keys.rs"]
mod test_keys;

/// Where `test_keys` looks for it.
mod jwk {
    pub(crate) use token_sidecar::token::verify::jwk::Algorithm;
}

use divan::{Bencher, black_box};
use jwk::Algorithm;
use prometheus::Registry;
use serde_json::json;
use sidecar_runtime::{clock::Clock, readiness::Readiness};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
    time::Duration,
};
use test_keys::{AUDIENCE, ISSUER, TestKey, claims_with, jwks};
use token_sidecar::{
    metrics::inbound::InboundMetrics,
    token::{
        params::AuthorityParams,
        verify::{
            Verification, Verifier,
            jwk::KeySet,
            params::{IssuerParams, KeysAt, KeysParams, VerifyParams},
        },
    },
};
use tokio::{runtime::Runtime, time::Instant};

fn main() {
    divan::main();
}

struct Lab {
    runtime: Runtime,
    key: TestKey,
    verifier: Arc<Verifier>,
    _verification: Verification,
}

/// A verifier whose one issuer publishes a key on loopback.
fn lab(algorithm: Algorithm) -> Lab {
    let key = TestKey::new("k", algorithm);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = jwks(&[&key]);
    drop(thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            assert!(read > 0);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .unwrap();
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let second = Duration::from_secs(1);
    let params = VerifyParams {
        issuers: vec![IssuerParams {
            issuer: ISSUER.into(),
            keys: KeysAt::Uri(format!("http://{address}/keys").parse().unwrap()),
            audiences: vec![AUDIENCE.into()],
            algorithms: Algorithm::ALL.to_vec(),
            typ: None,
            authority: AuthorityParams::default(),
        }],
        required_scopes: vec!["tools.read".into()],
        required_claims: vec![],
        leeway: second,
        keys: KeysParams {
            refresh: 900 * second,
            cooldown: second,
            max_stale: 900 * second,
            timeout: 5 * second,
        },
        max_seen: 10_000,
    };
    let clock = Clock::anchored(Duration::from_secs(test_keys::NOW));
    let metrics = InboundMetrics::register(&Registry::new(), clock.clone()).unwrap();
    let (verification, verifier) = runtime.block_on(async {
        let mut verification = Verification::new(clock, Readiness::new(), metrics);
        let verifier = verification.apply(Some(params)).unwrap().unwrap();
        (verification, verifier)
    });
    Lab {
        runtime,
        key,
        verifier,
        _verification: verification,
    }
}

/// A token as long as those of real authorization servers (about 1.2 KiB), and like no other.
fn token(key: &TestKey, number: u64) -> String {
    let mut claims = claims_with("jti", json!(number));
    claims["padding"] = json!("x".repeat(400));
    key.sign(&claims)
}

fn verify(lab: &Lab, token: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    lab.runtime
        .block_on(lab.verifier.verify(token, deadline))
        .map(drop)
        .unwrap();
}

/// A caller's second request and all that follow.
#[divan::bench]
fn seen(bencher: Bencher<'_, '_>) {
    let lab = lab(Algorithm::Rs256);
    let token = token(&lab.key, 0);
    verify(&lab, &token);
    bencher.bench_local(|| verify(&lab, black_box(&token)));
}

/// A caller's first request.
#[divan::bench(args = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa], sample_count = 300, sample_size = 1)]
fn unseen(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let lab = lab(algorithm);
    let mut number = 0;
    verify(&lab, &token(&lab.key, number));
    bencher
        .with_inputs(|| {
            number += 1;
            token(&lab.key, number)
        })
        .bench_local_values(|token| verify(&lab, black_box(&token)));
}

/// The signature check alone, on the same tokens.
#[divan::bench(args = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa], sample_count = 300, sample_size = 1)]
fn bare_signature(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let key = TestKey::new("k", algorithm);
    let keys = KeySet::parse(jwks(&[&key]).as_bytes()).unwrap();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            let token = token(&key, number);
            let (message, _) = token.rsplit_once('.').unwrap();
            (message.to_owned(), key.signature(message.as_bytes()))
        })
        .bench_local_values(|(message, signature)| {
            let candidates = keys.candidates(Some("k"), algorithm);
            assert!(candidates[0].verifies(algorithm, message.as_bytes(), black_box(&signature)));
        });
}
