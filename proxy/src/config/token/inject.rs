//! `inject`: how a credential's token is put on requests.

use super::super::{fields::Fields, parse};
use crate::token::{dpop, exchange::TokenType, injection::Injection, params::GrantParams};
use http::{HeaderName, header::AUTHORIZATION};
use std::sync::Arc;

const BEARER: &str = "Bearer ";

/// Reads `inject` of a credential that gets its tokens by `grant`.
pub(super) fn inject(
    credential: &Fields<'_>,
    grant: Option<&GrantParams>,
) -> Option<Arc<Injection>> {
    if credential.node("inject").is_none() {
        return Some(Arc::default());
    }
    let fields = credential.map("inject", "credentials.*.inject")?;
    let header = fields.value("header", field);
    let prefix = fields.value("prefix", prefix);
    let token_type = fields.value("tokenType", |text| match text {
        "Bearer" => Ok(TokenType::Bearer),
        "DPoP" => Ok(TokenType::DPoP),
        "N_A" => Ok(TokenType::NotAccess),
        _ => Err("not a token type; write Bearer, DPoP or N_A".into()),
    });
    let (header, token_type) = (header?, token_type?);
    if token_type == TokenType::DPoP {
        for key in ["header", "prefix"] {
            if fields.node(key).is_some() {
                fields.error(key, "a token bound by DPoP goes into `Authorization: DPoP` and nowhere else (RFC 9449 section 7.1); remove it");
            }
        }
    }
    if token_type == TokenType::NotAccess && header == AUTHORIZATION {
        fields.error("tokenType", "what is no access token does not go into `Authorization` (RFC 8693 section 2.2.1); name its `header`, such as Txn-Token");
    }
    if let Some(grant) = grant {
        check(&fields, token_type, grant);
    }
    // A prefix that was given and cannot be used has been reported.
    let given = fields.node("prefix").is_some();
    let prefix = match token_type {
        TokenType::DPoP => dpop::SCHEME.to_owned(),
        _ if given => prefix?,
        _ if header == AUTHORIZATION => BEARER.to_owned(),
        _ => String::new(),
    };
    Some(Arc::new(Injection {
        header,
        prefix,
        token_type,
    }))
}

/// Refuses what the grant can never bring.
fn check(fields: &Fields<'_>, token_type: TokenType, grant: &GrantParams) {
    let brings = grant.token_types();
    if !brings.contains(&token_type) {
        let names: Vec<&str> = brings.iter().map(|t| t.name()).collect();
        fields.error(
            "tokenType",
            format!("this grant brings tokens of another type; write {}, or get the token by another grant", names.join(" or ")),
        );
    }
}

/// Fields that frame or route a message, or belong to a hop of it, carry no credential.
fn field(text: &str) -> Result<HeaderName, String> {
    const OTHERS: &[&str] = &[
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "dpop",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "token-sidecar-step-up",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    let name = parse::header_name(text).map_err(|_| {
        "not a header name that can carry a credential; write one such as X-Vault-Token".to_owned()
    })?;
    if OTHERS.contains(&name.as_str()) {
        return Err("this field frames, routes or describes the message and can carry no credential; write one such as X-Vault-Token".into());
    }
    Ok(name)
}

fn prefix(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        return Ok(text.to_owned());
    }
    Err("has characters that no header may carry; write visible ASCII, and the space before the token if there is to be one".into())
}
