//! Commands for what token endpoints other than Entra's and Google's refuse. Keycloak is known by its paths, and gets its own; others get a look at what they serve.

use super::{Facts, embedded, kubernetes, or, quoted};
use crate::doctor::facts::Client;
use url::Url;

/// `REALM` and the realm's issuer, when a token endpoint is Keycloak's: `…/realms/REALM/protocol/openid-connect/token`.
pub(in super::super) fn keycloak(endpoint: &Url) -> Option<(&str, String)> {
    let (front, realm) = endpoint
        .path()
        .strip_suffix("/protocol/openid-connect/token")?
        .rsplit_once("/realms/")?;
    let origin = endpoint.origin().ascii_serialization();
    (!realm.is_empty() && !realm.contains('/'))
        .then(|| (realm, format!("{origin}{front}/realms/{realm}")))
}

/// Where a server says what it serves.
fn metadata(facts: &Facts) -> String {
    let url = facts.authority.as_ref().map(|url| match keycloak(url) {
        Some((_, issuer)) => format!("{issuer}/.well-known/openid-configuration"),
        None => format!(
            "{}/.well-known/oauth-authorization-server",
            url.origin().ascii_serialization()
        ),
    });
    or(url.as_deref(), "<issuer>/.well-known/openid-configuration").into_owned()
}

/// For a refusal, by its code.
pub(in super::super) fn refused(code: &str, facts: &Facts) -> Vec<String> {
    let realm = facts
        .authority
        .as_ref()
        .and_then(keycloak)
        .map(|(realm, _)| quoted(realm));
    let look = |what: &str| vec![format!("curl -sS {}   # {what}", metadata(facts))];
    match (code, realm) {
        ("invalid_client", Some(realm)) => keycloak_client(&realm, facts),
        ("invalid_client", None) => [
            look("token_endpoint_auth_methods_supported"),
            own_proof(facts),
        ]
        .concat(),
        ("unauthorized_client" | "access_denied" | "unsupported_grant_type", Some(realm)) => vec![
            client_of(&realm, facts, "serviceAccountsEnabled, standard.token.exchange.enabled, oauth2.jwt.authorization.grant.enabled"),
            format!(
                "kcadm.sh update clients/<id> -r {realm} -s serviceAccountsEnabled=true -s 'attributes.\"standard.token.exchange.enabled\"=true'   # what the grant needs: clientCredentials the first, tokenExchange the second"
            ),
        ],
        ("unauthorized_client" | "unsupported_grant_type" | "access_denied", None) => {
            look("grant_types_supported; then the client's registration")
        }
        ("invalid_scope", Some(realm)) => vec![
            format!(
                "kcadm.sh get clients/<id>/default-client-scopes -r {realm} --fields name   # and optional-client-scopes: must have {}",
                or(facts.scope.as_deref(), "<scope>")
            ),
        ],
        ("invalid_scope", None) => look("scopes_supported"),
        ("invalid_target", Some(realm)) => vec![format!(
            "kcadm.sh get clients -r {realm} --fields clientId   # `audience` must be among them"
        )],
        ("invalid_grant" | "invalid_token" | "invalid_request", Some(realm)) => vec![
            format!(
                "kcadm.sh get identity-provider/instances -r {realm} --fields alias,config   # issuer must be {}",
                or(facts.issuer.as_deref(), "<issuer>")
            ),
            client_of(&realm, facts, "jwt.credential.issuer, jwt.credential.sub"),
        ],
        (
            "invalid_grant" | "invalid_token" | "invalid_request" | "invalid_target" | "invalid_resource"
            | "unsupported_token_type",
            _,
        ) => [
            look("grant_types_supported, and which issuer it is"),
            kubernetes::configuration(facts),
        ]
        .concat(),
        ("http_429" | "slow_down", _) => vec![
            "kubectl get pods --all-namespaces -l app.kubernetes.io/part-of=token-sidecar   # how many ask at once".into(),
        ],
        ("invalid_dpop_proof" | "use_dpop_nonce", _) => look("dpop_signing_alg_values_supported"),
        ("may_act_other" | "act_missing" | "act_other" | "no_subject_token", _) => {
            kubernetes::configuration(facts)
        }
        // Its own words, or the bare code, say the rest.
        ("other", _) => vec![],
        ("http_5xx" | "server_error" | "temporarily_unavailable", _) => look("does it answer anybody"),
        _ => look("is this the server, and what does it serve"),
    }
}

fn client_of(realm: &str, facts: &Facts, what: &str) -> String {
    let client = or(facts.client_id.as_deref(), "<client id>");
    format!(
        "kcadm.sh get clients -r {realm} -q clientId={client} --fields id,enabled,serviceAccountsEnabled,clientAuthenticatorType,attributes   # {what}"
    )
}

/// Keycloak does not accept the client: what it knows of it, and what mends it.
fn keycloak_client(realm: &str, facts: &Facts) -> Vec<String> {
    match facts.client {
        Client::Assertion => vec![
            client_of(
                realm,
                facts,
                "clientAuthenticatorType must be federated-jwt",
            ),
            format!(
                "kcadm.sh update clients/<id> -r {realm} -s clientAuthenticatorType=federated-jwt -s 'attributes.\"jwt.credential.issuer\"=<alias of the identity provider>' -s 'attributes.\"jwt.credential.sub\"={}'",
                embedded(facts.subject.as_deref(), "<subject>")
            ),
            format!(
                "kcadm.sh get identity-provider/instances -r {realm} --fields alias,providerId,config   # issuer must be {}",
                or(facts.issuer.as_deref(), "<issuer>")
            ),
        ],
        _ => [
            vec![client_of(realm, facts, "enabled, and the method")],
            own_proof(facts),
        ]
        .concat(),
    }
}

/// What our own side proves itself with, to be compared with what is registered. No command shows a secret or a private key.
fn own_proof(facts: &Facts) -> Vec<String> {
    match facts.client {
        Client::Secret => kubernetes::replace_secret(facts),
        Client::Key => vec![
            "openssl pkey -in <key file> -pubout   # on the machine that has the key: is this public key registered".into(),
        ],
        Client::Certificate => vec![
            "openssl x509 -in <certificate file> -noout -subject -issuer -enddate -fingerprint -sha256   # is this certificate registered".into(),
        ],
        Client::Assertion => kubernetes::audience("the authorization server's issuer", facts),
        Client::Unknown => kubernetes::configuration(facts),
    }
}
