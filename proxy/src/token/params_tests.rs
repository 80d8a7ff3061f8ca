//! Which parameters decide what token is issued: each one by name, so that a token is never served for another client, scope or audience.

use super::*;

/// A grant, each variation of it in one parameter, and whether the token stays the same.
pub(crate) type Variations = (GrantParams, Vec<(&'static str, GrantParams, bool)>);

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn ca() -> AuthorityParams {
    AuthorityParams {
        ca_file: Some("/ca.pem".into()),
        proxy: None,
    }
}

fn proxy() -> AuthorityParams {
    AuthorityParams {
        ca_file: None,
        proxy: Some(url("http://127.0.0.1:9/")),
    }
}

pub(crate) fn entra(authority_host: Url) -> Variations {
    let base = EntraClientAssertionParams {
        tenant: TenantParams {
            authority_host,
            tenant_id: "tenant".into(),
            identity_binding: None,
            authority: AuthorityParams::default(),
        },
        client_id: "client".into(),
        scope: "api://a/.default".into(),
        subject_token: "pod".into(),
    };
    // A parameter that is added must be named here and varied below.
    let EntraClientAssertionParams {
        tenant:
            TenantParams {
                authority_host: _,
                tenant_id: _,
                identity_binding: _,
                authority:
                    AuthorityParams {
                        ca_file: _,
                        proxy: _,
                    },
            },
        client_id: _,
        scope: _,
        subject_token: _,
    } = &base;
    let mut all = Vec::new();
    let mut vary = |name, same, change: fn(&mut EntraClientAssertionParams)| {
        let mut other = base.clone();
        change(&mut other);
        all.push((name, GrantParams::EntraClientAssertion(other), same));
    };
    vary("authority_host", false, |p| {
        p.tenant.authority_host = url("https://login.example/");
    });
    vary("tenant_id", false, |p| p.tenant.tenant_id = "x".into());
    vary("client_id", false, |p| p.client_id = "x".into());
    vary("scope", false, |p| p.scope = "api://b/.default".into());
    vary("subject_token", false, |p| p.subject_token = "other".into());
    vary("ca_file", true, |p| p.tenant.authority = ca());
    vary("proxy", true, |p| p.tenant.authority = proxy());
    (GrantParams::EntraClientAssertion(base), all)
}

pub(crate) fn token_exchange(token_endpoint: Url) -> Variations {
    let base = TokenExchangeParams {
        endpoint: EndpointParams {
            url: token_endpoint,
            client_authentication: ClientAuthentication::ClientSecretBasic {
                client_id: "client".into(),
                client_secret_file: "/secret".into(),
            },
            parameters: vec![("k".into(), "v".into())],
            authority: AuthorityParams::default(),
        },
        subject_token: "pod".into(),
        subject_token_type: "urn:t:a".into(),
        requested_token_type: None,
        target: TargetParams {
            audience: vec!["a".into(), "b".into()],
            resource: vec!["https://a.example/".into()],
            scope: Some("read".into()),
        },
        actor_token: Some(ActorTokenParams {
            subject_token: "pod".into(),
            token_type: "urn:t:a".into(),
            require_act: false,
        }),
    };
    let TokenExchangeParams {
        endpoint:
            EndpointParams {
                url: _,
                client_authentication: _,
                parameters: _,
                authority: _,
            },
        subject_token: _,
        subject_token_type: _,
        requested_token_type: _,
        target:
            TargetParams {
                audience: _,
                resource: _,
                scope: _,
            },
        actor_token: _,
    } = &base;
    let mut all = Vec::new();
    let mut vary = |name, same, change: fn(&mut TokenExchangeParams)| {
        let mut other = base.clone();
        change(&mut other);
        all.push((name, GrantParams::TokenExchange(other), same));
    };
    vary("token_endpoint", false, |p| {
        p.endpoint.url = url("https://sts.example/token");
    });
    vary("the endpoint's query", false, |p| {
        p.endpoint.url.set_query(Some("tenant=x"));
    });
    vary("subject_token", false, |p| p.subject_token = "other".into());
    vary("subject_token_type", false, |p| {
        p.subject_token_type = "urn:t:b".into();
    });
    vary("requested_token_type", false, |p| {
        p.requested_token_type = Some("urn:t:b".into());
    });
    vary("audience", false, |p| p.target.audience = vec!["a".into()]);
    vary("no audience", false, |p| p.target.audience.clear());
    vary("resource", false, |p| {
        p.target.resource.push("https://b.example/".into());
    });
    vary("scope", false, |p| {
        p.target.scope = Some("read write".into())
    });
    vary("no scope", false, |p| p.target.scope = None);
    vary("no actor", false, |p| p.actor_token = None);
    vary("actor_token", false, |p| {
        if let Some(actor) = &mut p.actor_token {
            actor.subject_token = "other".into();
        }
    });
    vary("actor_token_type", false, |p| {
        if let Some(actor) = &mut p.actor_token {
            actor.token_type = "urn:t:b".into();
        }
    });
    vary("require_act", false, |p| {
        if let Some(actor) = &mut p.actor_token {
            actor.require_act = true;
        }
    });
    vary("client_id", false, |p| {
        p.endpoint.client_authentication = ClientAuthentication::ClientSecretBasic {
            client_id: "x".into(),
            client_secret_file: "/secret".into(),
        };
    });
    vary("no client", false, |p| {
        p.endpoint.client_authentication = ClientAuthentication::None { client_id: None };
    });
    vary("a public client", false, |p| {
        p.endpoint.client_authentication = ClientAuthentication::None {
            client_id: Some("client".into()),
        };
    });
    vary("another method", false, |p| {
        p.endpoint.client_authentication = ClientAuthentication::ClientSecretPost {
            client_id: "client".into(),
            client_secret_file: "/secret".into(),
        };
    });
    vary("an assertion", false, |p| {
        p.endpoint.client_authentication = ClientAuthentication::ClientAssertion {
            client_id: Some("client".into()),
            subject_token: "pod".into(),
        };
    });
    vary("parameters", false, |p| {
        p.endpoint.parameters = vec![("k".into(), "w".into())];
    });
    vary("no parameters", false, |p| p.endpoint.parameters.clear());
    vary("client_secret_file", true, |p| {
        p.endpoint.client_authentication = ClientAuthentication::ClientSecretBasic {
            client_id: "client".into(),
            client_secret_file: "/other".into(),
        };
    });
    vary("ca_file", true, |p| p.endpoint.authority = ca());
    vary("proxy", true, |p| p.endpoint.authority = proxy());
    (GrantParams::TokenExchange(base), all)
}

#[path = "params_tests/grants.rs"]
mod grants;

#[test]
fn whatever_decides_the_token_makes_it_another() {
    let endpoint = || url("https://as.example/token");
    let (entra, entras) = entra(url("https://as.example/"));
    let (exchange, exchanges) = token_exchange(endpoint());
    assert!(!entra.issues_the_same(&exchange) && !exchange.issues_the_same(&entra));
    for (base, variations) in [(entra, entras), (exchange, exchanges)] {
        assert!(base.issues_the_same(&base));
        for (name, other, same) in variations {
            assert_ne!(base, other, "{name} is varied");
            assert_eq!(base.issues_the_same(&other), same, "{name}");
            assert_eq!(other.issues_the_same(&base), same, "{name}");
        }
    }
    // The subject token and the client of an assertion, and a secret in the form.
    let with = |client_authentication| {
        let (GrantParams::TokenExchange(mut p), _) = token_exchange(endpoint()) else {
            panic!("a token exchange")
        };
        p.endpoint.client_authentication = client_authentication;
        GrantParams::TokenExchange(p)
    };
    let assertion = |client: &str, token: &str| {
        with(ClientAuthentication::ClientAssertion {
            client_id: Some(client.into()),
            subject_token: token.into(),
        })
    };
    assert!(!assertion("a", "pod").issues_the_same(&assertion("b", "pod")));
    assert!(!assertion("a", "pod").issues_the_same(&assertion("a", "other")));
    let post = |client: &str, file: &str| {
        with(ClientAuthentication::ClientSecretPost {
            client_id: client.into(),
            client_secret_file: file.into(),
        })
    };
    assert!(!post("a", "/s").issues_the_same(&post("b", "/s")));
    assert!(post("a", "/s").issues_the_same(&post("a", "/t")));
    let public = |client: &str| {
        with(ClientAuthentication::None {
            client_id: Some(client.into()),
        })
    };
    assert!(!public("a").issues_the_same(&public("b")));
}
