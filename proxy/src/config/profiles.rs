//! A profiles file -> the parameters of injection; and the check of a configuration that injection has put together.

mod audience;
mod brought;
mod files;
mod mounts;
mod options;
mod trial;
mod values;

pub use options::{WebhookOptions, WebhookSettings};

use super::{
    Config, ConfigError, ConfigErrors, Document, Source,
    error::Problems,
    fields::{Context, Fields, Surroundings, shown},
    keys::Presence,
    load_in, parse,
    profile_keys::{KEYS, ROOT},
    read,
    tree::{Entry, Node, Value},
};
use crate::admission::{
    self, ANNOTATIONS, MAX_CONFIGURATION,
    check::{Environment, Fault},
    profile::{Profile, Profiles, Rewrite, RewriteCredential, SidecarConfig, TokenSource},
    resources::{cpu, fit, memory},
};
use serde_json::Map;
use std::time::Duration;

/// Profiles, and what is probably a slip in their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The profiles.
    pub profiles: Profiles,
    /// One line each, with its place and what to do.
    pub warnings: Vec<String>,
}

/// Reads a profiles file, as [`load`], for whoever has no ear for its warnings.
///
/// # Errors
/// See [`load`].
pub fn load_profiles(document: Document) -> Result<Profiles, ConfigErrors> {
    load(document).map(|loaded| loaded.profiles)
}

/// Reads a profiles file.
///
/// # Errors
/// Everything that is wrong with it, each with its place and what to do.
pub fn load(document: Document) -> Result<Loaded, ConfigErrors> {
    let name = match &document {
        Document::File(path) => path.display().to_string(),
        Document::Text { name, .. } => name.clone(),
    };
    let problems = Problems::new(Some(&name));
    let context = Context {
        problems: &problems,
        env: &|_| None,
        surroundings: Surroundings::Process,
    };
    let profiles = read(Some(document), &problems)
        .flatten()
        .and_then(|tree| profiles(&tree, &context));
    let warnings = problems.finish()?;
    match profiles {
        Some(profiles) => Ok(Loaded { profiles, warnings }),
        None => Err(ConfigErrors::unexplained(Some(&name))),
    }
}

/// Checks a sidecar's configuration that injection has put together, given what the sidecar will find.
///
/// # Errors
/// Everything that is wrong.
pub fn check(text: &str, environment: &Environment) -> Result<(), Vec<Fault>> {
    let source = Source {
        document: Some(Document::Text {
            name: "the sidecar's configuration".into(),
            text: text.to_owned(),
        }),
        ..Source::default()
    };
    let env = |name: &str| {
        let found = environment.variables.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.clone())
    };
    let surroundings = Surroundings::Injected {
        projected: environment.projected,
    };
    let look = |tree: &Node, problems: &Problems| {
        files::check(tree, &environment.files, problems, str::to_owned);
    };
    match load_in(&source, &env, surroundings, &look) {
        Ok(Config { .. }) => Ok(()),
        Err(errors) => Err(errors.iter().map(ConfigError::fault).collect()),
    }
}

/// The keys of a profiles file as a Markdown table.
pub fn profile_keys_markdown() -> String {
    let mut out = String::from("| key | value | default | |\n| --- | --- | --- | --- |\n");
    for key in KEYS {
        let path = key
            .path
            .strip_prefix(ROOT)
            .map_or(key.path, |p| p.trim_start_matches('.'));
        let default = match key.presence {
            Presence::Required => "required".to_owned(),
            Presence::Default(text) => format!("`{text}`"),
            _ => String::new(),
        };
        out.push_str(&format!(
            "| `{path}` | {} | {default} | {} |\n",
            key.kind, key.help
        ));
    }
    out
}

/// The annotations as a Markdown table.
pub fn annotations_markdown() -> String {
    let mut out = String::from("| annotation | |\n| --- | --- |\n");
    for (name, help) in ANNOTATIONS {
        out.push_str(&format!("| `token-sidecar.io/{name}` | {help} |\n"));
    }
    out
}

fn profiles(tree: &Node, context: &Context<'_>) -> Option<Profiles> {
    if let Some(kind) = brought::child(tree, "kind")
        && brought::child(tree, "apiVersion").is_some()
    {
        context.problems.error(
            kind.at,
            "",
            "a manifest, not a profiles file; give what a ConfigMap has under its key, such as `profiles.yaml`: `profiles:` and what follows",
        );
        return None;
    }
    let top = Fields::open(context, tree, String::new(), ROOT)?;
    let entries = top.named("profiles")?;
    if entries.is_empty() {
        top.error("profiles", "no profile; add one, such as `default`");
    }
    let mut profiles = Profiles::default();
    for entry in entries {
        let path = format!("profiles.{}", shown(&entry.key));
        if let Err(message) = parse::name(&entry.key) {
            context.problems.error(entry.key_at, path.clone(), message);
        }
        if let Some(profile) = profile(entry, path, context) {
            profiles.0.insert(entry.key.clone(), profile);
        }
    }
    Some(profiles)
}

