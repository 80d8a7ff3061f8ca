//! Which files an injected sidecar has, as far as its profile says: those that its `mounts` bring, those of its token, and what its image may have.
//! Opens nothing.

use super::{
    container::{TOKEN_DIR, TOKEN_FILE},
    mounts::{directory, overlap},
    paths::below,
    profile::{Profile, TokenSource},
    settled::KUBE_API,
    wish::shown,
};

/// Where AKS' webhook puts what it gives.
const AKS: &str = "/var/run/secrets/azure";
/// Where an image has its own: roots, and what is installed.
const IMAGE: [&str; 4] = ["/etc/ssl", "/etc/pki", "/opt/etc/ssl", "/usr"];
/// The roots that the project's image has.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Which files there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The directories of `mounts`.
    mounts: Vec<String>,
    /// AKS' webhook gives the token; else it is ours.
    aks: bool,
    /// Other webhooks may bring more.
    added: bool,
}

/// Whether a file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Its place is one that is brought.
    Yes,
    /// It is right if the image has it, or another webhook brings it: what is worth knowing, and the mend if neither does.
    Perhaps(String),
    /// Nothing brings it: why, and the mend.
    No(String),
}

impl Files {
    /// Of the sidecars of this profile.
    pub fn of(profile: &Profile) -> Self {
        Self {
            mounts: profile.mounts.iter().map(|m| m.path.clone()).collect(),
            aks: matches!(profile.token, TokenSource::Aks { .. }),
            added: profile.allow_added_trust,
        }
    }

    /// Looks for the file of this path.
    pub fn find(&self, path: &str) -> Found {
        let file = shown(path);
        if !path.starts_with('/') || path.split('/').any(|s| s == "..") {
            return Found::No(format!(
                "{file} is not an absolute path without `..`; {}",
                self.mend(path)
            ));
        }
        if let Some(mount) = self.mounts.iter().find(|m| below(path, m)) {
            return in_mount(path, mount);
        }
        let own = if self.aks {
            below(path, AKS)
        } else {
            let token = format!("{TOKEN_DIR}/{TOKEN_FILE}");
            below(path, &token) && below(&token, path)
        };
        if own || path == ROOTS || below(path, KUBE_API) {
            return Found::Yes;
        }
        let mend = self.mend(path);
        if IMAGE.iter().any(|own| below(path, own)) {
            return Found::Perhaps(format!(
                "{file} is nothing that the profile mounts, so it must be in the sidecar's image; if it is not, {mend}"
            ));
        }
        if self.added {
            return Found::Perhaps(format!(
                "{file} is nothing that the profile mounts, so another webhook must bring it; if none does, {mend}"
            ));
        }
        let mounted = match self.mounts.as_slice() {
            [] => String::new(),
            some => format!(" (mounted: {})", some.join(", ")),
        };
        Found::No(format!(
            "nothing that the profile mounts brings {file}{mounted}, so the sidecar would not find it; {mend}"
        ))
    }

    /// How to bring a file: where it is said to be, if something can be mounted there.
    fn mend(&self, path: &str) -> String {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let free = !self.mounts.iter().any(|m| overlap(m, parent));
        if free && directory(parent).is_ok() {
            format!(
                "add `{{path: {parent}, configMap: NAME}}` (or `secret: NAME`) to the profile's `mounts`"
            )
        } else {
            "name it by a path in one of the profile's `mounts`, such as `{path: /etc/orders-ca, configMap: NAME}` (or `secret: NAME`)".into()
        }
    }
}

/// Each key of a ConfigMap or Secret is a file right in its mount (`..data`, by which the kubelet swaps them, leads there, too).
fn in_mount(path: &str, mount: &str) -> Found {
    let depth = |path: &str| {
        path.split('/')
            .filter(|s| !matches!(*s, "" | "." | "..data"))
            .count()
    };
    let file = shown(path);
    match depth(path).saturating_sub(depth(mount)) {
        0 => Found::No(format!(
            "{file} is the directory of a mount; add the key that is the file, such as {mount}/ca.pem"
        )),
        1 => Found::Yes,
        _ => Found::No(format!(
            "{file} is deeper than a mount's files, which are the keys of its ConfigMap or Secret and stand right in {mount}; leave the directories out"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::profile::{Mount, MountSource};

    fn files(own: bool, added: bool) -> Files {
        let profile = if own {
            super::super::tests::projected()
        } else {
            super::super::tests::profile()
        };
        Files::of(&Profile {
            mounts: vec![Mount {
                source: MountSource::Secret("s".into()),
                path: "/etc/sts".into(),
            }],
            allow_added_trust: added,
            ..profile
        })
    }

    #[test]
    fn what_is_brought_is_found() {
        for (path, aks, own) in [
            ("/etc/sts/secret", true, true),
            ("/etc//sts/./secret", true, true),
            ("/etc/sts/..data/secret", true, true),
            ("/etc/ssl/certs/ca-certificates.crt", true, true),
            (
                "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
                true,
                true,
            ),
            (
                "/var/run/secrets/azure/wi/token/azure-identity-token",
                true,
                false,
            ),
            ("/var/run/secrets/token-sidecar/token", false, true),
            ("/var/run/secrets/token-sidecar/tokens", false, false),
            ("/etc/stss/secret", false, false),
        ] {
            for (expected, files) in [(aks, files(false, false)), (own, files(true, false))] {
                assert_eq!(files.find(path) == Found::Yes, expected, "{path} {files:?}");
            }
        }
    }

    #[test]
    fn what_is_not_is_told_with_its_mend() {
        let no = |path: &str| match files(false, false).find(path) {
            Found::No(message) => message,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(
            no("/etc/orders-ca/ca.pem"),
            "nothing that the profile mounts brings /etc/orders-ca/ca.pem (mounted: /etc/sts), so the sidecar would not find it; add \
             `{path: /etc/orders-ca, configMap: NAME}` (or `secret: NAME`) to the profile's `mounts`"
        );
        let elsewhere = "; name it by a path in one of the profile's `mounts`, such as `{path: /etc/orders-ca, configMap: NAME}` (or `secret: NAME`)";
        for path in ["/ca.pem", "/etc/token-sidecar/ca.pem", "/etc/ca.pem"] {
            let told = no(path);
            assert!(told.contains(path) && told.ends_with(elsewhere), "{told}");
        }
        for path in ["ca.pem", "/etc/sts/../ca/ca.pem"] {
            let told = no(path);
            let start = format!("{path} is not an absolute path without `..`; ");
            assert!(told.starts_with(&start), "{told}");
        }
        assert_eq!(
            no("/etc/sts/"),
            "/etc/sts/ is the directory of a mount; add the key that is the file, such as /etc/sts/ca.pem"
        );
        assert_eq!(
            no("/etc/sts/a/b"),
            "/etc/sts/a/b is deeper than a mount's files, which are the keys of its ConfigMap or Secret and stand right in /etc/sts; leave the directories out"
        );
    }

    #[test]
    fn an_image_or_another_webhook_may_have_the_rest() {
        for (path, added, by) in [
            ("/usr/share/orders/ca.pem", false, "in the sidecar's image"),
            ("/etc/ssl/orders.pem", false, "in the sidecar's image"),
            ("/extra/ca.pem", true, "another webhook must bring it"),
        ] {
            match files(false, added).find(path) {
                Found::Perhaps(told) => assert!(told.contains(by), "{told}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}
