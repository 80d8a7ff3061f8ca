//! What can be wrong on our own side before, or after, an authority is asked: files, keys, the configuration. A table.

use super::{
    super::{CallerFault, Fault},
    Class::{Permanent, Transient},
    Known, known,
};

/// A request that could not be built, whatever the code.
pub(super) const DEFECT: Known = known(
    "request",
    Permanent,
    "the request could not be built",
    "check tenantId, clientId and authorityHost",
);

/// The codes that are known, and whose fault each is.
pub(super) const OWN: &[(Known, Fault)] = &[
    (
        known(
            "client_secret_unreadable",
            Permanent,
            "the client secret's file cannot be read or is empty",
            "check that it is mounted into this container and readable, and the configured path",
        ),
        Fault::Pod,
    ),
    (
        known(
            "static_secret_unreadable",
            Permanent,
            "the secret's file is not there, cannot be read, is empty, or holds characters that no header may carry",
            "check that it is mounted into this container and readable, and the configured path",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_key_unreadable",
            Transient,
            "the client key's file cannot be read",
            "check that it is mounted into this container and readable, and the configured path",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_key_unusable",
            Transient,
            "the client key's file holds no private key that can be used",
            "it must be an unencrypted PEM (PKCS#8, PKCS#1 or SEC 1) or, for signing, a private JWK, with an RSA key of 2048 bits or more or an EC key on P-256, P-384 or P-521",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_key_algorithm",
            Transient,
            "the client key does not fit the algorithm",
            "check `algorithm`, and the JWK's alg: RS and PS need an RSA key, ES256 one on P-256, ES384 on P-384, ES512 on P-521",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_certificate_unreadable",
            Transient,
            "the client certificate's file cannot be read",
            "check that it is mounted into this container and readable, and the configured path",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_certificate_unusable",
            Transient,
            "the client certificate's file holds no certificate that can be used",
            "it must be PEM, the client's own certificate first",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_certificate_other_key",
            Transient,
            "the client certificate is not the client key's",
            "check that both files are of one pair",
        ),
        Fault::Pod,
    ),
    (
        known(
            "client_setup",
            Transient,
            "the TLS client of the token endpoint cannot be set up",
            "check caFile",
        ),
        Fault::Pod,
    ),
    (
        // The caller's authorization server said so.
        known(
            "may_act_other",
            Permanent,
            "the subject token's may_act claim names another actor than the actor token's subject (RFC 8693 section 4.4), so the exchange was not asked for",
            "let the subject's authorization server name this actor, or use the actor that it names",
        ),
        Fault::Caller(CallerFault::Denied),
    ),
    (
        known(
            "act_missing",
            Permanent,
            "the issued token is no JWT with an `act` claim, and `requireAct` wants one",
            "turn delegation on at the authorization server, or take `requireAct` out",
        ),
        Fault::Pod,
    ),
    (
        known(
            "act_other",
            Permanent,
            "the outermost `act` claim of the issued token names another actor than the actor token's subject",
            "check the delegation policy of the authorization server",
        ),
        Fault::Pod,
    ),
    (
        known(
            "no_subject_token",
            Permanent,
            "a subject token that the credential names is not there",
            "see what is said of that subject token",
        ),
        Fault::Pod,
    ),
];
