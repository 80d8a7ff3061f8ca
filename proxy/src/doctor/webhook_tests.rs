//! How an answer of a webhook is judged. Real webhooks are asked in the integration tests.

use super::*;
use http::HeaderMap;

fn judge(status: u16, body: impl Into<Vec<u8>>) -> Step {
    let reply = Reply {
        status,
        headers: HeaderMap::new(),
        body: Zeroizing::new(body.into()),
    };
    judged("profile x".into(), &reply)
}

fn printed(step: Step) -> String {
    let mut report = Report::default();
    report.push(step);
    report.to_string()
}

fn review(response: &Value) -> String {
    json!({ "response": response }).to_string()
}

fn patched(value: &Value) -> String {
    let patch = json!([{ "op": "add", "path": "/spec/initContainers", "value": value }]);
    let patch = STANDARD.encode(patch.to_string());
    review(&json!({ "uid": NAME, "allowed": true, "patch": patch }))
}

#[test]
fn only_a_patch_with_the_sidecar_is_an_injection() {
    let sidecar = json!([{ "name": "token-sidecar", "image": "i" }]);
    assert_eq!(judge(200, patched(&sidecar)).status, Status::Pass);
    let of_another = patched(&sidecar).replace(NAME, "another");
    for (status, body, cause) in [
        (500, patched(&sidecar), "answers 500"),
        (200, "<html>".into(), "no admission webhook"),
        (200, of_another, "no admission webhook"),
        (200, review(&json!({ "uid": NAME })), "refuses the pod"),
        (
            200,
            review(&json!({ "uid": NAME, "allowed": true })),
            "without a sidecar",
        ),
        (
            200,
            patched(&json!([{ "name": "token-sidecar" }])),
            "without a sidecar",
        ),
    ] {
        let step = judge(status, body);
        assert_eq!(step.status, Status::Fail);
        let said = printed(step);
        assert!(said.contains(cause), "{said}");
    }
}

#[test]
fn the_other_ends_words_are_one_line_with_an_end() {
    let words = format!("a\nb\u{1b}[2J{}", "x".repeat(3000));
    let said = printed(judge(500, words));
    assert!(said.contains("answers 500: ab[2Jxxx"), "{said}");
    assert!(said.len() < 1500, "{}", said.len());
}

#[test]
fn a_route_of_ones_own_is_given_where_the_profile_lets_pods_give_one() {
    let profile = |annotations: Option<&[&str]>| Profile {
        annotations: annotations.map(|all| all.iter().map(|a| (*a).to_owned()).collect()),
        rewrite: Vec::new(),
        ..crate::admission::tests::profile()
    };
    let keys = |profile: &Profile| -> Vec<String> {
        brought(profile)
            .unwrap()
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    let both = ["token-sidecar.io/credentials", "token-sidecar.io/routes"];
    assert_eq!(keys(&profile(None)), both);
    assert_eq!(keys(&profile(Some(&["routes", "credentials"]))), both);
    for (allowed, missing) in [(&["routes"], "credentials"), (&["credentials"], "routes")] {
        let why = brought(&profile(Some(allowed))).unwrap_err();
        assert!(
            why.contains(&format!("token-sidecar.io/{missing}, which")),
            "{why}"
        );
    }
    assert_eq!(keys(&crate::admission::tests::profile()), [""; 0]);
}
