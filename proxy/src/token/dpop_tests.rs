//! Proofs as a server would check them, by RFC 9449 section 4.3.

use super::*;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use std::time::Duration;

fn prover() -> Prover {
    Prover::new(Clock::anchored(Duration::from_secs(1_000_000))).unwrap()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Header and claims of a proof whose signature fits the key in its header.
fn checked(proof: &HeaderValue) -> (Value, Value) {
    let parts: Vec<&str> = proof.to_str().unwrap().split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
    let header = json(parts[0]);
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(decode(header["jwk"][coordinate].as_str().unwrap()));
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(
            format!("{}.{}", parts[0], parts[1]).as_bytes(),
            &decode(parts[2]),
        )
        .unwrap();
    (header, json(parts[1]))
}

#[tokio::test]
async fn a_proof_is_for_one_request_and_its_token() {
    let prover = prover();
    let url = url("HTTPS://API.Example:443/a/b?secret=1#f");
    let proof = prover.proof(&Method::POST, &url, Some("token")).unwrap();
    assert!(proof.is_sensitive());
    let (header, claims) = checked(&proof);
    assert_eq!(header["typ"], "dpop+jwt");
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["jwk"]["kty"], "EC");
    assert_eq!(
        header["jwk"].as_object().unwrap().len(),
        4,
        "no private part"
    );
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], "https://api.example/a/b");
    assert_eq!(claims["iat"], 1_000_000);
    // SHA-256("token"), base64url.
    assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
    assert!(claims.get("nonce").is_none());
    let (_, other) = checked(&prover.proof(&Method::POST, &url, None).unwrap());
    assert_ne!(claims["jti"], other["jti"]);
    assert!(other.get("ath").is_none());
}

#[tokio::test]
async fn nonces_are_each_servers_own() {
    let prover = prover();
    let (a, b) = (url("https://a.example/x"), url("https://b.example/x"));
    let given = |nonce: &str| HeaderMap::from_iter([(DPOP_NONCE, nonce.parse().unwrap())]);
    assert!(prover.note(&a, &given("n-1")));
    assert!(!prover.note(&a, &given("n-1")), "nothing new");
    let nonce =
        |url: &Url| checked(&prover.proof(&Method::GET, url, None).unwrap()).1["nonce"].clone();
    assert_eq!(nonce(&url("https://a.example/other?q")), "n-1");
    assert_eq!(nonce(&b), Value::Null);
    assert!(prover.note(&a, &given("n-2")));
    assert_eq!(nonce(&a), "n-2");
    for bad in ["", "a b", "a\"b", &"n".repeat(NONCE_BYTES + 1)] {
        assert!(!prover.note(&a, &given(bad)), "{bad:.20}");
    }
    let mut two = given("n-3");
    two.append(DPOP_NONCE, "n-4".parse().unwrap());
    assert!(!prover.note(&a, &two));
    assert_eq!(nonce(&a), "n-2");
}

#[test]
fn a_challenge_for_a_nonce_is_told_from_others() {
    let headers = |challenge: &str, nonce: bool| {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        if nonce {
            headers.insert(DPOP_NONCE, "n".parse().unwrap());
        }
        headers
    };
    let asks = r#"DPoP error="use_dpop_nonce", error_description="nonce""#;
    assert!(asks_for_nonce(&headers(asks, true)));
    assert!(!asks_for_nonce(&headers(asks, false)));
    assert!(!asks_for_nonce(&headers(
        r#"DPoP error="invalid_token""#,
        true
    )));
    assert!(!asks_for_nonce(&headers(
        r#"Bearer error="use_dpop_nonce""#,
        true
    )));
}

/// RFC 7638 section 3.1 gives no example of an elliptic curve; the thumbprint is the digest of what a server computes from the key in the proof.
#[tokio::test]
async fn the_thumbprint_is_of_the_key_in_the_proofs() {
    let prover = prover();
    let (header, _) = checked(
        &prover
            .proof(&Method::GET, &url("https://a/"), None)
            .unwrap(),
    );
    let jwk = &header["jwk"];
    let canonical = format!(
        r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
        jwk["x"], jwk["y"]
    );
    assert_eq!(
        prover.thumbprint(),
        URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
    );
    assert!(format!("{prover:?}").contains(prover.thumbprint()));
    assert_ne!(prover.thumbprint(), self::prover().thumbprint());
}
