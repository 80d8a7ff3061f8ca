//! A sidecar that is put in anew, and what may stay of the one that was there: what the API server fills in, and what other webhooks add to every
//! container, as long as it cannot change whose token goes where.
//!
//! Kept: defaults, a digest behind the same image, `Always` as pull policy, resources, what AKS' webhook gives (with its token alone), further
//! variables that the sidecar does not go by, and mounts of what a workload cannot write, off the paths that the sidecar goes by. All else goes: who
//! writes a pod can write a sidecar into it, and say that it was injected. A profile may trust other webhooks with more (`allowAddedTrust`).

use super::{
    aks,
    container::{CONFIG_DIR, PROGRAM_DIR, TOKEN_DIR},
    mounts::overlap,
    patch::{items, text},
    paths::Roots,
    pod::SIDECAR,
    profile::{Profile, TokenSource},
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Prefixes of variables that decide what the sidecar does: those that it reads, and those of the loader.
const DECISIVE: [&str; 3] = ["TOKEN_SIDECAR_", "AZURE_", "LD_"];
/// Variables that decide whom the sidecar trusts and which way its calls go, in either case.
const TRUSTED: [&str; 4] = ["HTTPS_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE"];
/// Where the system's roots and names are: as decisive.
const TRUSTED_PATHS: [&str; 2] = ["/etc", "/opt/etc"];
/// Where nothing may be mounted over or into.
pub(super) const OWN_PATHS: [&str; 11] = [
    TOKEN_DIR,
    CONFIG_DIR,
    PROGRAM_DIR,
    "/bin",
    "/dev",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/usr",
];
/// What a volume may be: the kubelet alone writes it.
const READ_ONLY: [&str; 4] = ["configMap", "downwardAPI", "projected", "secret"];
/// Where the API server mounts every container's own token, which is for itself.
pub(super) const KUBE_API: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The sidecar's container as it shall be. `pod`: the one that it is in, for its volumes and for whether AKS' webhook was asked.
pub(super) fn container(fresh: &Value, was: &Value, pod: &Value, profile: &Profile) -> Value {
    let mut new = fresh.clone();
    if is_pinned(text(was, "image"), text(fresh, "image")) {
        new["image"] = was["image"].clone();
    }
    if text(was, "imagePullPolicy") == "Always" {
        new["imagePullPolicy"] = "Always".into();
    }
    for key in ["resources", "resizePolicy"] {
        if let Some(value) = was.get(key).filter(|v| !v.is_null()) {
            new[key] = value.clone();
        }
    }
    if text(was, "terminationMessagePath") == "/dev/termination-log" {
        new["terminationMessagePath"] = was["terminationMessagePath"].clone();
    }
    for key in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if let (Some(new), Some(was)) = (new.get_mut(key), was.get(key)) {
            probe(new, was);
        }
    }
    if let (Some(new), Some(was)) = (new.get_mut("securityContext"), was.get("securityContext")) {
        for key in ["seLinuxOptions", "appArmorProfile"] {
            let value = was.get(key).filter(|v| text(v, "type") != "Unconfined");
            if let Some(value) = value {
                new[key] = value.clone();
            }
        }
    }
    // With hostNetwork, the API server fills it in.
    let ports = new.get_mut("ports").and_then(Value::as_array_mut);
    for (new, was) in ports.into_iter().flatten().zip(items(was, "ports")) {
        let port = new.get("containerPort").cloned();
        if port.is_some() && was.get("hostPort") == port.as_ref() {
            new["hostPort"] = port.into();
        }
    }
    let mounts = Mounts::new(pod, profile);
    let aks = aks::Trust::new(pod, profile);
    // Its variables belong to its mount.
    let given = Roots::new(mounts.of_aks(was).map(|m| text(m, "mountPath")));
    let env = merged(items(fresh, "env"), items(was, "env"), "name", |extra| {
        let name = text(extra, "name");
        if aks::is_variable(name) {
            let file = name == aks::TOKEN_FILE;
            let value = text(extra, "value");
            return !given.is_empty() && (!file || given.has(value)) && aks.may(extra);
        }
        let trusted = TRUSTED.iter().any(|t| name.eq_ignore_ascii_case(t));
        !DECISIVE.iter().any(|d| name.starts_with(d)) && (!trusted || profile.allow_added_trust)
    });
    let mounts = merged(
        items(fresh, "volumeMounts"),
        items(was, "volumeMounts"),
        "mountPath",
        |extra| mounts.may(extra),
    );
    for (key, list) in [("env", env), ("volumeMounts", mounts)] {
        if !list.is_empty() {
            new[key] = list.into();
        }
    }
    new
}

