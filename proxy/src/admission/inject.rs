//! The patch function: a pod (or a pod template) and a profile -> the pod with the sidecar, or the reasons why not. Pure.
//!
//! Nothing is half done: every hindrance is found before the first change. Of a pod that has the sidecar already it is taken out and put in anew,
//! by the profile of the moment and under the same rules; mostly nothing has changed then. What another webhook has put into the pod since is seen:
//! the token is taken out of the workload's containers again.

use super::{
    again::Earlier,
    aks,
    bounds::{self, too_large},
    check::{Check, Teller},
    container,
    hindrances::hindrances,
    mesh,
    patch::{Patch, items, text},
    pod::{self, SIDECAR},
    problems::Problems,
    profile::{DEFAULT, Profile, Profiles, SidecarConfig, TokenSource},
    resources,
    rewrite::{self, Change},
    settled,
    status::{Done, Item, MAX_TEXT, Status},
    warnings::warn,
    wish::{INJECTED, STATUS, Wish},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

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
    if let Some(problem) = too_large(pod) {
        return Err(Refusal(vec![problem]));
    }
    let mut problems = Problems::default();
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
    let mut earlier = Earlier::default();
    if let Some(status) = injection.patch.get(&["metadata", "annotations", STATUS]) {
        let status = status.as_str().unwrap_or_default().to_owned();
        earlier = Earlier::take(&mut injection.patch, &status).map_err(|e| Refusal(vec![e]))?;
    }
    let profile = settle(&wish, request, &mut problems);
    refuse(&mut problems)?;
    if let Some((name, profile)) = profile {
        let mut warnings = Problems::default();
        add(
            &mut injection.patch,
            (&name, &profile),
            request,
            earlier,
            &mut problems,
            &mut warnings,
        );
        injection.warnings = warnings.into_lines();
        refuse(&mut problems)?;
    }
    injection.patch.or_nothing(pod);
    injection.outcome = if injection.patch.is_empty() {
        Outcome::Unchanged
    } else {
        Outcome::Injected
    };
    Ok(injection)
}

fn refuse(problems: &mut Problems) -> Result<(), Refusal> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal(std::mem::take(problems).into_lines()))
    }
}

