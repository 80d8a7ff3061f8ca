//! Every check, with the exact words; many errors in one run; and that no text makes it panic.

use super::{super::tree, *};
use proptest::prelude::*;

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
c.yaml:5:8: subjectTokens.sts.file: missing; give the path of the projected token (only `pod` has a default)
c.yaml:7:37: credentials.a.entraClientAssertion.scope: does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default
c.yaml:8:79: credentials.b.tokenExchange.subjectToken: no subject token is named `stz`; did you mean `sts`?
c.yaml:8:94: credentials.b.tokenExchange.audience: is a single value; give a list (`[a, b]`, or lines with `- `)
c.yaml:11:13: routes[0].upstream: plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true`
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
            "c.yaml:1:9: listen: takes the admin listener's place (0.0.0.0:9090); choose another port",
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
            "c.yaml:1:23: subjectTokens.pod.path: unknown key; known here: file",
        ),
        (
            "workers: 1\nworkers: 2",
            "c.yaml:2:1: workers: given twice in the same map; remove one",
        ),
    ] {
        refused(with_top(lines), message);
    }
}

#[test]
fn credentials() {
    const SCOPE: &str = "c.yaml:4:14: credentials.a.entraClientAssertion.scope: ";
    for (lines, message) in [
        (
            "",
            "c.yaml:2:4: credentials.a: incomplete; give one of entraClientAssertion, tokenExchange",
        ),
        (
            "entraOnBehalfOf: {}",
            "c.yaml:3:5: credentials.a.entraOnBehalfOf: not supported by this version; use one of exchangeTimeout, entraClientAssertion, tokenExchange",
        ),
        (
            "entraClientAsertion: {}",
            "c.yaml:3:5: credentials.a.entraClientAsertion: unknown key; did you mean `entraClientAssertion`?",
        ),
        (
            "entraClientAssertion: {scope: x/.default}\ntokenExchange: {tokenEndpoint: 'https://s.example'}",
            "c.yaml:4:20: credentials.a.tokenExchange: stands beside `entraClientAssertion`; give one of them",
        ),
        (
            "exchangeTimeout: 10\nentraClientAssertion: {scope: x/.default}",
            "c.yaml:3:22: credentials.a.exchangeTimeout: a duration needs a unit; write a number and a unit, such as 250ms, 30s, 5m or 1h",
        ),
        (
            "entraClientAssertion: {}",
            "c.yaml:3:27: credentials.a.entraClientAssertion.scope: missing; it has no default",
        ),
    ] {
        assert!(
            with_credential(lines)
                .unwrap_err()
                .lines()
                .any(|l| l == message),
            "{:?}",
            with_credential(lines)
        );
    }
    for (scope, message) in [
        (
            "x",
            "does not end in `/.default`; an application gets all that it was granted: write `RESOURCE/.default`, such as https://management.azure.com/.default",
        ),
        (
            "/.default",
            "names no resource; write `RESOURCE/.default`, such as https://management.azure.com/.default",
        ),
        (
            "x/.default y/.default",
            "names several scopes; Entra gives an application a token for one resource at a time: write one `RESOURCE/.default`, and a credential for each further resource",
        ),
        (
            "'\"x/.default'",
            "not a list of scopes; write visible ASCII without `\"` and `\\`, separated by single spaces",
        ),
    ] {
        refused(
            with_credential(&format!("entraClientAssertion:\n  scope: {scope}")),
            &format!("{SCOPE}{message}"),
        );
    }
    for (line, message) in [
        (
            "tenantId: a/b",
            "tenantId: not a tenant; give the tenant's id (a GUID) or one of its domains",
        ),
        (
            "tenantId: Common",
            "tenantId: not one tenant; a workload signs in to one: give the tenant's id (a GUID) or one of its domains",
        ),
        (
            "clientId: a b",
            "clientId: not a single word of visible ASCII; remove spaces and quotes that were copied with it",
        ),
        ("caFile: ''", "caFile: not a file's path; give one"),
        (
            "subjectToken: prod",
            "subjectToken: no subject token is named `prod`; did you mean `pod`?",
        ),
        (
            "authorityHost: login.microsoftonline.com",
            "authorityHost: not a URL; begin with https://",
        ),
        (
            "authorityHost: http://login.example",
            "authorityHost: plain http off loopback; the subject token would travel in the clear: use https://",
        ),
        (
            "authorityHost: https://login.example/t",
            "authorityHost: has a path or query; give scheme and host alone, such as https://login.microsoftonline.com: the tenant is `tenantId`",
        ),
        (
            "authorityHost: https://login.example?q",
            "authorityHost: has a path or query; give scheme and host alone, such as https://login.microsoftonline.com: the tenant is `tenantId`",
        ),
        (
            "authorityHost: https://login.example/#f",
            "authorityHost: has a fragment; remove the `#` and what follows",
        ),
        (
            "authorityHost: https://u:p@login.example",
            "authorityHost: carries a user name or password; remove what stands before the `@`",
        ),
        (
            "authorityHost: https://login.example:99999",
            "authorityHost: not a URL (invalid port number); write one such as https://example.com",
        ),
        (
            "authorityHost: 'https://login .example'",
            "authorityHost: not a URL; it has spaces, backslashes or characters that are not ASCII: percent-encode or remove them",
        ),
    ] {
        let column = 7 + line.find(' ').unwrap() + 1;
        refused(
            with_entra(line),
            &format!("c.yaml:5:{column}: credentials.a.entraClientAssertion.{message}"),
        );
    }
}

