//! `inbound`: what it becomes, and what it is refused for.

use super::*;
use crate::{
    request::inbound::params::Preflights,
    token::verify::{jwk::Algorithm, params::KeysAt},
};
use std::time::Duration;

/// A configuration that is right but for the lines put into `inbound` (line 7 on, indented by two).
fn with_inbound(lines: &str) -> Result<Config, String> {
    load_with(
        &format!(
            "routes: [{{name: r, upstream: https://u.example, credential: a}}]\ncredentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\n\
             inbound:\n  listen: 0.0.0.0:8000\n  resource: https://mcp.example.com/mcp\n  upstream: http://127.0.0.1:3333\n  {}\n",
            lines.replace('\n', "\n  ")
        ),
        AKS,
    )
}

const ISSUERS: &str = "issuers: [{issuer: https://i.example/t}]";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_a_word_there_is_no_inbound_side() {
    let config = with_top("").unwrap();
    assert!(config.request.inbound.is_none() && config.verify.is_none());
    assert_eq!(config.request.listeners.len(), 1);
}

#[test]
fn the_least_that_can_be_said() {
    let config = with_inbound(ISSUERS).unwrap();
    let side = config.request.inbound.unwrap();
    let verify = config.verify.unwrap();
    let written = |listener: &ListenAddr| listener.to_string();
    assert_eq!(
        config
            .request
            .listeners
            .iter()
            .map(written)
            .collect::<Vec<_>>(),
        ["127.0.0.1:8080", "0.0.0.0:8000"]
    );
    assert!(!config.request.allow_remote_peers);
    assert_eq!(side.route.listen.to_string(), "0.0.0.0:8000");
    assert_eq!(
        (side.route.upstream.host.as_str(), side.route.upstream.port),
        ("127.0.0.1", 3333)
    );
    assert_eq!(side.resource, "https://mcp.example.com/mcp");
    assert_eq!(
        side.metadata_url,
        "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    );
    assert_eq!(
        side.metadata_paths,
        [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp"
        ]
    );
    assert_eq!(side.authorization_servers, ["https://i.example/t"]);
    assert_eq!(side.handle_header, "authorization");
    assert_eq!(
        (side.handle_grace, side.key_wait, verify.leeway),
        (s(30), s(2), s(30))
    );
    assert_eq!(side.allowed_hosts, ["mcp.example.com"]);
    assert_eq!(
        side.public_paths,
        ["/health", "/healthz", "/livez", "/readyz", "/startupz"]
    );
    assert_eq!(side.preflights, Preflights::Forward);
    assert!(!side.forward_cookies && side.bind_sessions);
    let [issuer] = &verify.issuers[..] else {
        panic!("one issuer");
    };
    assert_eq!(issuer.audiences, ["https://mcp.example.com/mcp"]);
    assert_eq!(issuer.algorithms, Algorithm::ALL);
    assert_eq!(
        issuer.keys,
        KeysAt::Metadata("https://i.example/t".parse().unwrap())
    );
    assert_eq!(
        (
            verify.keys.refresh,
            verify.keys.cooldown,
            verify.keys.max_stale
        ),
        (s(900), s(10), s(86_400))
    );
}

#[test]
fn everything_that_can_be_said() {
    let config = with_inbound(
        "audience: [api://mcp]\n\
         issuers:\n\
         - {issuer: kubernetes, jwksUri: https://k.example/keys, audience: [a, b], algorithms: [ES256, EdDSA], typ: at+jwt, caFile: /ca.pem}\n\
         - {issuer: https://i.example/}\n\
         requiredScopes: [tools.read, tools.call]\nscopesSupported: [tools.call, admin]\nrequiredClaims: {tid: t1, azp: [a, b]}\n\
         handleHeader: X-Caller-Handle\nhandleGrace: 0s\nmaxHandles: 7\nmaxVerifiedTokens: 8\nleeway: 1s\nkeyWait: 0s\n\
         publicPaths: [/alive/]\nallowedHosts: [mcp.internal]\nallowedOrigins: [https://app.example.com]\ncorsPreflights: answer\n\
         forwardCookies: true\nbindSessions: false\nstripRequestHeaders: [x-a]\nstripResponseHeaders: [x-b]\nmaxRequestBody: 1MiB\nupgrades: false\n\
         timeouts: {connect: 1s, responseHeader: 2s, idle: 3s}\nkeys: {refreshInterval: 1m, cooldown: 5s, maxStale: 1h, timeout: 4s}",
    )
    .unwrap();
    let side = config.request.inbound.unwrap();
    let verify = config.verify.unwrap();
    assert_eq!(verify.issuers[0].audiences, ["a", "b"]);
    assert_eq!(
        verify.issuers[0].algorithms,
        [Algorithm::Es256, Algorithm::EdDsa]
    );
    assert_eq!(verify.issuers[0].typ.as_deref(), Some("at+jwt"));
    assert_eq!(
        verify.issuers[0].authority.ca_file.as_deref(),
        Some(Path::new("/ca.pem"))
    );
    assert_eq!(verify.issuers[1].audiences, ["api://mcp"]);
    assert_eq!(
        side.authorization_servers,
        ["https://i.example/"],
        "what is no URL has no metadata to offer"
    );
    assert_eq!(side.required_scopes, ["tools.read", "tools.call"]);
    assert_eq!(side.scopes_supported, ["tools.call", "admin", "tools.read"]);
    assert_eq!(verify.required_claims[1].values, ["a", "b"]);
    assert_eq!(side.handle_header, "x-caller-handle");
    assert_eq!((side.max_handles, verify.max_seen), (7, 8));
    assert_eq!(side.public_paths, ["/alive"]);
    assert_eq!(side.allowed_hosts, ["mcp.internal", "mcp.example.com"]);
    assert_eq!(side.allowed_origins, ["https://app.example.com"]);
    assert_eq!(side.preflights, Preflights::Answer);
    assert!(side.forward_cookies && !side.bind_sessions && !side.route.upgrades);
    assert_eq!(side.route.max_request_body, Some(1 << 20));
    assert_eq!(side.route.timeouts.response_header, s(2));
    assert_eq!(verify.keys.timeout, s(4));
    assert_eq!(side.route.name.as_ref(), "inbound");
}

#[test]
fn metadata_is_where_the_standard_puts_it() {
    for (resource, url, paths) in [
        (
            "https://m.example",
            "https://m.example/.well-known/oauth-protected-resource",
            1,
        ),
        (
            "https://m.example/",
            "https://m.example/.well-known/oauth-protected-resource",
            1,
        ),
        (
            "https://m.example:8443/a/b",
            "https://m.example:8443/.well-known/oauth-protected-resource/a/b",
            2,
        ),
        (
            "https://m.example/a?k=v",
            "https://m.example/.well-known/oauth-protected-resource/a?k=v",
            2,
        ),
    ] {
        let text = format!(
            "credentials: {{}}\ninbound: {{listen: '127.0.0.1:1', upstream: 'unix:/run/w.sock', resource: '{resource}', {ISSUERS}}}\n"
        );
        let config = load_with(&text, AKS).unwrap();
        let side = config.request.inbound.unwrap();
        assert_eq!(side.resource, resource, "as written");
        assert_eq!(side.metadata_url, url);
        assert_eq!(
            side.metadata_paths.len(),
            paths,
            "{:?}",
            side.metadata_paths
        );
        assert_eq!(
            side.route.upstream.unix.as_deref(),
            Some(Path::new("/run/w.sock"))
        );
        assert!(
            config.request.routes.is_empty(),
            "no route is needed beside it"
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (lines, message) in [
        (
            "",
            "c.yaml:4:3: inbound.issuers: no issuer, so no token would be accepted; add one with `issuer`: the `iss` of the tokens",
        ),
        (
            "issuers: []",
            "c.yaml:7:12: inbound.issuers: no issuer, so no token would be accepted; add one with `issuer`: the `iss` of the tokens",
        ),
        (
            "issuers: [{}]",
            "c.yaml:7:13: inbound.issuers[0].issuer: missing; it has no default",
        ),
        (
            "issuers: [{issuer: kubernetes}]",
            "c.yaml:7:22: inbound.issuers[0].issuer: not an https URL, so its keys cannot be found through its metadata; set `jwksUri`",
        ),
        (
            "issuers: [{issuer: http://i.example}]",
            "c.yaml:7:22: inbound.issuers[0].issuer: not an https URL, so its keys cannot be found through its metadata; set `jwksUri`",
        ),
        (
            "issuers: [{issuer: https://i.example}, {issuer: https://i.example}]",
            "c.yaml:7:51: inbound.issuers[1].issuer: is there already; name each issuer once",
        ),
        (
            "issuers: [{issuer: https://i.example, algorithms: [HS256]}]",
            "c.yaml:7:54: inbound.issuers[0].algorithms[0]: not an algorithm that is accepted; there are RS256, PS256, ES256, ES384, EdDSA",
        ),
        (
            "issuers: [{issuer: https://i.example, jwksUri: http://i.example/keys}]",
            "c.yaml:7:50: inbound.issuers[0].jwksUri: plain http off loopback; the subject token would travel in the clear: use https://",
        ),
        (
            "issuers: [{issuer: https://i.example, jwksUrl: https://i.example/keys}]",
            "c.yaml:7:41: inbound.issuers[0].jwksUrl: unknown key; did you mean `jwksUri`?",
        ),
        (
            "issuers: [{issuer: https://i.example}]\nrequiredScopes: [a b]",
            "c.yaml:8:20: inbound.requiredScopes[0]: has a space; write each scope as an item of its own",
        ),
        (
            "issuers: [{issuer: https://i.example}]\nrequiredClaims: {tid: []}",
            "c.yaml:8:25: inbound.requiredClaims.tid: an empty list lets nothing through; give values, or remove the key",
        ),
        (
            "issuers: [{issuer: https://i.example}]\nhandleHeader: cookie",
            "c.yaml:8:17: inbound.handleHeader: has a meaning of its own; write authorization, or a name such as x-caller-handle",
        ),
        (
            "issuers: [{issuer: https://i.example}]\npublicPaths: [/]",
            "c.yaml:8:17: inbound.publicPaths[0]: is the whole workload; name single paths, such as /healthz",
        ),
        (
            "issuers: [{issuer: https://i.example}]\ncorsPreflights: allow",
            "c.yaml:8:19: inbound.corsPreflights: not a rule; write forward (the workload answers them) or answer (the sidecar does)",
        ),
        (
            "issuers: [{issuer: https://i.example}]\nkeys: {cooldown: 0s}",
            "c.yaml:8:20: inbound.keys.cooldown: shorter than 1s; the issuer would be asked too often",
        ),
    ] {
        let error = with_inbound(lines).unwrap_err();
        assert!(
            error.lines().any(|l| l == message),
            "{error}\nnot:\n{message}"
        );
    }
}

#[test]
fn listener_and_workload_are_in_their_places() {
    let with = |listen: &str, upstream: &str, resource: &str, more: &str| {
        load_with(
            &format!(
                "routes: [{{name: r, upstream: https://u.example, credential: a}}]\n\
                 credentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\n\
                 inbound: {{listen: '{listen}', upstream: '{upstream}', resource: '{resource}', {ISSUERS}}}\n{more}"
            ),
            AKS,
        )
    };
    const LISTEN: &str = "0.0.0.0:8000";
    const UPSTREAM: &str = "http://localhost:3333";
    const RESOURCE: &str = "https://m.example";
    assert!(with(LISTEN, UPSTREAM, RESOURCE, "").is_ok());
    for (listen, upstream, resource, more, message) in [
        (
            "127.0.0.1:8080",
            UPSTREAM,
            RESOURCE,
            "",
            "inbound.listen: is a listener of routes; whoever reaches it would use the pod's identity: choose another port",
        ),
        (
            "0.0.0.0:8080",
            UPSTREAM,
            RESOURCE,
            "",
            "inbound.listen: collides with the listener 127.0.0.1:8080; choose another port or the same address",
        ),
        (
            "0.0.0.0:9090",
            UPSTREAM,
            RESOURCE,
            "",
            "inbound.listen: takes the admin listener's place ([::]:9090); choose another port",
        ),
        (
            LISTEN,
            "http://workload.example",
            RESOURCE,
            "",
            "inbound.upstream: not the workload; it is in the same pod: write http://127.0.0.1:PORT or unix:/PATH",
        ),
        (
            LISTEN,
            "https://localhost:3333",
            RESOURCE,
            "",
            "inbound.upstream: not the workload; it is in the same pod: write http://127.0.0.1:PORT or unix:/PATH",
        ),
        (
            LISTEN,
            "http://10.0.0.1:3333",
            RESOURCE,
            "",
            "inbound.upstream: not the workload; it is in the same pod: write http://127.0.0.1:PORT or unix:/PATH",
        ),
        (
            LISTEN,
            UPSTREAM,
            "mcp.example.com",
            "",
            "inbound.resource: not a resource identifier; write the https URL that callers know the workload by, such as https://mcp.example.com/mcp",
        ),
        (
            LISTEN,
            UPSTREAM,
            "http://mcp.example.com",
            "",
            "inbound.resource: not a resource identifier; write the https URL that callers know the workload by, such as https://mcp.example.com/mcp",
        ),
        (
            LISTEN,
            UPSTREAM,
            "https://m.example/#a",
            "",
            "inbound.resource: not a resource identifier; write the https URL that callers know the workload by, such as https://mcp.example.com/mcp",
        ),
    ] {
        let error = with(listen, upstream, resource, more).unwrap_err();
        assert!(error.contains(message), "{error}\nnot:\n{message}");
    }
}

#[test]
fn a_route_cannot_be_called_as_the_inbound_side_is() {
    let text = "credentials: {a: {entraClientAssertion: {scope: x/.default}}}\nroutes: [{name: inbound, upstream: https://u.example, credential: a}]\n";
    refused(
        load_with(text, AKS),
        "c.yaml:2:17: routes[0].name: is what the inbound side is called in metrics and logs; give the route another name",
    );
}
