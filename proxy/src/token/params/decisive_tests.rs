//! Which parameters of Entra's and Google's grants decide what token is issued: each one by name.

use super::{super::*, *};
use crate::net::token_proxy::{Roots, TokenProxyParams};
use std::time::Duration;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn authority() -> AuthorityParams {
    AuthorityParams {
        ca_file: Some("/ca.pem".into()),
        proxy: Some(url("http://127.0.0.1:9/")),
    }
}

fn token_proxy() -> TokenProxyParams {
    TokenProxyParams {
        url: url("https://10.0.0.1/"),
        server_name: None,
        roots: Roots::System,
    }
}

/// A parameter's name, whether the token stays the same without it, and another value for it.
type Variation<P> = (&'static str, bool, fn(&mut P));

fn check<P: Clone>(base: &P, grant: impl Fn(P) -> GrantParams, variations: Vec<Variation<P>>) {
    let before = grant(base.clone());
    for (name, same, change) in variations {
        let mut other = base.clone();
        change(&mut other);
        let other = grant(other);
        assert_ne!(before, other, "{name} is varied");
        assert_eq!(before.issues_the_same(&other), same, "{name}");
        assert_eq!(other.issues_the_same(&before), same, "{name}");
    }
}

fn tenant() -> TenantParams {
    TenantParams {
        authority_host: url("https://login.example/"),
        tenant_id: "tenant".into(),
        identity_binding: None,
        authority: AuthorityParams::default(),
    }
}

/// What decides in the tenant, whatever the grant.
fn in_tenant() -> Vec<Variation<TenantParams>> {
    // A parameter that is added must be named here and varied below.
    let TenantParams {
        authority_host: _,
        tenant_id: _,
        identity_binding: _,
        authority: _,
    } = tenant();
    vec![
        ("authority_host", false, |t| {
            t.authority_host = url("https://x.example/");
        }),
        ("tenant_id", false, |t| t.tenant_id = "x".into()),
        ("identity_binding", false, |t| {
            t.identity_binding = Some(token_proxy());
        }),
        ("authority", true, |t| t.authority = authority()),
    ]
}

#[test]
fn whatever_decides_an_on_behalf_of_token_makes_it_another() {
    let base = EntraOnBehalfOfParams {
        tenant: tenant(),
        client_id: "client".into(),
        scope: "api://a/.default".into(),
        client_assertion: "pod".into(),
        assertion: "caller".into(),
    };
    // A parameter that is added must be named here and varied below.
    let EntraOnBehalfOfParams {
        tenant: _,
        client_id: _,
        scope: _,
        client_assertion: _,
        assertion: _,
    } = &base;
    let with = |tenant| {
        GrantParams::EntraOnBehalfOf(EntraOnBehalfOfParams {
            tenant,
            ..base.clone()
        })
    };
    check(&base.tenant, with, in_tenant());
    check(
        &base,
        GrantParams::EntraOnBehalfOf,
        vec![
            ("client_id", false, |p| p.client_id = "x".into()),
            ("scope", false, |p| p.scope = "api://b/.default".into()),
            ("client_assertion", false, |p| {
                p.client_assertion = "x".into()
            }),
            ("assertion", false, |p| p.assertion = "x".into()),
        ],
    );
}

#[test]
fn whatever_decides_a_blueprints_token_makes_it_another() {
    let base = EntraAgentBlueprintParams {
        tenant: tenant(),
        client_id: "client".into(),
        agent_identity: "agent".into(),
        client_assertion: "pod".into(),
    };
    let EntraAgentBlueprintParams {
        tenant: _,
        client_id: _,
        agent_identity: _,
        client_assertion: _,
    } = &base;
    let grant = GrantParams::EntraAgentBlueprint(base.clone());
    assert!(!grant.injectable());
    let with = |tenant| {
        GrantParams::EntraAgentBlueprint(EntraAgentBlueprintParams {
            tenant,
            ..base.clone()
        })
    };
    check(&base.tenant, with, in_tenant());
    check(
        &base,
        GrantParams::EntraAgentBlueprint,
        vec![
            ("client_id", false, |p| p.client_id = "x".into()),
            ("agent_identity", false, |p| p.agent_identity = "x".into()),
            ("client_assertion", false, |p| {
                p.client_assertion = "x".into()
            }),
        ],
    );
}

#[test]
fn whatever_decides_googles_token_makes_it_another() {
    let base = GoogleStsParams {
        token_endpoint: url("https://sts.example/v1/token"),
        audience: "//iam/p".into(),
        scope: vec!["a".into()],
        subject_token: "pod".into(),
        subject_token_type: "urn:t:a".into(),
        impersonation: Some(ImpersonationParams {
            endpoint: url("https://iam.example/"),
            service_account: "a@b".into(),
            lifetime: Duration::from_secs(3600),
            authority: AuthorityParams::default(),
        }),
        authority: AuthorityParams::default(),
    };
    let GoogleStsParams {
        token_endpoint: _,
        audience: _,
        scope: _,
        subject_token: _,
        subject_token_type: _,
        impersonation: _,
        authority: _,
    } = &base;
    check(
        &base,
        GrantParams::GoogleSts,
        vec![
            ("token_endpoint", false, |p| {
                p.token_endpoint = url("https://x.example/v1/token")
            }),
            ("audience", false, |p| p.audience = "x".into()),
            ("scope", false, |p| p.scope.push("b".into())),
            ("subject_token", false, |p| p.subject_token = "x".into()),
            ("subject_token_type", false, |p| {
                p.subject_token_type = "urn:t:b".into()
            }),
            ("no impersonation", false, |p| p.impersonation = None),
            ("service_account", false, |p| {
                p.impersonation.as_mut().unwrap().service_account = "x@b".into();
            }),
            ("lifetime", false, |p| {
                p.impersonation.as_mut().unwrap().lifetime = Duration::from_secs(60);
            }),
            ("endpoint", false, |p| {
                p.impersonation.as_mut().unwrap().endpoint = url("https://x.example/");
            }),
            ("authority", true, |p| p.authority = authority()),
            ("the API's authority", true, |p| {
                p.impersonation.as_mut().unwrap().authority = authority();
            }),
        ],
    );
}
