//! Profiles: what a platform team decides about injected sidecars. Plain parameters; `config` builds them from a file, and they are right then.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The profile of pods that name none.
pub const DEFAULT: &str = "default";

/// Every profile, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles(pub BTreeMap<String, Profile>);

/// How the sidecar of a pod looks and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The container's image.
    pub image: String,
    /// Its `imagePullPolicy`.
    pub image_pull_policy: String,
    /// A native sidecar (an init container that restarts) rather than an ordinary container.
    pub native: bool,
    /// The first listener's port, on the pod's loopback.
    pub port: u16,
    /// The port of probes and metrics.
    pub admin_port: u16,
    /// The user and group it runs as; no other container of the pod may.
    pub uid: u32,
    /// Worker threads.
    pub workers: usize,
    /// Log level or directives.
    pub log_level: String,
    /// `resources` of the container, as Kubernetes writes them.
    pub resources: Map<String, Value>,
    /// Where the subject token comes from.
    pub token: TokenSource,
    /// Environment variables that the workload's containers lose to the sidecar.
    pub rewrite: Vec<Rewrite>,
    /// What the sidecar is told beside the rewritten variables.
    pub config: SidecarConfig,
    /// Files of ConfigMaps and Secrets of the pod's namespace, for the sidecar alone.
    pub mounts: Vec<Mount>,
    /// Injects into pods with `hostNetwork`, too.
    pub allow_host_network: bool,
    /// `HTTPS_PROXY` and `NO_PROXY` of the sidecar.
    pub proxy: Vec<(&'static str, String)>,
    /// Leaves it to other webhooks whom the sidecar trusts and which way its calls go.
    pub allow_added_trust: bool,
    /// The annotations that pods may use, without prefix; `None`: all.
    pub annotations: Option<Vec<String>>,
}

/// Where the subject token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// AKS' workload identity webhook gives it to the sidecar, and to no other container.
    Aks {
        /// By an identity binding: the cluster's token proxy is asked in Entra's place.
        identity_binding: bool,
    },
    /// A volume of our own, mounted into the sidecar alone.
    Projected {
        /// The token's audience.
        audience: String,
        /// Its life, in seconds.
        expiration: u64,
        /// `AZURE_*` variables of the sidecar: what AKS' webhook would set.
        env: Vec<(&'static str, String)>,
    },
}

/// A directory of the sidecar's, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Whose keys are its files.
    pub source: MountSource,
    /// Its path, as `mounts::directory` takes it.
    pub path: String,
}

/// A ConfigMap or Secret of the pod's namespace, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A ConfigMap.
    ConfigMap(String),
    /// A Secret, which nothing else in the pod may have.
    Secret(String),
}

/// An environment variable of the workload that holds an upstream's URL. It becomes the sidecar's address; its old value becomes the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Its name.
    pub variable: String,
    /// In these containers alone; empty: wherever it is set.
    pub containers: Vec<String>,
    /// The upstream, whatever the variable says.
    pub upstream: Option<String>,
    /// How the upstream's token is got.
    pub credential: RewriteCredential,
    /// The upstream may be plain http off loopback.
    pub allow_insecure_http: bool,
    /// The listener's port on loopback; `None`: the next one from the profile's port on.
    pub port: Option<u16>,
}

/// How a rewritten variable's upstream gets its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteCredential {
    /// An Entra client assertion for this scope.
    Scope(String),
    /// A credential of this name.
    Named(String),
    /// The ConfigMap's configuration says.
    ConfigMap,
}

/// What the sidecar is told beside the rewritten variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SidecarConfig {
    /// Parts of its configuration file, written into the pod.
    Inline {
        /// `credentials`.
        credentials: Map<String, Value>,
        /// `routes`.
        routes: Vec<Value>,
    },
    /// A whole configuration file in a ConfigMap of the pod's namespace.
    ConfigMap {
        /// The ConfigMap.
        name: String,
        /// The key that is the file.
        key: String,
    },
}

impl Profiles {
    /// The profile of this name.
    ///
    /// # Errors
    /// There is none: the text says which there are.
    pub(super) fn named(&self, name: &str) -> Result<&Profile, String> {
        self.0.get(name).ok_or_else(|| {
            let hint = sidecar_runtime::suggest::hint(name, self.0.keys().map(String::as_str));
            format!("no profile is named `{}`{hint}", name.escape_debug())
        })
    }
}
