//! What is a token at all, before any key is asked.

use super::*;
use crate::token::verify::test_keys::{TestKey, claims};
use serde_json::json;

fn key() -> TestKey {
    TestKey::new("k", Algorithm::EdDsa)
}

fn refusal(text: &str) -> Refusal {
    Jwt::parse(text).map(drop).unwrap_err()
}

#[test]
fn a_token_is_taken_apart() {
    let key = key();
    let text = key.sign(&claims());
    let jwt = Jwt::parse(&text).unwrap();
    assert_eq!(jwt.algorithm, Algorithm::EdDsa);
    assert_eq!(
        (jwt.kid.as_deref(), jwt.typ.as_deref()),
        (Some("k"), Some("jwt"))
    );
    assert_eq!(jwt.claims["sub"], "ada");
    assert!(!format!("{jwt:?}").contains("ada"));
    for (typ, read) in [
        ("at+jwt", "at+jwt"),
        ("AT+JWT", "at+jwt"),
        ("application/at+jwt", "at+jwt"),
        ("application/a/b", "application/a/b"),
    ] {
        let text = key.sign_as(&json!({ "alg": "EdDSA", "typ": typ }), &claims());
        assert_eq!(Jwt::parse(&text).unwrap().typ.as_deref(), Some(read));
    }
}

#[test]
fn none_and_hmac_and_unknown_algorithms_are_refused_whatever_their_case() {
    for alg in [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS1", "rs256", "RS512",
        "ES512", "ES256K", "RSA-OAEP", "dir", "",
    ] {
        let text = key().sign_as(&json!({ "alg": alg, "kid": "k" }), &claims());
        assert_eq!(refusal(&text), Refusal::Algorithm, "{alg}");
    }
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    for header in [
        json!({ "alg": "EdDSA", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "EdDSA", "crit": [] }),
        json!({ "alg": "EdDSA", "crit": null }),
        json!({ "alg": "EdDSA", "crit": ["b64"], "b64": false }),
        json!({ "alg": "EdDSA", "b64": false }),
    ] {
        let text = key().sign_as(&header, &claims());
        assert_eq!(refusal(&text), Refusal::Critical, "{header}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_malformed() {
    let key = key();
    let good = key.sign(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("three parts");
    };
    for text in [
        String::new(),
        "x".into(),
        "..".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature} "),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}\n.{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        key.sign_text("[]", "{}"),
        key.sign_text("{}", "{}"),
        key.sign_text(r#"{"alg":1}"#, "{}"),
        key.sign_text(r#"{"alg":"EdDSA","alg":"none"}"#, "{}"),
        key.sign_text(r#"{"alg":"EdDSA","kid":"a","kid":"b"}"#, "{}"),
        key.sign_text(r#"{"alg":"EdDSA","kid":7}"#, "{}"),
        key.sign_text(r#"{"alg":"EdDSA"}"#, "[]"),
        key.sign_text(r#"{"alg":"EdDSA"}"#, "null"),
        key.sign_text(r#"{"alg":"EdDSA"}"#, r#"{"aud":"a","aud":"b"}"#),
        key.sign_text(r#"{"alg":"EdDSA"}"#, r#"{"iss":"a","\u0069ss":"b"}"#),
        key.sign_text(r#"{"alg":"EdDSA"} x"#, "{}"),
    ] {
        assert_eq!(refusal(&text), Refusal::Malformed, "{text}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let key = key();
    let header = json!({
        "alg": "EdDSA", "kid": "k", "jwk": key.jwk(), "jku": "https://evil.example/keys", "x5u": "https://evil.example/x",
        "x5c": ["AAAA"],
    });
    let text = key.sign_as(&header, &claims());
    let jwt = Jwt::parse(&text).unwrap();
    assert_eq!(jwt.kid.as_deref(), Some("k"));
}
