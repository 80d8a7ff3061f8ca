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
    let ours = |v: &Value| {
        let name = text(v, "name");
        pod::is_ours(name) && status.volumes.iter().any(|said| said == name)
    };
    let places: Vec<usize> = volumes
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, v)| ours(v))
        .map(|(i, _)| i)
        .collect();
    patch.remove_all(&["spec", "volumes"], &places);
    for item in status.items.iter().rev() {
        // What is not there any more is as it was.
        let _: Option<usize> = take_back(&mut patch, item);
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

/// Takes back what was done to an item of a container's list. It is looked for where it was put, and then by its name, for others may have put
/// something in before it; what others have changed since is theirs and stays. Gives the place where it was found.
pub(super) fn take_back(patch: &mut Patch, item: &Item) -> Option<usize> {
    let (list, index) = place(&patch.object, &item.container)?;
    let container = index.to_string();
    let list = ["spec", list, &container, &item.list];
    let all = patch.get(&list)?.as_array()?;
    let was = item.was.as_ref();
    match item.done {
        Done::Removed => {
            let was = was.filter(|was| !all.contains(was))?.clone();
            let at = item.index.min(all.len());
            patch.add(&[&list[..], &[&at.to_string()]].concat(), was);
            Some(at)
        }
        Done::Added | Done::Replaced => {
            let name = was.map(|was| text(was, "name"));
            let ours = |i: &usize| {
                all.get(*i).is_some_and(|entry| {
                    is_ours(text(entry, "value"))
                        && name.is_none_or(|name| text(entry, "name") == name)
                })
            };
            let by_name = || (0..all.len()).rev().find(ours).filter(|_| name.is_some());
            let at = Some(item.index).filter(ours).or_else(by_name)?;
            let path = at.to_string();
            let path = [&list[..], &[path.as_str()]].concat();
            match (item.done, was) {
                (Done::Replaced, Some(was)) => patch.replace(&path, was.clone()),
                (Done::Replaced, None) => return None,
                _ => patch.remove(&path),
            }
            Some(at)
        }
    }
}

/// Whether a value is the address of a listener of the sidecar's.
fn is_ours(value: &str) -> bool {
    let port = value.strip_prefix("http://127.0.0.1:");
    port.is_some_and(|p| p.strip_suffix('/').unwrap_or(p).parse::<u16>().is_ok())
}