fn profile(entry: &Entry, path: String, context: &Context<'_>) -> Option<Profile> {
    let fields = Fields::open(context, &entry.node, path, "(profiles).profiles.*")?;
    let image = fields.value("image", admission::image);
    let image_pull_policy = fields.value("imagePullPolicy", |t| match t {
        "Always" | "IfNotPresent" | "Never" => Ok(t.to_owned()),
        _ => Err("not a pull policy; write Always, IfNotPresent or Never".into()),
    });
    let native = fields.value("native", parse::boolean);
    let admin_port = fields.value("adminPort", values::port);
    let port = fields.value("port", values::port);
    let uid = fields.value("uid", |t| match t.parse::<u32>() {
        Ok(uid) if uid >= 1000 => Ok(uid),
        _ => Err("not a user id from 1000 up; write one in digits".into()),
    });
    let workers = fields.value("workers", parse::count(1024));
    let log_level = fields.value("logLevel", super::level);
    let resources = resources(&fields);
    let allow_host_network = fields.value("allowHostNetwork", parse::boolean);
    let proxy = proxy(&fields);
    let allow_added_trust = fields.value("allowAddedTrust", parse::boolean);
    let annotations = match fields.node("annotations") {
        None => Some(None),
        // Whether all or none was meant, nobody can tell.
        Some(Node {
            value: Value::Null, ..
        }) => {
            fields.error(
                "annotations",
                "has no value; write `[]` for none, or remove the key for all",
            );
            None
        }
        Some(_) => fields.list("annotations", values::annotation).map(Some),
    };
    let token = token(&fields);
    let config = config(&fields);
    let in_map = matches!(config, Some(SidecarConfig::ConfigMap { .. }));
    let rewrite = rewrites(&fields, in_map);
    let mounts = mounts::read(&fields);
    let profile = Profile {
        image: image?,
        image_pull_policy: image_pull_policy?,
        native: native?,
        port: port?,
        admin_port: admin_port?,
        uid: uid?,
        workers: workers?.get(),
        log_level: log_level?,
        resources: resources?,
        token: token?,
        rewrite: rewrite?,
        config: config?,
        mounts: mounts?,
        allow_host_network: allow_host_network?,
        proxy: proxy?,
        allow_added_trust: allow_added_trust?,
        annotations: annotations?,
    };
    brought::check(&fields, &profile);
    if profile.port == profile.admin_port {
        fields.error(
            "adminPort",
            "is the first listener's port (`port`) too; choose another",
        );
    } else {
        trial::run(&fields, &profile);
    }
    Some(profile)
}

/// The variables of the sidecar's forward proxy.
fn proxy(profile: &Fields<'_>) -> Option<Vec<(&'static str, String)>> {
    let variables = [
        (
            "httpsProxy",
            "HTTPS_PROXY",
            values::https_proxy as fn(&str) -> _,
        ),
        ("noProxy", "NO_PROXY", |text| Ok(text.to_owned())),
    ];
    let mut given = Vec::new();
    for (key, variable, read) in variables {
        if profile.node(key).is_some() {
            given.push((variable, profile.value(key, read)?));
        }
    }
    Some(given)
}

fn resources(profile: &Fields<'_>) -> Option<Map<String, serde_json::Value>> {
    let fields = profile.map("resources", "(profiles).profiles.*.resources")?;
    let mut out = Map::new();
    let mut requests = None;
    for (kind, pattern) in [
        ("requests", "(profiles).profiles.*.resources.requests"),
        ("limits", "(profiles).profiles.*.resources.limits"),
    ] {
        let amounts = fields.map(kind, pattern)?;
        let mut read = Map::new();
        for (name, read_as) in [("cpu", cpu as fn(&str) -> _), ("memory", memory)] {
            if let Some(amount) = amounts.value(name, read_as) {
                read.insert(name.to_owned(), amount.into());
            }
        }
        out.insert(kind.to_owned(), read.into());
        requests = requests.or(Some(amounts));
    }
    let requests = requests?;
    // A default gives way to a limit.
    if let Err((name, problem)) = fit(&mut out, |name| requests.node(name).is_some()) {
        requests.error(name, problem);
    }
    Some(out)
}

fn token(profile: &Fields<'_>) -> Option<TokenSource> {
    let fields = profile.map("token", "(profiles).profiles.*.token")?;
    if fields.exactly_one(&["aks", "projected"])? == "aks" {
        let aks = fields.map("aks", "(profiles).profiles.*.token.aks")?;
        let identity_binding = aks.value("identityBinding", parse::boolean)?;
        return Some(TokenSource::Aks { identity_binding });
    }
    let projected = fields.map("projected", "(profiles).profiles.*.token.projected")?;
    let audience = projected.value("audience", parse::word);
    let expiration = projected.value("expiration", |t| {
        let d = super::units::duration(t)?;
        if d >= Duration::from_secs(600) {
            Ok(d.as_secs())
        } else {
            Err("shorter than 10m, which Kubernetes refuses; give a longer one".into())
        }
    });
    let ids = [
        ("AZURE_CLIENT_ID", projected.value("clientId", parse::word)),
        (
            "AZURE_TENANT_ID",
            projected.value("tenantId", parse::tenant),
        ),
        (
            "AZURE_AUTHORITY_HOST",
            projected.value("authorityHost", |t| {
                parse::authority_host(t).map(|u| u.to_string())
            }),
        ),
    ];
    Some(TokenSource::Projected {
        audience: audience?,
        expiration: expiration?,
        env: ids
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
    })
}

