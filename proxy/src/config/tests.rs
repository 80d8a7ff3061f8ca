//! What a configuration becomes, and what it is refused for, in which words.

use super::*;
use crate::{
    request::params::HttpVersions,
    token::params::{ClientAuthentication, GrantParams},
};
use std::{collections::HashMap, path::Path};

mod annotations;
mod examples;
mod grants;
mod identities;
mod inbound;
mod injection;
mod profile_slips;
mod profiles;
mod refusals;
mod upstream;

/// What the AKS webhook injects.
const AKS: &[(&str, &str)] = &[
    ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
    ("AZURE_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        "/var/run/secrets/azure/wi/token/azure-identity-token",
    ),
    ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
];

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let document = Document::Text {
        name: "c.yaml".into(),
        text: text.into(),
    };
    load_from(
        Source {
            document: Some(document),
            overrides: Overrides::default(),
        },
        env,
    )
}

fn load_from(source: Source, env: &[(&str, &str)]) -> Result<Config, String> {
    let env: HashMap<String, String> = env
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    load(&source, &|name| env.get(name).cloned()).map_err(|e| e.to_string())
}

/// A configuration that is right but for the top-level lines put before it.
fn with_top(lines: &str) -> Result<Config, String> {
    load_with(
        &format!(
            "{lines}\ncredentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes: [{{name: r, upstream: https://u.example, credential: a}}]\n"
        ),
        AKS,
    )
}

/// A configuration that is right but for the lines put into its one route (line 4 on, indented by two).
fn with_route(lines: &str) -> Result<Config, String> {
    load_with(
        &format!(
            "credentials: {{a: {{entraClientAssertion: {{scope: x/.default}}}}}}\nroutes:\n- name: r\n  {}\n",
            lines.replace('\n', "\n  ")
        ),
        AKS,
    )
}

/// As above, with upstream and credential given.
fn with_route_key(lines: &str) -> Result<Config, String> {
    with_route(&format!(
        "{lines}\nupstream: https://u.example\ncredential: a"
    ))
}

/// A configuration that is right but for the lines put into its one credential (line 3 on, indented by four).
fn with_credential(lines: &str) -> Result<Config, String> {
    load_with(
        &format!(
            "credentials:\n  a:\n    {}\nroutes: [{{name: r, upstream: https://u.example, credential: a}}]\n",
            lines.replace('\n', "\n    ")
        ),
        AKS,
    )
}

/// As above, for keys of `entraClientAssertion` (line 5 on).
fn with_entra(lines: &str) -> Result<Config, String> {
    with_credential(&format!(
        "entraClientAssertion:\n  scope: x/.default\n  {}",
        lines.replace('\n', "\n  ")
    ))
}

/// As above, for keys of `tokenExchange` (line 5 on).
fn with_exchange(lines: &str) -> Result<Config, String> {
    with_credential(&format!(
        "tokenExchange:\n  tokenEndpoint: https://sts.example/token\n  {}",
        lines.replace('\n', "\n  ")
    ))
}

fn refused(result: Result<Config, String>, message: &str) {
    assert_eq!(result.unwrap_err(), message);
}
