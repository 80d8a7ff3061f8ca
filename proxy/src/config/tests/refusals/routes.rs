//! What is refused of routes, each by itself and beside one another.

use super::*;

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
            "c.yaml:4:11: routes[0].listen: takes the admin listener's place ([::]:9090); choose another port",
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
            "https:///me:secret@u.example",
            "names no host; write one such as https://example.com",
        ),
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
            "https://$(BACKEND_HOST)/v1",
            "names what is no host, such as a variable that nobody filled in; write one such as https://example.com",
        ),
        (
            "'https://u.example\\@v.example'",
            "not a URL; it has spaces, quotes, braces, backslashes or other characters that no URL has: percent-encode or remove them",
        ),
        (
            "http://u.example",
            "plain http off loopback; the access token would travel in the clear: use https://, or set `allowInsecureHttp: true` beside it",
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
