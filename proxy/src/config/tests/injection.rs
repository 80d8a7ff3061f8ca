//! How credentials are put on requests, and what their caches may hold: what is read, and what is refused.

use super::{examples::sample, *};
use crate::token::{caller::cache::CacheLimits, exchange::TokenType, params::StaticSecretParams};

#[test]
fn injection_has_an_effect() {
    let config = sample("injection.yaml");
    let shown: Vec<_> = config
        .token
        .credentials
        .iter()
        .map(|c| {
            let i = &c.injection;
            (&*c.name, i.header.as_str(), i.prefix.as_str(), i.token_type)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("vault", "x-vault-token", "", TokenType::Bearer),
            ("legacy", "authorization", "ApiKey ", TokenType::Bearer),
            ("transaction", "txn-token", "", TokenType::NotAccess),
            ("bound", "authorization", "DPoP ", TokenType::DPoP),
        ]
    );
    assert_eq!(
        config.token.credentials[0].grant,
        GrantParams::StaticSecret(StaticSecretParams {
            file: "/etc/vault/token".into()
        })
    );
    assert_eq!(
        config.token.credentials[0].caller_cache,
        CacheLimits::default(),
        "the table of keys has the same defaults"
    );
}

#[test]
fn injections_that_cannot_work_are_refused() {
    const EXCHANGE: &str = "tokenExchange: {tokenEndpoint: 'https://s.example'}\n";
    const ENTRA: &str = "entraClientAssertion: {scope: x/.default}\n";
    const SECRET: &str = "staticSecret: {file: /s}\n";
    for (grant, lines, message) in [
        (
            EXCHANGE,
            "inject: {header: Host}",
            "c.yaml:4:22: credentials.a.inject.header: not a header name that can carry a credential; write one such as X-Vault-Token",
        ),
        (
            EXCHANGE,
            "inject: {header: Connection}",
            "c.yaml:4:22: credentials.a.inject.header: this field frames, routes or describes the message and can carry no credential; write one such as X-Vault-Token",
        ),
        (
            EXCHANGE,
            "inject: {header: 'a b'}",
            "c.yaml:4:22: credentials.a.inject.header: not a header name that can carry a credential; write one such as X-Vault-Token",
        ),
        (
            EXCHANGE,
            "inject: {prefix: \"a\\r\\nb\"}",
            "c.yaml:4:22: credentials.a.inject.prefix: has characters that no header may carry; write visible ASCII, and the space before the token if there is to be one",
        ),
        (
            EXCHANGE,
            "inject: {tokenType: bearer}",
            "c.yaml:4:25: credentials.a.inject.tokenType: not a token type; write Bearer, DPoP or N_A",
        ),
        (
            EXCHANGE,
            "inject: {tokenType: N_A}",
            "c.yaml:4:25: credentials.a.inject.tokenType: what is no access token does not go into `Authorization` (RFC 8693 section 2.2.1); name its `header`, such as Txn-Token",
        ),
        (
            EXCHANGE,
            "inject: {tokenType: DPoP, header: X-Token}",
            "c.yaml:4:39: credentials.a.inject.header: a token bound by DPoP goes into `Authorization: DPoP` and nowhere else (RFC 9449 section 7.1); remove it",
        ),
        (
            ENTRA,
            "inject: {tokenType: DPoP}",
            "c.yaml:4:25: credentials.a.inject.tokenType: this grant brings tokens of another type; write Bearer, or get the token by another grant",
        ),
        (
            SECRET,
            "inject: {tokenType: N_A, header: X-A}",
            "c.yaml:4:25: credentials.a.inject.tokenType: this grant brings tokens of another type; write Bearer, or get the token by another grant",
        ),
        (
            "",
            "staticSecret: {}",
            "c.yaml:3:19: credentials.a.staticSecret.file: missing; it has no default",
        ),
        (
            EXCHANGE,
            "callerCache: {maxEntries: 5}",
            "c.yaml:4:18: credentials.a.callerCache: this credential has one token, the pod's own, and no cache; remove it, or let the grant use the subject token `caller`",
        ),
        (
            EXCHANGE,
            "callerCache: {maxBytes: 1KiB}",
            "c.yaml:4:29: credentials.a.callerCache.maxBytes: out of bounds; give a size from 64KiB to 64GiB",
        ),
    ] {
        let errors = with_credential(&format!("{grant}{lines}")).unwrap_err();
        assert!(errors.lines().any(|l| l == message), "{lines}:\n{errors}");
    }
}

#[test]
fn routes_for_callers_need_an_inbound_side_and_name_no_second_caller() {
    let load = |inbound: &str, route: &str| {
        let text = format!(
            "{inbound}subjectTokens: {{pod: {{file: /t}}}}\ncredentials:\n  pod: {{tokenExchange: {{tokenEndpoint: 'https://s.example'}}}}\n  user: {{tokenExchange: {{tokenEndpoint: 'https://s.example', subjectToken: caller}}, callerCache: {{maxEntries: 5, maxBytes: 1MiB, maxExchanges: 2}}}}\n  other: {{tokenExchange: {{tokenEndpoint: 'https://s.example', subjectToken: caller, audience: [b]}}}}\nroutes:\n- {{name: r, upstream: 'https://u.example', {route}}}\n"
        );
        load_with(&text, &[])
    };
    const INBOUND: &str = "inbound: {listen: '127.0.0.1:9', upstream: 'http://127.0.0.1:3333', resource: 'https://m.example/', issuers: [{issuer: 'https://i.example'}]}\n";
    let refused = |inbound, route, message: &str| {
        let errors = load(inbound, route).unwrap_err();
        assert!(
            errors.lines().any(|l| l.ends_with(message)),
            "{route}:\n{errors}"
        );
    };
    refused(
        "",
        "credential: user",
        "routes[0].credential: `user` gets a token for each caller, and callers come by the inbound listener; configure `inbound`",
    );
    refused(
        INBOUND,
        "credential: user, withoutCaller: other",
        "routes[0].withoutCaller: `other` needs a caller too; name a credential of the pod's own",
    );
    refused(
        INBOUND,
        "credential: pod, withoutCaller: pod",
        "routes[0].withoutCaller: the route's credential is the pod's own and needs no caller; remove this, or name a credential that uses the subject token `caller` as `credential`",
    );
    refused(
        INBOUND,
        "credential: user, withoutCaller: pods",
        "routes[0].withoutCaller: no credential is named `pods`; did you mean `pod`?",
    );
    let config = load(INBOUND, "credential: user, withoutCaller: pod").unwrap();
    let route = &config.request.routes[0];
    assert_eq!(
        (&*route.credential, route.without_caller.as_deref()),
        ("user", Some("pod"))
    );
    assert_eq!(
        config.token.credentials[1].caller_cache,
        CacheLimits {
            max_entries: 5,
            max_bytes: 1 << 20,
            max_exchanges: 2
        }
    );
    let header = INBOUND.replace("inbound: {", "inbound: {handleHeader: X-Caller, ");
    let config = load(&header, "credential: pod").unwrap();
    assert_eq!(config.request.routes[0].strip_request_headers, ["x-caller"]);
}
