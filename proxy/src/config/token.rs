//! `subjectTokens` and `credentials` -> the token flow's parameters.

use super::{
    env,
    error::Place,
    fields::{Context, Fields, shown},
    keys, parse,
    tree::{Entry, Node, Value},
};
use crate::{
    net::proxy::proxy_for,
    token::params::{
        ActorTokenParams, AuthorityParams, ClientAuthentication, CredentialParams,
        EntraClientAssertionParams, GrantParams, SubjectTokenParams, TokenExchangeParams,
        TokenParams,
    },
};
use std::{cell::RefCell, collections::HashSet, path::PathBuf, sync::Arc};
use url::Url;

/// The subject token that needs no declaration: AKS says where it is.
const POD: &str = "pod";

/// Form fields that token exchange and client authentication define (RFC 8693 section 2.1, RFC 6749 section 2.3, RFC 7521 section 4.2), and
/// `claims`, which answer an upstream's challenge and are nothing to configure (OpenID Connect Core section 5.5).
const RESERVED: &[&str] = &[
    "grant_type",
    "resource",
    "audience",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "claims",
];

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
        if let (Some(name), Some((grant, exchange_timeout))) = (name, credential) {
            params.credentials.push(CredentialParams {
                name,
                grant,
                injection: Arc::default(),
                exchange_timeout,
            });
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

/// The subject tokens that credentials may name, and which of them some credential names.
struct Subjects<'a> {
    context: &'a Context<'a>,
    declared: Vec<(&'a str, Place)>,
    params: Vec<SubjectTokenParams>,
    used: RefCell<HashSet<String>>,
    implicit_pod: Option<String>,
    pod_reported: std::cell::Cell<bool>,
}

impl<'a> Subjects<'a> {
    fn declared(top: &Fields<'a>) -> Self {
        let context = top.context;
        let mut this = Self {
            context,
            declared: Vec::new(),
            params: Vec::new(),
            used: RefCell::default(),
            implicit_pod: context.variable(env::FEDERATED_TOKEN_FILE),
            pod_reported: std::cell::Cell::new(false),
        };
        for entry in top.named("subjectTokens").unwrap_or_default() {
            let path = format!("subjectTokens.{}", shown(&entry.key));
            this.declared.push((&entry.key, entry.key_at));
            let name = checked_name(context, entry, &path);
            let fields = Fields::open(context, &entry.node, path, "subjectTokens.*");
            if let Some(fields) = fields
                && let Some(file) = this.file(&fields, &entry.key)
                && let Some(name) = name
            {
                this.params.push(SubjectTokenParams { name, file });
            }
        }
        this
    }

    fn file(&self, fields: &Fields<'_>, name: &str) -> Option<PathBuf> {
        if fields.node("file").is_some() {
            return fields.value("file", parse::path);
        }
        match (name, &self.implicit_pod) {
            (POD, Some(file)) => Some(file.into()),
            (POD, None) => {
                self.report_pod(fields.at, fields.join("file"));
                None
            }
            _ => {
                fields.error(
                    "file",
                    "missing; give the path of the projected token (only `pod` has a default)",
                );
                None
            }
        }
    }

    fn report_pod(&self, at: Place, path: String) {
        if !self.pod_reported.replace(true) {
            let (variable, mend) = (
                env::FEDERATED_TOKEN_FILE,
                env::aks_mend(env::FEDERATED_TOKEN_FILE),
            );
            let message = format!(
                "the subject token `pod` has no file, and {variable} is not set; set `subjectTokens.pod.file`, or {variable}: {mend}"
            );
            self.context.problems.error(at, path, message);
        }
    }

    /// Reads a key that names a subject token.
    fn named(&self, fields: &Fields<'_>, key: &'static str) -> Option<Arc<str>> {
        let name = fields.value(key, |t| Ok(t.to_owned()))?;
        self.used.borrow_mut().insert(name.clone());
        if self.declared.iter().any(|(n, _)| *n == name) {
            return Some(name.into());
        }
        if name == POD {
            if self.implicit_pod.is_none() {
                self.report_pod(fields.at(key), fields.join(key));
            }
            return Some(name.into());
        }
        let known = self.declared.iter().map(|(n, _)| *n).chain([POD]);
        let hint = self.context.hint(&name, known);
        fields.error(
            key,
            format!("no subject token is named `{}`{hint}", shown(&name)),
        );
        None
    }

    /// The declared ones, and `pod` when it is used without a declaration. Warns of those that nobody uses.
    fn finish(mut self) -> Vec<SubjectTokenParams> {
        let used = self.used.into_inner();
        for (name, at) in &self.declared {
            if !used.contains(*name) {
                let path = format!("subjectTokens.{}", shown(name));
                self.context.problems.warning(
                    *at,
                    path,
                    "no credential uses this subject token; remove it, or use it",
                );
            }
        }
        if let Some(file) = self.implicit_pod
            && used.contains(POD)
            && !self.declared.iter().any(|(n, _)| *n == POD)
        {
            self.params.push(SubjectTokenParams {
                name: POD.into(),
                file: file.into(),
            });
        }
        self.params
    }
}

fn credential(
    context: &Context<'_>,
    node: &Node,
    path: String,
    subjects: &Subjects<'_>,
) -> Option<(GrantParams, std::time::Duration)> {
    let fields = Fields::open(context, node, path, "credentials.*")?;
    let timeout = fields.value("exchangeTimeout", parse::timeout);
    let grant = match fields.exactly_one(&["entraClientAssertion", "tokenExchange"])? {
        "entraClientAssertion" => entra(&fields, subjects).map(GrantParams::EntraClientAssertion),
        _ => token_exchange(&fields, subjects).map(GrantParams::TokenExchange),
    };
    Some((grant?, timeout?))
}

const EMPTY: &Node = &Node {
    at: Place::Whole,
    value: Value::Null,
};

fn entra(credential: &Fields<'_>, subjects: &Subjects<'_>) -> Option<EntraClientAssertionParams> {
    let fields = credential.map(
        "entraClientAssertion",
        "credentials.*.entraClientAssertion",
        EMPTY,
    )?;
    let scope = fields.value("scope", parse::entra_scope);
    let tenant_id = fields.value("tenantId", parse::tenant);
    let client_id = fields.value("clientId", parse::word);
    let authority_host = fields.value("authorityHost", parse::authority_host);
    let subject_token = subjects.named(&fields, "subjectToken");
    let authority = authority(&fields, authority_host.as_ref());
    Some(EntraClientAssertionParams {
        authority_host: authority_host?,
        tenant_id: tenant_id?,
        client_id: client_id?,
        scope: scope?,
        subject_token: subject_token?,
        authority: authority?,
    })
}

fn token_exchange(credential: &Fields<'_>, subjects: &Subjects<'_>) -> Option<TokenExchangeParams> {
    let fields = credential.map("tokenExchange", "credentials.*.tokenExchange", EMPTY)?;
    let token_endpoint = fields.value("tokenEndpoint", parse::token_endpoint);
    let subject_token = subjects.named(&fields, "subjectToken");
    let subject_token_type = fields.value("subjectTokenType", parse::uri);
    let requested_token_type = fields.value("requestedTokenType", parse::uri);
    let audience = fields.list("audience", parse::text);
    let resource = fields.list("resource", parse::resource);
    let scope = fields.value("scope", parse::scopes);
    let actor_token = match fields.node("actorToken") {
        None => Some(None),
        Some(_) => actor_token(&fields, subjects).map(Some),
    };
    let client_authentication = client_authentication(&fields, subjects);
    let parameters = parameters(&fields);
    let authority = authority(&fields, token_endpoint.as_ref());
    Some(TokenExchangeParams {
        token_endpoint: token_endpoint?,
        subject_token: subject_token?,
        subject_token_type: subject_token_type?,
        requested_token_type,
        audience: audience?,
        resource: resource?,
        scope,
        actor_token: actor_token?,
        client_authentication: client_authentication?,
        parameters: parameters?,
        authority: authority?,
    })
}

fn actor_token(exchange: &Fields<'_>, subjects: &Subjects<'_>) -> Option<ActorTokenParams> {
    let fields = exchange.map(
        "actorToken",
        "credentials.*.tokenExchange.actorToken",
        EMPTY,
    )?;
    let subject_token = subjects.named(&fields, "subjectToken");
    let token_type = fields.value("tokenType", parse::uri);
    Some(ActorTokenParams {
        subject_token: subject_token?,
        token_type: token_type?,
    })
}

fn client_authentication(
    exchange: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<ClientAuthentication> {
    const KEY: &str = "clientAuthentication";
    const NONE: ClientAuthentication = ClientAuthentication::None { client_id: None };
    match exchange.node(KEY).map(|n| &n.value) {
        None => return Some(NONE),
        Some(Value::Scalar(text)) if text == "none" => return Some(NONE),
        Some(Value::Scalar(text)) => {
            let names = keys::children("credentials.*.tokenExchange.clientAuthentication");
            let hint = exchange.context.hint(text, names.iter().copied());
            exchange.error(
                KEY,
                format!("is a single value and not `none`; give a map with one method{hint}"),
            );
            return None;
        }
        Some(_) => {}
    }
    let fields = exchange.map(
        KEY,
        "credentials.*.tokenExchange.clientAuthentication",
        EMPTY,
    )?;
    match fields.exactly_one(&[
        "none",
        "clientSecretBasic",
        "clientSecretPost",
        "clientAssertion",
    ])? {
        "none" => {
            let none = fields.map(
                "none",
                "credentials.*.tokenExchange.clientAuthentication.none",
                EMPTY,
            )?;
            Some(ClientAuthentication::None {
                client_id: none.value("clientId", parse::word),
            })
        }
        "clientSecretBasic" => {
            let basic = fields.map(
                "clientSecretBasic",
                "credentials.*.tokenExchange.clientAuthentication.clientSecretBasic",
                EMPTY,
            )?;
            let (client_id, client_secret_file) = client_secret(&basic)?;
            Some(ClientAuthentication::ClientSecretBasic {
                client_id,
                client_secret_file,
            })
        }
        "clientSecretPost" => {
            let post = fields.map(
                "clientSecretPost",
                "credentials.*.tokenExchange.clientAuthentication.clientSecretPost",
                EMPTY,
            )?;
            let (client_id, client_secret_file) = client_secret(&post)?;
            Some(ClientAuthentication::ClientSecretPost {
                client_id,
                client_secret_file,
            })
        }
        _ => {
            let assertion = fields.map(
                "clientAssertion",
                "credentials.*.tokenExchange.clientAuthentication.clientAssertion",
                EMPTY,
            )?;
            let client_id = assertion.value("clientId", parse::word);
            let subject_token = subjects.named(&assertion, "subjectToken")?;
            Some(ClientAuthentication::ClientAssertion {
                client_id,
                subject_token,
            })
        }
    }
}

fn client_secret(fields: &Fields<'_>) -> Option<(String, PathBuf)> {
    // A client id may be any text here: HTTP Basic form-encodes it first (RFC 6749 section 2.3.1).
    let client_id = fields.value("clientId", parse::text);
    let file = fields.value("clientSecretFile", parse::path);
    Some((client_id?, file?))
}

fn parameters(exchange: &Fields<'_>) -> Option<Vec<(String, String)>> {
    let mut read = Some(Vec::new());
    for entry in exchange.named("parameters")? {
        let path = format!("{}.{}", exchange.join("parameters"), shown(&entry.key));
        let reserved = RESERVED.contains(&entry.key.as_str());
        if reserved {
            let message = if entry.key == "claims" {
                "answers an upstream's challenge and is nothing to configure; leave it out"
            } else {
                "a parameter that token exchange or client authentication defines; use the key of its own"
            };
            exchange
                .context
                .problems
                .error(entry.key_at, &path, message);
        }
        let value = exchange
            .context
            .scalar(&entry.node, &path, |t| Ok(t.to_owned()));
        match (value, &mut read) {
            (Some(value), Some(read)) if !reserved => read.push((entry.key.clone(), value)),
            _ => read = None,
        }
    }
    read
}

/// How the authority at `url` is reached and trusted.
fn authority(fields: &Fields<'_>, url: Option<&Url>) -> Option<AuthorityParams> {
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
