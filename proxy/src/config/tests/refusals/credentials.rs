//! What is refused of credentials and of their token exchanges.

use super::*;

#[test]
fn credentials() {
    const SCOPE: &str = "c.yaml:4:14: credentials.a.entraClientAssertion.scope: ";
    for (lines, message) in [
        (
            "",
            "c.yaml:2:4: credentials.a: incomplete; give one of entraClientAssertion, entraOnBehalfOf, entraAgentIdentity, googleSts, tokenExchange, clientCredentials, jwtBearer, identityAssertion, staticSecret",
        ),
        (
            "entraClientAssertion: {scope: x/.default, clientSecretFile: /s}",
            "c.yaml:3:47: credentials.a.entraClientAssertion.clientSecretFile: not supported by this version; use one of scope, tenantId, clientId, authorityHost, subjectToken, caFile, identityBinding",
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
            "authorityHost: not a URL; it has spaces, quotes, braces, backslashes or other characters that no URL has: percent-encode or remove them",
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
            "actorToken.subjectToken: no subject token is named `x`; known here: pod, caller",
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
            "clientAuthentication: is a single value and not `none`; give a map with one method; known here: none, clientSecretBasic, clientSecretPost, clientAssertion, privateKeyJwt, tls",
        ),
        (
            "clientAuthentication: {privateKeyJwt: {}}",
            45,
            "clientAuthentication.privateKeyJwt.keyFile: missing; it has no default",
        ),
        (
            "clientAuthentication: {privateKeyJwt: {clientId: a, keyFile: /k, algorithm: HS256}}",
            83,
            "clientAuthentication.privateKeyJwt.algorithm: not an algorithm of a private key; use one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512",
        ),
        (
            "clientAuthentication: {tls: {clientId: a, certificateFile: /c}}",
            35,
            "clientAuthentication.tls.keyFile: missing; it has no default",
        ),
        (
            "actorToken: {subjectToken: caller, requireAct: maybe}",
            54,
            "actorToken.requireAct: neither `true` nor `false`; write one of them",
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
fn grants_at_a_token_endpoint() {
    for (lines, message) in [
        (
            "clientCredentials: {tokenEndpoint: 'https://s.example'}",
            "c.yaml:3:24: credentials.a.clientCredentials.clientAuthentication: missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        ),
        (
            // Whatever else is missing.
            "clientCredentials: {}",
            "c.yaml:3:24: credentials.a.clientCredentials.clientAuthentication: missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        ),
        (
            "clientCredentials: {tokenEndpoint: 'https://s.example', clientAuthentication: {none: {clientId: a}}}",
            "c.yaml:3:83: credentials.a.clientCredentials.clientAuthentication: missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        ),
        (
            "clientCredentials: {tokenEndpoint: 'http://127.0.0.1/t', clientAuthentication: {tls: {clientId: a, certificateFile: /c, keyFile: /k}}}",
            "c.yaml:3:90: credentials.a.clientCredentials.clientAuthentication.tls: the token endpoint is plain http, which shows no certificate; use an https:// one, or another method",
        ),
        (
            "jwtBearer: {tokenEndpoint: 'https://s.example', assertion: callr}",
            "c.yaml:3:64: credentials.a.jwtBearer.assertion: no subject token is named `callr`; did you mean `caller`?",
        ),
        (
            "jwtBearer: {tokenEndpoint: 'https://s.example', parameters: {assertion: x}}",
            "c.yaml:3:66: credentials.a.jwtBearer.parameters.assertion: a parameter that token exchange or client authentication defines; use the key of its own",
        ),
        (
            "identityAssertion: {}",
            "c.yaml:3:24: credentials.a.identityAssertion.authorizationServer.issuer: missing; it has no default",
        ),
        (
            "identityAssertion: {authorizationServer: {tokenEndpoint: 'https://s.example', issuer: x}}",
            "c.yaml:3:91: credentials.a.identityAssertion.authorizationServer.issuer: not an absolute URI; write one such as urn:ietf:params:oauth:token-type:jwt",
        ),
        (
            "identityAssertion: {identityProvider: {tokenEndpoint: 'https://s.example'}}",
            "c.yaml:3:43: credentials.a.identityAssertion.identityProvider.subjectToken: missing; it has no default",
        ),
    ] {
        let got = with_credential(lines).unwrap_err();
        assert!(
            got.lines().any(|l| l == message),
            "{lines}:\n{got}\nis not\n{message}"
        );
    }
    refused(
        with_top("subjectTokens: {caller: {file: /t}}"),
        "c.yaml:1:17: subjectTokens.caller: the name of the token of an inbound request's caller, which no file holds; use another name, or name `caller` without declaring it",
    );
}