#[test]
fn token_exchange() {
    for (line, column, message) in [
        (
            "subjectTokenType: jwt",
            25,
            "subjectTokenType: not an absolute URI; write one such as urn:ietf:params:oauth:token-type:jwt",
        ),
        (
            "requestedTokenType: jwt",
            27,
            "requestedTokenType: not an absolute URI; write one such as urn:ietf:params:oauth:token-type:jwt",
        ),
        (
            "audience: ['']",
            18,
            "audience[0]: empty or with control characters; give plain text",
        ),
        (
            "resource: [orders]",
            18,
            "resource[0]: not an absolute URI; write one such as https://orders.example.com, or use `audience` for a plain name",
        ),
        (
            "resource: ['https://o.example/#f']",
            18,
            "resource[0]: a resource has no fragment (RFC 8707); remove the `#` and what follows",
        ),
        (
            "scope: 'a  b'",
            14,
            "scope: not a list of scopes; write visible ASCII without `\"` and `\\`, separated by single spaces",
        ),
        (
            "actorToken: {}",
            19,
            "actorToken.subjectToken: missing; it has no default",
        ),
        (
            "actorToken: {subjectToken: x}",
            34,
            "actorToken.subjectToken: no subject token is named `x`; known here: pod",
        ),
        (
            "parameters: {grant_type: x}",
            20,
            "parameters.grant_type: a parameter that token exchange or client authentication defines; use the key of its own",
        ),
        (
            "parameters: {client_secret: x}",
            20,
            "parameters.client_secret: a parameter that token exchange or client authentication defines; use the key of its own",
        ),
        (
            "parameters: {claims: '{}'}",
            20,
            "parameters.claims: answers an upstream's challenge and is nothing to configure; leave it out",
        ),
        (
            "parameters: {a: [b]}",
            23,
            "parameters.a: is a list; give a single value",
        ),
        (
            "clientAuthentication: basic",
            29,
            "clientAuthentication: is a single value and not `none`; give a map with one method; known here: none, clientSecretBasic, clientSecretPost, clientAssertion",
        ),
        (
            "clientAuthentication: {privateKeyJwt: {}}",
            30,
            "clientAuthentication.privateKeyJwt: not supported by this version; use one of none, clientSecretBasic, clientSecretPost, clientAssertion",
        ),
        (
            "clientAuthentication: {clientSecretBasic: {clientId: a}}",
            49,
            "clientAuthentication.clientSecretBasic.clientSecretFile: missing; it has no default",
        ),
        (
            "clientAuthentication: {clientSecretPost: {clientSecretFile: /s}}",
            48,
            "clientAuthentication.clientSecretPost.clientId: missing; it has no default",
        ),
        (
            "clientAuthentication: {clientSecretPost: {clientId: a, clientSecret: s, clientSecretFile: /s}}",
            62,
            "clientAuthentication.clientSecretPost.clientSecret: unknown key; did you mean `clientSecretFile`?",
        ),
        (
            "clientAuthentication: {clientAssertion: {}}",
            47,
            "clientAuthentication.clientAssertion.subjectToken: missing; it has no default",
        ),
        (
            "clientAuthentication: {none: {}, clientAssertion: {subjectToken: pod}}",
            57,
            "clientAuthentication.clientAssertion: stands beside `none`; give one of them",
        ),
    ] {
        let expected = format!("c.yaml:5:{column}: credentials.a.tokenExchange.{message}");
        let got = with_exchange(line).unwrap_err();
        assert!(
            got.lines().any(|l| l == expected),
            "{line}:\n{got}\nis not\n{expected}"
        );
    }
    refused(
        with_credential("tokenExchange:\n  tokenEndpoint: http://sts.example/token"),
        "c.yaml:4:22: credentials.a.tokenExchange.tokenEndpoint: plain http off loopback; the subject token would travel in the clear: use https://",
    );
    assert!(with_exchange("clientAuthentication: none").is_ok());
}

