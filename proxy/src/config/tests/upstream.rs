//! An upstream's URL that a variable holds: held to the rules of one that is written out, and nothing else is read from it.

use super::*;

const NAME: &str = "TOKEN_SIDECAR_UPSTREAM_ORDERS";
/// Where errors say that it is.
const PLACE: &str = "c.yaml:4:19: routes[0].upstream.env: ";

/// One route whose upstream `value` names, and what is wrong with it.
fn with_value(value: Option<&str>, more: &str) -> Result<Config, String> {
    let text = format!(
        "credentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes:\n- name: r\n  upstream: {{env: {NAME}}}\n  credential: a\n{more}"
    );
    let own: Vec<(&str, &str)> = value.map(|v| (NAME, v)).into_iter().collect();
    load_with(&text, &[AKS, &own].concat())
}

#[test]
fn its_value_is_the_url_without_the_white_space_around_it() {
    let written = with_route("upstream: https://u.example:8443/api/\ncredential: a").unwrap();
    for value in [
        "https://u.example:8443/api/",
        "https://u.example:8443/api/\n",
        " \t\r\nhttps://u.example:8443/api/ \r\n\n",
    ] {
        let config = with_value(Some(value), "").unwrap();
        let [route] = &config.request.routes[..] else {
            panic!()
        };
        assert_eq!(route.upstream, written.request.routes[0].upstream);
        assert_eq!(route.upstream_variable.as_deref(), Some(NAME));
    }
    assert_eq!(written.request.routes[0].upstream_variable, None);
}

#[test]
fn it_is_held_to_the_rules_of_a_url_that_is_written_out() {
    let mend = "where the value comes from (the pod's `env`, a ConfigMap, a Secret)";
    let value = |message: &str| format!("{PLACE}the value of {NAME}: {message} {mend}");
    for value_and_message in [
        (
            None,
            format!(
                "{PLACE}{NAME} is not set; set it in the sidecar's container to the upstream's URL"
            ),
        ),
        (
            Some(""),
            format!("{PLACE}{NAME} is empty; put the upstream's URL {mend}"),
        ),
        (
            Some(" \n"),
            format!("{PLACE}{NAME} is empty; put the upstream's URL {mend}"),
        ),
        (Some("u.example"), value("not a URL; begin with https://,")),
        (
            Some("\"https://u.example\""),
            value("not a URL; begin with https://, without quotes,"),
        ),
        (
            Some("https://me:s3cr3t@u.example"),
            value("carries a user name or password; remove what stands before the `@`,"),
        ),
        (
            Some("https://u.example/?key=s3cr3t"),
            value("has a query; remove the `?` and what follows,"),
        ),
        (
            Some("https://u.example/#s3cr3t"),
            value("has a fragment; remove the `#` and what follows,"),
        ),
        (
            Some("https://$(S3CR3T)/x"),
            value(
                "names what is no host, such as a variable that nobody filled in; write one such as https://example.com,",
            ),
        ),
        (
            Some("https://169.254.169.254/"),
            value(
                "an address that no token is ever sent to (metadata service, link-local, multicast, unspecified); give another,",
            ),
        ),
        (
            Some("http://u.example"),
            format!(
                "{PLACE}the value of {NAME}: plain http off loopback; the access token would travel in the clear: use https:// {mend}, or set `allowInsecureHttp: true` beside `upstream`, or, where injection wrote the route, in `rewrite` of the profile"
            ),
        ),
    ] {
        let (value, message) = value_and_message;
        assert_eq!(with_value(value, "").unwrap_err(), message, "{value:?}");
    }
    let insecure = with_value(Some("http://u.example"), "  allowInsecureHttp: true\n").unwrap();
    assert!(!insecure.request.routes[0].upstream.tls);
    with_value(Some("http://127.0.0.1:7000"), "").unwrap();
}

