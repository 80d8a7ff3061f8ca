//! `subjectTokens` and `credentials` -> the token flow's parameters. Each grant, and what several have in common, has a file of its own.

mod caller_cache;
mod client_auth;
mod client_credentials;
mod endpoint;
mod entra;
mod form;
mod google;
mod identity_assertion;
mod identity_binding;
mod inject;
mod jwt_bearer;
mod subjects;
mod token_exchange;

use super::{
    error::Place,
    fields::{Context, Fields, shown},
    parse,
    tree::Entry,
};
use crate::{
    net::proxy::proxy_for,
    token::params::{
        AuthorityParams, ChainedTokenParams, CredentialParams, GrantParams, StaticSecretParams,
        TokenParams,
    },
};
use caller_cache::caller_cache;
use client_credentials::client_credentials;
use entra::{Agent, AgentIdentity};
use google::google_sts;
use identity_assertion::identity_assertion;
use identity_binding::IdentityBinding;
use inject::inject;
use jwt_bearer::jwt_bearer;
use std::sync::Arc;
use subjects::Subjects;
use token_exchange::token_exchange;
use url::Url;

/// What the top of the file says about the token flow.
pub(super) struct Tokens<'a> {
    /// What could be read; used only when nothing was wrong.
    pub(super) params: TokenParams,
    /// Every declared credential, whether or not it could be read, with its place.
    pub(super) declared: Vec<(&'a str, Place)>,
}

/// Reads `subjectTokens` and `credentials` of the file's top.
pub(super) fn decode<'a>(top: &Fields<'a>) -> Tokens<'a> {
    let subjects = Subjects::declared(top);
    let binding = IdentityBinding::new(top.context);
    let mut params = TokenParams::default();
    let mut declared = Vec::new();
    for entry in top.named("credentials").unwrap_or_default() {
        declared.push((entry.key.as_str(), entry.key_at));
        let path = format!("credentials.{}", shown(&entry.key));
        let name = checked_name(top.context, entry, &path);
        // Whose name is wrong is read all the same, so that everything is reported.
        let called = name.clone().unwrap_or_default();
        let read = credential(top.context, entry, path, &subjects, &binding, &called);
        if let (Some(_), Some(read)) = (name, read) {
            params.chained_tokens.extend(read.chained);
            params.credentials.extend(read.credentials);
        }
    }
    subjects.finish(&mut params);
    check_chains(top.context, &params, &declared);
    Tokens { params, declared }
}

/// An entry's key as a name.
fn checked_name(context: &Context<'_>, entry: &Entry, path: &str) -> Option<Arc<str>> {
    match parse::name(&entry.key) {
        Ok(name) => Some(name.into()),
        Err(message) => {
            context.problems.error(entry.key_at, path, message);
            None
        }
    }
}

/// The grants, one of which each credential names.
const GRANTS: &[&str] = &[
    "entraClientAssertion",
    "entraOnBehalfOf",
    "entraAgentIdentity",
    "googleSts",
    "tokenExchange",
    "clientCredentials",
    "jwtBearer",
    "identityAssertion",
    "staticSecret",
];

/// Refuses credentials that wait for each other, and those that wait for the token of one that has none of its own.
fn check_chains(context: &Context<'_>, params: &TokenParams, declared: &[(&str, Place)]) {
    let report = |credential: &str, message: String| {
        let found = declared.iter().find(|(name, _)| *name == credential);
        let at = found.map_or(Place::Whole, |(_, at)| *at);
        let path = format!("credentials.{}", shown(credential));
        context.problems.error(at, path, message);
    };
    if let Err(circle) = params.parents_first() {
        let first = circle.0.first().map_or("", |(credential, _)| credential);
        let message =
            format!("uses its own token by a detour: {circle}; get one of these in another way");
        report(first, message);
    }
    for chained in &params.chained_tokens {
        let parent = params
            .credentials
            .iter()
            .find(|c| c.name == chained.credential);
        if parent.is_some_and(|parent| parent.grant.is_for_callers()) {
            let message = format!(
                "has no token of its own but one for each caller, so the subject token `{}` cannot be its token; name a credential there that does not use `caller`",
                chained.name
            );
            report(&chained.credential, message);
        }
    }
}

