//! What a pod's annotations can say wrongly, each with the annotation, the place and the mend; by injection as it is and the sidecar's own reading.

use super::super::profiles::{check, load_profiles};
use super::*;
use crate::admission::{
    ANNOTATIONS,
    inject::{Request, inject},
};
use serde_json::json;

/// The profile has a credential and a route of its own, and rewrites a variable.
const PROFILES: &str = "
profiles:
  default:
    image: i
    token: {aks: {}}
    credentials: {own: {entraClientAssertion: {scope: x/.default}}}
    routes: [{name: own, match: {host: own.example}, upstream: https://own.example, credential: own}]
    rewrite: [{variable: BACKEND_API_URL, scope: y/.default}]
";

/// What is wrong with a pod that has these annotations (without prefix).
fn said(annotations: &[(&str, &str)]) -> Vec<String> {
    said_of("https://orders.example", annotations)
}

/// The same, with this URL in the variable that is rewritten.
fn said_of(url: &str, annotations: &[(&str, &str)]) -> Vec<String> {
    let document = Document::Text {
        name: "p.yaml".into(),
        text: PROFILES.into(),
    };
    let profiles = load_profiles(document).unwrap();
    let request = Request {
        profiles: &profiles,
        check: &check,
        asked: true,
        profile: None,
        job: false,
    };
    let mut pod = json!({"metadata": {"annotations": {}}, "spec": {"containers": [
        {"name": "app", "env": [{"name": "BACKEND_API_URL", "value": url}]}]}});
    for (name, value) in annotations {
        pod["metadata"]["annotations"][format!("token-sidecar.io/{name}")] = (*value).into();
    }
    inject(&pod, &request).map_or_else(|refusal| refusal.0, |_| Vec::new())
}

/// A route that is right but for what is put into it.
fn route(upstream: &str, credential: &str) -> String {
    format!(
        "# ours\n- name: mine\n  match: {{host: mine.example}}\n  upstream: {upstream}\n  credential: {credential}\n"
    )
}

/// Bad values of each annotation, with what is said after `annotation token-sidecar.io/NAME`.
fn cases() -> Vec<(&'static str, String, &'static str)> {
    let of = |name: &'static str, value: &str, said: &'static str| (name, value.to_owned(), said);
    vec![
        of(
            "inject",
            "yes",
            " is neither \"true\" nor \"false\"; write one of them, in quotes",
        ),
        of(
            "profile",
            "",
            ": empty; write one, or remove the annotation",
        ),
        of(
            "profile",
            "two words",
            ": not a single word of visible ASCII; remove spaces",
        ),
        of(
            "image",
            "",
            ": empty; write one such as registry.example.com/token-sidecar:0.1.0",
        ),
        of(
            "log-level",
            "loud",
            ": `loud` is not a log level; use trace, debug, info, warn, error or off, alone or as target=level, separated by commas, such as `token_sidecar=debug,info`",
        ),
        of(
            "native",
            "no",
            ": neither \"true\" nor \"false\"; write one of them",
        ),
        of(
            "port",
            "80",
            ": not a port from 1024 to 65535; write one in digits",
        ),
        of(
            "admin-port",
            "65536",
            ": not a port from 1024 to 65535; write one in digits",
        ),
        of(
            "resources",
            "a: [",
            ": line 1, column 4: not YAML: unclosed bracket '['; correct it there, or write JSON",
        ),
        of(
            "resources",
            "limits: {memory: 64}",
            ": limits.memory: 64 bytes, with which nothing runs; write 64Mi",
        ),
        of(
            "resources",
            "64Mi",
            ": not a map; write `{requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 64Mi}}`",
        ),
        of(
            "resources",
            "limit: {memory: 1Gi}",
            ": unknown key limit; did you mean `limits`?",
        ),
        of(
            "resources",
            "limits: {memory: lots}",
            ": limits.memory: not an amount; write one such as 20m or 1 (cpu), 64Mi or 1Gi (memory)",
        ),
        of(
            "credentials",
            "a: 1\nb: {",
            ": line 2, column 4: not YAML: unclosed bracket '{'; correct it there, or write JSON",
        ),
        of(
            "credentials",
            "[a]",
            ": not a map; write `NAME: {entraClientAssertion: {scope: …}}`",
        ),
        of(
            "credentials",
            "a:\n  entraClientAssertion:\n    tenantId: t",
            ": line 3, column 5: a.entraClientAssertion.scope: missing; it has no default",
        ),
        of(
            "credentials",
            "a:\n  entraClientAssertion:\n    scope: x/.default\n    scop: y",
            ": line 4, column 11: a.entraClientAssertion.scop: unknown key; did you mean `scope`?",
        ),
        of(
            "credentials",
            "a: {tokenExchange: {tokenEndpoint: \"http://sts.example\"}}",
            ": line 1, column 36: a.tokenExchange.tokenEndpoint: plain http off loopback; the subject token would travel in the clear: use https://",
        ),
        of(
            "credentials",
            "{\"b.c\": {\"clientCredentials\": {\"tokenEndpoint\": \"https://sts.example\", \"clientAuthentication\": {\"none\": {}}}}}",
            ": line 1, column 96: b.c.clientCredentials.clientAuthentication: missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        ),
        of(
            "credentials",
            "own:\n  entraClientAssertion: {scope: x}",
            ": line 2, column 33: own.entraClientAssertion.scope: does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default",
        ),
        of(
            "routes",
            "- a: [",
            ": line 1, column 6: not YAML: unclosed bracket '['; correct it there, or write JSON",
        ),
        of(
            "routes",
            "name: a",
            ": not a list; write `[{name: …, upstream: …, credential: …}]`",
        ),
        of(
            "routes",
            "[just text]",
            ": line 1, column 2: [0]: is a single value; give a map (`key: value` lines)",
        ),
        (
            "routes",
            route("https://me:s3cr3t@mine.example", "own"),
            ": line 4, column 13: [0].upstream: carries a user name or password; remove what stands before the `@`",
        ),
        (
            "routes",
            route("{env: TOKEN_SIDECAR_UPSTREAM_8080}", "own"),
            ": line 4, column 19: [0].upstream.env: an injected sidecar has no variable TOKEN_SIDECAR_UPSTREAM_8080; write the URL here, or name the workload's variable in `rewrite` of the profile",
        ),
        (
            "routes",
            route("https://mine.example", "owm"),
            ": line 5, column 15: [0].credential: no credential is named `owm`; did you mean `own`?",
        ),
        of(
            "routes",
            "[{name: own, match: {host: a.example}, upstream: https://a.example, credential: own}]",
            ": line 1, column 9: [0].name: `own` is the name of routes[0] already; give each route its own",
        ),
    ]
}

#[test]
fn each_is_told_by_its_annotation_its_place_and_its_mend() {
    for (name, value, expected) in cases() {
        let said = said(&[(name, &value)]);
        let expected = format!("annotation token-sidecar.io/{name}{expected}");
        assert_eq!(said, [expected], "{value}");
    }
}

#[test]
fn there_is_a_bad_value_of_every_annotation() {
    let cases = cases();
    for (name, _) in ANNOTATIONS {
        assert!(cases.iter().any(|(n, ..)| n == name), "{name} has no case");
    }
}

/// A good one of each is no error: the cases above fail for what they say.
#[test]
fn what_they_are_right_with_is_taken() {
    let good = said(&[
        (
            "credentials",
            "a: {entraClientAssertion: {scope: x/.default}}",
        ),
        ("routes", &route("https://mine.example", "a")),
        ("resources", "limits: {memory: 64Mi}"),
    ]);
    assert_eq!(good, [""; 0]);
    // A route or credential of the pod's may have the name that a rewritten variable's would get.
    let named = [
        (
            "credentials",
            "backend-api-url: {entraClientAssertion: {scope: x/.default}}",
        ),
        (
            "routes",
            "[{name: backend-api-url, match: {host: a.example}, upstream: https://a.example, credential: backend-api-url}]",
        ),
    ];
    assert_eq!(said(&named), [""; 0]);
    // Of the profile that it names, and what is not the annotations' is not told as theirs.
    assert_eq!(
        said(&[("profile", "defaut")]),
        [
            "no profile is named `defaut`; did you mean `default`?; set the annotation token-sidecar.io/profile to one of them"
        ]
    );
}

/// A rewritten variable's fault is told by its container and name, after the routes of the profile and of the annotation.
#[test]
fn a_variables_fault_is_told_as_the_variables() {
    let more = route("https://mine.example", "own");
    for annotations in [&[][..], &[("routes", more.as_str())]] {
        assert_eq!(
            said_of("http://orders.example", annotations),
            [
                "container app: BACKEND_API_URL: plain http off loopback; the access token would travel in the clear: use https://, or set \
                 `rewrite[0].allowInsecureHttp: true` in the profile"
            ]
        );
    }
}

/// The other of two routes that meet is called as whoever wrote it knows it, not by its number in what was put together.
#[test]
fn a_route_that_meets_another_names_it_as_its_author_does() {
    let met = |route: &str| {
        let told = said(&[("routes", route)]);
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    };
    let same = "same listener, host, path prefix and methods; change one of them";
    assert_eq!(
        met(
            "[{name: mine, match: {host: own.example}, upstream: https://u.example, credential: own}]"
        ),
        format!(
            "annotation token-sidecar.io/routes: line 1, column 2: [0]: matches the same requests as routes[0] of the profile: {same}"
        )
    );
    let mine =
        "name: mine, match: {host: mine.example}, upstream: https://u.example, credential: own";
    assert_eq!(
        met(&format!(
            "[{{{mine}}},\n {{{}}}]",
            mine.replace("name: mine", "name: too")
        )),
        format!(
            "annotation token-sidecar.io/routes: line 2, column 2: [1]: matches the same requests as annotation token-sidecar.io/routes: line 1, column 2: [0]: {same}"
        )
    );
}

/// A pod that Linux would not start a sidecar for.
#[test]
fn annotations_that_make_too_large_a_configuration() {
    let scope = "x".repeat(140_000);
    assert_eq!(
        said(&[(
            "credentials",
            &format!("mine: {{entraClientAssertion: {{scope: {scope}/.default}}}}")
        )]),
        [
            "the sidecar's configuration would be 138 KiB, and a variable of more than 128 KiB starts no program; 137 KiB of it are the annotations \
             credentials and routes: leave out of them what the pod does not use, or use a profile with `configMap`"
        ]
    );
}
