//! Entra's error numbers (AADSTS) that a federated pod, or somebody on whose behalf it calls, can meet. A table. Microsoft changes numbers; how to go on is decided
//! here by class alone, and the status and the OAuth error outweigh it.

use super::{
    Class::{Permanent, Propagation, Throttled, Transient},
    Known, known,
};

const BUSY: (&str, &str) = super::oauth::BUSY;
const NOT_HERE: (&str, &str) = (
    "the application is not in this tenant",
    "let clientId and tenantId (AZURE_CLIENT_ID, AZURE_TENANT_ID) be of one identity; an application of another tenant needs consent in this one",
);
const MALFORMED: (&str, &str) = (
    "the request is malformed",
    "check clientId, tenantId and scope for stray characters",
);
const SCOPE: (&str, &str) = (
    "the scope is not valid",
    "fix `scope`: one resource that exists in the tenant, ending in /.default (a resource whose id ends in a / has two slashes there)",
);
const SECRET_FLOW: (&str, &str) = (
    "the authority expects a client secret",
    "give the application a federated identity credential for this service account, and let entraClientAssertion use it; no secret is needed",
);
const ENTRA_ASSERTION: (&str, &str) = (
    "the subject token is not one that this tenant accepts as a federated assertion",
    "let the subject token's file be the projected service-account token's; else ask the tenant's administrator about its federation policy",
);
const INTERACTION: (&str, &str) = (
    "the tenant's policies want a stronger sign-in of this user",
    "their client must satisfy the claims challenge and send a new token",
);
const BLOCKED: (&str, &str) = (
    "a Conditional Access policy blocks this",
    "ask the tenant's administrator which policy covers this workload identity, and to exclude or satisfy it",
);
const CLOUD: (&str, &str) = (
    "the tenant is in another cloud",
    "set authorityHost (AZURE_AUTHORITY_HOST) to that cloud's",
);

const fn shared(
    code: &'static str,
    class: super::Class,
    texts: (&'static str, &'static str),
) -> Known {
    known(code, class, texts.0, texts.1)
}

/// Numbers that are not in the table.
pub(super) const OTHER: Known = known(
    "aadsts_other",
    Permanent,
    "the authority refuses with a number that is not known here",
    "look it up at https://login.microsoftonline.com/error; the log, and what check prints, have the authority's words",
);

