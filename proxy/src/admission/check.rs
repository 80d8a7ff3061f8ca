//! What injection asks of a configuration that it has put together, and in whose words a fault of it is told: what an annotation of the pod brought, by the
//! annotation and the place in it, for whoever wrote the pod never sees the whole. Reading a configuration is `config`'s.

use super::{
    patch::text,
    profile::{Profile, SidecarConfig},
    wish::{PREFIX, shown},
    yaml::{self, Kind, Node},
};
use serde_json::Value;

/// What an injected sidecar's configuration may count on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The sidecar's variables; for a value that is not known here something of its kind.
    pub variables: Vec<(String, String)>,
    /// The token is one of the profile's (`token.projected`), and so are the ids that go with it.
    pub projected: bool,
}

/// Something that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `routes[0].upstream`; empty for the configuration as a whole.
    pub path: String,
    /// What is wrong with it, and the mend.
    pub message: String,
}

/// Checks a sidecar's configuration (JSON) against what it may count on. What is wrong is for people.
pub type Check = dyn Fn(&str, &Environment) -> Result<(), Vec<Fault>> + Send + Sync;

/// A fault as the pod's author is told it. `profile`: with what the pod's annotations brought.
pub(super) fn told(fault: &Fault, pod: &Value, profile: &Profile) -> String {
    let Fault { path, message } = fault;
    let annotation = of_credentials(path, pod).or_else(|| of_routes(path, pod, profile));
    match (annotation, path.as_str()) {
        (Some(annotation), _) => format!("{annotation}: {message}"),
        (None, "") => format!("the sidecar's configuration: {message}"),
        (None, path) => format!("the sidecar's configuration: {path}: {message}"),
    }
}

/// The text of an annotation, and what it says.
fn read<'p>(pod: &'p Value, name: &str) -> Option<(&'p str, Node)> {
    let annotations = pod.get("metadata")?.get("annotations")?;
    let text = text(annotations, &format!("{PREFIX}{name}"));
    Some((text, yaml::documents(text).ok()?.pop()?.root?))
}

/// A credential that an annotation brought goes before the profile's of its name.
fn of_credentials(path: &str, pod: &Value) -> Option<String> {
    let rest = path.strip_prefix("credentials.")?;
    let (text, root) = read(pod, "credentials")?;
    let all = root.value();
    let own = all
        .as_object()?
        .keys()
        .any(|name| below(rest, &shown(name)).is_some());
    own.then(|| place("credentials", &root, rest, text))
}

/// The routes of an annotation come after the profile's own, and before those of rewritten variables.
fn of_routes(path: &str, pod: &Value, profile: &Profile) -> Option<String> {
    let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
    let SidecarConfig::Inline { routes, .. } = &profile.config else {
        return None;
    };
    let (text, root) = read(pod, "routes")?;
    let brought = root.value().as_array()?.len();
    let first = routes.len().checked_sub(brought)?;
    let index = index.parse::<usize>().ok()?.checked_sub(first)?;
    (index < brought).then(|| place("routes", &root, &format!("[{index}]{rest}"), text))
}

/// What is left of a path after a key that it begins with.
fn below<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key)?;
    match rest.strip_prefix('.') {
        Some(rest) => Some(rest),
        None => (rest.is_empty() || rest.starts_with('[')).then_some(rest),
    }
}

/// An annotation, the place of a key in it (of the last thing on the way there, for one that is missing), and the key.
fn place(name: &str, root: &Node, path: &str, text: &str) -> String {
    let (mut node, mut rest) = (root, path);
    while let Some((next, after)) = step(node, rest) {
        (node, rest) = (next, after);
    }
    let before = text.get(..node.at.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    format!("annotation {PREFIX}{name}: line {line}, column {column}: {path}")
}

/// One step along a path, and what is left of it.
fn step<'n, 'p>(node: &'n Node, path: &'p str) -> Option<(&'n Node, &'p str)> {
    match &node.kind {
        Kind::List { items, .. } => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            Some((item, rest.strip_prefix('.').unwrap_or(rest)))
        }
        Kind::Map { entries, .. } => entries
            .iter()
            .filter_map(|e| Some((&e.node, below(path, &shown(&e.key))?)))
            .min_by_key(|(_, rest)| rest.len()),
        Kind::Scalar { .. } | Kind::Alias { .. } => None,
    }
}
