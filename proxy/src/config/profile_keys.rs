//! The table of keys of a profiles file, as [`super::keys`] has it of the sidecar's own: reading and reference take all from here.

use super::keys::{
    Key,
    Presence::{Default, Optional, Required},
    key,
};

/// What stands for the file's top in the paths below, so that they are told from the sidecar's own keys.
pub(super) const ROOT: &str = "(profiles)";

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("(profiles).profiles.*.image", "text", Required, "The sidecar's image."),
    key("(profiles).profiles.*.imagePullPolicy", "policy", Default("IfNotPresent"), "`Always`, `IfNotPresent` or `Never`."),
    key("(profiles).profiles.*.native", "boolean", Default("true"), "A native sidecar (Kubernetes 1.29 and newer): it starts before the workload and lets Jobs end. `false`: an ordinary container."),
    key("(profiles).profiles.*.port", "port", Default("64117"), "The sidecar's first listener, on the pod's loopback; further ones take the ports after it. With `configMap`, what the configuration there says under `listen` gives way to it."),
    key("(profiles).profiles.*.adminPort", "port", Default("64116"), "Its port of probes and metrics."),
    key("(profiles).profiles.*.uid", "number", Default("64117"), "The user and group it runs as. No other container of the pod may run as this user."),
    key("(profiles).profiles.*.workers", "number", Default("2"), "Its worker threads."),
    key("(profiles).profiles.*.logLevel", "level", Default("info"), "Its log level, or directives."),
    key("(profiles).profiles.*.resources.requests.cpu", "amount", Default("10m"), "CPU to reserve. A limit below the default lowers it."),
    key("(profiles).profiles.*.resources.requests.memory", "amount", Default("32Mi"), "Memory to reserve. A limit below the default lowers it."),
    key("(profiles).profiles.*.resources.limits.cpu", "amount", Optional, "CPU it may use at most. Without it: no limit."),
    key("(profiles).profiles.*.resources.limits.memory", "amount", Default("128Mi"), "Memory it may use at most."),
    key("(profiles).profiles.*.allowHostNetwork", "boolean", Default("false"), "Injects into pods with `hostNetwork`, too: whatever runs on their node can then use their identity."),
    key("(profiles).profiles.*.httpsProxy", "URL", Optional, "The sidecar's `HTTPS_PROXY`: the forward proxy through which it reaches authorities, without user, password and path."),
    key("(profiles).profiles.*.noProxy", "text", Optional, "The sidecar's `NO_PROXY`: authorities that it reaches without that proxy."),
    key("(profiles).profiles.*.allowAddedTrust", "boolean", Default("false"), "Leaves in the sidecar what other webhooks add to decide whom it trusts and which way it calls: `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR`, mounts below `/etc`, any `AZURE_AUTHORITY_HOST`. Whoever writes a pod can then say them, too."),
    key("(profiles).profiles.*.annotations", "list of names", Optional, "The annotations (without `token-sidecar.io/`) that pods may use beside `inject` and `profile`. Without it: all."),
    key("(profiles).profiles.*.token.aks.identityBinding", "boolean", Default("false"), "`aks: {}`: AKS' workload identity webhook gives the token to the sidecar alone. One of `aks` and `projected` is needed. `true`: the token is for an identity binding, by way of the cluster's token proxy."),
    key("(profiles).profiles.*.token.projected.audience", "text", Default("api://AzureADTokenExchange"), "A volume of our own, mounted into the sidecar alone: the token's audience. The default is Entra's; where a credential shows the token to another authority, it must be said."),
    key("(profiles).profiles.*.token.projected.expiration", "duration", Default("1h"), "The token's life (10m to 24h)."),
    key("(profiles).profiles.*.token.projected.clientId", "text", Optional, "The sidecar's `AZURE_CLIENT_ID`."),
    key("(profiles).profiles.*.token.projected.tenantId", "tenant", Optional, "The sidecar's `AZURE_TENANT_ID`."),
    key("(profiles).profiles.*.token.projected.authorityHost", "URL", Optional, "The sidecar's `AZURE_AUTHORITY_HOST`."),
    key("(profiles).profiles.*.rewrite[].variable", "name", Required, "An environment variable of the workload that holds an upstream's URL. It becomes the sidecar's address; its old value becomes the upstream."),
    key("(profiles).profiles.*.rewrite[].containers", "list of names", Optional, "The containers it is rewritten in. Without it: all that set it."),
    key("(profiles).profiles.*.rewrite[].upstream", "URL", Optional, "The upstream, whatever the variable says (for one that comes from `envFrom`; `containers` then says where it is set)."),
    key("(profiles).profiles.*.rewrite[].scope", "scope", Optional, "The upstream's token: an Entra client assertion for this scope."),
    key("(profiles).profiles.*.rewrite[].credential", "name", Optional, "The upstream's token: a credential of this name, of the profile or of the annotation."),
    key("(profiles).profiles.*.rewrite[].allowInsecureHttp", "boolean", Default("false"), "Sends the token over plain http off loopback."),
    key("(profiles).profiles.*.rewrite[].port", "port", Optional, "Its listener's port. Needed with `configMap`: the port that the configuration there serves the upstream on."),
    key("(profiles).profiles.*.mounts[].path", "path", Required, "A directory for files that the sidecar's configuration names (`caFile` and the like), read-only and in the sidecar alone. Not `/etc/token-sidecar`, `/var/run`, `/etc/ssl` or others of the system's, nor above or below them. A file that the profile or an annotation names and nothing brings is refused."),
    key("(profiles).profiles.*.mounts[].configMap", "name", Optional, "A ConfigMap of the pod's namespace whose keys are the files. One of `configMap` and `secret` is needed."),
    key("(profiles).profiles.*.mounts[].secret", "name", Optional, "A Secret instead. A pod that has it elsewhere, too, is refused."),
    key("(profiles).profiles.*.configMap.name", "name", Required, "A ConfigMap of the pod's namespace that holds the sidecar's whole configuration file."),
    key("(profiles).profiles.*.configMap.key", "name", Default("config.yaml"), "Its key."),
    key("(profiles).profiles.*.credentials", "map", Optional, "`credentials` of the sidecar's configuration, as there."),
    key("(profiles).profiles.*.routes", "list", Optional, "`routes` of the sidecar's configuration, as there."),
];
