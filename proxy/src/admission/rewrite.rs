//! The workload's environment variables that become the sidecar's address, and the routes that their old values become. Decides; changes nothing.

use super::{
    patch::{items, text},
    pod::{self, Container, SIDECAR},
    problems::Problems,
    profile::{Profile, Rewrite, RewriteCredential},
    wish::shown,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) routes: Vec<Route>,
    pub(super) changes: Vec<Change>,
}

/// A listener of the sidecar, and where it leads.
#[derive(Debug)]
pub(super) struct Route {
    /// Which of the profile's rewrites it comes from.
    pub(super) rewrite: usize,
    /// The first container that it is for.
    pub(super) container: String,
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) upstream: Upstream,
    pub(super) credential: RewriteCredential,
    pub(super) allow_insecure_http: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Upstream {
    Url(String),
    /// The `valueFrom` of the variable: the kubelet reads it, for the sidecar as it did for the workload.
    From(Value),
    /// The ConfigMap's configuration says.
    ConfigMap,
}

/// A variable to set: `index` is its place in `env`, `None` for one that is not there yet.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) list: &'static str,
    pub(super) container: usize,
    pub(super) name: String,
    pub(super) index: Option<usize>,
    pub(super) entry: Value,
}

/// Finds the variables that the profile names. `taken`: ports on loopback that other routes of the sidecar listen on.
pub(super) fn plan(
    pod: &Value,
    (name, profile): (&str, &Profile),
    taken: &BTreeSet<u16>,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Plan {
    let mut planner = Planner {
        profile,
        used: taken.clone(),
        plan: Plan::default(),
    };
    planner.used.insert(profile.admin_port);
    planner
        .used
        .extend(profile.rewrite.iter().filter_map(|r| r.port));
    for (i, rewrite) in profile.rewrite.iter().enumerate() {
        let mut matched = false;
        for container in pod::containers(pod).filter(|c| c.name != SIDECAR) {
            if !rewrite.containers.is_empty()
                && !rewrite.containers.iter().any(|c| c == container.name)
            {
                continue;
            }
            let env = items(container.value, "env");
            // Of several with one name, the kubelet takes the last.
            let found = env
                .iter()
                .enumerate()
                .rev()
                .find(|(_, e)| text(e, "name") == rewrite.variable);
            if found.is_none()
                && (rewrite.upstream.is_none()
                    && !matches!(rewrite.credential, RewriteCredential::ConfigMap)
                    || rewrite.containers.is_empty())
            {
                continue;
            }
            matched = true;
            if container.list == "initContainers"
                && !profile.native
                && text(container.value, "restartPolicy") != "Always"
            {
                warnings.push(format!(
                    "init container {} keeps {}: it runs before the sidecar, which is an ordinary container here",
                    shown(container.name),
                    rewrite.variable
                ));
                continue;
            }
            match planner.change(i, rewrite, &container, found) {
                Ok(change) => planner.plan.changes.push(change),
                Err(problem) => problems.push(format!(
                    "container {}: {} {problem}",
                    shown(container.name),
                    rewrite.variable
                )),
            }
        }
        if !matched {
            warnings.push_with(|| {
                let why = unmatched(pod, rewrite);
                format!("{why} (profile {name}, rewrite[{i}]), so that nothing is rewritten for it; correct whichever is wrong, unless the entry is for other pods")
            });
        }
    }
    for route in &planner.plan.routes {
        if let Upstream::From(from) = &route.upstream
            && let Some(source) = optional(from)
        {
            warnings.push(format!(
                "{} comes from {source}, which may be missing (`optional: true`): the sidecar does not start without it, and the pod is not ready before; see \
                 that it is there, and take `optional` out",
                profile.rewrite[route.rewrite].variable
            ));
        }
    }
    planner.plan
}

/// Why an entry of the profile does nothing in this pod.
pub(super) fn unmatched(pod: &Value, rewrite: &Rewrite) -> String {
    let Rewrite {
        variable,
        containers,
        ..
    } = rewrite;
    if containers.is_empty() {
        let set = match rewrite.upstream {
            Some(_) => ", and `containers` does not say where to set it",
            None => "",
        };
        return format!("no container sets {variable}{set}");
    }
    let there = |name: &&String| pod::containers(pod).any(|c| c.name == **name);
    let (there, missing): (Vec<&String>, Vec<&String>) = containers.iter().partition(there);
    let joined = |names: &[&String]| {
        let names: Vec<String> = names.iter().map(|n| shown(n)).collect();
        names.join(" or ")
    };
    let mut why = Vec::new();
    if !missing.is_empty() {
        why.push(format!("no container is named {}", joined(&missing)));
    }
    if !there.is_empty() {
        why.push(format!("{variable} is not set in {}", joined(&there)));
    }
    why.join(", and ")
}

/// Of a `valueFrom` that tolerates that there is nothing: the source, for people.
fn optional(from: &Value) -> Option<String> {
    let kinds = [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")];
    kinds.into_iter().find_map(|(key, kind)| {
        let source = from.get(key)?;
        (source.get("optional")?.as_bool()?).then(|| {
            let (name, key) = (text(source, "name"), text(source, "key"));
            format!("key {} of the {kind} {}", shown(key), shown(name))
        })
    })
}

struct Planner<'a> {
    profile: &'a Profile,
    used: BTreeSet<u16>,
    plan: Plan,
}

impl Planner<'_> {
    fn change(
        &mut self,
        i: usize,
        rewrite: &Rewrite,
        container: &Container<'_>,
        found: Option<(usize, &Value)>,
    ) -> Result<Change, String> {
        let old = found.map(|(_, entry)| entry);
        let upstream = upstream(rewrite, old)?;
        let port = match self
            .plan
            .routes
            .iter()
            .find(|r| r.rewrite == i && r.upstream == upstream)
        {
            Some(route) => route.port,
            None => self.route(i, rewrite, container, upstream)?,
        };
        // Workloads append to it: whether it ends in a slash matters.
        let value = rewrite
            .upstream
            .as_deref()
            .filter(|_| old.is_none_or(|o| o.get("value").is_none()));
        let value = value.or_else(|| old.and_then(|o| o.get("value")).and_then(Value::as_str));
        let slash = if value.is_some_and(|v| v.ends_with('/')) {
            "/"
        } else {
            ""
        };
        Ok(Change {
            list: container.list,
            container: container.index,
            name: container.name.to_owned(),
            index: found.map(|(index, _)| index),
            entry: json!({ "name": rewrite.variable, "value": format!("http://127.0.0.1:{port}{slash}") }),
        })
    }

    /// A listener for a further upstream.
    fn route(
        &mut self,
        i: usize,
        rewrite: &Rewrite,
        container: &Container<'_>,
        upstream: Upstream,
    ) -> Result<u16, String> {
        let of_this = self.plan.routes.iter().filter(|r| r.rewrite == i).count();
        let free = || (self.profile.port..=u16::MAX).find(|p| !self.used.contains(p));
        let port = match rewrite.port {
            Some(port) if of_this == 0 => port,
            Some(port) => {
                return Err(format!(
                    "has different values in different containers, which cannot share the port {port}; take `rewrite[].port` out of the profile"
                ));
            }
            None => free().ok_or("finds no free port; set `port` of the profile lower")?,
        };
        self.used.insert(port);
        let base = rewrite.variable.to_ascii_lowercase().replace('_', "-");
        let base = base.trim_matches('-');
        self.plan.routes.push(Route {
            rewrite: i,
            container: container.name.to_owned(),
            name: if of_this == 0 {
                base.to_owned()
            } else {
                format!("{base}-{}", of_this + 1)
            },
            port,
            upstream,
            credential: rewrite.credential.clone(),
            allow_insecure_http: rewrite.allow_insecure_http,
        });
        Ok(port)
    }
}

