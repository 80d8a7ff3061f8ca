//! What is known about the errors of authorities: for each AADSTS number and OAuth code its class and what the operator should do. A table.

use super::{CallerFault, Class, Fault};

/// One known error.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) code: &'static str,
    pub(super) class: Class,
    pub(super) mend: &'static str,
}

const fn known(code: &'static str, class: Class, mend: &'static str) -> Known {
    Known { code, class, mend }
}

/// The class, whose fault it is, and the mend of a failure on our own side, by its code.
pub(super) fn known_local(code: &str) -> (Class, Fault, &'static str) {
    use Class::{Permanent, Transient};
    let (class, mend) = match code {
        "client_secret_unreadable" => (
            Permanent,
            "the client secret's file cannot be read or is empty; check that it is mounted and readable, and the configured path",
        ),
        "static_secret_unreadable" => (
            Permanent,
            "the secret's file is not there, cannot be read, is empty, or holds characters that no header may carry; check that it is mounted and readable, and the configured path",
        ),
        "client_key_unreadable" => (
            Transient,
            "the client key's file cannot be read; check that it is mounted and readable, and the configured path",
        ),
        "client_key_unusable" => (
            Transient,
            "the client key's file holds no private key that can be used; it must be an unencrypted PEM (PKCS#8, PKCS#1 or SEC 1) or, for signing, a private JWK, with an RSA key of 2048 bits or more or an EC key on P-256, P-384 or P-521",
        ),
        "client_key_algorithm" => (
            Transient,
            "the client key does not fit the algorithm; RS and PS need an RSA key, ES256 one on P-256, ES384 on P-384, ES512 on P-521; check `algorithm`, and the JWK's alg",
        ),
        "client_certificate_unreadable" => (
            Transient,
            "the client certificate's file cannot be read; check that it is mounted and readable, and the configured path",
        ),
        "client_certificate_unusable" => (
            Transient,
            "the client certificate's file holds no certificate that can be used; it must be PEM, the client's own certificate first",
        ),
        "client_certificate_other_key" => (
            Transient,
            "the client certificate is not the client key's; check that both files are of one pair",
        ),
        "client_setup" => (
            Transient,
            "the TLS client of the token endpoint cannot be set up; check caFile",
        ),
        "may_act_other" => (
            Permanent,
            "the subject token's may_act claim names another actor than the actor token's subject (RFC 8693 section 4.4), so the exchange was not asked for; let the subject's authorization server name this actor, or use the actor that it names",
        ),
        "act_missing" => (
            Permanent,
            "the issued token is no JWT with an `act` claim, and `requireAct` wants one; turn delegation on at the authorization server, or take `requireAct` out",
        ),
        "act_other" => (
            Permanent,
            "the outermost `act` claim of the issued token names another actor than the actor token's subject; check the delegation policy of the authorization server",
        ),
        "no_subject_token" => (
            Permanent,
            "a subject token that the credential names is not there",
        ),
        _ => (
            Permanent,
            "the request could not be built; check tenantId, clientId and authorityHost",
        ),
    };
    let fault = match code {
        // The caller's authorization server said so.
        "may_act_other" => Fault::Caller(CallerFault::Denied),
        _ => Fault::Pod,
    };
    (class, fault, mend)
}

const SECRET_FLOW: &str = "the authority expects a client secret; give the application a federated identity credential for this service account instead";
const ENTRA_ASSERTION: &str = "the subject token is not one that this tenant accepts as a federated assertion; use the projected service-account token, or ask the tenant's administrator about its federation policy";
const USER_ASSERTION: &str = "the assertion's signature, audience or time is not accepted; check whose token the subject token file holds, and its audience";
const INTERACTION: &str = "the tenant's policies want a stronger sign-in of this user; their client must satisfy the claims challenge and send a new token";
const BUSY: &str = "the authority is busy or throttles; it is asked again later";
const SCOPE: &str = "fix `scope`: one resource that exists in the tenant, ending in /.default";

