//! Examines a credential that gets a token for each caller, without a caller: whether the authority accepts the client, as far as that can be told, and, plainly, what is not
//! looked at.

use super::{
    exchange::{self, Subjects},
    facts::Facts,
    report::Step,
};
use crate::token::{
    caller,
    exchange::{Exchanger, SubjectTokens, bound::Binding, build, error::ExchangeError},
    params::{ClientAuthentication, CredentialParams, EntraClientAssertionParams, GrantParams},
    subject::SubjectToken,
};
use sidecar_runtime::{clock::Clock, telemetry::chain};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

const CLIENT: &str = "client accepted";
const STEP: &str = "exchange";

/// The subject token in a caller's place: every server must refuse it, and says by how it does whether it knew the client.
const NOBODY: &str = "token-sidecar-check";

/// Errors of a server that has looked at the client, and then at the subject token.
const PAST_THE_CLIENT: &[&str] = &[
    "invalid_grant",
    "invalid_request",
    "invalid_token",
    "invalid_target",
    "invalid_scope",
    "unsupported_token_type",
];
/// Entra's numbers about the client or what proves it.
const OF_THE_CLIENT: &[&str] = &[
    "aadsts_70021",
    "aadsts_700211",
    "aadsts_700212",
    "aadsts_700213",
    "aadsts_7002138",
    "aadsts_70025",
    "aadsts_700024",
    "aadsts_700016",
    "aadsts_700011",
    "aadsts_90002",
    "aadsts_9001023",
    "aadsts_7000215",
    "aadsts_7000222",
    "aadsts_7000218",
    "aadsts_700222",
    "aadsts_700223",
    "aadsts_700229",
    "aadsts_700238",
    "aadsts_700027",
    "aadsts_90061",
    "aadsts_7000112",
    "aadsts_70001",
    "aadsts_82001",
    "aadsts_900382",
    "aadsts_90038",
    "aadsts_900439",
];

/// The steps.
pub(super) async fn examine(
    of: &str,
    credential: &CredentialParams,
    exchanger: &dyn Exchanger,
    subjects: &Subjects,
    facts: &Facts,
    clock: &Clock,
) -> Vec<Step> {
    let accepted = match &credential.grant {
        GrantParams::EntraOnBehalfOf(_) => entra(of, credential, subjects, facts, clock).await,
        grant if authenticates(grant) => {
            let tokens = with_nobody(credential, subjects, clock);
            nobody(of, credential, exchanger, tokens, facts).await
        }
        _ => Step::skip(
            of,
            CLIENT,
            "the client does not authenticate: any would be accepted",
        ),
    };
    vec![
        accepted,
        Step::skip(
            of,
            STEP,
            "made for each caller, with the caller's own token; not looked at here: the audience of callers' tokens, their consent, and policies about them",
        ),
    ]
}

fn authenticates(grant: &GrantParams) -> bool {
    grant
        .endpoints()
        .first()
        .is_some_and(|e| !matches!(e.client_authentication, ClientAuthentication::None { .. }))
}

/// Entra: the same client, proven in the same way, asks for itself. A token, which is dropped, means that it is accepted; a refusal of the client, that it is not. All else
/// leaves it open: what a client may have for itself is another matter.
async fn entra(
    of: &str,
    credential: &CredentialParams,
    subjects: &Subjects,
    facts: &Facts,
    clock: &Clock,
) -> Step {
    let GrantParams::EntraOnBehalfOf(p) = &credential.grant else {
        return Step::skip(of, CLIENT, "nobody's");
    };
    let itself = CredentialParams {
        grant: GrantParams::EntraClientAssertion(EntraClientAssertionParams {
            tenant: p.tenant.clone(),
            client_id: p.client_id.clone(),
            scope: own_scope(&p.scope),
            subject_token: Arc::clone(&p.client_assertion),
        }),
        ..credential.clone()
    };
    let exchanger = match build(&itself.grant, Binding::default(), clock.clone()) {
        Ok(exchanger) => exchanger,
        Err(error) => return Step::fail(of, CLIENT, "setup", chain(&error).to_string()),
    };
    match exchange::once(&itself, &*exchanger, exchange::tokens(&itself, subjects)).await {
        Ok(_) => Step::pass(
            of,
            CLIENT,
            "the authority accepts the client and its assertion",
        ),
        Err(error) if OF_THE_CLIENT.contains(&error.code()) || way(&error) => {
            exchange::refused(of, CLIENT, &error, credential, facts)
        }
        Err(error) => open(of, &error),
    }
}

/// The application permissions of the same resource.
fn own_scope(scope: &str) -> String {
    let first = scope.split(' ').next().unwrap_or_default();
    match first.rsplit_once('/') {
        Some((resource, _))
            if !resource.is_empty() && !resource.ends_with(':') && !resource.ends_with(":/") =>
        {
            format!("{resource}/.default")
        }
        // A bare name is one of Microsoft Graph's.
        _ if !first.contains(['/', ':']) => "https://graph.microsoft.com/.default".to_owned(),
        _ => first.to_owned(),
    }
}

