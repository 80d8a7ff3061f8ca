//! A profile's `mounts` -> ConfigMaps and Secrets, and where they are in the sidecar's container.

use super::{super::fields::Fields, values::object};
use crate::admission::{
    mounts::{directory, overlap},
    profile::{Mount, MountSource},
};

/// Reads them. `None`: reported.
pub(super) fn read(profile: &Fields<'_>) -> Option<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut complete = true;
    for (i, node) in profile.items("mounts")?.iter().enumerate() {
        let fields = Fields::open(
            profile.context,
            node,
            profile.join(&format!("mounts[{i}]")),
            "(profiles).profiles.*.mounts[]",
        )?;
        let path = fields.value("path", directory);
        let source = match fields.exactly_one(&["configMap", "secret"]) {
            Some("configMap") => fields
                .value("configMap", object)
                .map(MountSource::ConfigMap),
            Some(_) => fields.value("secret", object).map(MountSource::Secret),
            None => None,
        };
        let (Some(path), Some(source)) = (path, source) else {
            complete = false;
            continue;
        };
        if let Some(other) = mounts.iter().find(|m| overlap(&m.path, &path)) {
            let message = format!(
                "would cover {} or be covered by it, which is mounted, too; choose another",
                other.path
            );
            fields.error("path", message);
            complete = false;
        }
        mounts.push(Mount { source, path });
    }
    complete.then_some(mounts)
}
