//! Files that a profile mounts into the sidecar alone: ConfigMaps and Secrets, for what its configuration names by path, such as the certificates of a
//! private authority. Nothing of the node's, and nothing that the workload could write.

use super::{
    patch::{items, text},
    paths::below,
    pod::{MOUNT_VOLUME, everybody},
    problems::Problems,
    profile::{MountSource, Profile},
    settled::OWN_PATHS,
    wish::shown,
};
use serde_json::{Value, json};

/// Where tokens are mounted by others, what is the kernel's, and what the sidecar itself goes by: the system's roots, names and users. Not all of `/etc`,
/// where files of one's own belong.
const NOT_OURS: [&str; 12] = [
    "/var/run",
    "/sys",
    "/etc/ssl",
    "/etc/pki",
    "/etc/security",
    "/opt/etc/ssl",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
];

/// The directory of a mount, as a profile says it, if it is one that the sidecar can have.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn directory(path: &str) -> Result<String, String> {
    const MEND: &str = "write a directory that is nobody's yet, such as /etc/orders-ca";
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .chars()
                .all(|c| c.is_ascii_graphic() && !r":\$".contains(c))
    };
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 256 && rest.split('/').all(plain) => {}
        _ => return Err(format!("not a plain path; {MEND}")),
    }
    let mut taken = OWN_PATHS.into_iter().chain(NOT_OURS);
    match taken.find(|own| overlap(path, own)) {
        Some(own) => Err(format!("would cover {own} or be covered by it; {MEND}")),
        None => Ok(path.to_owned()),
    }
}

/// Whether one directory is the other or below it.
pub fn overlap(one: &str, other: &str) -> bool {
    below(one, other) || below(other, one)
}

/// The volumes.
pub(super) fn volumes(profile: &Profile) -> impl Iterator<Item = (String, Value)> {
    profile.mounts.iter().enumerate().map(|(i, mount)| {
        let name = format!("{MOUNT_VOLUME}{i}");
        let volume = match &mount.source {
            MountSource::ConfigMap(map) => json!({ "name": name, "configMap": { "name": map } }),
            MountSource::Secret(secret) => {
                json!({ "name": name, "secret": { "secretName": secret } })
            }
        };
        (name, volume)
    })
}

/// Their mounts.
pub(super) fn mounts(profile: &Profile) -> impl Iterator<Item = Value> {
    profile.mounts.iter().enumerate().map(|(i, mount)| {
        json!({ "name": format!("{MOUNT_VOLUME}{i}"), "mountPath": mount.path, "readOnly": true })
    })
}

/// Reports whoever else has one of the Secrets: the workload is to hold no credential.
pub(super) fn refuse_shared(spec: &Value, pod: &Value, profile: &Profile, problems: &mut Problems) {
    let secrets: Vec<&str> = profile
        .mounts
        .iter()
        .filter_map(|m| match &m.source {
            MountSource::Secret(name) => Some(name.as_str()),
            MountSource::ConfigMap(_) => None,
        })
        .collect();
    if secrets.is_empty() {
        return;
    }
    let mut found = |name: &str, holder: String| {
        if secrets.contains(&name) {
            problems.push(format!(
                "{holder} has the Secret {name}, which is the sidecar's alone (`mounts` of the profile), so that the workload would hold a credential; take it \
                 out"
            ));
        }
    };
    for volume in items(spec, "volumes") {
        let holder = || format!("volume {}", shown(text(volume, "name")));
        if let Some(secret) = volume.get("secret") {
            found(text(secret, "secretName"), holder());
        }
        let sources = volume
            .get("projected")
            .map_or(&[][..], |p| items(p, "sources"));
        for secret in sources.iter().filter_map(|s| s.get("secret")) {
            found(text(secret, "name"), holder());
        }
    }
    for container in everybody(pod) {
        let holder = || format!("container {}", shown(container.name));
        for secret in items(container.value, "env")
            .iter()
            .filter_map(|e| e.pointer("/valueFrom/secretKeyRef"))
            .chain(
                items(container.value, "envFrom")
                    .iter()
                    .filter_map(|e| e.get("secretRef")),
            )
        {
            found(text(secret, "name"), holder());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_nobodys() {
        for good in [
            "/etc/orders-ca",
            "/ca",
            "/etc/ssl-orders",
            "/etc/hosts-ca",
            "/opt/ca",
            "/etc/token-sidecars",
            "/var/lib/x",
        ] {
            assert_eq!(directory(good).unwrap(), good);
        }
        for odd in [
            "",
            "etc/ca",
            "/",
            "/etc/../ca",
            "/etc//ca",
            "/etc/ca/",
            "/a:b",
            "/a b",
            "/$(A)",
            "/ä",
        ] {
            let error = directory(odd).unwrap_err();
            assert!(
                error.starts_with("not a plain path; write "),
                "{odd}: {error}"
            );
        }
        for (taken, own) in [
            ("/etc", "/etc/token-sidecar"),
            ("/etc/token-sidecar/more", "/etc/token-sidecar"),
            ("/var", "/var/run/secrets/token-sidecar"),
            ("/var/run/secrets/azure/wi", "/var/run"),
            ("/var/run/secrets/kubernetes.io/serviceaccount", "/var/run"),
            ("/usr/local/bin/x", "/usr/local/bin"),
            ("/proc/self", "/proc"),
            ("/sys/fs", "/sys"),
            ("/etc/ssl", "/etc/ssl"),
            ("/etc/ssl/certs", "/etc/ssl"),
            ("/etc/pki/tls/certs", "/etc/pki"),
            ("/etc/security/certificates", "/etc/security"),
            ("/opt/etc", "/opt/etc/ssl"),
            ("/etc/hosts", "/etc/hosts"),
            ("/etc/hostname", "/etc/hostname"),
            ("/etc/resolv.conf", "/etc/resolv.conf"),
            ("/etc/nsswitch.conf", "/etc/nsswitch.conf"),
            ("/etc/passwd", "/etc/passwd"),
            ("/etc/group", "/etc/group"),
            ("/sbin", "/sbin"),
            ("/usr/share/ca-certificates", "/usr"),
        ] {
            let error = directory(taken).unwrap_err();
            assert!(
                error.starts_with(&format!("would cover {own} or be covered by it; write ")),
                "{taken}: {error}"
            );
        }
    }
}
