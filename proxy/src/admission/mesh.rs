//! Service meshes whose proxy takes over a pod's connections: where a native sidecar goes so that neither waits for the other, and what is said where no
//! place helps. Goes by what the meshes' webhooks put into pods, and what pods ask them for; their control planes and namespaces are out of sight.
//!
//! A native sidecar starts before the pod's ordinary containers. If the mesh's proxy is one of those, the sidecar needs the network before the proxy is
//! there: it has it until an init container of the mesh leads connections away, and never where a network plugin (CNI) does so beforehand.

use super::{
    patch::{entries, text},
    pod::{self, Container},
    problems::Problems,
    profile::Profile,
    settled::is_passed_on,
};
use serde_json::Value;

/// What a mesh puts into pods.
struct Mesh {
    name: &'static str,
    /// The proxy's container.
    proxy: &'static str,
    /// The init container that leads connections to the proxy.
    redirect: &'static str,
    /// The init container, or the annotation, that tells of a network plugin which did so before any container starts.
    early: &'static str,
    /// The label or annotation by which a pod asks for it, and its values.
    asked: (&'static str, &'static [&'static str]),
    /// The annotation that makes the proxy a native sidecar, where there is one; versions name it differently.
    native: &'static [&'static str],
    /// The annotations that keep ports out of it: of calls, and of connections that come in.
    past: [&'static str; 2],
}

const MESHES: [Mesh; 3] = [
    Mesh {
        name: "Istio",
        proxy: "istio-proxy",
        redirect: "istio-init",
        early: "istio-validation",
        asked: ("sidecar.istio.io/inject", &["true"]),
        native: &["sidecar.istio.io/nativeSidecar"],
        past: [
            "traffic.sidecar.istio.io/excludeOutboundPorts",
            "traffic.sidecar.istio.io/excludeInboundPorts",
        ],
    },
    Mesh {
        name: "Linkerd",
        proxy: "linkerd-proxy",
        redirect: "linkerd-init",
        early: "linkerd-network-validator",
        asked: ("linkerd.io/inject", &["enabled", "ingress"]),
        native: &[
            "config.beta.linkerd.io/proxy-enable-native-sidecar",
            "config.alpha.linkerd.io/proxy-enable-native-sidecar",
            "config.linkerd.io/proxy-enable-native-sidecar",
        ],
        past: [
            "config.linkerd.io/skip-outbound-ports",
            "config.linkerd.io/skip-inbound-ports",
        ],
    },
    Mesh {
        name: "Consul",
        proxy: "consul-dataplane",
        redirect: "consul-connect-inject-init",
        early: "consul.hashicorp.com/redirect-traffic-config",
        asked: ("consul.hashicorp.com/connect-inject", &["true"]),
        native: &[],
        past: [
            "consul.hashicorp.com/transparent-proxy-exclude-outbound-ports",
            "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
        ],
    },
];

/// Where a native sidecar goes among the init containers, given without it: behind a mesh's own where they lead and the proxy is among them, so that it is
/// part of the mesh from its first call on; but before what leads connections to a proxy that is not there yet. `wanted`: where it goes else.
pub(super) fn place(init: &[Value], wanted: usize) -> usize {
    let is = |c: &Value, of: fn(&Mesh) -> &'static str| {
        let name = text(c, "name");
        MESHES.iter().any(|m| named(name, of(m)))
    };
    let leading = init
        .iter()
        .take_while(|c| is(c, |m| m.proxy) || is(c, |m| m.redirect) || is(c, |m| m.early))
        .count();
    if init.iter().take(leading).any(|c| is(c, |m| m.proxy)) {
        return wanted.max(leading);
    }
    let redirect = init.iter().position(|c| is(c, |m| m.redirect));
    wanted.min(redirect.unwrap_or(wanted))
}

/// Reports a mesh's proxy that a native sidecar and the pod would wait for without end, and warns of one that may turn out so. `was`: the sidecar as it was
/// found, if there was one.
pub(super) fn check(
    pod: &Value,
    profile: &Profile,
    was: Option<&Value>,
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    if !profile.native {
        return;
    }
    for mesh in &MESHES {
        let Some(proxy) = pod::containers(pod).find(|c| named(c.name, mesh.proxy)) else {
            if mesh.is_asked(pod) && !mesh.is_native(pod) {
                warnings.push(format!(
                    "the pod asks for {}'s proxy ({}): unless that becomes a native sidecar, too, it starts only after this one, which may then wait for it \
                     without end; {}",
                    mesh.name,
                    mesh.asked.0,
                    mesh.mend()
                ));
            }
            continue;
        };
        if is_native(&proxy) {
            continue;
        }
        let name = mesh.name;
        let start = was.and_then(|w| w.pointer("/startupProbe/httpGet"));
        if start.is_some_and(is_passed_on) {
            problems.push(format!(
                "{name}'s proxy answers the sidecar's probes, and is an ordinary container, which starts only once they have succeeded: neither would ever \
                 start; {}",
                mesh.mend()
            ));
        } else if mesh.is_early(pod) && !mesh.lets_past(pod, profile.admin_port) {
            let [out, into] = mesh.past;
            problems.push(format!(
                "{name}'s network plugin leads the pod's connections to a proxy that is an ordinary container, which starts only once the sidecar has its \
                 first token: neither would ever start; {}, or lead the sidecar's calls and probes past the proxy (annotations {out}: \"443\" and {into}: \
                 \"{}\")",
                mesh.mend(),
                profile.admin_port
            ));
        } else {
            warnings.push(format!(
                "{name}'s proxy is an ordinary container and starts after the sidecar, which cannot reach until then what only the mesh reaches; if its \
                 tokens come from there, {}",
                mesh.mend()
            ));
        }
    }
}

impl Mesh {
    fn mend(&self) -> String {
        let native = match self.native.first() {
            Some(annotation) => {
                format!("make it a native sidecar (annotation {annotation}: \"true\"), or ")
            }
            None => String::new(),
        };
        format!(
            "{native}make the sidecar an ordinary container (annotation token-sidecar.io/native: \"false\", or `native: false` of the profile)"
        )
    }

