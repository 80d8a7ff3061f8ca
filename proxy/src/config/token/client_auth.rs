//! `clientAuthentication`, which every grant at a token endpoint has -> how a client authenticates there.

use super::{
    super::{fields::Fields, keys, parse, tree::Value},
    subjects::Subjects,
};
use crate::token::params::{
    ClientAuthentication, PrivateKeyJwtParams, SigningAlgorithm, TlsClientParams,
};
use std::path::PathBuf;
use url::Url;

const KEY: &str = "clientAuthentication";
/// Its keys stand in the table once, for all grants.
const PATTERN: &str = "credentials.*.tokenExchange.clientAuthentication";

/// The token endpoint at which the client authenticates, as far as it could be read.
pub(super) struct At<'a> {
    pub(super) token_endpoint: Option<&'a Url>,
    pub(super) issuer: Option<&'a str>,
}

/// Reads `clientAuthentication` of a grant.
pub(super) fn client_authentication(
    grant: &Fields<'_>,
    subjects: &Subjects<'_>,
    at: At<'_>,
) -> Option<ClientAuthentication> {
    const NONE: ClientAuthentication = ClientAuthentication::None { client_id: None };
    match grant.node(KEY).map(|n| &n.value) {
        None => return Some(NONE),
        Some(Value::Scalar(text)) if text == "none" => return Some(NONE),
        Some(Value::Scalar(text)) => {
            let names = keys::children(PATTERN);
            let hint = grant.context.hint(text, names.iter().copied());
            grant.error(
                KEY,
                format!("is a single value and not `none`; give a map with one method{hint}"),
            );
            return None;
        }
        Some(_) => {}
    }
    let methods = grant.map(KEY, PATTERN)?;
    match methods.exactly_one(&[
        "none",
        "clientSecretBasic",
        "clientSecretPost",
        "clientAssertion",
        "privateKeyJwt",
        "tls",
    ])? {
        "none" => {
            let none = methods.map(
                "none",
                "credentials.*.tokenExchange.clientAuthentication.none",
            )?;
            Some(ClientAuthentication::None {
                client_id: none.value("clientId", parse::word),
            })
        }
        "clientSecretBasic" => {
            let basic = methods.map(
                "clientSecretBasic",
                "credentials.*.tokenExchange.clientAuthentication.clientSecretBasic",
            )?;
            let (client_id, client_secret_file) = client_secret(&basic)?;
            Some(ClientAuthentication::ClientSecretBasic {
                client_id,
                client_secret_file,
            })
        }
        "clientSecretPost" => {
            let post = methods.map(
                "clientSecretPost",
                "credentials.*.tokenExchange.clientAuthentication.clientSecretPost",
            )?;
            let (client_id, client_secret_file) = client_secret(&post)?;
            Some(ClientAuthentication::ClientSecretPost {
                client_id,
                client_secret_file,
            })
        }
        "clientAssertion" => {
            let assertion = methods.map(
                "clientAssertion",
                "credentials.*.tokenExchange.clientAuthentication.clientAssertion",
            )?;
            let client_id = assertion.value("clientId", parse::word);
            let subject_token = subjects.named(&assertion, "subjectToken")?;
            Some(ClientAuthentication::ClientAssertion {
                client_id,
                subject_token,
            })
        }
        "privateKeyJwt" => private_key_jwt(&methods, at).map(ClientAuthentication::PrivateKeyJwt),
        _ => tls(&methods, at).map(ClientAuthentication::Tls),
    }
}

fn private_key_jwt(methods: &Fields<'_>, at: At<'_>) -> Option<PrivateKeyJwtParams> {
    let fields = methods.map(
        "privateKeyJwt",
        "credentials.*.tokenExchange.clientAuthentication.privateKeyJwt",
    )?;
    let client_id = fields.value("clientId", parse::text);
    let key_file = fields.value("keyFile", parse::path);
    let algorithm = optional(&fields, "algorithm", |text| {
        SigningAlgorithm::named(text).ok_or_else(|| {
            let names = SigningAlgorithm::ALL.map(SigningAlgorithm::name).join(", ");
            format!("not an algorithm of a private key; use one of {names}")
        })
    });
    let key_id = optional(&fields, "keyId", parse::text);
    let certificate_file = optional(&fields, "certificateFile", parse::path);
    let audience = optional(&fields, "audience", parse::text)
        .map(|given| given.or_else(|| at.issuer.map(str::to_owned)));
    Some(PrivateKeyJwtParams {
        client_id: client_id?,
        key_file: key_file?,
        algorithm: algorithm?,
        key_id: key_id?,
        certificate_file: certificate_file?,
        audience: match audience? {
            Some(audience) => audience,
            None => at.token_endpoint?.as_str().to_owned(),
        },
    })
}

fn tls(methods: &Fields<'_>, at: At<'_>) -> Option<TlsClientParams> {
    let fields = methods.map(
        "tls",
        "credentials.*.tokenExchange.clientAuthentication.tls",
    )?;
    if at.token_endpoint.is_some_and(|url| url.scheme() != "https") {
        methods.error(
            "tls",
            "the token endpoint is plain http, which shows no certificate; use an https:// one, or another method",
        );
    }
    let client_id = fields.value("clientId", parse::text);
    let certificate_file = fields.value("certificateFile", parse::path);
    let key_file = fields.value("keyFile", parse::path);
    Some(TlsClientParams {
        client_id: client_id?,
        certificate_file: certificate_file?,
        key_file: key_file?,
    })
}

/// A value that may be missing: `None` when it is there and wrong.
fn optional<T>(
    fields: &Fields<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Option<T>> {
    match fields.node(key) {
        None => Some(None),
        Some(_) => fields.value(key, parse).map(Some),
    }
}

fn client_secret(fields: &Fields<'_>) -> Option<(String, PathBuf)> {
    // A client id may be any text here: HTTP Basic form-encodes it first (RFC 6749 section 2.3.1).
    let client_id = fields.value("clientId", parse::text);
    let file = fields.value("clientSecretFile", parse::path);
    Some((client_id?, file?))
}
