//! What injection asks of a configuration that it has put together, and in whose words a fault of it is told: what an annotation of the pod brought, by the
//! annotation and the place in it, for whoever wrote the pod never sees the whole. Reading a configuration is `config`'s.

use super::{
    files::Files,
    patch::text,
    profile::{Profile, SidecarConfig},
    rewrite::Route,
    wish::{PREFIX, shown, shown_chars},
    yaml::{self, Kind, Node},
};
use serde_json::Value;
use std::cell::OnceCell;

/// What an injected sidecar's configuration may count on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The sidecar's variables; for a value that is not known here something of its kind.
    pub variables: Vec<(String, String)>,
    /// The token is one of the profile's (`token.projected`), and so are the ids that go with it.
    pub projected: bool,
    /// The files it has.
    pub files: Files,
}

/// Something that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `routes[0].upstream`; empty for the configuration as a whole.
    pub path: String,
    /// What is wrong with it, and the mend.
    pub message: String,
    /// Another key that the message names, as it does.
    pub other: Option<String>,
}

/// Checks a sidecar's configuration (JSON) against what it may count on. What is wrong is for people.
pub type Check = dyn Fn(&str, &Environment) -> Result<(), Vec<Fault>> + Send + Sync;

/// Tells faults as the pod's author knows them. An annotation is read when the first fault needs it, and once: there may be many faults, and an annotation
/// may be large.
pub(super) struct Teller<'p> {
    pod: &'p Value,
    profile: &'p Profile,
    /// Those of rewritten variables.
    rewritten: &'p [Route],
    /// With the names of all credentials in it.
    credentials: OnceCell<Option<(Annotation<'p>, Vec<String>)>>,
    /// With how many routes are in it.
    routes: OnceCell<Option<(Annotation<'p>, usize)>>,
}

/// What an annotation says, and its text.
struct Annotation<'p> {
    name: &'static str,
    text: &'p str,
    root: Node,
}

impl<'p> Teller<'p> {
    /// `profile`: with what the pod's annotations brought.
    pub(super) fn new(pod: &'p Value, profile: &'p Profile, rewritten: &'p [Route]) -> Self {
        Self {
            pod,
            profile,
            rewritten,
            credentials: OnceCell::new(),
            routes: OnceCell::new(),
        }
    }

    /// One fault, in a line.
    pub(super) fn told(&self, fault: &Fault) -> String {
        #[cfg(test)]
        work::TOLD.set(work::TOLD.get() + 1);
        let Fault {
            path,
            message,
            other,
        } = fault;
        let message = match other {
            Some(other) => &message.replacen(other, &self.called(other), 1),
            None => message,
        };
        if let Some(told) = self.of_variable(path, message) {
            return told;
        }
        match (self.of_annotation(path), path.as_str()) {
            (Some(annotation), _) => format!("{annotation}: {message}"),
            (None, "") => format!("the sidecar's configuration: {message}"),
            (None, path) => format!("the sidecar's configuration: {path}: {message}"),
        }
    }

    /// What a key is called by whoever wrote it.
    fn called(&self, path: &str) -> String {
        if let Some((_, route)) = self.rewritten(path) {
            let entry = self.profile.rewrite.get(route.rewrite);
            let variable = entry.map_or("", |e| &e.variable);
            return format!("{variable} of container {}", shown(&route.container));
        }
        let annotation = self.of_annotation(path);
        annotation.unwrap_or_else(|| format!("{path} of the profile"))
    }

    fn of_annotation(&self, path: &str) -> Option<String> {
        self.of_credentials(path).or_else(|| self.of_routes(path))
    }

    /// A credential that an annotation brought goes before the profile's of its name.
    fn of_credentials(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix("credentials.")?;
        let (annotation, names) = self
            .credentials
            .get_or_init(|| {
                let annotation = Annotation::read(self.pod, "credentials")?;
                let Value::Object(all) = annotation.root.value() else {
                    return None;
                };
                Some((annotation, all.into_iter().map(|(name, _)| name).collect()))
            })
            .as_ref()?;
        let own = names.iter().any(|name| below(rest, name).is_some());
        own.then(|| annotation.place(rest))
    }

