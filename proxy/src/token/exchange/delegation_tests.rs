//! Who may act and who acts, by iss and sub alone.

use super::*;
use crate::token::subject::tests::jwt_with;
use std::time::Duration;

fn token(claims: &str) -> SubjectToken {
    let text = jwt_with(&format!(r#""exp":100{claims}"#));
    SubjectToken::parse(text.as_bytes(), Duration::ZERO).unwrap()
}

fn actor() -> SubjectToken {
    token(r#","iss":"https://i","sub":"pod""#)
}

#[test]
fn a_subject_that_names_another_actor_is_not_asked_for() {
    for may_act in [
        "",
        r#","may_act":{"sub":"pod"}"#,
        r#","may_act":{"sub":"pod","iss":"https://i"}"#,
        r#","may_act":{"iss":"https://i"}"#,
        // Not ours to judge.
        r#","may_act":{"client_id":"x"}"#,
        r#","may_act":["x"]"#,
    ] {
        check_may_act(&token(may_act), &actor()).unwrap();
    }
    for may_act in [
        r#","may_act":{"sub":"other"}"#,
        r#","may_act":{"sub":"pod","iss":"https://other"}"#,
        r#","may_act":{"iss":"https://other"}"#,
    ] {
        let error = check_may_act(&token(may_act), &actor()).unwrap_err();
        assert_eq!(error.code(), "may_act_other", "{may_act}");
    }
    // Half of the name is not the name; of an opaque actor nothing is known.
    let subject = token(r#","may_act":{"sub":"pod"}"#);
    let half = check_may_act(&subject, &token(r#","iss":"https://i""#));
    assert_eq!(half.unwrap_err().code(), "may_act_other");
    check_may_act(&subject, &token("")).unwrap();
}

#[test]
fn only_the_outermost_act_counts() {
    let check = |claims: &str| {
        check_act(&jwt_with(claims), &actor())
            .map_err(|e| e.code())
            .err()
    };
    assert_eq!(check(r#""act":{"sub":"pod"}"#), None);
    assert_eq!(
        check(r#""act":{"sub":"pod","iss":"https://i","act":{"sub":"other"}}"#),
        None
    );
    assert_eq!(
        check(r#""act":{"sub":"other","act":{"sub":"pod"}}"#),
        Some("act_other")
    );
    assert_eq!(
        check(r#""act":{"sub":"pod","iss":"https://other"}"#),
        Some("act_other")
    );
    for none in [r#""sub":"pod""#, r#""act":{}"#, r#""act":"pod""#] {
        assert_eq!(check(none), Some("act_missing"), "{none}");
    }
    let opaque = check_act("opaque", &actor()).unwrap_err();
    assert_eq!(opaque.code(), "act_missing");
    // An actor that cannot be compared is not taken for the one that is named.
    let unknown = check_act(&jwt_with(r#""act":{"sub":"pod"}"#), &token(""));
    assert_eq!(unknown.unwrap_err().code(), "act_other");
}
