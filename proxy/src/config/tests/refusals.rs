//! Every check, with the exact words; many errors in one run; and that no text makes it panic.

use super::{
    super::tree::{self, Value},
    *,
};
use proptest::prelude::*;

mod credentials;
mod routes;

#[test]
fn everything_wrong_is_said_in_one_run() {
    let text = "\
lisen: 127.0.0.1:8080
workers: none
log: {level: loud}
subjectTokens:
  sts: {}
credentials:
  a: {entraClientAssertion: {scope: https://graph.microsoft.com/User.Read}}
  b: {tokenExchange: {tokenEndpoint: https://sts.example/token, subjectToken: stz, audience: x}}
routes:
- name: r
  upstream: http://u.example
  credential: c
  timeouts: {connect: 5}
";
    refused(
        load_with(text, AKS),
        "\
c.yaml:1:1: lisen: unknown key; did you mean `listen`?
c.yaml:2:10: workers: not a whole number from 1 to 1024; write one in digits
c.yaml:3:14: log.level: not a level; write error, warn, info, debug or trace, or directives such as token_sidecar=debug,info
c.yaml:5:8: subjectTokens.sts.file: missing; give the path of the projected token (only `pod` has a default), or `credential`
c.yaml:7:37: credentials.a.entraClientAssertion.scope: does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default
c.yaml:8:79: credentials.b.tokenExchange.subjectToken: no subject token is named `stz`; did you mean `sts`?
c.yaml:8:94: credentials.b.tokenExchange.audience: is a single value; give a list (`[a, b]`, or lines with `- `)
c.yaml:11:13: routes[0].upstream: plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true` beside it
c.yaml:12:15: routes[0].credential: no credential is named `c`; did you mean `a`?
c.yaml:13:23: routes[0].timeouts.connect: a duration needs a unit; write a number and a unit, such as 250ms, 30s, 5m or 1h",
    );
}

#[test]
fn without_aks_the_mend_is_named() {
    let source = Source {
        document: None,
        overrides: Overrides {
            upstream: Some("https://u.example".into()),
            scope: Some("x/.default".into()),
            ..Overrides::default()
        },
    };
    refused(
        load_from(source, &[]),
        "\
credentials.default.entraClientAssertion.tenantId: missing, and AZURE_TENANT_ID is not set; give one of them: the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"`; another tenant is named by the service account's annotation `azure.workload.identity/tenant-id`
credentials.default.entraClientAssertion.clientId: missing, and AZURE_CLIENT_ID is not set; give one of them: the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"` and its service account the annotation `azure.workload.identity/client-id`
credentials.default.entraClientAssertion.subjectToken: the subject token `pod` has no file, and AZURE_FEDERATED_TOKEN_FILE is not set; set `subjectTokens.pod.file`, or AZURE_FEDERATED_TOKEN_FILE: the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"` and the container is not named in the annotation `azure.workload.identity/skip-containers`",
    );
}

#[test]
fn the_source_itself() {
    let none = || Source::default();
    refused(
        load_from(none(), AKS),
        "nothing to do; give a configuration file (`--config FILE` or TOKEN_SIDECAR_CONFIG), or `--upstream URL` and `--scope SCOPE` (TOKEN_SIDECAR_UPSTREAM, TOKEN_SIDECAR_SCOPE)",
    );
    let with = |upstream: Option<&str>, scope: Option<&str>| Source {
        document: None,
        overrides: Overrides {
            upstream: upstream.map(Into::into),
            scope: scope.map(Into::into),
            ..Overrides::default()
        },
    };
    refused(
        load_from(with(Some("https://u.example"), None), AKS),
        "--scope: missing; `--upstream` needs it: which scope is asked for, such as https://management.azure.com/.default?",
    );
    refused(
        load_from(with(None, Some("x/.default")), AKS),
        "--upstream: missing; `--scope` needs it: where do requests go?",
    );
    let mut both = with(Some("https://u.example"), None);
    both.document = Some(Document::Text {
        name: "c.yaml".into(),
        text: String::new(),
    });
    refused(
        load_from(both, &[("TOKEN_SIDECAR_SCOPE", "x/.default")]),
        "--upstream: stands beside a configuration file; put it into the file, or drop the file\n\
         TOKEN_SIDECAR_SCOPE: stands beside a configuration file; put it into the file, or drop the file",
    );
    refused(
        load_from(none(), &[("TOKEN_SIDECAR_CONFIG", "/nonexistent/c.yaml")]),
        "/nonexistent/c.yaml: cannot be read (No such file or directory (os error 2)); check the path and the mount",
    );
    refused(
        load_from(with(Some("ftp://u.example"), Some("x")), AKS),
        "--scope: does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default\n\
         --upstream: not a URL; begin with https://",
    );
    let wrong = [
        AKS,
        &[
            ("AZURE_TENANT_ID", "a/b"),
            ("AZURE_AUTHORITY_HOST", "https://login.example/tenant"),
        ],
    ]
    .concat();
    refused(
        load_from(with(Some("https://u.example"), Some("x/.default")), &wrong),
        "AZURE_AUTHORITY_HOST: has a path or query; give scheme and host alone, such as https://login.microsoftonline.com: the tenant is `tenantId`\n\
         AZURE_TENANT_ID: not a tenant; give the tenant's id (a GUID) or one of its domains",
    );
    refused(
        load_with("- a", AKS),
        "c.yaml:1:1: is a list; give a map (`key: value` lines)",
    );
    refused(
        load_with("", AKS),
        "c.yaml: routes: no route, so nothing would be served; add one with `name`, `upstream` and `credential`",
    );
}

#[test]
fn top_level() {
    for (lines, message) in [
        (
            "listen: localhost:8080",
            "c.yaml:1:9: listen: not a listener; write IP:PORT such as 127.0.0.1:8080 (a name is not an IP), or unix:/PATH such as unix:/run/token-sidecar/http.sock",
        ),
        (
            "listen: unix:x.sock",
            "c.yaml:1:9: listen: not a listener; write IP:PORT such as 127.0.0.1:8080 (a name is not an IP), or unix:/PATH such as unix:/run/token-sidecar/http.sock",
        ),
        (
            "listen: 0.0.0.0:8080",
            "c.yaml:1:9: listen: not a loopback address; whoever reaches it would use the pod's identity: listen on 127.0.0.1 or [::1], or set `allowNonLoopbackListeners: true`",
        ),
        (
            "listen: 127.0.0.1:9090",
            "c.yaml:1:9: listen: takes the admin listener's place ([::]:9090); choose another port",
        ),
        (
            "listen: '[::1]:9090'\nadmin: '[::]:9090'",
            "c.yaml:1:9: listen: takes the admin listener's place ([::]:9090); choose another port",
        ),
        (
            "listen: unix:/a\nadmin: unix:/a",
            "c.yaml:1:9: listen: takes the admin listener's place (unix:/a); choose another port",
        ),
        (
            "listen:",
            "c.yaml:1:7: listen: has no value; give one or remove the key",
        ),
        (
            "listen: [a]",
            "c.yaml:1:9: listen: is a list; give a single value",
        ),
        (
            "listen: {a: b}",
            "c.yaml:1:9: listen: is a map; give a single value",
        ),
        (
            "allowNonLoopbackListeners: yes",
            "c.yaml:1:28: allowNonLoopbackListeners: neither `true` nor `false`; write one of them",
        ),
        (
            "workers: 0",
            "c.yaml:1:10: workers: not a whole number from 1 to 1024; write one in digits",
        ),
        (
            "log: text",
            "c.yaml:1:6: log: is a single value; give a map (`key: value` lines)",
        ),
        (
            "log: {format: xml}",
            "c.yaml:1:15: log.format: not a log format; write json or text",
        ),
        (
            "log: {Format: json}",
            "c.yaml:1:7: log.Format: unknown key; did you mean `format`?",
        ),
        (
            "log: {zebra: json}",
            "c.yaml:1:7: log.zebra: unknown key; known here: level, format",
        ),
        (
            "shutdown: {delay: 5}",
            "c.yaml:1:19: shutdown.delay: a duration needs a unit; write a number and a unit, such as 250ms, 30s, 5m or 1h",
        ),
        (
            "shutdown: {deadline: 25h}",
            "c.yaml:1:22: shutdown.deadline: longer than 24h; choose a shorter one",
        ),
        (
            "allowedHosts: ['http://h']",
            "c.yaml:1:16: allowedHosts[0]: not a host; write a name such as example.com, without scheme, port or path",
        ),
        (
            "allowedHosts: ['h.example:80']",
            "c.yaml:1:16: allowedHosts[0]: not a host; write a name such as example.com, without scheme, port or path",
        ),
        (
            "allowedHosts: ['*.example']",
            "c.yaml:1:16: allowedHosts[0]: wildcards are not supported; name each host",
        ),
        (
            "allowedOrigins: [a.example]",
            "c.yaml:1:18: allowedOrigins[0]: not an origin; write scheme, host and port (unless it is the default) such as http://localhost:6274",
        ),
        (
            "allowedOrigins: ['null']",
            "c.yaml:1:18: allowedOrigins[0]: not an origin; write scheme, host and port (unless it is the default) such as http://localhost:6274",
        ),
        (
            "allowedOrigins: ['http://A.example:80/']",
            "c.yaml:1:18: allowedOrigins[0]: not as browsers write it; write http://a.example",
        ),
        (
            "limits: {maxHeaderBytes: 4KiB}",
            "c.yaml:1:26: limits.maxHeaderBytes: out of bounds; give a size from 8KiB to 1MiB",
        ),
        (
            "limits: {maxHeaderBytes: 32}",
            "c.yaml:1:26: limits.maxHeaderBytes: a size needs a unit; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
        ),
        (
            "limits: {maxUriBytes: 64KiB}",
            "c.yaml:1:23: limits.maxUriBytes: out of bounds; give a size from 256B to 60KiB",
        ),
        (
            "limits: {maxHeaderFields: 5000}",
            "c.yaml:1:27: limits.maxHeaderFields: not a whole number from 1 to 4096; write one in digits",
        ),
        (
            "limits: {headerReadTimeout: 0s}",
            "c.yaml:1:29: limits.headerReadTimeout: zero would time out at once; give a longer one",
        ),
        (
            "subjectTokens: {'a b': {file: /t}}",
            "c.yaml:1:17: subjectTokens.a b: not a name; use 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`, and begin with a letter or digit",
        ),
        (
            "subjectTokens: {pod: {file: ''}}",
            "c.yaml:1:29: subjectTokens.pod.file: not a file's path; give one",
        ),
        (
            "subjectTokens: {pod: {path: /t}}",
            "c.yaml:1:23: subjectTokens.pod.path: unknown key; known here: file, credential",
        ),
        (
            "workers: 1\nworkers: 2",
            "c.yaml:2:1: workers: given twice in the same map; remove one",
        ),
    ] {
        refused(with_top(lines), message);
    }
}

/// A tree in which the key at `path` (a path of the table) is a list in a list, which no key takes.
fn wrong_at(path: &str) -> Node {
    let at = Place::Whole;
    let list = |node| Node {
        at,
        value: Value::List(vec![node]),
    };
    let mut node = list(list(Node {
        at,
        value: Value::Null,
    }));
    for segment in path.split('.').rev() {
        let (name, in_list) = segment
            .strip_suffix("[]")
            .map_or((segment, false), |n| (n, true));
        if in_list {
            node = list(node);
        }
        let key = if name == "*" { "any" } else { name };
        node = Node {
            at,
            value: Value::Map(vec![tree::Entry {
                key: key.into(),
                key_at: at,
                node,
            }]),
        };
    }
    node
}

#[test]
fn every_key_of_the_table_is_read() {
    for key in reference() {
        let problems = Problems::new(None);
        let context = Context {
            problems: &problems,
            env: &|_| None,
            surroundings: Surroundings::Process,
        };
        decode(&wrong_at(key.path), &context);
        let path = key.path.replace("*", "any").replace("[]", "[0]");
        let errors = problems.finish().unwrap_err().to_string();
        let said = |what: &str| {
            errors.lines().any(|l| {
                l == format!(
                    "{path}{what}; give {}",
                    if key.kind == "map" {
                        "a map (`key: value` lines)"
                    } else {
                        "a single value"
                    }
                )
            })
        };
        assert!(
            said(": is a list") || said("[0]: is a list"),
            "{path} is not read:\n{errors}"
        );
        assert!(!errors.contains("unknown key"), "{errors}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_reported_once_and_not_shown() {
    let source = Source {
        document: Some(Document::File(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../tests/samples/config/several-upstreams.yaml"),
        )),
        ..Source::default()
    };
    refused(
        load_from(
            source,
            &[AKS, &[("HTTPS_PROXY", "socks5://me:hunter2@proxy.example")]].concat(),
        ),
        "HTTPS_PROXY is not a proxy URL that can be used; write http://[user:password@]host:port, or https:// for a proxy that is spoken to over TLS, or unset it",
    );
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = with_route("upstream: https://me:hunter2@u.example\ncredential: a").unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
    let error = with_route("upstream: me:hunter2@u.example\ncredential: a").unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        drop(load_with(&text, AKS));
    }

    /// Pieces of real configurations in any order and indentation get further in than noise.
    #[test]
    fn no_pieces_panic(pieces in proptest::collection::vec((0usize..6, 0usize..200, "[ -~é]{0,12}"), 0..40)) {
        let words: Vec<&str> = reference().iter().flat_map(|k| k.path.split(['.', '['])).collect();
        let mut text = String::new();
        for (indent, word, value) in pieces {
            text.push_str(&" ".repeat(indent));
            text.push_str(words[word % words.len()]);
            text.push_str(": ");
            text.push_str(&value);
            text.push('\n');
        }
        drop(load_with(&text, AKS));
    }

    /// Any value under any key is taken or refused, never a panic.
    #[test]
    fn no_value_panics(key in 0usize..1000, value in "\\PC{0,40}|(https?|unix)://?[a-z@:\\[\\]./?#%0-9]{0,30}|[0-9]{0,30}[a-zA-Z]{0,3}") {
        let key = &reference()[key % reference().len()];
        let mut tree = wrong_at(key.path);
        replace_leaf(&mut tree, &value);
        let problems = Problems::new(None);
        let context = Context {
            problems: &problems,
            env: &|name| AKS.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).into()),
            surroundings: Surroundings::Process,
        };
        let config = decode(&tree, &context);
        // Nothing is refused without a reason.
        prop_assert!(config.is_some() || problems.finish().is_err());
    }
}

fn replace_leaf(node: &mut Node, text: &str) {
    match &mut node.value {
        Value::List(items)
            if items.iter().all(
                |i| matches!(&i.value, Value::List(l) if l.iter().all(|n| n.value == Value::Null)),
            ) =>
        {
            node.value = Value::Scalar(text.into());
        }
        Value::List(items) => items.iter_mut().for_each(|i| replace_leaf(i, text)),
        Value::Map(entries) => entries
            .iter_mut()
            .for_each(|e| replace_leaf(&mut e.node, text)),
        _ => {}
    }
}