    /// The rewritten variable whose route has this path, and what is left of the path.
    fn rewritten<'s>(&self, path: &'s str) -> Option<(&'s str, &'p Route)> {
        let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
        let SidecarConfig::Inline { routes, .. } = &self.profile.config else {
            return None;
        };
        let index = index.parse::<usize>().ok()?;
        let route = self.rewritten.get(index.checked_sub(routes.len())?)?;
        Some((rest, route))
    }

    /// What a container's variable brought, by the container, the variable, and the profile's entry for it.
    fn of_variable(&self, path: &str, message: &str) -> Option<String> {
        let (rest, route) = self.rewritten(path)?;
        if !matches!(rest, "" | ".upstream") {
            return None;
        }
        let entry = self.profile.rewrite.get(route.rewrite)?;
        let key = format!(
            "`rewrite[{}].allowInsecureHttp: true` in the profile",
            route.rewrite
        );
        Some(format!(
            "container {}: {}: {}",
            shown(&route.container),
            entry.variable,
            message.replace("`allowInsecureHttp: true` beside it", &key)
        ))
    }

    /// The routes of an annotation come after the profile's own, and before those of rewritten variables.
    fn of_routes(&self, path: &str) -> Option<String> {
        let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
        let SidecarConfig::Inline { routes, .. } = &self.profile.config else {
            return None;
        };
        let (annotation, brought) = self
            .routes
            .get_or_init(|| {
                let annotation = Annotation::read(self.pod, "routes")?;
                let brought = annotation.root.value().as_array()?.len();
                Some((annotation, brought))
            })
            .as_ref()?;
        let first = routes.len().checked_sub(*brought)?;
        let index = index.parse::<usize>().ok()?.checked_sub(first)?;
        (index < *brought).then(|| annotation.place(&format!("[{index}]{rest}")))
    }
}

impl<'p> Annotation<'p> {
    fn read(pod: &'p Value, name: &'static str) -> Option<Self> {
        #[cfg(test)]
        work::READ.set(work::READ.get() + 1);
        let annotations = pod.get("metadata")?.get("annotations")?;
        let text = text(annotations, &format!("{PREFIX}{name}"));
        let root = yaml::documents(text).ok()?.pop()?.root?;
        Some(Self { name, text, root })
    }

    /// Its name, the place of a key in it (of the last thing on the way there, for one that is missing), and the key.
    fn place(&self, path: &str) -> String {
        let (mut node, mut rest) = (&self.root, path);
        while let Some((next, after)) = step(node, rest) {
            (node, rest) = (next, after);
        }
        let before = self.text.get(..node.at.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or_default();
        let column = last.chars().count() + 1;
        let name = self.name;
        format!("annotation {PREFIX}{name}: line {line}, column {column}: {path}")
    }
}

/// What is left of a path after a key that it begins with, which is in it as messages show it. Allocates nothing: an annotation may have many keys.
fn below<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let mut rest = path;
    for char in shown_chars(key) {
        rest = rest.strip_prefix(char)?;
    }
    match rest.strip_prefix('.') {
        Some(rest) => Some(rest),
        None => (rest.is_empty() || rest.starts_with('[')).then_some(rest),
    }
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
            .filter_map(|e| Some((&e.node, below(path, &e.key)?)))
            .min_by_key(|(_, rest)| rest.len()),
        Kind::Scalar { .. } | Kind::Alias { .. } => None,
    }
}

/// What telling costs, counted.
#[cfg(test)]
pub(super) mod work {
    use std::cell::Cell;
    thread_local! {
        /// Annotations read.
        pub(in super::super) static READ: Cell<usize> = const { Cell::new(0) };
        /// Faults told.
        pub(in super::super) static TOLD: Cell<usize> = const { Cell::new(0) };
    }
}
