//! The environment variables that are looked at, each with what it is for. Nothing else of the environment is read, and it is read through a
//! function that is passed in.

/// A variable and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it means, for the reference.
    pub help: &'static str,
}

/// Client id of the app registration or managed identity.
pub const CLIENT_ID: &str = "AZURE_CLIENT_ID";
/// Tenant of that identity.
pub const TENANT_ID: &str = "AZURE_TENANT_ID";
/// The projected service-account token.
pub const FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// The cloud's authority.
pub const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
/// Identity bindings: the cluster's token proxy.
pub const TOKEN_PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
/// Its TLS server name.
pub const TOKEN_PROXY_SNI: &str = "AZURE_KUBERNETES_SNI_NAME";
/// Its roots, in a file.
pub const TOKEN_PROXY_CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
/// Its roots, as text.
pub const TOKEN_PROXY_CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";
/// The configuration file.
pub const CONFIG: &str = "TOKEN_SIDECAR_CONFIG";
/// The configuration's text, for those who cannot mount a file.
pub const CONFIG_TEXT: &str = "TOKEN_SIDECAR_CONFIG_TEXT";
/// Without a file: where requests go.
pub const UPSTREAM: &str = "TOKEN_SIDECAR_UPSTREAM";
/// With a file: what the names of variables begin with that it may take an upstream's URL from.
pub const UPSTREAM_PREFIX: &str = "TOKEN_SIDECAR_UPSTREAM_";
/// Without a file: the scope to ask for.
pub const SCOPE: &str = "TOKEN_SIDECAR_SCOPE";
/// Log level.
pub const LOG_LEVEL: &str = "TOKEN_SIDECAR_LOG_LEVEL";
/// Log format.
pub const LOG_FORMAT: &str = "TOKEN_SIDECAR_LOG_FORMAT";
/// Proxy for authorities.
pub const HTTPS_PROXY: &str = "HTTPS_PROXY";
/// What is not proxied.
pub const NO_PROXY: &str = "NO_PROXY";

/// Every variable, in the order of the reference.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: CLIENT_ID,
        help: "Default of `clientId` (of an agent identity: `blueprintClientId`) of Entra's grants. AKS sets it.",
    },
    Variable {
        name: TENANT_ID,
        help: "Default of `tenantId` of Entra's grants. AKS sets it.",
    },
    Variable {
        name: FEDERATED_TOKEN_FILE,
        help: "File of the subject token `pod`, unless the configuration names one. AKS sets it.",
    },
    Variable {
        name: AUTHORITY_HOST,
        help: "Default of `authorityHost` of Entra's grants, with or without a trailing slash. AKS sets it.",
    },
    Variable {
        name: TOKEN_PROXY,
        help: "AKS identity bindings: the https URL of the cluster's token proxy, see `identityBinding`. AKS sets it and the next ones.",
    },
    Variable {
        name: TOKEN_PROXY_SNI,
        help: "The token proxy's TLS server name; without it, its host.",
    },
    Variable {
        name: TOKEN_PROXY_CA_FILE,
        help: "PEM file of the only roots that are trusted at the token proxy, looked at anew for each exchange; without it and the next one, the system's.",
    },
    Variable {
        name: TOKEN_PROXY_CA_DATA,
        help: "The same as PEM text; one of the two.",
    },
    Variable {
        name: CONFIG,
        help: "Path of the configuration file; `--config` wins.",
    },
    Variable {
        name: CONFIG_TEXT,
        help: "The configuration itself, YAML or JSON, where no file can be mounted (injection does so); `--config` wins.",
    },
    Variable {
        name: UPSTREAM,
        help: "Without a file: the URL that requests go to, white space around it aside; `--upstream` wins.",
    },
    Variable {
        name: "TOKEN_SIDECAR_UPSTREAM_…",
        help: "An upstream's URL that the configuration takes from there: `upstream: {env: TOKEN_SIDECAR_UPSTREAM_…}`.",
    },
    Variable {
        name: SCOPE,
        help: "Without a file: the scope of the access token, such as `https://management.azure.com/.default`; `--scope` wins.",
    },
    Variable {
        name: LOG_LEVEL,
        help: "`error`, `warn`, `info`, `debug` or `trace`; wins over the file, `--log-level` wins over it.",
    },
    Variable {
        name: LOG_FORMAT,
        help: "`json` or `text`; wins over the file, `--log-format` wins over it.",
    },
    Variable {
        name: HTTPS_PROXY,
        help: "Proxy through which authorities are reached (`CONNECT`), `http://` or `https://`; upstreams never are, nor authorities on loopback (`localhost` and names below it, `127.0.0.0/8`, `::1`) or by plain `http://`. Also in lower case, which wins. `HTTP_PROXY` is never used.",
    },
    Variable {
        name: NO_PROXY,
        help: "Hosts, domain suffixes, CIDR blocks or `*` that are reached without the proxy. Also in lower case, which wins.",
    },
];

/// How the variables of an identity binding come about.
pub(super) const BINDING_MEND: &str = "AKS sets them when the pod (template) has the annotation `azure.workload.identity/use-identity-binding: \"true\"`";

/// The key of a profile's `token.projected` that a variable comes from.
pub(super) fn profile_key(name: &str) -> &'static str {
    match name {
        CLIENT_ID => "clientId",
        TENANT_ID => "tenantId",
        _ => "authorityHost",
    }
}

/// What to do when AKS has not set a variable.
pub(super) fn aks_mend(name: &str) -> &'static str {
    match name {
        CLIENT_ID => {
            "the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"` and its \
             service account the annotation `azure.workload.identity/client-id`"
        }
        TENANT_ID => {
            "the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"`; \
             another tenant is named by the service account's annotation `azure.workload.identity/tenant-id`"
        }
        _ => {
            "the AKS workload identity webhook sets it when the pod (template) has the label `azure.workload.identity/use: \"true\"` and the \
             container is not named in the annotation `azure.workload.identity/skip-containers`"
        }
    }
}