fn config(profile: &Fields<'_>) -> Option<SidecarConfig> {
    if profile.node("configMap").is_none() {
        let credentials = profile.named("credentials")?;
        let routes = profile.items("routes")?;
        let credentials: Map<String, serde_json::Value> = credentials
            .iter()
            .map(|e| (e.key.clone(), json(&e.node)))
            .collect();
        let routes: Vec<serde_json::Value> = routes.iter().map(json).collect();
        let parts = serde_json::json!([&credentials, &routes]);
        let length = parts.to_string().len();
        if length > MAX_CONFIGURATION {
            let message = format!(
                "`credentials` and `routes` are {} KiB, and a sidecar can be given 128 KiB of them at most; put them into a ConfigMap, and name it in `configMap`",
                length.div_ceil(1024)
            );
            let problems = profile.context.problems;
            problems.error(profile.at, profile.join("").trim_end_matches('.'), message);
            return None;
        }
        return Some(SidecarConfig::Inline {
            credentials,
            routes,
        });
    }
    let mut alone = true;
    for key in ["credentials", "routes"] {
        if profile.node(key).is_some() {
            profile.error(
                key,
                "stands beside `configMap`, which has the whole configuration; put it in there",
            );
            alone = false;
        }
    }
    let fields = profile.map("configMap", "(profiles).profiles.*.configMap")?;
    let name = fields.value("name", values::object);
    let key = fields.value("key", values::key);
    let config = SidecarConfig::ConfigMap {
        name: name?,
        key: key?,
    };
    alone.then_some(config)
}

fn rewrites(profile: &Fields<'_>, in_map: bool) -> Option<Vec<Rewrite>> {
    let mut rewrites: Vec<Rewrite> = Vec::new();
    let mut complete = true;
    for (i, node) in profile.items("rewrite")?.iter().enumerate() {
        let path = profile.join(&format!("rewrite[{i}]"));
        let fields = Fields::open(
            profile.context,
            node,
            path,
            "(profiles).profiles.*.rewrite[]",
        )?;
        let variable = fields.value("variable", values::variable);
        let containers = fields.list("containers", values::container);
        let upstream = fields.value("upstream", |t| parse::upstream(t).map(|_| t.to_owned()));
        let allow_insecure_http = fields.value("allowInsecureHttp", parse::boolean);
        let port = fields.value("port", values::port);
        let credential = if in_map {
            for key in ["scope", "credential", "upstream"] {
                if fields.node(key).is_some() {
                    fields.error(
                        key,
                        "stands beside `configMap`, which says so itself; take it out",
                    );
                }
            }
            if fields.node("port").is_none() {
                fields.error("port", "missing; with `configMap` it is needed: the port that the configuration there serves this upstream on");
            }
            Some(RewriteCredential::ConfigMap)
        } else {
            match fields.exactly_one(&["scope", "credential"]) {
                Some("scope") => fields
                    .value("scope", parse::entra_scope)
                    .map(RewriteCredential::Scope),
                Some(_) => fields
                    .value("credential", parse::name)
                    .map(RewriteCredential::Named),
                None => None,
            }
        };
        let (named, within) = (
            variable.as_deref(),
            containers.as_deref().unwrap_or_default(),
        );
        let overlaps = |r: &&Rewrite| {
            named == Some(r.variable.as_str())
                && (within.is_empty()
                    || r.containers.is_empty()
                    || within.iter().any(|c| r.containers.contains(c)))
        };
        if rewrites.iter().find(overlaps).is_some() {
            fields.error("variable", "is rewritten by an earlier entry already; name the `containers` of each, or remove one");
        }
        match (variable, containers, credential, allow_insecure_http) {
            (Some(variable), Some(containers), Some(credential), Some(allow_insecure_http)) => {
                rewrites.push(Rewrite {
                    variable,
                    containers,
                    upstream,
                    credential,
                    allow_insecure_http,
                    port,
                });
            }
            _ => complete = false,
        }
    }
    complete.then_some(rewrites)
}

/// What a node is as JSON. Scalars stay text, which the sidecar's configuration reads as well.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null | Value::Broken => serde_json::Value::Null,
        Value::Scalar(text) => text.clone().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|e| (e.key.clone(), json(&e.node)))
            .collect::<Map<_, _>>()
            .into(),
    }
}
