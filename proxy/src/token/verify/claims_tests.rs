//! Each check of what a token claims, passed and failed.

use super::*;
use crate::token::{
    params::AuthorityParams,
    verify::{
        jwk::Algorithm,
        params::{KeysAt, KeysParams},
        test_keys::{AUDIENCE, ISSUER, NOW, TestKey, claims, claims_with},
    },
};
use serde_json::json;

pub(crate) fn params() -> VerifyParams {
    VerifyParams {
        issuers: vec![IssuerParams {
            issuer: ISSUER.into(),
            keys: KeysAt::Uri("https://issuer.example/keys".parse().unwrap()),
            audiences: vec![AUDIENCE.into(), "api://mcp".into()],
            algorithms: Algorithm::ALL.to_vec(),
            typ: None,
            authority: AuthorityParams::default(),
        }],
        required_scopes: Vec::new(),
        required_claims: Vec::new(),
        leeway: Duration::from_secs(30),
        keys: KeysParams {
            refresh: Duration::from_secs(900),
            cooldown: Duration::from_secs(10),
            max_stale: Duration::from_secs(86_400),
            timeout: Duration::from_secs(10),
        },
        max_seen: 1000,
    }
}

fn judge(params: &VerifyParams, header: &Value, claims: &Value) -> Result<(), Refusal> {
    let text = TestKey::new("k", Algorithm::EdDsa).sign_as(header, claims);
    let jwt = Jwt::parse(&text).unwrap();
    check(&jwt, &params.issuers[0], params, Duration::from_secs(NOW))
}

fn of(params: &VerifyParams, claims: &Value) -> Result<(), Refusal> {
    judge(params, &json!({ "alg": "EdDSA" }), claims)
}

#[test]
fn a_good_token_passes() {
    assert_eq!(of(&params(), &claims()), Ok(()));
}

#[test]
fn the_audience_must_be_this_server() {
    for (aud, passes) in [
        (json!(AUDIENCE), true),
        (json!("api://mcp"), true),
        (json!(["https://other.example", AUDIENCE]), true),
        (json!("https://mcp.example.com/mcp/"), false),
        (json!("https://mcp.example.com"), false),
        (json!("HTTPS://MCP.EXAMPLE.COM/mcp"), false),
        (json!(["https://other.example"]), false),
        (json!([]), false),
        (json!(7), false),
        (json!({ "a": AUDIENCE }), false),
        (json!(null), false),
    ] {
        let result = of(&params(), &claims_with("aud", aud.clone()));
        assert_eq!(result.is_ok(), passes, "{aud}");
        if !passes {
            assert_eq!(result, Err(Refusal::Audience), "{aud}");
        }
    }
}

#[test]
fn times_are_obeyed() {
    for (name, value, result) in [
        ("exp", json!(NOW + 1), Ok(())),
        ("exp", json!(NOW as f64 + 0.5), Ok(())),
        ("exp", json!(NOW), Err(Refusal::Expired)),
        ("exp", json!(0), Err(Refusal::Expired)),
        ("exp", json!(-1), Err(Refusal::Expired)),
        ("exp", json!("2000000"), Err(Refusal::Malformed)),
        ("exp", json!(1e300), Err(Refusal::Malformed)),
        ("exp", json!(null), Err(Refusal::Malformed)),
        ("nbf", json!(NOW + 30), Ok(())),
        ("nbf", json!(NOW + 31), Err(Refusal::NotYetValid)),
        ("nbf", json!("soon"), Err(Refusal::Malformed)),
        ("nbf", json!(null), Ok(())),
    ] {
        assert_eq!(
            of(&params(), &claims_with(name, value.clone())),
            result,
            "{name}: {value}"
        );
    }
}

#[test]
fn other_kinds_of_tokens_are_refused_and_one_kind_may_be_asked_for() {
    let header = |typ: Value| json!({ "alg": "EdDSA", "typ": typ });
    let open = params();
    let mut strict = params();
    strict.issuers[0].typ = Some("at+jwt".into());
    for (typ, in_open, in_strict) in [
        (json!("JWT"), true, false),
        (json!("at+jwt"), true, true),
        (json!("application/AT+jwt"), true, true),
        (json!(null), true, false),
        (json!("logout+jwt"), false, false),
        (json!("dpop+jwt"), false, false),
        (json!("oauth-id-jag+jwt"), false, false),
        (json!("txntoken+jwt"), false, false),
    ] {
        for (params, passes) in [(&open, in_open), (&strict, in_strict)] {
            let expected = if passes { Ok(()) } else { Err(Refusal::Type) };
            assert_eq!(
                judge(params, &header(typ.clone()), &claims()),
                expected,
                "{typ}"
            );
        }
    }
}

#[test]
fn a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    for cnf in [
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" }),
        json!({}),
    ] {
        let result = of(&params(), &claims_with("cnf", cnf));
        assert_eq!(result, Err(Refusal::Bound));
    }
}

#[test]
fn every_required_scope_must_be_granted_in_one_of_the_usual_places() {
    let mut params = params();
    params.required_scopes = vec!["tools.read".into(), "tools.call".into()];
    for (name, value, passes) in [
        ("scope", json!("tools.call tools.read other"), true),
        ("scope", json!("tools.read"), false),
        ("scope", json!("tools.readx tools.call"), false),
        ("scope", json!("TOOLS.READ TOOLS.CALL"), false),
        ("scope", json!(""), false),
        ("scp", json!("tools.read tools.call"), true),
        ("scp", json!(["tools.read", "tools.call"]), true),
        ("scp", json!(["tools.read tools.call"]), false),
        ("roles", json!(["tools.read", "tools.call"]), true),
        ("roles", json!(["tools.read"]), false),
        ("groups", json!(["tools.read", "tools.call"]), false),
    ] {
        let mut claims = claims_with("scope", json!(null));
        claims[name] = value.clone();
        let expected = if passes { Ok(()) } else { Err(Refusal::Scope) };
        assert_eq!(of(&params, &claims), expected, "{name}: {value}");
    }
    let mut split = claims_with("scope", json!("tools.read"));
    split["roles"] = json!(["tools.call"]);
    assert_eq!(of(&params, &split), Ok(()), "together");
}

#[test]
fn required_claims_must_be_there_with_one_of_their_values() {
    let mut params = params();
    params.required_claims = vec![RequiredClaim {
        name: "tid".into(),
        values: vec!["t1".into(), "7".into(), "true".into()],
    }];
    for (value, passes) in [
        (json!("t1"), true),
        (json!(["t0", "t1"]), true),
        (json!(7), true),
        (json!(true), true),
        (json!("t2"), false),
        (json!("T1"), false),
        (json!(7.5), false),
        (json!({ "t1": 1 }), false),
        (json!([["t1"]]), false),
        (json!(null), false),
    ] {
        let expected = if passes { Ok(()) } else { Err(Refusal::Claim) };
        assert_eq!(
            of(&params, &claims_with("tid", value.clone())),
            expected,
            "{value}"
        );
    }
}
