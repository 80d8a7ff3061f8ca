//! Order and circles, for chains, diamonds and whatever chance makes.

use super::*;
use crate::token::params::{
    AuthorityParams, ChainedTokenParams, EntraOnBehalfOfParams, GrantParams, TenantParams,
};
use proptest::prelude::*;
use std::time::Duration;

/// A credential that uses two subject tokens.
fn credential(name: &str, first: &str, second: &str) -> CredentialParams {
    CredentialParams {
        name: name.into(),
        grant: GrantParams::EntraOnBehalfOf(EntraOnBehalfOfParams {
            tenant: TenantParams {
                authority_host: "https://login.example/".parse().unwrap(),
                tenant_id: "t".into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "c".into(),
            scope: "s/.default".into(),
            client_assertion: first.into(),
            assertion: second.into(),
        }),
        injection: Arc::default(),
        caller_cache: Default::default(),
        exchange_timeout: Duration::from_secs(1),
    }
}

/// The token of credential `x` is called `x-token`.
fn params(credentials: &[(&str, &str, &str)]) -> TokenParams {
    TokenParams {
        credentials: credentials
            .iter()
            .map(|(name, first, second)| credential(name, first, second))
            .collect(),
        chained_tokens: credentials
            .iter()
            .map(|(name, ..)| ChainedTokenParams {
                name: format!("{name}-token").into(),
                credential: (*name).into(),
            })
            .collect(),
        ..TokenParams::default()
    }
}

fn order(params: &TokenParams) -> Vec<&str> {
    params
        .parents_first()
        .unwrap()
        .into_iter()
        .map(|c| &*c.name)
        .collect()
}

#[test]
fn parents_come_first_and_the_rest_keeps_its_order() {
    assert_eq!(
        order(&params(&[
            ("c", "a-token", "b-token"),
            ("x", "pod", "pod"),
            ("b", "a-token", "pod"),
            ("a", "pod", "pod"),
        ])),
        ["x", "a", "b", "c"]
    );
    // Of a credential that is not there: somebody else's to report.
    let mut unknown = params(&[("a", "x-token", "pod")]);
    unknown.chained_tokens.push(ChainedTokenParams {
        name: "x-token".into(),
        credential: "x".into(),
    });
    assert_eq!(order(&unknown), ["a"]);
}

#[test]
fn a_circle_is_told_by_its_path_and_without_what_leads_to_it() {
    for (credentials, told) in [
        (
            vec![("a", "a-token", "pod")],
            "`a` -> (subject token `a-token`) -> `a`",
        ),
        (
            vec![
                ("leads", "a-token", "pod"),
                ("good", "pod", "pod"),
                ("a", "pod", "b-token"),
                ("b", "c-token", "good-token"),
                ("c", "a-token", "good-token"),
            ],
            "`a` -> (subject token `b-token`) `b` -> (subject token `c-token`) `c` -> (subject token `a-token`) -> `a`",
        ),
    ] {
        let told_now = params(&credentials).parents_first().unwrap_err();
        assert_eq!(told_now.to_string(), told);
    }
}

proptest! {
    /// Either every credential stands behind its parents, or what is told is a circle indeed.
    #[test]
    fn there_is_an_order_or_a_circle(edges in proptest::collection::vec((0_usize..7, 0_usize..7), 1..7)) {
        let names: Vec<String> = (0..7).map(|n| format!("c{n}")).collect();
        let token = |n: usize| if n < edges.len() { format!("c{n}-token") } else { "pod".to_owned() };
        let tokens: Vec<(String, String)> = edges.iter().map(|(a, b)| (token(*a), token(*b))).collect();
        let credentials: Vec<_> = tokens.iter().enumerate().map(|(n, (a, b))| (&*names[n], &**a, &**b)).collect();
        let params = params(&credentials);
        let uses = |name: &str, token: &str| credentials.iter().any(|(n, a, b)| *n == name && (*a == token || *b == token));
        match params.parents_first() {
            Ok(order) => {
                prop_assert_eq!(order.len(), credentials.len());
                for (at, c) in order.iter().enumerate() {
                    for later in &order[at..] {
                        let token = format!("{}-token", later.name);
                        prop_assert!(!uses(&c.name, &token));
                    }
                }
            }
            Err(Circle(path)) => {
                prop_assert!(!path.is_empty());
                for (at, (name, token)) in path.iter().enumerate() {
                    let next = &path[(at + 1) % path.len()].0;
                    prop_assert!(uses(name, token));
                    prop_assert_eq!(&**token, format!("{next}-token"));
                }
            }
        }
    }
}