/// One of our volumes as it shall be.
pub(super) fn volume(fresh: &Value, was: &Value) -> Value {
    let mut new = fresh.clone();
    for kind in ["projected", "configMap", "secret"] {
        let default = json!(0o644);
        let mode = was.get(kind).and_then(|v| v.get("defaultMode"));
        if let Some(new) = new.get_mut(kind)
            && mode == Some(&default)
        {
            new["defaultMode"] = default;
        }
    }
    new
}

/// What is no longer as it was, by the keys of a container.
pub(super) fn changed(new: &Value, was: &Value) -> Vec<String> {
    let keys = |v: &Value| -> Vec<String> {
        v.as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    };
    let all: std::collections::BTreeSet<String> = keys(new).into_iter().chain(keys(was)).collect();
    all.into_iter()
        .filter(|k| new.get(k) != was.get(k))
        .collect()
}

/// The same image, pinned by a digest: `repository[:tag]@sha256:…`.
fn is_pinned(was: &str, fresh: &str) -> bool {
    let Some((image, digest)) = was.split_once("@sha256:") else {
        return false;
    };
    let name = fresh.rfind('/').map_or(0, |slash| slash + 1);
    let repository = fresh[name..]
        .find(':')
        .map_or(fresh, |colon| &fresh[..name + colon]);
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    !fresh.contains('@')
        && [fresh, repository].contains(&image)
        && digest.len() == 64
        && digest.chars().all(hex)
}

/// Defaults, and the port and path by which Istio's agent passes a probe on.
fn probe(new: &mut Value, was: &Value) {
    if was.get("successThreshold") == Some(&json!(1)) {
        new["successThreshold"] = 1.into();
    }
    let (Some(new), Some(was)) = (new.get_mut("httpGet"), was.get("httpGet")) else {
        return;
    };
    if text(was, "scheme") == "HTTP" {
        new["scheme"] = "HTTP".into();
    }
    if is_passed_on(was) {
        for key in ["path", "port"] {
            new[key] = was[key].clone();
        }
    }
}

/// Whether a probe's `httpGet` asks Istio's agent, which asks the sidecar.
pub(super) fn is_passed_on(http: &Value) -> bool {
    text(http, "path")
        .strip_prefix("/app-health/")
        .is_some_and(|rest| rest.starts_with(&format!("{SIDECAR}/")))
}

/// `was` in its order, with the fresh items in the place of those of their key, and of the rest what `may` stay; then the fresh ones that were not
/// there. Of several with one key the last, as for the kubelet.
fn merged(fresh: &[Value], was: &[Value], key: &str, may: impl Fn(&Value) -> bool) -> Vec<Value> {
    let ours: HashMap<&str, &Value> = fresh.iter().map(|f| (text(f, key), f)).collect();
    let last: HashMap<&str, usize> = (was.iter().map(|w| text(w, key)).zip(0..)).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut out: Vec<Value> = Vec::new();
    for (i, item) in was.iter().enumerate() {
        let name = text(item, key);
        match ours.get(name) {
            Some(fresh) if seen.insert(name) => out.push((*fresh).clone()),
            None if last.get(name) == Some(&i) && may(item) => out.push(item.clone()),
            _ => {}
        }
    }
    let missing = fresh.iter().filter(|f| !seen.contains(text(f, key)));
    out.extend(missing.cloned());
    out
}

/// Whether a path is the sidecar's own, leads there or lies there: what others mount may not be in the way of what it goes by.
pub(super) fn is_own(path: &str, profile: &Profile) -> bool {
    let mounts = profile.mounts.iter().map(|m| m.path.as_str());
    let trusted = (!profile.allow_added_trust).then_some(TRUSTED_PATHS);
    let all = OWN_PATHS.into_iter().chain(trusted.into_iter().flatten());
    all.chain(mounts).any(|own| overlap(path, own))
}

/// Which mounts may stay.
struct Mounts<'p> {
    volumes: HashMap<&'p str, &'p Value>,
    aks: Option<HashSet<String>>,
    profile: &'p Profile,
}

impl<'p> Mounts<'p> {
    fn new(pod: &'p Value, profile: &'p Profile) -> Self {
        let aks = matches!(profile.token, TokenSource::Aks { .. }) && aks::asked(pod);
        let all = pod.get("spec").map_or(&[][..], |s| items(s, "volumes"));
        Self {
            volumes: all.iter().map(|v| (text(v, "name"), v)).collect(),
            aks: aks.then(|| aks::token_volumes(pod)),
            profile,
        }
    }

    /// A container's mounts of AKS' token, if the token is AKS'.
    fn of_aks<'m>(&'m self, container: &'m Value) -> impl Iterator<Item = &'m Value> {
        let mounts = items(container, "volumeMounts").iter();
        mounts.filter(|m| self.is_aks(text(m, "name")) && self.may(m))
    }

