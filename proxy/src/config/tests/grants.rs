//! What the blocks of the grants at a token endpoint become.

use super::{examples::sample, *};
use crate::token::params::{
    ActorTokenParams, AuthorityParams, AuthorizationServerParams, ClientCredentialsParams,
    EndpointParams, IdentityAssertionParams, IdentityProviderParams, JwtBearerParams,
    PrivateKeyJwtParams, SigningAlgorithm, TargetParams, TlsClientParams, TokenExchangeParams,
};
use url::Url;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn ca(file: &str) -> AuthorityParams {
    AuthorityParams {
        ca_file: Some(file.into()),
        proxy: None,
    }
}

fn key(client_id: &str, key_file: &str, audience: &str) -> ClientAuthentication {
    ClientAuthentication::PrivateKeyJwt(PrivateKeyJwtParams {
        client_id: client_id.into(),
        key_file: key_file.into(),
        algorithm: None,
        key_id: None,
        certificate_file: None,
        audience: audience.into(),
    })
}

fn tenant(name: &str) -> Vec<(String, String)> {
    vec![("tenant".into(), name.into())]
}

fn by_key(credential: usize) -> ClientAuthentication {
    match sample("grants.yaml")
        .token
        .credentials
        .remove(credential)
        .grant
    {
        GrantParams::ClientCredentials(p) => p.endpoint.client_authentication,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_of_the_grants_has_an_effect() {
    let token = sample("grants.yaml").token;
    let grants: Vec<_> = token.credentials.into_iter().map(|c| c.grant).collect();
    assert_eq!(
        grants[0],
        GrantParams::TokenExchange(TokenExchangeParams {
            endpoint: EndpointParams {
                url: url("https://sts.example.com/token"),
                client_authentication: ClientAuthentication::PrivateKeyJwt(PrivateKeyJwtParams {
                    client_id: "mcp".into(),
                    key_file: "/etc/sts/key.jwk".into(),
                    algorithm: Some(SigningAlgorithm::Ps256),
                    key_id: Some("k1".into()),
                    certificate_file: Some("/etc/sts/certificate.pem".into()),
                    audience: "https://sts.example.com".into(),
                }),
                parameters: vec![],
                authority: AuthorityParams::default()
            },
            subject_token: "user".into(),
            subject_token_type: JWT.into(),
            requested_token_type: None,
            target: TargetParams {
                audience: vec![],
                resource: vec![],
                scope: None
            },
            actor_token: Some(ActorTokenParams {
                subject_token: "pod".into(),
                token_type: JWT.into(),
                require_act: true,
            })
        })
    );
    assert_eq!(
        grants[1],
        GrantParams::ClientCredentials(ClientCredentialsParams {
            endpoint: EndpointParams {
                url: url("https://keycloak.example.com/realms/r/protocol/openid-connect/token"),
                client_authentication: ClientAuthentication::ClientAssertion {
                    client_id: None,
                    subject_token: "keycloak".into(),
                },
                parameters: tenant("t1"),
                authority: ca("/etc/keycloak/ca.pem")
            },
            target: TargetParams {
                audience: vec!["orders".into()],
                resource: vec!["https://orders.example.com".into()],
                scope: Some("orders.read".into())
            }
        })
    );
    assert_eq!(
        grants[2],
        GrantParams::JwtBearer(JwtBearerParams {
            endpoint: EndpointParams {
                url: url("https://as.example.com/token"),
                client_authentication: ClientAuthentication::Tls(TlsClientParams {
                    client_id: "mcp".into(),
                    certificate_file: "/etc/as/tls.crt".into(),
                    key_file: "/etc/as/tls.key".into(),
                }),
                parameters: tenant("t2"),
                authority: ca("/etc/as/ca.pem")
            },
            assertion: "pod".into(),
            target: TargetParams {
                audience: vec!["invoices".into()],
                resource: vec!["https://invoices.example.com".into()],
                scope: Some("invoices.read".into())
            }
        })
    );
    assert_eq!(
        grants[3],
        GrantParams::IdentityAssertion(Box::new(IdentityAssertionParams {
            identity_provider: IdentityProviderParams {
                endpoint: EndpointParams {
                    url: url("https://idp.example.com/token"),
                    client_authentication: key("a", "/etc/idp/key.pem", "https://idp.example.com"),
                    parameters: tenant("t3"),
                    authority: ca("/etc/idp/ca.pem")
                },
                subject_token: "user".into(),
                subject_token_type: ACCESS_TOKEN.into(),
                audience: "https://as.chat.example.com".into(),
                resource: vec!["https://chat.example.com".into()],
                scope: Some("chat.read".into())
            },
            authorization_server: AuthorizationServerParams {
                endpoint: EndpointParams {
                    url: url("https://as.chat.example.com/token"),
                    client_authentication: key(
                        "b",
                        "/etc/chat/key.pem",
                        "https://as.chat.example.com"
                    ),
                    parameters: tenant("t4"),
                    authority: ca("/etc/chat/ca.pem")
                },
                scope: Some("chat.read".into())
            },
        }))
    );
    assert!(!grants.iter().any(GrantParams::is_for_callers));
}

#[test]
fn an_assertion_is_for_whom_it_says_else_for_the_issuer_else_for_the_endpoint() {
    let file = "/etc/as/key.pem";
    assert_eq!(by_key(4), key("c", file, "https://other.example.com"));
    assert_eq!(by_key(5), key("c", file, "https://as.example.com/token"));
}

#[test]
fn a_caller_is_named_without_being_declared_and_presents_an_access_token() {
    let grants = [
        "tokenExchange: {tokenEndpoint: 'https://s.example/', subjectToken: caller, actorToken: {subjectToken: pod}}",
        "tokenExchange: {tokenEndpoint: 'https://s.example/', subjectToken: pod, actorToken: {subjectToken: caller}}",
        "jwtBearer: {tokenEndpoint: 'https://s.example/', assertion: caller}",
        "identityAssertion: {identityProvider: {tokenEndpoint: 'https://s.example/', subjectToken: caller}, authorizationServer: {tokenEndpoint: 'https://t.example/', issuer: 'https://t.example'}}",
    ];
    for grant in grants {
        let config = load_with(
            &format!(
                "credentials:\n  c: {{{grant}}}\n  a: {{entraClientAssertion: {{scope: x/.default}}}}\nroutes: [{{name: r, upstream: https://u.example, credential: a}}]"
            ),
            AKS,
        )
        .unwrap();
        let grant = &config.token.credentials[0].grant;
        assert!(grant.is_for_callers(), "{grant:?}");
        if let GrantParams::TokenExchange(p) = grant {
            let expected = match &*p.subject_token {
                "caller" => ACCESS_TOKEN,
                _ => JWT,
            };
            assert_eq!(p.subject_token_type, expected);
        }
    }
}
