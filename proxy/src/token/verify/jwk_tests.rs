//! Which keys of a set are used, for what, and what a set may not be.

use super::*;
use crate::token::verify::test_keys::{TestKey, jwks};
use serde_json::json;

fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_verifies_with_the_algorithms_of_its_type_alone() {
    for algorithm in Algorithm::ALL {
        let key = TestKey::new("k", algorithm);
        let set = KeySet::parse(jwks(&[&key]).as_bytes()).unwrap();
        let signature = key.signature(b"message");
        for asked in Algorithm::ALL {
            let verified = set
                .candidates(Some("k"), asked)
                .iter()
                .any(|k| k.verifies(asked, b"message", &signature));
            assert_eq!(verified, asked == algorithm, "{algorithm:?} as {asked:?}");
            // Also when somebody asks it directly.
            let direct = set.0[0].verifies(asked, b"message", &signature);
            assert_eq!(direct, asked == algorithm, "{algorithm:?} as {asked:?}");
        }
        let [first] = &set.candidates(Some("k"), algorithm)[..] else {
            panic!("one candidate for {algorithm:?}");
        };
        assert!(!first.verifies(algorithm, b"another message", &signature));
        assert!(!first.verifies(algorithm, b"message", &signature[1..]));
        assert!(!first.verifies(algorithm, b"message", b""));
    }
}

#[test]
fn what_a_key_says_of_its_use_is_obeyed() {
    let key = TestKey::new("k", Algorithm::Rs256);
    let jwk = key.jwk();
    let both = set(std::slice::from_ref(&jwk)).unwrap();
    assert_eq!(both.candidates(Some("k"), Algorithm::Ps256).len(), 1);
    let pinned = set(&[with(jwk.clone(), "alg", json!("RS256"))]).unwrap();
    assert_eq!(pinned.candidates(Some("k"), Algorithm::Rs256).len(), 1);
    assert!(pinned.candidates(Some("k"), Algorithm::Ps256).is_empty());
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("RS512")),
        ("alg", json!("ES256")),
        ("alg", json!("HS256")),
        ("kty", json!("oct")),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
        ("n", json!("not base64url!")),
        ("e", json!("AA")),
    ] {
        let changed = with(jwk.clone(), name, value.clone());
        assert_eq!(
            set(&[changed]).unwrap_err(),
            KeySetError::Empty,
            "{name}: {value}"
        );
    }
    assert!(set(&[with(jwk.clone(), "use", json!("sig"))]).is_ok());
    assert!(set(&[with(jwk, "key_ops", json!(["verify"]))]).is_ok());
}

#[test]
fn keys_that_are_no_points_or_too_short_are_left_out() {
    let ec = TestKey::new("k", Algorithm::Es256).jwk();
    for changed in [
        with(ec.clone(), "x", json!("AAAA")),
        with(ec.clone(), "x", ec["y"].clone()),
        with(ec.clone(), "crv", json!("P-384")),
        with(ec.clone(), "crv", json!("secp256k1")),
    ] {
        assert_eq!(set(&[changed]).unwrap_err(), KeySetError::Empty);
    }
    // A modulus of 1024 bits.
    let short =
        json!({ "kty": "RSA", "kid": "k", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xc5; 128]) });
    assert_eq!(set(&[short]).unwrap_err(), KeySetError::Empty);
    let symmetric = json!({ "kty": "oct", "kid": "k", "alg": "HS256", "k": "AAAA" });
    let both = set(&[symmetric, ec]).unwrap();
    assert_eq!(both.0.len(), 1, "what is of no use hides nothing else");
}

#[test]
fn a_modulus_may_have_leading_zeros() {
    let key = TestKey::new("k", Algorithm::Rs256);
    let mut jwk = key.jwk();
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = json!(URL_SAFE_NO_PAD.encode([&[0, 0][..], &n].concat()));
    let set = set(&[jwk]).unwrap();
    assert!(set.0[0].verifies(Algorithm::Rs256, b"m", &key.signature(b"m")));
}

#[test]
fn a_token_without_kid_needs_a_set_that_leaves_no_choice() {
    let (a, b, ec) = (
        TestKey::new("a", Algorithm::Rs256),
        TestKey::new("b", Algorithm::Rs256),
        TestKey::new("c", Algorithm::Es256),
    );
    let two = KeySet::parse(jwks(&[&a, &ec]).as_bytes()).unwrap();
    assert_eq!(two.candidates(None, Algorithm::Rs256).len(), 1);
    assert_eq!(two.candidates(None, Algorithm::Es256).len(), 1);
    let three = KeySet::parse(jwks(&[&a, &b, &ec]).as_bytes()).unwrap();
    assert!(three.candidates(None, Algorithm::Rs256).is_empty());
    assert!(three.candidates(Some("other"), Algorithm::Rs256).is_empty());
}

#[test]
fn a_set_tells_whether_keys_went_away() {
    let (a, b) = (
        TestKey::new("a", Algorithm::Es256),
        TestKey::new("b", Algorithm::Es256),
    );
    let other = TestKey::new("a", Algorithm::Es256);
    let of = |keys: &[&TestKey]| KeySet::parse(jwks(keys).as_bytes()).unwrap();
    assert!(of(&[&a, &b]).keeps_all_of(&of(&[&b])));
    assert!(!of(&[&b]).keeps_all_of(&of(&[&a, &b])));
    assert!(
        !of(&[&other]).keeps_all_of(&of(&[&a])),
        "another key of the same name"
    );
}

#[test]
fn what_is_no_set_is_refused() {
    for (text, error) in [
        ("", KeySetError::NotASet),
        ("<html>", KeySetError::NotASet),
        ("[]", KeySetError::NotASet),
        ("{}", KeySetError::NotASet),
        (r#"{"keys":{}}"#, KeySetError::NotASet),
        (r#"{"keys":[]}"#, KeySetError::Empty),
        (r#"{"keys":[1,"x",null,{}]}"#, KeySetError::Empty),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), error, "{text}");
    }
    let many = vec![json!({}); MAX_KEYS + 1];
    assert_eq!(set(&many).unwrap_err(), KeySetError::TooMany);
}