fn upstream(rewrite: &Rewrite, old: Option<&Value>) -> Result<Upstream, String> {
    const MEND: &str = "set `rewrite[].upstream` in the profile, or write the URL into the pod";
    if rewrite.credential == RewriteCredential::ConfigMap {
        return Ok(Upstream::ConfigMap);
    }
    if let Some(url) = &rewrite.upstream {
        return Ok(Upstream::Url(url.clone()));
    }
    let old = old.unwrap_or(&Value::Null);
    if let Some(from) = old.get("valueFrom") {
        let source = from.as_object().and_then(|f| f.iter().next());
        return match source.map(|(kind, source)| (kind.as_str(), source)) {
            Some((kind @ ("configMapKeyRef" | "secretKeyRef"), source)) => {
                match ["name", "key"].into_iter().find(|k| text(source, k).is_empty()) {
                    Some(missing) => Err(format!(
                        "has a {kind} without `{missing}`; write `{kind}: {{name: …, key: …}}`"
                    )),
                    None => Ok(Upstream::From(from.clone())),
                }
            }
            Some(("fieldRef" | "resourceFieldRef", _)) => Err(format!(
                "has a `valueFrom` that means something else to another container; {MEND}"
            )),
            Some((kind, _)) => Err(format!(
                "has a `valueFrom` of the unknown source {}; write `configMapKeyRef: {{name: …, key: …}}` or `secretKeyRef`",
                shown(kind)
            )),
            None => Err("has a `valueFrom` without a source; write `configMapKeyRef: {name: …, key: …}` or `secretKeyRef`".into()),
        };
    }
    if old
        .get("value")
        .is_some_and(|v| !v.is_string() && !v.is_null())
    {
        return Err("has a value that is not text; put the URL in quotes".into());
    }
    let value = text(old, "value").trim();
    if value.is_empty() {
        return Err(format!("is empty; {MEND}"));
    }
    if value.contains('$') {
        return Err(format!("refers to other variables; {MEND}"));
    }
    let host = value.split_once("://").map_or(value, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let bare = host.rsplit_once(':').map_or(
        host,
        |(bare, port)| if port.ends_with(']') { host } else { bare },
    );
    if crate::net::guard::is_loopback_name(bare) {
        return Err("points at localhost already; write the upstream's URL there, since the sidecar takes it over".into());
    }
    Ok(Upstream::Url(value.to_owned()))
}
