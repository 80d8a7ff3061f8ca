//! A pod that has the sidecar already, looked at again: the sidecar is taken out, to be put in anew by the profile, each thing where it was.
//!
//! What another webhook or a person has made of the sidecar meanwhile is not taken on trust: only what cannot change what it does is kept, see
//! `settled`. So a pod whose annotation says "injected" is held to the same rules as one that says nothing.

use super::{
    bounds::too_much_done,
    patch::{Patch, items, text},
    pod::{self, SIDECAR, is_ours},
    remove::take_back,
    status::{Done, Status},
    wish::STATUS,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What was where in a pod that had the sidecar; empty for one that had none.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The sidecar's container: list, place, and how it was.
    pub(super) sidecar: Option<(&'static str, usize, Value)>,
    /// Our volumes: place, and how they were.
    pub(super) volumes: BTreeMap<String, (usize, Value)>,
    /// Places of variables that were added, by container and name.
    added: HashMap<(String, String), usize>,
    /// What the annotation remembers of maps, lists, labels and annotations. They stay as they are.
    status: Option<Status>,
}

impl Earlier {
    /// Takes the sidecar, its volumes and its variables out of the pod. `status`: the annotation's text.
    ///
    /// # Errors
    /// The annotation is not readable or tells of too much, or there is no sidecar; the text says what to do.
    pub(super) fn take(patch: &mut Patch, status: &str) -> Result<Self, String> {
        let mut status = Status::parse(status)?;
        if let Some(problem) = too_much_done(&patch.object, &status.items) {
            return Err(problem);
        }
        let Some(sidecar) = pod::sidecar(&patch.object) else {
            return Err(format!(
                "the annotation {STATUS} says that the sidecar is there, but no container is named {SIDECAR}; take the annotation out"
            ));
        };
        let (list, index, value) = (sidecar.list, sidecar.index, sidecar.value.clone());
        let mut earlier = Self {
            sidecar: Some((list, index, value)),
            ..Self::default()
        };
        patch.remove(&["spec", list, &index.to_string()]);
        let all = patch
            .object
            .get("spec")
            .map_or(&[][..], |s| items(s, "volumes"));
        let named: HashSet<&str> = status.volumes.iter().map(String::as_str).collect();
        let said = |name: &str| is_ours(name) && named.contains(name);
        for (index, volume) in all.iter().enumerate() {
            let name = text(volume, "name");
            if said(name) {
                earlier
                    .volumes
                    .insert(name.to_owned(), (index, volume.clone()));
            }
        }
        let mut places: Vec<usize> = earlier.volumes.values().map(|(index, _)| *index).collect();
        places.sort_unstable();
        patch.remove_all(&["spec", "volumes"], &places);
        for item in status.items.iter().rev() {
            if let Some(index) = take_back(patch, item)
                && item.done == Done::Added
            {
                let name = item.was.as_ref().map_or("", |was| text(was, "name"));
                earlier
                    .added
                    .insert((item.container.clone(), name.to_owned()), index);
            }
        }
        status.volumes.clear();
        status.items.clear();
        earlier.status = Some(status);
        Ok(earlier)
    }

    /// A status to begin with.
    pub(super) fn status(&mut self, profile: &str) -> Status {
        match self.status.take() {
            Some(status) => status.by(profile),
            None => Status::new(profile),
        }
    }

    /// Where a variable was added, if it was; at most `end`.
    pub(super) fn added(&self, container: &str, name: &str, end: usize) -> usize {
        let key = (container.to_owned(), name.to_owned());
        self.added.get(&key).map_or(end, |index| *index.min(&end))
    }
}