    fn is_asked(&self, pod: &Value) -> bool {
        let (key, values) = self.asked;
        ["labels", "annotations"]
            .iter()
            .any(|map| values.contains(&said(pod, map, key)))
    }

    fn is_native(&self, pod: &Value) -> bool {
        let yes = |key: &&str| ["true", "enabled"].contains(&said(pod, "annotations", key));
        self.native.iter().any(yes)
    }

    /// A network plugin leads connections away before any container starts.
    fn is_early(&self, pod: &Value) -> bool {
        pod::containers(pod).any(|c| c.name == self.early)
            || !said(pod, "annotations", self.early).is_empty()
    }

    /// Calls of some ports, and probes, are kept out of it. Whether they are the ports of the sidecar's upstreams is for the pod's author to know.
    fn lets_past(&self, pod: &Value, admin: u16) -> bool {
        let [out, into] = self.past.map(|key| said(pod, "annotations", key));
        let has = |range: &str| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
                (Ok(from), Ok(to)) => (from..=to).contains(&admin),
                _ => false,
            }
        };
        !out.trim().is_empty() && into.split(',').any(has)
    }
}

/// Consul puts the name of a service behind those of its containers.
fn named(container: &str, known: &str) -> bool {
    let rest = container.strip_prefix(known);
    rest.is_some_and(|r| r.is_empty() || known.starts_with("consul-") && r.starts_with('-'))
}

fn is_native(container: &Container<'_>) -> bool {
    container.list == "initContainers" && text(container.value, "restartPolicy") == "Always"
}

/// What a label or annotation says; empty: nothing.
fn said<'p>(pod: &'p Value, map: &str, key: &str) -> &'p str {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let value = entries(metadata, map).and_then(|m| m.get(key));
    value.and_then(Value::as_str).unwrap_or_default()
}
