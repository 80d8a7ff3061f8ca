//! The inverse of injection: what the status annotation says was done is taken back. Pure.

use super::{
    patch::{Patch, text},
    pod::{self, SIDECAR},
    status::{Done, Item, Status},
    wish::STATUS,
};
use serde_json::Value;

/// The pod (or pod template) as it was before injection, or `None` when it has no sidecar of ours.
///
/// # Errors
/// The annotation is not readable; the text says what to do.
pub fn remove(pod: &Value) -> Result<Option<Value>, String> {
    let mut patch = Patch::new(pod.clone());
    let Some(status) = patch
        .get(&["metadata", "annotations", STATUS])
        .and_then(Value::as_str)
    else {
        return Ok(None);
    };
    let status = Status::parse(status)?;
    if let Some(sidecar) = pod::sidecar(&patch.object) {
        let (list, place) = (sidecar.list, sidecar.index.to_string());
        patch.remove(&["spec", list, &place]);
    }
    let volumes = patch.get(&["spec", "volumes"]).and_then(Value::as_array);
    let ours = |v: &Value| status.volumes.iter().any(|name| name == text(v, "name"));
    let places: Vec<usize> = volumes
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, v)| ours(v))
        .map(|(i, _)| i)
        .collect();
    for place in places.iter().rev() {
        patch.remove(&["spec", "volumes", &place.to_string()]);
    }
    for item in status.items.iter().rev() {
        take_back(&mut patch, item);
    }
    patch.remove(&["metadata", "annotations", STATUS]);
    for (map, remembered) in [
        ("labels", &status.labels),
        ("annotations", &status.annotations),
    ] {
        for (key, was) in remembered {
            match was {
                Some(was) => patch.add(&["metadata", map, key], was.clone()),
                None => patch.remove(&["metadata", map, key]),
            }
        }
    }
    for (name, was) in status.created.iter().rev() {
        let path: Vec<String> = match name.strip_suffix("/env") {
            Some(container) => match place(&patch.object, container) {
                Some((list, index)) => ["spec", list, &index.to_string(), "env"]
                    .map(str::to_owned)
                    .to_vec(),
                None => continue,
            },
            None => name.split('/').map(str::to_owned).collect(),
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let empty = patch.get(&path).is_some_and(|v| {
            v.as_array().is_some_and(Vec::is_empty)
                || v.as_object().is_some_and(serde_json::Map::is_empty)
        });
        match (empty, was.as_str()) {
            // Somebody else has put something in since.
            (false, _) => {}
            (true, "null") => patch.replace(&path, Value::Null),
            (true, _) => patch.remove(&path),
        }
    }
    Ok(Some(patch.object))
}

fn place(pod: &Value, name: &str) -> Option<(&'static str, usize)> {
    pod::containers(pod)
        .find(|c| c.name == name && name != SIDECAR)
        .map(|c| (c.list, c.index))
}

fn take_back(patch: &mut Patch, item: &Item) {
    let Some((list, index)) = place(&patch.object, &item.container) else {
        return;
    };
    let (container, at) = (index.to_string(), item.index.to_string());
    let path = ["spec", list, &container, &item.list, &at];
    let was = item.was.clone().unwrap_or_default();
    match item.done {
        Done::Removed => patch.add(&path, was),
        Done::Added => patch.remove(&path),
        Done::Replaced => patch.replace(&path, was),
    }
}
