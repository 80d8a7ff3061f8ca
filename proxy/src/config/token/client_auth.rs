//! `clientAuthentication` -> how a client authenticates at its token endpoint.

use super::{
    super::{fields::Fields, keys, parse, tree::Value},
    EMPTY,
    subjects::Subjects,
};
use crate::token::params::ClientAuthentication;
use std::path::PathBuf;

pub(super) fn client_authentication(
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