/// The profile with the pod's own wishes laid over it.
fn settle(
    wish: &Wish,
    request: &Request<'_>,
    problems: &mut Problems,
) -> Option<(String, Profile)> {
    let name = wish
        .profile
        .as_deref()
        .or(request.profile)
        .unwrap_or(DEFAULT);
    let mut profile = match request.profiles.named(name) {
        Ok(profile) => profile.clone(),
        Err(problem) => {
            // Only `inject` has a profile for pods that name none.
            let place = if wish.profile.is_none() && request.profile.is_some() {
                "give the option --profile"
            } else {
                "set the annotation token-sidecar.io/profile to"
            };
            problems.push(format!("{problem}; {place} one of them"));
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
        let said = |resource: &str| {
            over.get("requests")
                .is_some_and(|r| r.get(resource).is_some())
        };
        if let Err((resource, problem)) = resources::fit(&mut profile.resources, said) {
            problems.push(format!(
                "annotation token-sidecar.io/resources: requests.{resource}: {problem}"
            ));
        }
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
    patch: &mut Patch,
    (name, profile): (&str, &Profile),
    request: &Request<'_>,
    mut earlier: Earlier,
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    let own = container::own_ports(profile);
    let plan = rewrite::plan(&patch.object, (name, profile), &own, problems, warnings);
    let mut ports: BTreeMap<u16, String> = [(profile.admin_port, "admin port".into())].into();
    let listener = |port: u16| (port, "listener".to_owned());
    let of_routes = plan
        .routes
        .iter()
        .map(|r| (r.port, format!("listener of {}", r.name)));
    let of_map = matches!(profile.config, SidecarConfig::ConfigMap { .. }).then_some(profile.port);
    let own = own.iter().copied().chain(of_map).map(listener);
    for (port, what) in own.chain(of_routes) {
        ports.entry(port).or_insert(what);
    }
    hindrances(&patch.object, profile, &ports, problems);
    let was = earlier.sidecar.as_ref().map(|(_, _, was)| was);
    mesh::check(&patch.object, profile, was, problems, warnings);
    if request.job && !profile.native {
        problems.push(
            "a Job whose sidecar is an ordinary container never ends; leave out `native: false` (Kubernetes 1.29 or newer), or leave the sidecar out",
        );
    }
    let configuration = container::configuration(profile, &plan.routes);
    if let Some(configuration) = &configuration {
        if items(configuration, "routes").is_empty() {
            // A variable that is there but cannot be used has been reported.
            if problems.is_empty() {
                problems.push(nothing_to_do(&patch.object, name, profile));
            }
        } else {
            let text = configuration.to_string();
            let own = request.profiles.named(name).unwrap_or(profile);
            let faults = match bounds::configuration(&text, name, own, profile) {
                Some(problem) => {
                    problems.push(problem);
                    Vec::new()
                }
                None => (request.check)(&text, &container::environment(profile, &plan.routes))
                    .err()
                    .unwrap_or_default(),
            };
            let teller = Teller::new(&patch.object, profile, &plan.routes);
            for fault in faults {
                problems.push_with(|| teller.told(&fault));
            }
        }
    }
    if !problems.is_empty() {
        return;
    }
    warn(&patch.object, profile, request, warnings);

    let mut status = earlier.status(name);
    let given = aks::strip(patch, &mut status);
    let had = given.is_some();
    let given = given.and_then(|g| aks::taken_over(g, &patch.object, profile, warnings));
    for change in plan.changes {
        rewrite(patch, &mut status, change, &earlier);
    }
    let sidecar = container::sidecar(
        profile,
        &plan.routes,
        configuration.as_ref(),
        given.as_ref(),
    );
    put(patch, &mut status, profile, sidecar, &earlier, warnings);
    for (volume, value) in container::volumes(profile) {
        status.ensure(patch, &["spec", "volumes"], "spec/volumes", json!([]));
        let end = patch
            .get(&["spec", "volumes"])
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let (place, value) = match earlier.volumes.get(&volume) {
            Some((place, was)) => (*place.min(&end), settled::volume(&value, was)),
            None => (end, value),
        };
        patch.add(&["spec", "volumes", &place.to_string()], value);
        status.volumes.push(volume);
    }
    status.label(patch, INJECTED, "true");
    leave_alone(patch, &mut status, &profile.token, had);
    status.write(patch);
    if status.text().len() > MAX_TEXT {
        problems.push("what injection must remember of this pod is larger than annotations may be (256 KiB); make the variables smaller that AKS' webhook's token is mounted for");
    }
}

/// Sets a variable of the workload to the sidecar's address.
fn rewrite(patch: &mut Patch, status: &mut Status, change: Change, earlier: &Earlier) {
    let place = change.container.to_string();
    let env = ["spec", change.list, &place, "env"];
    let name = text(&change.entry, "name").to_owned();
    // Stripping may have moved it.
    let index = change
        .index
        .and_then(|_| last_named(patch.get(&env), &name));
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
            let end = patch
                .get(&env)
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let index = earlier.added(&change.name, &name, end);
            patch.add(
                &[&env[..], &[index.to_string().as_str()]].concat(),
                change.entry,
            );
            (index, Done::Added, Some(json!({ "name": name })))
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

/// Puts the sidecar's container into its place.
fn put(
    patch: &mut Patch,
    status: &mut Status,
    profile: &Profile,
    fresh: Value,
    earlier: &Earlier,
    warnings: &mut Problems,
) {
    let (list, first) = if profile.native {
        // First (but for a mesh's proxy), so that the init containers can use it too.
        ("initContainers", true)
    } else {
        // Last: the first container is what `kubectl logs` and `exec` mean.
        ("containers", false)
    };
    let (place, sidecar) = match &earlier.sidecar {
        None => (None, fresh),
        Some((was_in, place, was)) => {
            let sidecar = settled::container(&fresh, was, &patch.object, profile);
            let changed = settled::changed(&sidecar, was);
            if !changed.is_empty() {
                warnings.push(format!(
                    "the container {SIDECAR} was not as profile {} makes it ({}) and is put in anew; whoever changes it must leave it alone",
                    status.profile,
                    changed.join(", ")
                ));
            }
            (Some(*place).filter(|_| *was_in == list), sidecar)
        }
    };
    let path = ["spec", list];
    status.ensure(patch, &path, &format!("spec/{list}"), json!([]));
    let others = patch.get(&path).and_then(Value::as_array);
    let others = others.map_or(&[][..], Vec::as_slice);
    let place = if first {
        mesh::place(others, place.unwrap_or(0))
    } else {
        place.unwrap_or(others.len())
    };
    let place = place.min(others.len());
    patch.add(&["spec", list, &place.to_string()], sidecar);
}

/// The place of the last variable of this name.
fn last_named(env: Option<&Value>, name: &str) -> Option<usize> {
    env?.as_array()?
        .iter()
        .rposition(|e| text(e, "name") == name)
}

/// Tells AKS' webhook what kind of token to give, and which containers are none of its business: with its token, all but the sidecar; with one of our own, all.
fn leave_alone(patch: &mut Patch, status: &mut Status, token: &TokenSource, given: bool) {
    let binding = TokenSource::Aks {
        identity_binding: true,
    };
    if *token == binding {
        status.annotate(patch, aks::BINDING, "true");
    } else {
        status.take_annotation_back(patch, aks::BINDING);
    }
    if matches!(token, TokenSource::Aks { .. }) {
        status.label(patch, aks::USE, "true");
        aks::skip(patch, status, |c| c.name != SIDECAR);
    } else if given || aks::asked(&patch.object) {
        aks::skip(patch, status, |_| true);
    }
}

fn nothing_to_do(pod: &Value, name: &str, profile: &Profile) -> String {
    const ANNOTATION: &str = "the annotation token-sidecar.io/routes";
    let (why, mend) = if profile.rewrite.is_empty() {
        (
            format!("profile {name} names no variable to rewrite"),
            "add `rewrite` or `routes` to the profile, or use",
        )
    } else {
        let entries = profile.rewrite.iter();
        let each: Vec<String> = entries.map(|r| rewrite::unmatched(pod, r)).collect();
        (
            each.join(", "),
            "set the variable in the pod (`env`, not `envFrom`), or add routes to the profile or",
        )
    };
    format!(
        "the sidecar would have nothing to do: {why}, and there are no routes; {mend} {ANNOTATION}"
    )
}
