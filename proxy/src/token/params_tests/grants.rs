//! The same for the grants at a token endpoint, for every method of client authentication, and which of them need a caller.

use super::*;

fn key_jwt() -> PrivateKeyJwtParams {
    PrivateKeyJwtParams {
        client_id: "client".into(),
        key_file: "/key".into(),
        algorithm: None,
        key_id: None,
        certificate_file: Some("/certificate".into()),
        audience: "https://as.example".into(),
    }
}

fn tls() -> TlsClientParams {
    TlsClientParams {
        client_id: "client".into(),
        certificate_file: "/certificate".into(),
        key_file: "/key".into(),
    }
}

fn assertion(name: &str) -> ClientAuthentication {
    ClientAuthentication::ClientAssertion {
        client_id: None,
        subject_token: name.into(),
    }
}

type Variation<P> = (&'static str, bool, fn(&mut P));

/// Each variation of a grant by name, and whether the token stays the same.
fn check<P: Clone>(base: P, grant: fn(P) -> GrantParams, variations: Vec<Variation<P>>) {
    let first = grant(base.clone());
    assert!(first.issues_the_same(&first));
    for (name, same, change) in variations {
        let mut other = base.clone();
        change(&mut other);
        let other = grant(other);
        assert_ne!(first, other, "{name} is varied");
        assert_eq!(first.issues_the_same(&other), same, "{name}");
        assert_eq!(other.issues_the_same(&first), same, "{name}");
    }
}

fn client_credentials() -> ClientCredentialsParams {
    ClientCredentialsParams {
        endpoint: EndpointParams {
            url: url("https://as.example/token"),
            client_authentication: ClientAuthentication::PrivateKeyJwt(key_jwt()),
            parameters: vec![("k".into(), "v".into())],
            authority: AuthorityParams::default(),
        },
        target: TargetParams {
            audience: vec!["a".into()],
            resource: vec!["https://a.example/".into()],
            scope: Some("read".into()),
        },
    }
}

fn jwt_bearer() -> JwtBearerParams {
    let ClientCredentialsParams { endpoint, target } = client_credentials();
    JwtBearerParams {
        endpoint: EndpointParams {
            client_authentication: ClientAuthentication::Tls(tls()),
            ..endpoint
        },
        assertion: "pod".into(),
        target,
    }
}

fn identity_assertion() -> IdentityAssertionParams {
    IdentityAssertionParams {
        identity_provider: IdentityProviderParams {
            endpoint: EndpointParams {
                url: url("https://idp.example/token"),
                client_authentication: ClientAuthentication::Tls(tls()),
                parameters: vec![],
                authority: AuthorityParams::default(),
            },
            subject_token: "pod".into(),
            subject_token_type: "urn:t:a".into(),
            audience: "https://as.example".into(),
            resource: vec![],
            scope: None,
        },
        authorization_server: AuthorizationServerParams {
            endpoint: EndpointParams {
                url: url("https://as.example/token"),
                client_authentication: ClientAuthentication::PrivateKeyJwt(key_jwt()),
                parameters: vec![],
                authority: AuthorityParams::default(),
            },
            scope: None,
        },
    }
}

#[test]
fn whatever_decides_the_token_of_a_client_makes_it_another() {
    fn key(p: &mut ClientCredentialsParams, change: fn(&mut PrivateKeyJwtParams)) {
        if let ClientAuthentication::PrivateKeyJwt(p) = &mut p.endpoint.client_authentication {
            change(p);
        }
    }
    check(
        client_credentials(),
        GrantParams::ClientCredentials,
        vec![
            ("endpoint", false, |p| {
                p.endpoint.url = url("https://b.example/");
            }),
            ("audience", false, |p| p.target.audience.clear()),
            ("resource", false, |p| p.target.resource.clear()),
            ("scope", false, |p| p.target.scope = None),
            ("parameters", false, |p| p.endpoint.parameters.clear()),
            ("client", false, |p| key(p, |k| k.client_id = "x".into())),
            ("audience of the assertion", false, |p| {
                key(p, |k| k.audience = "x".into());
            }),
            ("tls", false, |p| {
                p.endpoint.client_authentication = ClientAuthentication::Tls(tls());
            }),
            ("key_file", true, |p| key(p, |k| k.key_file = "/x".into())),
            ("certificate_file", true, |p| {
                key(p, |k| k.certificate_file = None);
            }),
            ("ca_file", true, |p| p.endpoint.authority = ca()),
            ("proxy", true, |p| p.endpoint.authority = proxy()),
        ],
    );
}

#[test]
fn whatever_decides_the_token_for_an_assertion_makes_it_another() {
    fn pair(p: &mut JwtBearerParams, change: fn(&mut TlsClientParams)) {
        if let ClientAuthentication::Tls(p) = &mut p.endpoint.client_authentication {
            change(p);
        }
    }
    check(
        jwt_bearer(),
        GrantParams::JwtBearer,
        vec![
            ("endpoint", false, |p| {
                p.endpoint.url = url("https://b.example/");
            }),
            ("assertion", false, |p| p.assertion = "x".into()),
            ("audience", false, |p| p.target.audience.clear()),
            ("resource", false, |p| p.target.resource.clear()),
            ("scope", false, |p| p.target.scope = None),
            ("parameters", false, |p| p.endpoint.parameters.clear()),
            ("client", false, |p| pair(p, |t| t.client_id = "x".into())),
            ("key_file", true, |p| pair(p, |t| t.key_file = "/x".into())),
            ("certificate_file", true, |p| {
                pair(p, |t| t.certificate_file = "/x".into());
            }),
            ("ca_file", true, |p| p.endpoint.authority = ca()),
            ("proxy", true, |p| p.endpoint.authority = proxy()),
        ],
    );
}

#[test]
fn whatever_decides_in_either_step_makes_it_another() {
    check(
        identity_assertion(),
        |p| GrantParams::IdentityAssertion(Box::new(p)),
        vec![
            ("first endpoint", false, |p| {
                p.identity_provider.endpoint.url = url("https://b.example/");
            }),
            ("subject_token", false, |p| {
                p.identity_provider.subject_token = "x".into();
            }),
            ("subject_token_type", false, |p| {
                p.identity_provider.subject_token_type = "urn:t:b".into();
            }),
            ("audience", false, |p| {
                p.identity_provider.audience = "x".into()
            }),
            ("resource", false, |p| {
                p.identity_provider
                    .resource
                    .push("https://a.example".into());
            }),
            ("first scope", false, |p| {
                p.identity_provider.scope = Some("x".into());
            }),
            ("first parameters", false, |p| {
                p.identity_provider
                    .endpoint
                    .parameters
                    .push(("k".into(), "v".into()));
            }),
            ("first client", false, |p| {
                p.identity_provider.endpoint.client_authentication = assertion("pod");
            }),
            ("second endpoint", false, |p| {
                p.authorization_server.endpoint.url = url("https://b.example/");
            }),
            ("second scope", false, |p| {
                p.authorization_server.scope = Some("x".into());
            }),
            ("second parameters", false, |p| {
                p.authorization_server
                    .endpoint
                    .parameters
                    .push(("k".into(), "v".into()));
            }),
            ("second client", false, |p| {
                p.authorization_server.endpoint.client_authentication = assertion("pod");
            }),
            ("first trust", true, |p| {
                p.identity_provider.endpoint.authority = ca()
            }),
            ("second trust", true, |p| {
                p.authorization_server.endpoint.authority = proxy();
            }),
        ],
    );
}

#[test]
fn a_grant_names_its_subject_tokens_wherever_they_go() {
    let names = |grant: &GrantParams| -> Vec<String> {
        grant
            .subject_tokens()
            .into_iter()
            .map(|n| n.to_string())
            .collect()
    };
    let (GrantParams::TokenExchange(exchange), _) = token_exchange(url("https://as.example/"))
    else {
        panic!("a token exchange")
    };
    let all = |subject: &str, actor: &str, client: &str| {
        let mut p = exchange.clone();
        p.subject_token = subject.into();
        if let Some(a) = &mut p.actor_token {
            a.subject_token = actor.into();
        }
        p.endpoint.client_authentication = assertion(client);
        GrantParams::TokenExchange(p)
    };
    let grant = all("c", "a", "b");
    assert_eq!(names(&grant), ["a", "b", "c"]);
    assert!(!grant.is_for_callers());
    assert_eq!(names(&all("a", "a", "a")), ["a"]);
    for grant in [
        all("caller", "a", "b"),
        all("a", "caller", "b"),
        all("a", "b", "caller"),
    ] {
        assert!(grant.is_for_callers());
    }

    let mut p = client_credentials();
    assert_eq!(names(&GrantParams::ClientCredentials(p.clone())), [""; 0]);
    p.endpoint.client_authentication = assertion("pod");
    assert_eq!(names(&GrantParams::ClientCredentials(p)), ["pod"]);

    let mut p = jwt_bearer();
    p.endpoint.client_authentication = assertion("other");
    assert_eq!(names(&GrantParams::JwtBearer(p.clone())), ["other", "pod"]);
    p.assertion = caller::NAME.into();
    assert!(GrantParams::JwtBearer(p).is_for_callers());

    let mut p = identity_assertion();
    p.identity_provider.endpoint.client_authentication = assertion("a");
    p.authorization_server.endpoint.client_authentication = assertion("b");
    assert_eq!(
        names(&GrantParams::IdentityAssertion(Box::new(p.clone()))),
        ["a", "b", "pod"]
    );
    p.identity_provider.subject_token = caller::NAME.into();
    assert!(GrantParams::IdentityAssertion(Box::new(p)).is_for_callers());
}
