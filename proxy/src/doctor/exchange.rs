//! Makes each exchange once, exactly as the sidecar would, parents before those that use their tokens. The issued token is handed on to where the configuration says (a
//! credential that uses it, a request that was asked for), and dropped.

use super::{
    callers, client,
    commands::{self, entra},
    facts::Facts,
    report::Step,
    subject::{Subject, span},
};
use crate::token::{
    attempt::Fresh,
    caller,
    dpop::Prover,
    exchange::{
        self, Exchanger, SubjectTokens, TokenType,
        bound::Binding,
        error::{Class, ExchangeError},
    },
    params::{CredentialParams, GrantParams},
    subject::SubjectToken,
};
use sidecar_runtime::{clock::Clock, telemetry::chain};
use std::{collections::HashMap, sync::Arc};
use zeroize::Zeroizing;

/// What came of a credential.
#[derive(Default)]
pub(super) struct Exchanged {
    /// Its token, for those that are to use it.
    pub(super) fresh: Option<Fresh>,
    /// What makes the proofs that go with it.
    pub(super) prover: Option<Arc<Prover>>,
    /// The step that is in the way of one, when it should have one.
    pub(super) failed: Option<String>,
    /// What commands are filled in with.
    pub(super) facts: Facts,
}

/// The subject tokens that there are, those of credentials included, by name.
pub(super) type Subjects = HashMap<Arc<str>, Subject>;

const STEP: &str = "exchange";

/// The steps of one credential: its client's files, and its exchange. `reach` is the step that failed on the way to one of its authorities.
pub(super) async fn examine(
    credential: &CredentialParams,
    subjects: &Subjects,
    around: &Facts,
    reach: Option<String>,
    clock: &Clock,
) -> (Vec<Step>, Exchanged) {
    let of = format!("credential {}", credential.name);
    let facts = known(&credential.grant, subjects, around);
    let (mut steps, unfit) = client::examine(&of, &credential.grant, &facts, clock.unix_now());
    let mut exchanged = Exchanged {
        facts: facts.clone(),
        ..Exchanged::default()
    };
    let missing = credential
        .grant
        .subject_tokens()
        .into_iter()
        .filter_map(|name| subjects.get(name))
        .find_map(|subject| subject.failed.clone());
    if let Some(by) = missing.or(unfit).or(reach) {
        steps.push(Step::blocked(&of, STEP, &by));
        exchanged.failed = Some(by);
        return (steps, exchanged);
    }
    // A key that is thrown away is as good as any for a look.
    exchanged.prover = (credential.injection.token_type == TokenType::DPoP)
        .then(|| Prover::new(clock.clone()).ok().map(Arc::new))
        .flatten();
    let binding = Binding::of(&credential.injection, exchanged.prover.as_ref());
    let exchanger = match exchange::build(&credential.grant, binding, clock.clone()) {
        Ok(exchanger) => exchanger,
        Err(error) => {
            let step = Step::fail(&of, STEP, "setup", chain(&error).to_string());
            exchanged.failed = Some(step.name());
            steps.push(step);
            return (steps, exchanged);
        }
    };
    if credential.grant.is_for_callers() {
        steps.extend(callers::examine(&of, credential, &*exchanger, subjects, &facts, clock).await);
        return (steps, exchanged);
    }
    let step = match once(credential, &*exchanger, tokens(credential, subjects)).await {
        Ok(fresh) => {
            let step = Step::pass(&of, STEP, got(credential, &fresh.issued));
            exchanged.fresh = Some(fresh);
            step
        }
        Err(error) => refused(&of, STEP, &error, credential, &facts),
    };
    if exchanged.fresh.is_none() {
        exchanged.failed = Some(step.name());
    }
    steps.push(step);
    (steps, exchanged)
}

/// The token of a credential as a subject token of others.
pub(super) fn as_subject(
    credential: &CredentialParams,
    exchanged: &Exchanged,
    clock: &Clock,
) -> Subject {
    Subject {
        token: exchanged.fresh.as_ref().map(|fresh| {
            let text = Zeroizing::new((*fresh.issued.token).clone());
            let until = clock.unix_at(fresh.usable_until());
            Arc::new(SubjectToken::issued(text, until))
        }),
        facts: Facts {
            parent: Some(credential.name.to_string()),
            pod: exchanged.facts.pod.clone(),
            node: exchanged.facts.node.clone(),
            ..Facts::default()
        },
        failed: exchanged.failed.clone(),
    }
}