/// The numbers that are known.
pub(super) const NUMBERS: &[(u64, Known)] = &[
    (
        70021,
        known(
            "aadsts_70021",
            Propagation,
            "no federated identity credential matches the token",
            "make its issuer (a trailing / counts), subject (system:serviceaccount:<namespace>:<name>) and audience equal to the token's; a new one takes minutes to work",
        ),
    ),
    (
        700_211,
        known(
            "aadsts_700211",
            Propagation,
            "no federated identity credential has this issuer",
            "set it to the cluster's OIDC issuer URL exactly (a trailing / counts, and a new cluster has a new one); a new one takes minutes to work",
        ),
    ),
    (
        700_212,
        known(
            "aadsts_700212",
            Propagation,
            "no federated identity credential has this audience",
            "let the projected token and the credential both say api://AzureADTokenExchange; a new one takes minutes to work",
        ),
    ),
    (
        700_213,
        known(
            "aadsts_700213",
            Propagation,
            "no federated identity credential has this subject",
            "set it to system:serviceaccount:<namespace>:<service account> of this pod; a new one takes minutes to work",
        ),
    ),
    (
        7_002_138,
        known(
            "aadsts_7002138",
            Propagation,
            "the federated identity credential differs from the token in upper and lower case only",
            "make them equal to the letter",
        ),
    ),
    (
        70025,
        known(
            "aadsts_70025",
            Permanent,
            "the application has no federated identity credential",
            "create one for this service account, on the identity that clientId names",
        ),
    ),
    (
        700_024,
        known(
            "aadsts_700024",
            Transient,
            "the assertion is outside its time range",
            "check the node's clock, and that the kubelet still rotates the token file",
        ),
    ),
    (700_016, shared("aadsts_700016", Permanent, NOT_HERE)),
    (700_011, shared("aadsts_700011", Permanent, NOT_HERE)),
    (
        90002,
        known(
            "aadsts_90002",
            Permanent,
            "there is no such tenant in this cloud",
            "check tenantId and authorityHost (AZURE_TENANT_ID, AZURE_AUTHORITY_HOST)",
        ),
    ),
    (
        9_001_023,
        known(
            "aadsts_9001023",
            Permanent,
            "this grant needs a tenant of its own",
            "set tenantId to the tenant's id instead of common, organizations or consumers",
        ),
    ),
    (
        900_144,
        known(
            "aadsts_900144",
            Permanent,
            "a parameter is missing from the request",
            "check clientId and scope",
        ),
    ),
    (90023, shared("aadsts_90023", Permanent, MALFORMED)),
    (9_002_313, shared("aadsts_9002313", Permanent, MALFORMED)),
    (
        500_011,
        known(
            "aadsts_500011",
            Permanent,
            "the scope's resource is not known in the tenant",
            "fix `scope`, or have the resource's application consented to in this tenant",
        ),
    ),
    (
        50001,
        known(
            "aadsts_50001",
            Permanent,
            "the scope's resource is disabled or unknown",
            "fix `scope`, or enable the resource's application",
        ),
    ),
    (
        650_057,
        known(
            "aadsts_650057",
            Permanent,
            "the resource is not among the application's required permissions",
            "add it there and have it consented to, or fix `scope`",
        ),
    ),
    (70011, shared("aadsts_70011", Permanent, SCOPE)),
    (28002, shared("aadsts_28002", Permanent, SCOPE)),
    (700_022, shared("aadsts_700022", Permanent, SCOPE)),
    (
        700_027,
        known(
            "aadsts_700027",
            Permanent,
            "the assertion's signature is not accepted",
            "check that the federated identity credential's issuer is this cluster's, and that the keys which it publishes are current",
        ),
    ),
    (7_000_215, shared("aadsts_7000215", Permanent, SECRET_FLOW)),
    (7_000_222, shared("aadsts_7000222", Permanent, SECRET_FLOW)),
    (7_000_218, shared("aadsts_7000218", Permanent, SECRET_FLOW)),
    (700_222, shared("aadsts_700222", Permanent, ENTRA_ASSERTION)),
    (700_223, shared("aadsts_700223", Permanent, ENTRA_ASSERTION)),
    (700_229, shared("aadsts_700229", Permanent, ENTRA_ASSERTION)),
    (700_238, shared("aadsts_700238", Permanent, ENTRA_ASSERTION)),
    (
        90061,
        known(
            "aadsts_90061",
            Permanent,
            "the authority cannot read the cluster issuer's keys",
            "make the issuer's discovery document and keys public; on AKS, `az aks update` reconciles them",
        ),
    ),
    (
        50013,
        known(
            "aadsts_50013",
            Permanent,
            "the assertion's signature, audience or time is not accepted",
            "on behalf of a caller: their token must be made for this client; else check whose token the subject token's file holds, and its audience",
        ),
    ),
    (
        500_131,
        known(
            "aadsts_500131",
            Permanent,
            "the assertion was made for another application",
            "the caller must ask for a token whose audience is this client (clientId, or its application id URI)",
        ),
    ),
    (
        500_133,
        known(
            "aadsts_500133",
            Permanent,
            "the assertion has expired, or is not valid yet",
            "the caller must send a fresh token; when theirs is fresh, check the clocks",
        ),
    ),
    (
        50173,
        known(
            "aadsts_50173",
            Permanent,
            "the user's session was revoked",
            "they must sign in again",
        ),
    ),
    (50074, shared("aadsts_50074", Permanent, INTERACTION)),
    (50076, shared("aadsts_50076", Permanent, INTERACTION)),
    (50079, shared("aadsts_50079", Permanent, INTERACTION)),
    (
        82001,
        known(
            "aadsts_82001",
            Permanent,
            "Entra does not serve RFC 8693 token exchange",
            "use entraClientAssertion, or entraOnBehalfOf for callers, in place of tokenExchange",
        ),
    ),
    (
        65001,
        known(
            "aadsts_65001",
            Permanent,
            "consent is missing",
            "an administrator must grant the application its permissions",
        ),
    ),
    (
        50105,
        known(
            "aadsts_50105",
            Permanent,
            "the resource wants an assignment, and this identity has none",
            "assign it one of the resource's app roles",
        ),
    ),
    (53003, shared("aadsts_53003", Permanent, BLOCKED)),
    (53000, shared("aadsts_53000", Permanent, BLOCKED)),
    (50005, shared("aadsts_50005", Permanent, BLOCKED)),
    (530_035, shared("aadsts_530035", Permanent, BLOCKED)),
    (
        70043,
        known(
            "aadsts_70043",
            Permanent,
            "the sign-in is too old for the tenant's policy",
            "the user must sign in again",
        ),
    ),
    (900_382, shared("aadsts_900382", Permanent, CLOUD)),
    (90038, shared("aadsts_90038", Permanent, CLOUD)),
    (900_439, shared("aadsts_900439", Permanent, CLOUD)),
    (
        1_002_016,
        known(
            "aadsts_1002016",
            Permanent,
            "the authority saw TLS 1.0, 1.1 or 3DES, which the sidecar never speaks: something in between opens the connection anew",
            "take it out of the way (NO_PROXY, a rule of the firewall) or update it",
        ),
    ),
    (
        7_000_112,
        known(
            "aadsts_7000112",
            Permanent,
            "the application is disabled",
            "enable it, or use another",
        ),
    ),
    (
        70001,
        known(
            "aadsts_70001",
            Permanent,
            "the application is disabled or unknown",
            "enable it, or correct clientId",
        ),
    ),
    (
        50196,
        known(
            "aadsts_50196",
            Throttled,
            "the authority sees a request loop of this application",
            "look for replicas, or other programs with this clientId, that ask too often",
        ),
    ),
    (90055, shared("aadsts_90055", Throttled, BUSY)),
    (90006, shared("aadsts_90006", Transient, BUSY)),
    (90012, shared("aadsts_90012", Transient, BUSY)),
    (90024, shared("aadsts_90024", Transient, BUSY)),
    (90033, shared("aadsts_90033", Transient, BUSY)),
    (50033, shared("aadsts_50033", Transient, BUSY)),
];