    fn is_aks(&self, volume: &str) -> bool {
        self.aks.as_ref().is_some_and(|own| own.contains(volume))
    }

    fn may(&self, mount: &Value) -> bool {
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if is_own(path, self.profile) {
            return false;
        }
        if self.is_aks(name) {
            return true;
        }
        let Some(volume) = self.volumes.get(name) else {
            return false;
        };
        let token = aks::audiences(volume).next().is_some();
        READ_ONLY.iter().any(|kind| volume.get(kind).is_some()) && (!token || path == KUBE_API)
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::{Mount, MountSource};
    use super::*;

    #[test]
    fn an_image_may_be_pinned() {
        let digest = "a".repeat(64);
        for (was, fresh, expected) in [
            ("r.example:5000/x:1@sha256:D", "r.example:5000/x:1", true),
            ("r.example:5000/x@sha256:D", "r.example:5000/x:1", true),
            ("x@sha256:D", "x", true),
            ("r.example/x:2@sha256:D", "r.example/x:1", false),
            ("evil.example/x:1@sha256:D", "r.example/x:1", false),
            ("r.example/x:1@sha256:beef", "r.example/x:1", false),
            ("x@sha256:D", "x@sha256:0", false),
            ("x:1", "x:1", false),
        ] {
            let was = was.replace('D', &digest);
            assert_eq!(is_pinned(&was, fresh), expected, "{was}");
        }
        let odd = format!("x@sha256:{}", "g".repeat(64));
        assert!(!is_pinned(&odd, "x"));
    }

    #[test]
    fn of_several_with_one_name_the_last_stays() {
        let [fresh, first, last] =
            ["fresh", "first", "last"].map(|v| json!({"name": "x", "value": v}));
        let was = [first, last.clone()];
        assert_eq!(merged(&[], &was, "name", |_| true), [last]);
        assert_eq!(
            merged(std::slice::from_ref(&fresh), &was, "name", |_| true),
            [fresh]
        );
    }

    #[test]
    fn mounts_of_what_the_workload_cannot_write_may_stay() {
        let pod = json!({
            "metadata": {"labels": {"azure.workload.identity/use": "true"}},
            "spec": {"volumes": [
                {"name": "ca", "configMap": {"name": "ca"}}, {"name": "scratch", "emptyDir": {}}, {"name": "node", "hostPath": {"path": "/"}},
                {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "azure-identity-token", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "api://AzureADTokenExchange"}}]}},
            ]},
        });
        let files = Mount {
            source: MountSource::ConfigMap("files".into()),
            path: "/files/ca".into(),
        };
        let tokens = "/var/run/secrets/azure/tokens";
        for (name, path, [by_default, with_added_trust, projected]) in [
            ("ca", "/extra", [true; 3]),
            ("ca", "/etc/ssl/certs", [false, true, false]),
            ("ca", "/etc/hosts", [false, true, false]),
            ("ca", "/opt/etc/ssl/certs/x", [false, true, false]),
            ("ca", "/", [false; 3]),
            ("ca", "/usr/local/bin/token-sidecar", [false; 3]),
            ("ca", "/etc/token-sidecar", [false; 3]),
            ("ca", "/var/run/secrets/token-sidecar/more", [false; 3]),
            ("ca", "/var/run", [false; 3]),
            ("ca", "/files/ca", [false; 3]),
            ("ca", "/files//ca/./ca.pem", [false; 3]),
            ("ca", "/files", [false; 3]),
            ("ca", "/extra/../usr/local/bin", [false; 3]),
            ("ca", "/files/x/../ca", [false; 3]),
            ("ca", "usr/local/bin", [false; 3]),
            ("scratch", "/tmp", [false; 3]),
            ("node", "/node", [false; 3]),
            ("none", "/tmp", [false; 3]),
            ("kube-api-access-x", KUBE_API, [true; 3]),
            ("kube-api-access-x", "/tmp", [false; 3]),
            ("azure-identity-token", tokens, [true, true, false]),
        ] {
            let mount = json!({"name": name, "mountPath": path});
            let having = |profile: Profile| Profile {
                mounts: vec![files.clone()],
                ..profile
            };
            let aks = having(super::super::tests::profile());
            let trusting = Profile {
                allow_added_trust: true,
                ..aks.clone()
            };
            for (profile, expected) in [
                (aks.clone(), by_default),
                (trusting, with_added_trust),
                (having(super::super::tests::projected()), projected),
            ] {
                let may = Mounts::new(&pod, &profile).may(&mount);
                assert_eq!(may, expected, "{mount} {profile:?}");
            }
            let mut unasked = pod.clone();
            unasked["metadata"] = json!({});
            let may = Mounts::new(&unasked, &aks).may(&mount);
            assert_eq!(may, projected, "{mount}, of AKS' webhook nothing was asked");
        }
    }
}
