//! `subjectTokens` and `credentials` -> the token flow's parameters. Each grant, and client authentication, has a file of its own.

mod caller_cache;
mod client_auth;
mod client_credentials;
mod entra;
mod form;
mod identity_assertion;
mod inject;
mod jwt_bearer;
mod subjects;
mod token_exchange;

use super::{
    error::Place,
    fields::{Context, Fields, shown},
    parse,
    tree::{Entry, Node, Value},
};
use crate::{
    net::proxy::proxy_for,
    token::params::{
        AuthorityParams, CredentialParams, GrantParams, StaticSecretParams, TokenParams,
    },
};
use caller_cache::caller_cache;
use client_credentials::client_credentials;
use entra::entra;
use identity_assertion::identity_assertion;
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
    let mut params = TokenParams::default();
    let mut declared = Vec::new();
    for entry in top.named("credentials").unwrap_or_default() {
        declared.push((entry.key.as_str(), entry.key_at));
        let path = format!("credentials.{}", shown(&entry.key));
        let name = checked_name(top.context, entry, &path);
        let credential = credential(top.context, &entry.node, path, &subjects);
        if let (Some(name), Some(credential)) = (name, credential) {
            params
                .credentials
                .push(CredentialParams { name, ..credential });
        }
    }
    params.subject_tokens = subjects.finish();
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

fn credential(
    context: &Context<'_>,
    node: &Node,
    path: String,
    subjects: &Subjects<'_>,
) -> Option<CredentialParams> {
    let fields = Fields::open(context, node, path, "credentials.*")?;
    let timeout = fields.value("exchangeTimeout", parse::timeout);
    let chosen = fields.exactly_one(&[
        "entraClientAssertion",
        "tokenExchange",
        "clientCredentials",
        "jwtBearer",
        "identityAssertion",
        "staticSecret",
    ]);
    let grant = chosen.and_then(|grant| match grant {
        "entraClientAssertion" => entra(&fields, subjects).map(GrantParams::EntraClientAssertion),
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
    Some(CredentialParams {
        // Whoever asked knows it.
        name: "".into(),
        grant: grant?,
        injection: injection?,
        exchange_timeout: timeout?,
        caller_cache: caller_cache?,
    })
}

fn static_secret(credential: &Fields<'_>) -> Option<StaticSecretParams> {
    let fields = credential.map("staticSecret", "credentials.*.staticSecret", EMPTY)?;
    Some(StaticSecretParams {
        file: fields.value("file", parse::path)?,
    })
}

const EMPTY: &Node = &Node {
    at: Place::Whole,
    value: Value::Null,
};

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