/// What commands of a credential are filled in with: by the subject token that proves the client, or the one that is exchanged, and by the configuration.
fn known(grant: &GrantParams, subjects: &Subjects, around: &Facts) -> Facts {
    let exchanged = match grant {
        GrantParams::TokenExchange(p) => Some(&p.subject_token),
        GrantParams::JwtBearer(p) => Some(&p.assertion),
        GrantParams::IdentityAssertion(p) => Some(&p.identity_provider.subject_token),
        GrantParams::GoogleSts(p) => Some(&p.subject_token),
        _ => None,
    };
    let endpoints = grant.endpoints();
    let client = endpoints.first().map(|e| &e.client_authentication);
    let proving = grant
        .tenant()
        .map(|(_, _, name)| name)
        .or_else(|| client.and_then(|c| c.subject_token()))
        .or(exchanged);
    let base = proving
        .and_then(|name| subjects.get(name))
        .map_or_else(|| around.clone(), |subject| subject.facts.clone());
    let mut facts = base.of_grant(grant);
    facts.host = facts
        .authority
        .as_ref()
        .and_then(|url| url.host_str().map(str::to_owned));
    facts.port = facts
        .authority
        .as_ref()
        .and_then(url::Url::port_or_known_default);
    facts
}

/// The subject tokens that an exchange uses, but for the caller's.
pub(super) fn tokens(credential: &CredentialParams, subjects: &Subjects) -> SubjectTokens {
    let names = credential.grant.subject_tokens();
    let tokens = names
        .into_iter()
        .filter(|name| ***name != *caller::NAME)
        .filter_map(|name| {
            let token = subjects.get(name)?.token.clone()?;
            Some((Arc::clone(name), token))
        });
    SubjectTokens::new(tokens.collect())
}

/// One exchange as the sidecar makes it: within its time, and held to what it asks of a token.
pub(super) async fn once(
    credential: &CredentialParams,
    exchanger: &dyn Exchanger,
    tokens: SubjectTokens,
) -> Result<Fresh, ExchangeError> {
    let injection = credential
        .grant
        .injectable()
        .then_some(&*credential.injection);
    let limit = credential.exchange_timeout;
    Fresh::get(exchanger, limit, &tokens, None, injection).await
}

/// What was got, and how it is put on requests.
fn got(credential: &CredentialParams, issued: &exchange::IssuedToken) -> String {
    let injection = &credential.injection;
    let header = format!("`{}: {}…`", injection.header, injection.prefix);
    match &credential.grant {
        GrantParams::StaticSecret(_) => {
            format!("the secret's file holds what can be put on requests, as {header}")
        }
        GrantParams::EntraAgentBlueprint(_) => format!(
            "a token for the agent identity was issued; it lives {}, and is put on no request",
            span(issued.lifetime)
        ),
        _ => format!(
            "a token was issued; it lives {}, and is put on requests as {header}",
            span(issued.lifetime)
        ),
    }
}

/// The authority's words without what stands before them already, and of Entra's identifiers the one that its support asks for first.
fn essence(code: &str, words: &str) -> String {
    let number = code.strip_prefix("aadsts_").unwrap_or_default();
    let words = words
        .strip_prefix(&format!("AADSTS{number}: "))
        .unwrap_or(words);
    match words.split_once(" Trace ID: ") {
        Some((said, rest)) => {
            let id = rest.split(' ').next().unwrap_or_default();
            format!("{said} (trace id {id})")
        }
        None => words.to_owned(),
    }
}

/// Why there is none.
pub(super) fn refused(
    of: &str,
    step: &'static str,
    error: &ExchangeError,
    credential: &CredentialParams,
    facts: &Facts,
) -> Step {
    let code = error.code();
    let secret = match &credential.grant {
        GrantParams::StaticSecret(p) if code == "static_secret_unreadable" => Some(&*p.file),
        _ => None,
    };
    let mut detail = match (secret, error.cause()) {
        (Some(path), _) => client::seen(error, Some(path)),
        (None, "") => error.mend().to_owned(),
        (None, cause) => cause.to_owned(),
    };
    if let Some(oauth) = error.oauth().filter(|oauth| *oauth != code) {
        detail = format!("{detail} ({oauth})");
    }
    if let Some(words) = error.detail() {
        detail = format!("{detail}; the authority says: {}", essence(code, words));
    }
    let mut mend = match error.cause() {
        "" => String::new(),
        _ => error.mend().to_owned(),
    };
    if let Some(hint) = entra::hint(code, error.class(), facts) {
        mend = format!("{mend}; {hint}");
    }
    if error.class() == Class::Throttled
        && let Some(after) = error.retry_after()
    {
        mend = format!("{mend}; it asks for {} of patience", span(after));
    }
    Step::fail(of, step, code, detail)
        .mend(mend)
        .run(commands::exchange(code, facts))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        config::{Document, Source, load},
        token::exchange::{IssuedToken, error::AuthoritySays},
    };
    use async_trait::async_trait;
    use std::time::Duration;
    use tokio::time::sleep;

    const TEXT: &str = "credentials: {a: {staticSecret: {file: /s}, exchangeTimeout: 10s}}\nroutes: [{name: r, upstream: https://u.example, credential: a}]";
    const FOR_CALLERS: &str = "inbound: {listen: '127.0.0.1:8443', upstream: 'http://127.0.0.1:8000', resource: https://m.example/mcp, issuers: [{issuer: https://i.example}]}
