//! Every command that the doctor can print, for those who check that the tools have such commands and options.

use super::{entra, exchange, google, kubernetes, network};
use crate::{
    doctor::facts::{Client, Facts},
    token::{exchange::error::all_known, subject::SubjectError},
};

/// The codes of Google's own API, which are in no table.
pub(in super::super) const GOOGLE: [&str; 7] = [
    "google_permission_denied",
    "google_not_found",
    "google_invalid_argument",
    "google_unauthenticated",
    "google_resource_exhausted",
    "google_unavailable",
    "google_other",
];
/// The layers' codes.
pub(in super::super) const NETWORK: [&str; 13] = [
    "dns_error",
    "dns_silent",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_timeout",
    "connection_terminated",
    "tls_certificate_error",
    "tls_alert_received",
    "tls_protocol_error",
    "tls_timeout",
    "proxy_tunnel",
    "proxy_timeout",
];

/// What is known of three kinds of authority, as commands differ by it.
fn cases() -> Vec<Facts> {
    let keycloak = "https://keycloak.example.com/realms/r/protocol/openid-connect/token";
    let clients = [
        Client::Unknown,
        Client::Secret,
        Client::Assertion,
        Client::Key,
        Client::Certificate,
    ];
    let mut all: Vec<Facts> = clients
        .into_iter()
        .flat_map(|client| {
            [None, keycloak.parse().ok()].map(|authority| Facts {
                client,
                authority,
                ..Facts::default()
            })
        })
        .collect();
    all.push(Facts {
        application: true,
        ..Facts::default()
    });
    all.push(Facts {
        binding: true,
        audiences: vec![entra::BINDING_AUDIENCE.to_owned()],
        ..Facts::default()
    });
    all.push(Facts {
        scope: Some("https://management.azure.com/.default".to_owned()),
        audiences: vec![entra::AUDIENCE.to_owned()],
        parent: Some("managed".to_owned()),
        ..Facts::default()
    });
    all.push(Facts {
        provider: Some("//iam.googleapis.com/x".to_owned()),
        ..Facts::default()
    });
    all
}

/// All of them, each once, with placeholders where the values of a case stand.
pub(in super::super) fn commands() -> Vec<String> {
    let mut all = Vec::new();
    for facts in cases() {
        for known in all_known() {
            all.extend(exchange(known.code, &facts));
        }
        for code in GOOGLE {
            all.extend(google::refused(code, &facts));
        }
        for code in NETWORK {
            all.extend(network::unreachable(code, &facts));
        }
        for error in SubjectError::ALL {
            for webhook in [true, false] {
                all.extend(kubernetes::subject(error, webhook, &facts));
            }
        }
        all.extend(exchange("timeout", &facts));
        all.extend(entra::permissions(&facts));
        all.extend(kubernetes::sub_path(&facts));
        all.extend(kubernetes::without_variables(true, &facts));
        all.extend(kubernetes::issuer(&facts));
        all.extend(kubernetes::audience("x", &facts));
        all.extend(kubernetes::replace_secret(&facts));
        all.extend(kubernetes::binding(&facts));
        all.extend(kubernetes::containers(&facts));
        all.extend(kubernetes::sidecar(&facts));
    }
    all.sort();
    all.dedup();
    all
}