#[test]
fn routes() {
    for (lines, message) in [
        (
            "match: {pathPrefix: v1}",
            "c.yaml:4:23: routes[0].match.pathPrefix: does not begin with `/`; write one such as /v1",
        ),
        (
            "match: {pathPrefix: '/v1?x'}",
            "c.yaml:4:23: routes[0].match.pathPrefix: not a path; remove queries, spaces and backslashes, and percent-encode what is not ASCII",
        ),
        (
            "match: {pathPrefix: /a/../b}",
            "c.yaml:4:23: routes[0].match.pathPrefix: has an empty or dot segment or an encoded `.`, `/` or `\\`; requests with such paths are refused: write it plainly",
        ),
        (
            "match: {pathPrefix: /a%2Fb}",
            "c.yaml:4:23: routes[0].match.pathPrefix: has an empty or dot segment or an encoded `.`, `/` or `\\`; requests with such paths are refused: write it plainly",
        ),
        (
            "match: {pathPrefix: //a}",
            "c.yaml:4:23: routes[0].match.pathPrefix: has an empty or dot segment or an encoded `.`, `/` or `\\`; requests with such paths are refused: write it plainly",
        ),
        (
            "match: {methods: [get]}",
            "c.yaml:4:21: routes[0].match.methods[0]: methods are case-sensitive; write GET",
        ),
        (
            "match: {methods: [CONNECT]}",
            "c.yaml:4:21: routes[0].match.methods[0]: CONNECT and TRACE are never forwarded; remove it",
        ),
        (
            "match: {methods: ['G T']}",
            "c.yaml:4:21: routes[0].match.methods[0]: not a method; write one such as GET",
        ),
        (
            "match: {methods: []}",
            "c.yaml:4:20: routes[0].match.methods: an empty list lets nothing through; name methods, or remove the key to let all through",
        ),
        (
            "http: 3",
            "c.yaml:4:9: routes[0].http: not a version; write auto, 1 or 2",
        ),
        (
            "serverName: 'https://u'",
            "c.yaml:4:15: routes[0].serverName: not a host; write a name such as example.com, without scheme, port or path",
        ),
        (
            "pool: {maxIdle: -1}",
            "c.yaml:4:19: routes[0].pool.maxIdle: not a whole number from 1 to 1048576; write one in digits",
        ),
        (
            "timeouts: {idle: 0s}",
            "c.yaml:4:20: routes[0].timeouts.idle: zero would time out at once; give a longer one",
        ),
        (
            "tokenWait: 2m",
            "c.yaml:4:14: routes[0].tokenWait: longer than 1m; give a shorter one",
        ),
        (
            "replayBuffer: 17MiB",
            "c.yaml:4:17: routes[0].replayBuffer: out of bounds; give a size from 0B to 16MiB",
        ),
        (
            "maxRequestBody: unlimited",
            "c.yaml:4:19: routes[0].maxRequestBody: not a size; write a number and a unit, such as 512B, 64KiB, 1MiB or 2GiB",
        ),
        (
            "upgrades: 1",
            "c.yaml:4:13: routes[0].upgrades: neither `true` nor `false`; write one of them",
        ),
        (
            "stripRequestHeaders: ['a b']",
            "c.yaml:4:25: routes[0].stripRequestHeaders[0]: not a header name; write one such as x-forwarded-access-token",
        ),
        (
            "stripRequestHeaders: [Host]",
            "c.yaml:4:25: routes[0].stripRequestHeaders[0]: frames or addresses the message; it cannot be stripped: remove it from the list",
        ),
        (
            "listen: 0.0.0.0:81",
            "c.yaml:4:11: routes[0].listen: not a loopback address; whoever reaches it would use the pod's identity: listen on 127.0.0.1 or [::1], or set `allowNonLoopbackListeners: true`",
        ),
        (
            "listen: 127.0.0.1:9090",
            "c.yaml:4:11: routes[0].listen: takes the admin listener's place (0.0.0.0:9090); choose another port",
        ),
    ] {
        refused(with_route_key(lines), message);
    }
    for (upstream, message) in [
        ("u.example", "not a URL; begin with https://"),
        ("https:u.example", "not a URL; begin with https://"),
        (
            "https://",
            "not a URL (empty host); write one such as https://example.com",
        ),
        ("https://u.example:0", "port 0; give another"),
        (
            "https://u.example/a?b",
            "has a query; remove the `?` and what follows",
        ),
        (
            "'https://u.example/a#b'",
            "has a fragment; remove the `#` and what follows",
        ),
        (
            "https://me:secret@u.example",
            "carries a user name or password; remove what stands before the `@`",
        ),
        (
            "https://@u.example/a",
            "carries a user name or password; remove what stands before the `@`",
        ),
        (
            "'https://u.example\\@v.example'",
            "not a URL; it has spaces, backslashes or characters that are not ASCII: percent-encode or remove them",
        ),
        (
            "http://u.example",
            "plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true`",
        ),
        (
            "https://169.254.169.254",
            "an address that no token is ever sent to (metadata service, link-local, multicast, unspecified); give another",
        ),
        (
            "http://[::ffff:169.254.169.254]",
            "an address that no token is ever sent to (metadata service, link-local, multicast, unspecified); give another",
        ),
    ] {
        refused(
            with_route(&format!("upstream: {upstream}\ncredential: a")),
            &format!("c.yaml:4:13: routes[0].upstream: {message}"),
        );
    }
    refused(
        with_route("upstream: http://127.0.0.1:1\ncredential: a\nupstreamCaFile: /ca"),
        "c.yaml:6:19: routes[0].upstreamCaFile: the upstream is plain http, so there is no TLS to apply this to; use https:// or remove it",
    );
    refused(
        with_route(""),
        "c.yaml:3:3: routes[0].upstream: missing; it has no default\nc.yaml:3:3: routes[0].credential: missing; it has no default",
    );
}

