//! No two different requests share a key: one caller's token is never answered to another, nor for another purpose.

use super::{super::token::tests::caller, *};
use crate::token::params::{
    ActorTokenParams, AuthorityParams, ClientAuthentication, EndpointParams, TargetParams,
    TokenExchangeParams,
    tests::{entra, token_exchange},
};
use proptest::prelude::*;
use sidecar_runtime::clock::Clock;
use std::time::Duration;
use url::Url;

fn url() -> Url {
    Url::parse("https://a.example/token").unwrap()
}

#[test]
fn every_parameter_that_decides_what_is_issued_makes_another_key() {
    let caller = TokenDigest::of("a");
    for (base, variations) in [entra(url()), token_exchange(url())] {
        let key = Keys::new(&base).of(&caller);
        assert_eq!(key, Keys::new(&base.clone()).of(&caller));
        assert_ne!(key, Keys::new(&base).of(&TokenDigest::of("b")));
        for (name, other, same) in variations {
            assert_eq!(Keys::new(&other).of(&caller) == key, same, "{name}");
        }
    }
}

/// What a token remembers is its key for one grant, and never taken for that of another.
#[tokio::test]
async fn a_remembered_key_is_the_grants_own() {
    let clock = Clock::anchored(Duration::from_secs(1_000_000));
    for (base, variations) in [entra(url()), token_exchange(url())] {
        let token = caller(2_000_000, "a", &clock);
        let first = Keys::new(&base);
        for _ in 0..2 {
            assert_eq!(first.of_token(&token), first.of(token.digest()));
            for (name, other, _) in &variations {
                let other = Keys::new(other);
                assert_eq!(other.of_token(&token), other.of(token.digest()), "{name}");
            }
        }
    }
}

/// Texts that run into each other, and into what separates fields, when nothing keeps them apart.
fn text() -> impl Strategy<Value = String> {
    "[ab\u{0}\u{1}&=]{0,3}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 0..3)
}

fn authentication() -> impl Strategy<Value = ClientAuthentication> {
    prop_oneof![
        proptest::option::of(text()).prop_map(|client_id| ClientAuthentication::None { client_id }),
        text().prop_map(|client_id| ClientAuthentication::ClientSecretBasic {
            client_id,
            client_secret_file: "/a".into()
        }),
        text().prop_map(|client_id| ClientAuthentication::ClientSecretPost {
            client_id,
            client_secret_file: "/a".into()
        }),
        (proptest::option::of(text()), text()).prop_map(|(client_id, t)| {
            ClientAuthentication::ClientAssertion {
                client_id,
                subject_token: t.into(),
            }
        }),
    ]
}

prop_compose! {
    fn grant()(
        path in "[ab]{0,2}", subject in text(), subject_token_type in text(), requested_token_type in proptest::option::of(text()),
        audience in texts(), resource in texts(), scope in proptest::option::of(text()),
        actor in proptest::option::of((text(), text())), client_authentication in authentication(),
        parameters in proptest::collection::vec((text(), text()), 0..2),
    ) -> GrantParams {
        GrantParams::TokenExchange(TokenExchangeParams { endpoint: EndpointParams { url: url().join(&path).unwrap(), client_authentication, parameters, authority: AuthorityParams::default() }, subject_token: subject.into(), subject_token_type, requested_token_type, target: TargetParams { audience, resource, scope }, actor_token: actor.map(|(name, token_type)| ActorTokenParams { subject_token: name.into(), token_type, require_act: false }) })
    }
}

/// What is hashed, written down in full.
#[derive(Default)]
struct Written(Vec<u8>);

impl Hasher for Written {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_two_different_requests_share_a_key(a in grant(), b in grant(), callers in (text(), text())) {
        let (one, other) = (TokenDigest::of(&callers.0), TokenDigest::of(&callers.1));
        let same = a == b && callers.0 == callers.1;
        prop_assert_eq!(Keys::new(&a).of(&one) == Keys::new(&b).of(&other), same);
        // Not by luck of the digest: what goes into it differs, and one is not the beginning of the other.
        let (mut left, mut right) = (Written::default(), Written::default());
        a.hash(&mut left);
        b.hash(&mut right);
        prop_assert_eq!(left.0 == right.0, a == b);
        prop_assert!(a == b || !(left.0.starts_with(&right.0) || right.0.starts_with(&left.0)));
    }

    /// Neighbours: what differs only in where one field ends and the next begins.
    #[test]
    fn fields_do_not_run_into_each_other(x in "[ab]{1,4}", cut in 0_usize..5, cut2 in 0_usize..5) {
        let grant = |at: usize| {
            let (l, r) = x.split_at(at.min(x.len()));
            let mut p = match token_exchange(url()).0 { GrantParams::TokenExchange(p) => p, _ => unreachable!() };
            p.target.audience = vec![l.to_owned(), r.to_owned()];
            p.target.scope = Some(r.to_owned());
            p.subject_token_type = l.to_owned();
            GrantParams::TokenExchange(p)
        };
        let caller = TokenDigest::of("a");
        let same = cut.min(x.len()) == cut2.min(x.len());
        prop_assert_eq!(Keys::new(&grant(cut)).of(&caller) == Keys::new(&grant(cut2)).of(&caller), same);
    }
}