/// What one entry under `credentials` becomes.
struct Read {
    credentials: Vec<CredentialParams>,
    chained: Option<ChainedTokenParams>,
}

fn credential(
    context: &Context<'_>,
    entry: &Entry,
    path: String,
    subjects: &Subjects<'_>,
    binding: &IdentityBinding<'_>,
    name: &Arc<str>,
) -> Option<Read> {
    let fields = Fields::open(context, &entry.node, path, "credentials.*")?;
    let timeout = fields.value("exchangeTimeout", parse::timeout);
    // No name that could be written has a slash: nobody else can use it.
    let parent: Arc<str> = format!("{name}/blueprint").into();
    let mut blueprint = None;
    let grant = fields.exactly_one(GRANTS).and_then(|grant| match grant {
        "entraClientAssertion" => entra::client_assertion(&fields, subjects, binding)
            .map(GrantParams::EntraClientAssertion),
        "entraOnBehalfOf" => {
            entra::on_behalf_of(&fields, subjects, binding).map(GrantParams::EntraOnBehalfOf)
        }
        "entraAgentIdentity" => {
            let identity = entra::agent_identity(&fields, subjects, binding, &parent)?;
            let AgentIdentity {
                blueprint: of,
                agent,
            } = identity;
            blueprint = Some(GrantParams::EntraAgentBlueprint(of));
            Some(match agent {
                Agent::Autonomous(p) => GrantParams::EntraClientAssertion(p),
                Agent::OnBehalfOf(p) => GrantParams::EntraOnBehalfOf(p),
            })
        }
        "googleSts" => google_sts(&fields, subjects).map(GrantParams::GoogleSts),
        "tokenExchange" => token_exchange(&fields, subjects).map(GrantParams::TokenExchange),
        "clientCredentials" => {
            client_credentials(&fields, subjects).map(GrantParams::ClientCredentials)
        }
        "jwtBearer" => jwt_bearer(&fields, subjects).map(GrantParams::JwtBearer),
        "identityAssertion" => identity_assertion(&fields, subjects)
            .map(|p| GrantParams::IdentityAssertion(Box::new(p))),
        _ => static_secret(&fields).map(GrantParams::StaticSecret),
    });
    let injection = inject(&fields, grant.as_ref());
    let caller_cache = caller_cache(&fields, grant.as_ref());
    let exchange_timeout = timeout?;
    let chained = blueprint.is_some().then(|| ChainedTokenParams {
        name: Arc::clone(&parent),
        credential: Arc::clone(&parent),
    });
    let blueprint = blueprint.map(|grant| CredentialParams {
        name: parent,
        grant,
        injection: Arc::default(),
        exchange_timeout,
        caller_cache: Default::default(),
    });
    let credential = CredentialParams {
        name: Arc::clone(name),
        grant: grant?,
        injection: injection?,
        exchange_timeout,
        caller_cache: caller_cache?,
    };
    Some(Read {
        credentials: blueprint.into_iter().chain([credential]).collect(),
        chained,
    })
}

fn static_secret(credential: &Fields<'_>) -> Option<StaticSecretParams> {
    let fields = credential.map("staticSecret", "credentials.*.staticSecret")?;
    Some(StaticSecretParams {
        file: fields.value("file", parse::path)?,
    })
}

/// How the authority at `url` is reached and trusted.
pub(super) fn authority(fields: &Fields<'_>, url: Option<&Url>) -> Option<AuthorityParams> {
    let ca_file = fields.value("caFile", parse::path);
    let proxy = proxy(fields.context, url?)?;
    Some(AuthorityParams { ca_file, proxy })
}

/// The proxy for an authority, which the environment decides.
fn proxy(context: &Context<'_>, authority: &Url) -> Option<Option<Url>> {
    match proxy_for(authority, context.env) {
        Ok(proxy) => Some(proxy),
        Err(e) => {
            context.problems.error(Place::Elsewhere, "", e.to_string());
            None
        }
    }
}