/// Whoever sets the variable can name a URL, and say nothing else of the configuration.
#[test]
fn nothing_gets_out_of_it() {
    for value in [
        "https://u.example\", \"credential\": \"other",
        "https://u.example\"}], \"routes\": [{\"name\": \"evil\"",
        "https://u.example\n  allowInsecureHttp: true",
        "https://u.example}\ncredentials: {}",
        "https://u.example\"}",
        "https://u.example/x}",
        "https://u.example/'\"",
        "{env: HOME}",
        "$(HOME)",
    ] {
        let said = with_value(Some(value), "").unwrap_err();
        assert!(
            said.starts_with(&format!("{PLACE}the value of {NAME}: not a URL")),
            "{value}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{value}: {said}");
        for part in ["u.example", "evil", "HOME", "s3cr3t"] {
            assert!(!said.contains(part), "{value}: {said}");
        }
    }
}

#[test]
fn only_variables_that_are_for_it_can_be_named() {
    let named = |name: &str| {
        let text = format!(
            "credentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes:\n- name: r\n  upstream: {{env: '{name}'}}\n  credential: a\n"
        );
        load_with(
            &text,
            &[
                AKS,
                &[("HOME", "https://u.example"), (name, "https://u.example")],
            ]
            .concat(),
        )
        .unwrap_err()
    };
    for name in [
        "HOME",
        "",
        "TOKEN_SIDECAR_UPSTREAM_",
        "TOKEN_SIDECAR_UPSTREAM_a b",
        "TOKEN_SIDECAR_UPSTREAM_A=B",
        "TOKEN_SIDECAR_SCOPES",
    ] {
        assert_eq!(
            named(name),
            format!(
                "{PLACE}not a variable that an upstream may come from; name one that begins with TOKEN_SIDECAR_UPSTREAM_, such as TOKEN_SIDECAR_UPSTREAM_ORDERS"
            ),
            "{name}"
        );
    }
}

#[test]
fn the_map_is_a_map_like_every_other() {
    for (upstream, message) in [
        (
            "{}",
            "c.yaml:4:13: routes[0].upstream.env: missing; it has no default",
        ),
        (
            "{evn: X}",
            "c.yaml:4:13: routes[0].upstream.env: missing; it has no default\nc.yaml:4:14: routes[0].upstream.evn: unknown key; known here: env",
        ),
        (
            "{env: [X]}",
            "c.yaml:4:19: routes[0].upstream.env: is a list; give a single value",
        ),
        (
            "[https://u.example]",
            "c.yaml:4:13: routes[0].upstream: is a list; give a single value",
        ),
    ] {
        refused(
            with_route(&format!("upstream: {upstream}\ncredential: a")),
            message,
        );
    }
}

/// What goes with TLS is held against the URL that the variable holds.
#[test]
fn keys_beside_it_are_held_against_its_value() {
    refused(
        with_value(Some("http://127.0.0.1:7000"), "  serverName: u.example\n"),
        "c.yaml:6:15: routes[0].serverName: the upstream is plain http, so there is no TLS to apply this to; use https:// or remove it",
    );
}

#[test]
fn the_short_form_does_without_white_space_too() {
    let with = |upstream: &str| {
        load_from(
            Source::default(),
            &[
                AKS,
                &[
                    ("TOKEN_SIDECAR_UPSTREAM", upstream),
                    ("TOKEN_SIDECAR_SCOPE", "x/.default"),
                ],
            ]
            .concat(),
        )
    };
    assert_eq!(
        with("https://u.example/api\n").unwrap().request,
        with("https://u.example/api").unwrap().request
    );
    assert_eq!(
        with("\n").unwrap_err(),
        "--upstream: missing; `--scope` needs it: where do requests go?"
    );
    assert_eq!(
        with("https://u.example\nlisten: x").unwrap_err(),
        "TOKEN_SIDECAR_UPSTREAM: not a URL; it has spaces, quotes, braces, backslashes or other characters that no URL has: percent-encode or remove them"
    );
}
