//! The patch function: a pod (or a pod template) and a profile -> the pod with the sidecar, or the reasons why not. Pure.
//!
//! Nothing is half done: every hindrance is found before the first change. A pod that has the sidecar already stays as it is, but for what
//! another webhook has put into it since: the token is taken out of the workload's containers again.

use super::{
    aks::{self, Given},
    container,
    patch::{Patch, items, text},
    pod::{self, SIDECAR},
    profile::{DEFAULT, Profile, Profiles, SidecarConfig, TokenSource},
    resources, rewrite,
    status::{Done, Item, Status},
    wish::{INJECTED, STATUS, Wish, shown},
};
use serde_json::{Value, json};
use std::fmt;

/// Checks a sidecar's configuration (JSON), given the variables that it may count on. The error is for people.
pub type Check = dyn Fn(&str, &[(&'static str, String)]) -> Result<(), String> + Send + Sync;

/// What beside the pod decides on injection.
pub struct Request<'a> {
    /// The profiles there are.
    pub profiles: &'a Profiles,
    /// How a sidecar's configuration is checked.
    pub check: &'a Check,
    /// Somebody asked for injection already, so that the pod need not.
    pub asked: bool,
    /// The profile of pods that name none; else it is `default`.
    pub profile: Option<&'a str>,
    /// The pod is a Job's.
    pub job: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The pod does not ask, or asks to be left alone.
    NotAsked,
    /// The sidecar is there already, and nothing else was to be done.
    Unchanged,
    /// The pod was changed.
    Injected,
}

/// A pod, looked at.
#[derive(Debug)]
pub struct Injection {
    /// What came of it.
    pub outcome: Outcome,
    /// What is worth knowing, one line each.
    pub warnings: Vec<String>,
    patch: Patch,
}

impl Injection {
    /// The pod as it is now.
    pub fn pod(&self) -> &Value {
        &self.patch.object
    }

    /// The operations that make it so (RFC 6902).
    pub fn into_operations(self) -> Vec<Value> {
        self.patch.into_operations()
    }
}

/// Why a pod gets no sidecar: every reason, each with what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; also: "))
    }
}

impl std::error::Error for Refusal {}

/// Puts the sidecar into `pod` when it is wanted there.
///
/// # Errors
/// Every reason against it.
pub fn inject(pod: &Value, request: &Request<'_>) -> Result<Injection, Refusal> {
    let mut problems = Vec::new();
    pod::misshapen(pod, &mut problems);
    refuse(&mut problems)?;
    let wish = Wish::read(pod.get("metadata").unwrap_or(&Value::Null), &mut problems);
    refuse(&mut problems)?;
    let mut injection = Injection {
        outcome: Outcome::NotAsked,
        warnings: Vec::new(),
        patch: Patch::new(pod.clone()),
    };
    if !wish.inject.unwrap_or(request.asked) {
        return Ok(injection);
    }
    if let Some(status) = injection.patch.get(&["metadata", "annotations", STATUS]) {
        let status = status.as_str().unwrap_or_default().to_owned();
        keep(&mut injection.patch, &status).map_err(|e| Refusal(vec![e]))?;
    } else {
        let profile = settle(&wish, request, &mut problems);
        refuse(&mut problems)?;
        if let Some((name, profile)) = profile {
            add(&mut injection, &name, &profile, request, &mut problems);
            refuse(&mut problems)?;
        }
    }
    injection.outcome = if injection.patch.is_empty() {
        Outcome::Unchanged
    } else {
        Outcome::Injected
    };
    Ok(injection)
}

fn refuse(problems: &mut Vec<String>) -> Result<(), Refusal> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal(std::mem::take(problems)))
    }
}