subjectTokens: {pod: {file: /t}}
credentials: {a: {tokenExchange: {tokenEndpoint: https://s.example/token, subjectToken: caller, audience: [b], clientAuthentication: {clientAssertion: {subjectToken: pod}}}}}
routes: [{name: r, upstream: https://u.example, credential: a}]";

    /// Takes so long, for a token that lives so long from the sending.
    struct Slow(Duration, Duration);

    #[async_trait]
    impl Exchanger for Slow {
        fn takes_claims(&self) -> bool {
            false
        }

        async fn exchange(
            &self,
            _: &SubjectTokens,
            _: Option<&str>,
        ) -> Result<IssuedToken, ExchangeError> {
            sleep(self.0).await;
            Ok(IssuedToken {
                token: "t".to_owned().into(),
                token_type: TokenType::Bearer,
                lifetime: self.1,
                refresh_in: None,
            })
        }
    }

    fn credential() -> CredentialParams {
        loaded(TEXT)
    }

    /// One that gets a token for each caller, as a client that the pod's token proves.
    pub(in crate::doctor) fn for_callers() -> CredentialParams {
        loaded(FOR_CALLERS)
    }

    fn loaded(text: &str) -> CredentialParams {
        let document = Some(Document::Text {
            name: "c".into(),
            text: text.into(),
        });
        let source = Source {
            document,
            ..Source::default()
        };
        load(&source, &|_| None)
            .unwrap()
            .token
            .credentials
            .remove(0)
    }

    /// What an exchange may take and what its token must live are the sidecar's, not another set of rules.
    #[tokio::test(start_paused = true)]
    async fn an_exchange_is_held_to_what_the_sidecar_asks_of_it() {
        for (takes, lives, code) in [
            (0, 60_000, None),
            (9_900, 60_000, None),
            (10_100, 60_000, Some("timeout")),
            (0, 1_000, None),
            // A token that is left with next to nothing when it comes.
            (600, 1_000, Some("dead_on_arrival")),
            (9_000, 9_000, Some("dead_on_arrival")),
            (0, 500, Some("dead_on_arrival")),
        ] {
            let [takes, lives] = [takes, lives].map(Duration::from_millis);
            let slow = Slow(takes, lives);
            let result = once(&credential(), &slow, SubjectTokens::default()).await;
            let said = result.as_ref().err().map(ExchangeError::code);
            assert_eq!(said, code, "{takes:?} for {lives:?}");
        }
    }

    /// Whoever uses the token as a subject token may do so for as long as the sidecar would.
    #[tokio::test(start_paused = true)]
    async fn a_token_ends_for_others_when_the_sidecar_would_drop_it() {
        let clock = Clock::anchored(Duration::from_secs(1_000));
        let slow = Slow(Duration::from_secs(5), Duration::from_secs(60));
        let fresh = once(&credential(), &slow, SubjectTokens::default()).await;
        let exchanged = Exchanged {
            fresh: fresh.ok(),
            ..Exchanged::default()
        };
        let subject = as_subject(&credential(), &exchanged, &clock);
        // Sixty seconds from the sending, and not to the last one.
        let until = subject.token.unwrap().claims().exp;
        assert_eq!(until, Duration::from_secs(1_059));
    }

    /// Nothing stands in for a caller, whatever else has that name.
    #[test]
    fn the_subject_tokens_are_all_but_the_callers() {
        let subjects: Subjects = ["pod", caller::NAME]
            .map(|name| {
                let text = Zeroizing::new(name.to_owned());
                let token = SubjectToken::issued(text, Duration::from_secs(60));
                let subject = Subject {
                    token: Some(Arc::new(token)),
                    facts: Facts::default(),
                    failed: None,
                };
                (Arc::from(name), subject)
            })
            .into();
        let tokens = tokens(&for_callers(), &subjects);
        let names: Vec<&str> = tokens.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["pod"]);
    }

    /// A number of Entra's is told with the error that it specifies; an error without a number is told once.
    #[test]
    fn a_refusal_names_the_oauth_error_beside_the_number() {
        for (aadsts, code, beside) in [
            (Some(700_213), "aadsts_700213", true),
            (None, "invalid_client", false),
        ] {
            let error = ExchangeError::refused(&AuthoritySays {
                status: 401,
                error: Some("invalid_client".to_owned()),
                aadsts,
                ..AuthoritySays::default()
            });
            let step = refused("o", STEP, &error, &credential(), &Facts::default());
            assert_eq!(step.code, code);
            assert_eq!(step.detail.contains("(invalid_client)"), beside, "{step:?}");
        }
    }
}