/// The subject tokens of a credential, with what is no token in the caller's place.
fn with_nobody(credential: &CredentialParams, subjects: &Subjects, clock: &Clock) -> SubjectTokens {
    let until = clock.unix_now() + Duration::from_secs(60);
    let made_up = SubjectToken::issued(Zeroizing::new(NOBODY.to_owned()), until);
    let mut tokens: Vec<_> = exchange::tokens(credential, subjects)
        .iter()
        .cloned()
        .collect();
    tokens.push((Arc::from(caller::NAME), Arc::new(made_up)));
    SubjectTokens::new(tokens)
}

/// Another server: asked to exchange what is no token. It looks at the client first (RFC 6749 section 3.2.1).
async fn nobody(
    of: &str,
    credential: &CredentialParams,
    exchanger: &dyn Exchanger,
    tokens: SubjectTokens,
    facts: &Facts,
) -> Step {
    match exchange::once(credential, exchanger, tokens).await {
        Ok(_) => Step::warn(
            of,
            CLIENT,
            "accepts_anything",
            "the authority issued a token for a subject token that is none",
        )
        .mend("find out whom it believes callers to be before this is used"),
        Err(error) if PAST_THE_CLIENT.contains(&error.code()) => Step::pass(
            of,
            CLIENT,
            format!(
                "the authority knew the client, and refused a subject token that is none ({})",
                error.code()
            ),
        ),
        Err(error)
            if [
                "invalid_client",
                "unauthorized_client",
                "unsupported_grant_type",
            ]
            .contains(&error.code())
                || way(&error) =>
        {
            exchange::refused(of, CLIENT, &error, credential, facts)
        }
        Err(error) => open(of, &error),
    }
}

/// The authority was not even asked, or what answered is none.
fn way(error: &ExchangeError) -> bool {
    error.status().is_none()
        || error.code().starts_with("http_")
        || error.code().starts_with("reply_")
}

fn open(of: &str, error: &ExchangeError) -> Step {
    Step::skip(
        of,
        CLIENT,
        format!(
            "cannot be told without a caller (the authority answered {})",
            error.code()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{exchange::tests::for_callers, report::Status},
        token::exchange::{IssuedToken, error::AuthoritySays},
    };
    use async_trait::async_trait;

    /// An authority that refuses with this error of OAuth's.
    struct Refuses(&'static str);

    #[async_trait]
    impl Exchanger for Refuses {
        fn takes_claims(&self) -> bool {
            false
        }

        async fn exchange(
            &self,
            _: &SubjectTokens,
            _: Option<&str>,
        ) -> Result<IssuedToken, ExchangeError> {
            Err(ExchangeError::refused(&AuthoritySays {
                status: 400,
                error: Some(self.0.to_owned()),
                ..AuthoritySays::default()
            }))
        }
    }

    #[tokio::test]
    async fn what_is_refused_tells_whether_the_client_was_known() {
        let past = PAST_THE_CLIENT.iter().map(|error| (*error, Status::Pass));
        let others = [
            ("invalid_client", Status::Fail),
            ("unauthorized_client", Status::Fail),
            ("unsupported_grant_type", Status::Fail),
            ("access_denied", Status::Skip),
            ("server_error", Status::Skip),
        ];
        for (error, expected) in past.chain(others) {
            let (tokens, facts) = (SubjectTokens::default(), Facts::default());
            let step = nobody("o", &for_callers(), &Refuses(error), tokens, &facts).await;
            assert_eq!(step.status, expected, "{error}: {step:?}");
            let said = [step.code, &step.detail].concat();
            assert!(said.contains(error), "{error}: {step:?}");
        }
    }

    #[test]
    fn the_scope_for_oneself_is_of_the_same_resource() {
        for (scope, own) in [
            ("api://a/.default", "api://a/.default"),
            ("api://a/Read api://a/Write", "api://a/.default"),
            (
                "https://graph.microsoft.com/User.Read",
                "https://graph.microsoft.com/.default",
            ),
            ("User.Read", "https://graph.microsoft.com/.default"),
        ] {
            assert_eq!(own_scope(scope), own);
        }
    }

    #[test]
    fn who_was_not_asked_or_answered_as_no_authority_does_is_no_judge_of_the_client() {
        let odd = |code, status| ExchangeError::odd_reply(code, "x").at(status, None);
        for (error, expected) in [
            (ExchangeError::timeout(), true),
            (odd("http_502", 502), true),
            (odd("reply_not_json", 200), true),
            (odd("invalid_grant", 400), false),
        ] {
            assert_eq!(way(&error), expected, "{error}");
        }
    }
}