/// The profile with the pod's own wishes laid over it.
fn settle(
    wish: &Wish,
    request: &Request<'_>,
    problems: &mut Vec<String>,
) -> Option<(String, Profile)> {
    let name = wish
        .profile
        .as_deref()
        .or(request.profile)
        .unwrap_or(DEFAULT);
    let mut profile = match request.profiles.named(name) {
        Ok(profile) => profile.clone(),
        Err(problem) => {
            problems.push(format!(
                "{problem}; set the annotation token-sidecar.io/profile to one of them"
            ));
            return None;
        }
    };
    if let Some(allowed) = &profile.annotations {
        for given in wish
            .given
            .iter()
            .filter(|g| !["inject", "profile"].contains(*g) && !allowed.iter().any(|a| a == *g))
        {
            problems.push(format!("profile {name} does not let pods use the annotation token-sidecar.io/{given}; take it out"));
        }
    }
    if let Some(image) = &wish.image {
        profile.image.clone_from(image);
    }
    if let Some(over) = &wish.resources {
        profile.resources = resources::merged(&profile.resources, over);
    }
    if let Some(level) = &wish.log_level {
        profile.log_level.clone_from(level);
    }
    profile.native = wish.native.unwrap_or(profile.native);
    profile.port = wish.port.unwrap_or(profile.port);
    profile.admin_port = wish.admin_port.unwrap_or(profile.admin_port);
    match &mut profile.config {
        SidecarConfig::Inline {
            credentials,
            routes,
        } => {
            credentials.extend(wish.credentials.clone());
            routes.extend(wish.routes.iter().cloned());
        }
        SidecarConfig::ConfigMap { name: map, .. } => {
            if !wish.credentials.is_empty() || !wish.routes.is_empty() {
                problems.push(format!(
                    "profile {name} takes the sidecar's configuration from the ConfigMap {map}, so that the annotations credentials and routes \
                     have no place; put them into the ConfigMap, or use another profile"
                ));
            }
        }
    }
    Some((name.to_owned(), profile))
}

fn add(
    injection: &mut Injection,
    name: &str,
    profile: &Profile,
    request: &Request<'_>,
    problems: &mut Vec<String>,
) {
    let Injection {
        patch, warnings, ..
    } = injection;
    let own = container::own_ports(profile);
    let plan = rewrite::plan(&patch.object, profile, &own, problems, warnings);
    let mut ports: Vec<(u16, String)> = vec![(profile.admin_port, "admin port".into())];
    ports.extend(own.iter().map(|p| (*p, "listener".to_owned())));
    ports.extend(
        plan.routes
            .iter()
            .map(|r| (r.port, format!("listener of {}", r.name))),
    );
    if matches!(profile.config, SidecarConfig::ConfigMap { .. }) {
        ports.push((profile.port, "listener".into()));
    }
    pod::hindrances(&patch.object, profile, &ports, problems);
    if request.job && !profile.native {
        problems.push(
            "a Job whose sidecar is an ordinary container never ends; leave out `native: false` (Kubernetes 1.29 or newer), or leave the sidecar out"
                .into(),
        );
    }
    let configuration = container::configuration(profile, &plan.routes);
    if let Some(configuration) = &configuration {
        if items(configuration, "routes").is_empty() {
            // A variable that is there but cannot be used has been reported.
            if problems.is_empty() {
                problems.push(nothing_to_do(name, profile));
            }
        } else if let Err(e) =
            (request.check)(&configuration.to_string(), &container::variables(profile))
        {
            problems.push(e);
        }
    }
    if !problems.is_empty() {
        return;
    }
    warn(&patch.object, profile, request, warnings);

    let mut status = Status::new(name);
    let given = aks::strip(patch, &mut status);
    for change in plan.changes {
        let place = change.container.to_string();
        let env = ["spec", change.list, &place, "env"];
        // Stripping may have moved it.
        let index = change
            .index
            .and_then(|_| last_named(patch.get(&env), text(&change.entry, "name")));
        let (index, done, was) = match index {
            Some(index) => {
                let at = index.to_string();
                let path = [&env[..], &[at.as_str()]].concat();
                let was = patch.get(&path).cloned();
                patch.replace(&path, change.entry);
                (index, Done::Replaced, was)
            }
            None => {
                status.ensure(patch, &env, &format!("{}/env", change.name), json!([]));
                let index = patch
                    .get(&env)
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len);
                patch.add(&[&env[..], &["-"]].concat(), change.entry);
                (index, Done::Added, None)
            }
        };
        status.items.push(Item {
            container: change.name,
            list: "env".into(),
            index,
            done,
            was,
        });
    }
    let sidecar = container::sidecar(
        profile,
        &plan.routes,
        configuration.as_ref(),
        given.as_ref(),
    );
    if profile.native {
        // First, so that the init containers can use it too.
        status.ensure(
            patch,
            &["spec", "initContainers"],
            "spec/initContainers",
            json!([]),
        );
        patch.add(&["spec", "initContainers", "0"], sidecar);
    } else {
        // Last: the first container is what `kubectl logs` and `exec` mean.
        patch.add(&["spec", "containers", "-"], sidecar);
    }
    for (volume, value) in container::volumes(profile) {
        status.ensure(patch, &["spec", "volumes"], "spec/volumes", json!([]));
        patch.add(&["spec", "volumes", "-"], value);
        status.volumes.push(volume.to_owned());
    }
    status.label(patch, INJECTED, "true");
    leave_alone(
        patch,
        &mut status,
        profile.token == TokenSource::Aks,
        given.is_some(),
    );
    status.write(patch);
}