/// The AADSTS numbers whose meaning is known. Others share one code: a number of the authority's must not make a metric grow.
pub(super) fn known_aadsts(number: u64) -> Known {
    use Class::{Permanent, Propagation, Throttled, Transient};
    match number {
        70021 => known(
            "aadsts_70021",
            Propagation,
            "no federated identity credential matches; its issuer (a trailing / counts), subject (system:serviceaccount:<namespace>:<name>) and audience must equal the token's; a new one takes minutes to work",
        ),
        700_211 => known(
            "aadsts_700211",
            Propagation,
            "no federated identity credential has this issuer; set it to the cluster's OIDC issuer URL exactly (a trailing / counts); a new one takes minutes to work",
        ),
        700_212 => known(
            "aadsts_700212",
            Propagation,
            "no federated identity credential has this audience; the projected token and the credential must both say api://AzureADTokenExchange; a new one takes minutes to work",
        ),
        700_213 => known(
            "aadsts_700213",
            Propagation,
            "no federated identity credential has this subject; set it to system:serviceaccount:<namespace>:<service account> of this pod; a new one takes minutes to work",
        ),
        7_002_138 => known(
            "aadsts_7002138",
            Propagation,
            "the federated identity credential differs from the token in upper and lower case only; make them equal",
        ),
        70025 => known(
            "aadsts_70025",
            Permanent,
            "the application has no federated identity credential; create one for this service account",
        ),
        700_024 => known(
            "aadsts_700024",
            Transient,
            "the assertion is outside its time range; check the node's clock and that the kubelet still rotates the token file",
        ),
        700_016 => known(
            "aadsts_700016",
            Permanent,
            "the application is not in this tenant; check clientId and tenantId (AZURE_CLIENT_ID, AZURE_TENANT_ID)",
        ),
        700_011 => known(
            "aadsts_700011",
            Permanent,
            "the application is not in this tenant; check clientId and tenantId (AZURE_CLIENT_ID, AZURE_TENANT_ID)",
        ),
        90002 => known(
            "aadsts_90002",
            Permanent,
            "there is no such tenant in this cloud; check tenantId and authorityHost (AZURE_TENANT_ID, AZURE_AUTHORITY_HOST)",
        ),
        9_001_023 => known(
            "aadsts_9001023",
            Permanent,
            "this grant needs a tenant of its own; set tenantId to the tenant's id instead of common or consumers",
        ),
        900_144 => known(
            "aadsts_900144",
            Permanent,
            "a parameter is missing from the request; check clientId and scope",
        ),
        90023 => known(
            "aadsts_90023",
            Permanent,
            "the request is malformed; check clientId, tenantId and scope",
        ),
        9_002_313 => known(
            "aadsts_9002313",
            Permanent,
            "the request is malformed; check clientId, tenantId and scope",
        ),
        500_011 => known(
            "aadsts_500011",
            Permanent,
            "the scope's resource is not known in the tenant; check `scope`, or have the resource's application consented to",
        ),
        50001 => known(
            "aadsts_50001",
            Permanent,
            "the scope's resource is disabled or unknown; check `scope`",
        ),
        650_057 => known(
            "aadsts_650057",
            Permanent,
            "the resource is not among the application's required permissions; add it, or fix `scope`",
        ),
        70011 => known("aadsts_70011", Permanent, SCOPE),
        28002 => known("aadsts_28002", Permanent, SCOPE),
        700_022 => known("aadsts_700022", Permanent, SCOPE),
        700_027 => known(
            "aadsts_700027",
            Permanent,
            "the assertion's signature is not accepted; check that the federated identity credential's issuer is this cluster's",
        ),
        7_000_215 => known("aadsts_7000215", Permanent, SECRET_FLOW),
        7_000_222 => known("aadsts_7000222", Permanent, SECRET_FLOW),
        7_000_218 => known("aadsts_7000218", Permanent, SECRET_FLOW),
        700_222 => known("aadsts_700222", Permanent, ENTRA_ASSERTION),
        700_223 => known("aadsts_700223", Permanent, ENTRA_ASSERTION),
        700_229 => known("aadsts_700229", Permanent, ENTRA_ASSERTION),
        700_238 => known("aadsts_700238", Permanent, ENTRA_ASSERTION),
        90061 => known(
            "aadsts_90061",
            Permanent,
            "the authority cannot read the cluster issuer's keys; its discovery document must be public (az aks update reconciles it)",
        ),
        50013 => known("aadsts_50013", Permanent, USER_ASSERTION),
        500_131 => known("aadsts_500131", Permanent, USER_ASSERTION),
        500_133 => known("aadsts_500133", Permanent, USER_ASSERTION),
        50173 => known(
            "aadsts_50173",
            Permanent,
            "the user's session was revoked; they must sign in again",
        ),
        50074 => known("aadsts_50074", Permanent, INTERACTION),
        50076 => known("aadsts_50076", Permanent, INTERACTION),
        50079 => known("aadsts_50079", Permanent, INTERACTION),
        82001 => known(
            "aadsts_82001",
            Permanent,
            "Entra does not serve RFC 8693 token exchange; use entraClientAssertion for it",
        ),
        65001 => known(
            "aadsts_65001",
            Permanent,
            "consent is missing; an administrator must grant the application its permissions",
        ),
        50105 => known(
            "aadsts_50105",
            Permanent,
            "the application is not assigned to the resource; assign it an app role",
        ),
        53000 => known(
            "aadsts_53000",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        50005 => known(
            "aadsts_50005",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        53003 => known(
            "aadsts_53003",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        530_035 => known(
            "aadsts_530035",
            Permanent,
            "a Conditional Access policy blocks this; ask the tenant's administrator",
        ),
        70043 => known(
            "aadsts_70043",
            Permanent,
            "the sign-in is too old for the tenant's policy; the user must sign in again",
        ),
        900_382 => known(
            "aadsts_900382",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        90038 => known(
            "aadsts_90038",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        900_439 => known(
            "aadsts_900439",
            Permanent,
            "wrong cloud; set authorityHost (AZURE_AUTHORITY_HOST) to the tenant's cloud",
        ),
        1_002_016 => known(
            "aadsts_1002016",
            Permanent,
            "the authority saw TLS 1.0, 1.1 or 3DES, which the sidecar never speaks: a proxy in between opens the connection anew; take it out of the way (NO_PROXY) or update it",
        ),
        7_000_112 => known(
            "aadsts_7000112",
            Permanent,
            "the application is disabled; enable it or use another",
        ),
        70001 => known(
            "aadsts_70001",
            Permanent,
            "the application is disabled or unknown; check clientId",
        ),
        50196 => known(
            "aadsts_50196",
            Throttled,
            "the authority sees a request loop of this application; look for other replicas that ask too often",
        ),
        90055 => known("aadsts_90055", Throttled, BUSY),
        90006 => known("aadsts_90006", Transient, BUSY),
        90012 => known("aadsts_90012", Transient, BUSY),
        90024 => known("aadsts_90024", Transient, BUSY),
        90033 => known("aadsts_90033", Transient, BUSY),
        50033 => known("aadsts_50033", Transient, BUSY),
        _ => known(
            "aadsts_other",
            Permanent,
            "look the authority's error number up (https://login.microsoftonline.com/error); the log has its words",
        ),
    }
}

/// The OAuth error codes (RFC 6749 section 5.2, RFC 8693 section 2.2.2, and those that servers add).
pub(super) fn known_oauth(error: &str) -> Known {
    use Class::{Permanent, Throttled, Transient};
    match error {
        "invalid_request" => known(
            "invalid_request",
            Permanent,
            "the authority finds the request malformed or the subject token unacceptable; check the credential's parameters and the subject token's audience",
        ),
        "invalid_client" => known(
            "invalid_client",
            Permanent,
            "the authority does not accept the client; check clientId and the client authentication",
        ),
        "invalid_grant" => known(
            "invalid_grant",
            Permanent,
            "the authority does not accept the subject token; check its issuer, audience and type",
        ),
        "unauthorized_client" => known(
            "unauthorized_client",
            Permanent,
            "the client may not use this grant; allow it at the authority",
        ),
        "unsupported_grant_type" => known(
            "unsupported_grant_type",
            Permanent,
            "the authority does not serve this grant at this endpoint; check tokenEndpoint",
        ),
        "unsupported_token_type" => known(
            "unsupported_token_type",
            Permanent,
            "the authority does not take or issue this token type; check subjectTokenType and requestedTokenType",
        ),
        "invalid_scope" => known(
            "invalid_scope",
            Permanent,
            "the authority does not grant this scope; check `scope`",
        ),
        "invalid_target" => known(
            "invalid_target",
            Permanent,
            "the authority does not issue for this audience or resource; check `audience` and `resource`",
        ),
        "invalid_resource" => known(
            "invalid_resource",
            Permanent,
            "the authority does not know this resource; check `scope` or `resource`",
        ),
        "invalid_tenant" => known(
            "invalid_tenant",
            Permanent,
            "the authority does not know this tenant; check tenantId",
        ),
        "access_denied" => known(
            "access_denied",
            Permanent,
            "the authority denies access; check the client's permissions there",
        ),
        "interaction_required" => known(
            "interaction_required",
            Permanent,
            "the authority wants a person to sign in, which a workload cannot; check its policies",
        ),
        "consent_required" => known(
            "consent_required",
            Permanent,
            "consent is missing; an administrator must grant it",
        ),
        "temporarily_unavailable" => known("temporarily_unavailable", Transient, BUSY),
        "server_error" => known("server_error", Transient, BUSY),
        "slow_down" => known("slow_down", Throttled, BUSY),
        _ => known(
            "other",
            Permanent,
            "the authority answered an error of its own; the log has its words",
        ),
    }
}

/// For a reply without an OAuth error in it.
pub(super) fn plain_status(
    status: u16,
    class: Option<Class>,
) -> (&'static str, Class, &'static str) {
    let by_status = |otherwise| class.unwrap_or(otherwise);
    match status {
        429 => ("http_429", by_status(Class::Throttled), BUSY),
        300..=399 => (
            "http_3xx",
            Class::Permanent,
            "the authority answered with a redirect, which is never followed; check the authority's URL",
        ),
        401 | 403 | 404 => (
            "http_4xx",
            Class::Permanent,
            "what answered is no token endpoint, or a proxy in between refuses; check the authority's URL and the proxy",
        ),
        500.. => (
            "http_5xx",
            by_status(Class::Transient),
            "the authority, or a proxy in between, is failing; it is asked again",
        ),
        _ => (
            "http_other",
            by_status(Class::Permanent),
            "the authority answered with an unexpected status and without an OAuth error; check the authority's URL",
        ),
    }
}