#[test]
fn routes_beside_one_another() {
    let two = |first: &str, second: &str| {
        let text = format!(
            "allowNonLoopbackListeners: true\ncredentials: {{arm: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes:\n\
             - {{upstream: https://u.example, credential: arm, {first}}}\n- {{upstream: https://u.example, credential: arm, {second}}}\n"
        );
        load_with(&text, AKS)
    };
    refused(
        two("name: a", "name: a, match: {pathPrefix: /b}"),
        "c.yaml:5:56: routes[1].name: `a` is the name of routes[0] already; give each route its own",
    );
    for (first, second) in [
        ("name: a", "name: b"),
        (
            "name: a, match: {pathPrefix: /v1}",
            "name: b, match: {pathPrefix: /v1/}",
        ),
        (
            "name: a, match: {host: H.example, methods: [GET, PUT]}",
            "name: b, match: {host: h.example, methods: [PUT]}",
        ),
        ("name: a", "name: b, listen: 127.0.0.1:8080"),
    ] {
        refused(
            two(first, second),
            "c.yaml:5:3: routes[1]: matches the same requests as routes[0]: same listener, host, path prefix and methods; change one of them",
        );
    }
    refused(
        two(
            "name: a, listen: 127.0.0.1:81",
            "name: b, listen: 0.0.0.0:81",
        ),
        "c.yaml:5:67: routes[1].listen: collides with the listener 127.0.0.1:81; choose another port or the same address",
    );
    refused(
        load_with(
            "routes: [{name: a, upstream: https://u.example, credential: a}]",
            AKS,
        ),
        "c.yaml:1:61: routes[0].credential: no credential is named `a`; declare it under `credentials`",
    );
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
        };
        decode(&wrong_at(key.path), &context);
        let path = key.path.replace("*", "any").replace("[]", "[0]");
        let errors = problems.finish().unwrap_err().to_string();
        let said = |what: &str| {
            errors
                .lines()
                .any(|l| l == format!("{path}{what}; give a single value"))
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
            &[AKS, &[("HTTPS_PROXY", "https://me:hunter2@proxy.example")]].concat(),
        ),
        "HTTPS_PROXY is not a proxy URL that can be used; write http://[user:password@]host:port (only http:// proxies are supported), or unset it",
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
        let context = Context { problems: &problems, env: &|name| AKS.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).into()) };
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