/// The place of the last variable of this name.
fn last_named(env: Option<&Value>, name: &str) -> Option<usize> {
    env?.as_array()?
        .iter()
        .rposition(|e| text(e, "name") == name)
}

/// Tells AKS' webhook which containers are none of its business: with its token, all but the sidecar; with one of our own, all.
fn leave_alone(patch: &mut Patch, status: &mut Status, aks: bool, given: bool) {
    if aks {
        status.label(patch, aks::USE, "true");
        aks::skip(patch, status, |c| c.name != SIDECAR);
    } else if given || aks::asked(&patch.object) {
        aks::skip(patch, status, |_| true);
    }
}

fn nothing_to_do(name: &str, profile: &Profile) -> String {
    let variables: Vec<&str> = profile
        .rewrite
        .iter()
        .map(|r| r.variable.as_str())
        .collect();
    let unset = if variables.is_empty() {
        format!("profile {name} names no variable to rewrite")
    } else {
        format!("no container sets {}", variables.join(" or "))
    };
    format!(
        "the sidecar would have nothing to do: {unset}, and there are no routes; set the variable in the pod (`env`, not `envFrom`), or add routes to the profile or the annotation token-sidecar.io/routes"
    )
}

fn warn(pod: &Value, profile: &Profile, request: &Request<'_>, warnings: &mut Vec<String>) {
    let ends = pod
        .pointer("/spec/restartPolicy")
        .and_then(Value::as_str)
        .is_some_and(|p| p != "Always");
    if ends && !profile.native && !request.job {
        warnings
            .push("the pod will not end by itself: its sidecar is an ordinary container".into());
    }
    for container in pod::containers(pod) {
        if container
            .value
            .pointer("/securityContext/privileged")
            .and_then(Value::as_bool)
            == Some(true)
        {
            warnings.push(format!(
                "container {} is privileged, and may reach the sidecar's token through the node",
                shown(container.name)
            ));
        }
    }
}

/// A pod that has the sidecar already.
fn keep(patch: &mut Patch, status: &str) -> Result<(), String> {
    let mut status = Status::parse(status)?;
    let Some(sidecar) = pod::sidecar(&patch.object) else {
        return Err(format!(
            "the annotation {STATUS} says that the sidecar is there, but no container is named {SIDECAR}; take the annotation out"
        ));
    };
    let own = items(sidecar.value, "volumeMounts")
        .iter()
        .any(|m| text(m, "name") == pod::TOKEN_VOLUME);
    let (list, place) = (sidecar.list, sidecar.index.to_string());
    let had = aks::given(&patch.object, sidecar.value).is_some();
    let before = status.clone();
    let given = aks::strip(patch, &mut status);
    if let Some(given) = &given
        && !own
        && !had
    {
        hand_over(patch, &["spec", list, &place], given);
    }
    leave_alone(patch, &mut status, !own, given.is_some());
    if status != before {
        status.write(patch);
    }
    Ok(())
}

/// Gives the sidecar what the workload had. Taking the sidecar out takes it along.
fn hand_over(patch: &mut Patch, sidecar: &[&str], given: &Given) {
    for (list, new) in [("env", &given.env), ("volumeMounts", &given.mounts)] {
        let path = [sidecar, &[list]].concat();
        patch.ensure(&path, json!([]));
        for item in new {
            let there = patch
                .get(&path)
                .and_then(Value::as_array)
                .is_some_and(|all| all.iter().any(|e| text(e, "name") == text(item, "name")));
            if !there {
                patch.add(&[&path[..], &["-"]].concat(), item.clone());
            }
        }
    }
}
