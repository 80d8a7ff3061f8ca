//! Replies, good and odd; among them every recorded one in `tests/samples`.

use super::super::error::{CallerFault, Class, Fault};
use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn parse_as(status: u16, body: &str, expected: Expected<'_>) -> Result<IssuedToken, ExchangeError> {
    parse(
        RawReply {
            status,
            headers: &HeaderMap::new(),
            body: body.as_bytes(),
        },
        expected,
        TokenType::Bearer,
        NOW,
    )
}

fn ok(body: &str) -> IssuedToken {
    parse_as(200, body, Expected::AccessToken).unwrap()
}

fn code(status: u16, body: &str) -> &'static str {
    parse_as(status, body, Expected::AccessToken)
        .unwrap_err()
        .code()
}

fn samples(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .filter(|l| !l.trim().is_empty())
        .map(|l| serde_json::from_str(l).unwrap())
}

#[test]
fn recorded_successes_are_read() {
    let text =
        include_str!("../../../../tests/samples/entra-recorded/federated-token-success.jsonl");
    let mut seen = 0;
    for sample in samples(text) {
        let token = ok(&sample["body"].to_string());
        assert_eq!(
            token.lifetime.as_secs(),
            sample["body"]["expires_in"].as_u64().unwrap()
        );
        assert_eq!(
            *token.token,
            sample["body"]["access_token"].as_str().unwrap()
        );
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn recorded_errors_are_named_classed_and_mendable() {
    let text = include_str!("../../../../tests/samples/entra-errors/token-endpoint-errors.jsonl");
    let mut seen = 0;
    for sample in samples(text) {
        let number = sample["aadsts"].as_str().unwrap();
        let status = sample["http_status"].as_u64().unwrap_or(401);
        let body = sample["body"].to_string();
        let e = parse_as(u16::try_from(status).unwrap(), &body, Expected::AccessToken).unwrap_err();
        assert_eq!(e.code(), format!("aadsts_{number}"), "{body}");
        let class = match number {
            "70021" | "700211" | "700213" => Class::Propagation,
            "700024" => Class::Transient,
            _ => Class::Permanent,
        };
        assert_eq!(e.class(), class, "{number}");
        assert_eq!(e.stale_assertion(), number == "700024");
        assert!(e.mend().len() > 20);
        let detail = e.detail().unwrap();
        assert!(
            detail.contains(&format!("AADSTS{number}")) && !detail.chars().any(char::is_control),
            "{detail}"
        );
        // Their words are for the log alone.
        assert!(!e.to_string().contains("AADSTS") && !format!("{e:?}").contains("AADSTS"));
        seen += 1;
    }
    assert_eq!(seen, 13);
}

#[test]
fn errors_about_a_user_say_whose_fault_they_are_and_keep_their_claims() {
    let text = include_str!("../../../../tests/samples/entra-errors/on-behalf-of.jsonl");
    let mut seen = Vec::new();
    for sample in samples(text) {
        let status = sample["http_status"].as_u64().unwrap();
        let body = sample["body"].to_string();
        let e = parse_as(u16::try_from(status).unwrap(), &body, Expected::AccessToken).unwrap_err();
        let number = sample["aadsts"].as_str().unwrap().to_owned();
        assert_eq!(e.code(), format!("aadsts_{number}"));
        let sent = sample["body"]["claims"].as_str();
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(e.claims().map(json), sent.map(json), "{number}");
        assert!(!format!("{e} {e:?} {:?}", e.detail()).contains("polids"));
        seen.push((number, e.fault()));
    }
    let expected = [
        ("50079", CallerFault::Interaction),
        ("50173", CallerFault::Token),
        ("65001", CallerFault::Consent),
        ("53003", CallerFault::Interaction),
        ("500131", CallerFault::Token),
        ("500133", CallerFault::Token),
    ]
    .map(|(number, fault)| (number.to_owned(), Fault::Caller(fault)));
    assert_eq!(seen, expected);
}

#[test]
fn claims_that_are_no_json_object_or_too_long_are_not_passed_on() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST_CLAIMS));
    for (claims, kept) in [
        (r#""{\"a\":1}""#.to_owned(), Some(r#"{"a":1}"#)),
        (r#"{"a": 1}"#.to_owned(), Some(r#"{"a":1}"#)),
        (r#""not json""#.to_owned(), None),
        (r#""[1]""#.to_owned(), None),
        ("7".to_owned(), None),
        ("null".to_owned(), None),
        (Value::String(long.clone()).to_string(), None),
        (long, None),
    ] {
        let body = format!(r#"{{"error":"interaction_required","claims":{claims}}}"#);
        let e = parse_as(400, &body, Expected::AccessToken).unwrap_err();
        assert_eq!(e.claims(), kept, "{claims:.60}");
    }
}

#[test]
fn numbers_come_as_numbers_or_strings() {
    let token =
        ok(r#"{"access_token":"t","token_type":"bearer","expires_in":"3599","refresh_in":"1800"}"#);
    assert_eq!(token.lifetime, Duration::from_secs(3599));
    assert_eq!(token.refresh_in, Some(Duration::from_secs(1800)));
    let token =
        ok(r#"{"access_token":"t","token_type":"BEARER","expires_in":59.5,"refresh_in":30}"#);
    assert_eq!(token.lifetime, Duration::from_millis(59_500));
    // Missing: a default. Absurd: a cap. A refresh_in that is nonsense: none.
    assert_eq!(
        ok(r#"{"access_token":"t","token_type":"Bearer"}"#).lifetime,
        DEFAULT_LIFETIME
    );
    assert_eq!(
        ok(r#"{"access_token":"t","token_type":"Bearer","expires_in":null}"#).lifetime,
        DEFAULT_LIFETIME
    );
    for absurd in [
        "1e300",
        "18446744073709551615",
        "\"99999999999999999999999\"",
    ] {
        let body = format!(
            r#"{{"access_token":"t","token_type":"Bearer","expires_in":{absurd},"refresh_in":[]}}"#
        );
        let token = ok(&body);
        assert_eq!(token.lifetime, LONGEST_LIFETIME, "{absurd}");
        assert_eq!(token.refresh_in, None);
    }
}

#[test]
fn odd_replies_are_clear_errors_and_never_a_token() {
    let cases = [
        ("", "reply_not_json"),
        (
            "<html><body>502 Bad Gateway</body></html>",
            "reply_not_json",
        ),
        ("[]", "reply_not_json"),
        ("null", "reply_not_json"),
        (
            r#"{"access_token":5,"token_type":"Bearer"}"#,
            "reply_not_json",
        ),
        (
            r#"{"access_token":"a","access_token":"b","token_type":"Bearer","expires_in":60}"#,
            "reply_not_json",
        ),
        ("{}", "reply_no_access_token"),
        (
            r#"{"access_token":"","token_type":"Bearer","expires_in":60}"#,
            "reply_no_access_token",
        ),
        (
            r#"{"access_token":null,"token_type":"Bearer"}"#,
            "reply_no_access_token",
        ),
        (
            r#"{"access_token":"t","expires_in":60}"#,
            "reply_token_type",
        ),
        (
            r#"{"access_token":"t","token_type":"N_A"}"#,
            "reply_token_type",
        ),
        (
            r#"{"access_token":"t","token_type":"DPoP"}"#,
            "reply_token_type",
        ),
        (
            r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#,
            "reply_expires_in",
        ),
        (
            r#"{"access_token":"t","token_type":"Bearer","expires_in":-1}"#,
            "reply_expires_in",
        ),
        (
            r#"{"access_token":"t","token_type":"Bearer","expires_in":"soon"}"#,
            "reply_expires_in",
        ),
        (
            r#"{"access_token":"t","token_type":"Bearer","expires_in":"NaN"}"#,
            "reply_expires_in",
        ),
        (
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            "reply_bad_characters",
        ),
        (
            r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
            "reply_bad_characters",
        ),
        (
            r#"{"access_token":"ä","token_type":"Bearer"}"#,
            "reply_bad_characters",
        ),
        (
            r#"{"error":"invalid_grant","access_token":"t","token_type":"Bearer"}"#,
            "invalid_grant",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(code(200, body), expected, "{body}");
    }
    assert_eq!(
        parse_as(200, "<html>", Expected::AccessToken)
            .unwrap_err()
            .class(),
        Class::Transient
    );
    let good = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;
    for status in [201, 204, 302, 404, 500] {
        assert!(
            parse_as(status, good, Expected::AccessToken).is_err(),
            "{status}"
        );
    }
}

#[test]
fn errors_of_any_shape_are_errors() {
    assert_eq!(code(502, "<html>Bad Gateway</html>"), "http_5xx");
    assert_eq!(code(502, ""), "http_5xx");
    assert_eq!(code(400, r#"{"error":"invalid_target"}"#), "invalid_target");
    assert_eq!(code(400, r#"{"error":"evil_made_up"}"#), "other");
    assert_eq!(code(400, r#"{"error":{"code":7,"message":"x"}}"#), "other");
    assert_eq!(
        code(400, r#"{"error":"invalid_client","error_codes":[123456]}"#),
        "aadsts_other"
    );
    assert_eq!(
        code(
            400,
            r#"{"error":"invalid_client","error_codes":["700213"]}"#
        ),
        "aadsts_700213"
    );
    assert_eq!(
        code(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS50013: x"}"#
        ),
        "aadsts_50013"
    );
    assert_eq!(
        code(400, r#"{"error":"invalid_grant","error_description":7}"#),
        "invalid_grant"
    );
}

#[test]
fn the_issued_type_must_be_the_requested_one() {
    let body = |t: &str| {
        format!(
            r#"{{"access_token":"t","token_type":"Bearer","expires_in":60,"issued_token_type":"{t}"}}"#
        )
    };
    let try_it = |issued: &str, requested| {
        parse_as(200, &body(issued), Expected::Exchanged(requested)).map_err(|e| e.code())
    };
    let refused = Err("reply_issued_token_type");
    assert!(try_it(ACCESS_TOKEN, Some(ACCESS_TOKEN)).is_ok());
    assert!(try_it(ACCESS_TOKEN, None).is_ok());
    assert!(try_it(JWT, None).is_ok());
    assert_eq!(try_it(JWT, Some(ACCESS_TOKEN)).map(|_| ()), refused);
    assert_eq!(
        try_it("urn:ietf:params:oauth:token-type:refresh_token", None).map(|_| ()),
        refused
    );
    let silent = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;
    assert!(parse_as(200, silent, Expected::Exchanged(Some(ACCESS_TOKEN))).is_ok());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let at = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        parse(
            RawReply {
                status: 429,
                headers: &headers,
                body: b"",
            },
            Expected::AccessToken,
            TokenType::Bearer,
            NOW,
        )
        .unwrap_err()
        .retry_after()
    };
    assert_eq!(at("120"), Some(Duration::from_secs(120)));
    assert_eq!(at(" 0 "), Some(Duration::ZERO));
    assert_eq!(at(&"9".repeat(40)), Some(Duration::MAX));
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + NOW + Duration::from_secs(90));
    assert_eq!(at(&date), Some(Duration::from_secs(90)));
    let past = httpdate::fmt_http_date(std::time::UNIX_EPOCH);
    assert_eq!(at(&past), Some(Duration::ZERO));
    assert_eq!(at("soon"), None);
    assert_eq!(at("-5"), None);
}
