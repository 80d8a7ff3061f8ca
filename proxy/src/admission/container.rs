//! The sidecar's container and volumes, and the configuration that it is given.

use super::{
    aks::Given,
    check::Environment,
    files::Files,
    patch::text,
    pod::{CONFIG_VOLUME, SIDECAR, TOKEN_VOLUME},
    profile::{Profile, RewriteCredential, SidecarConfig, TokenSource},
    rewrite::{Route, Upstream},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where our own token is mounted.
pub(super) const TOKEN_DIR: &str = "/var/run/secrets/token-sidecar";
pub(super) const TOKEN_FILE: &str = "token";
/// Where a profile's ConfigMap is mounted.
pub(super) const CONFIG_DIR: &str = "/etc/token-sidecar";
/// Where the program is in its image.
pub(super) const PROGRAM_DIR: &str = "/usr/local/bin";
/// Where `admin` listens: the kubelet probes from outside of the pod, by IPv4 or IPv6.
const ADMIN_HOST: &str = "[::]";

/// The variable that holds the URL of a listener's upstream. The configuration names it and never contains its value, which whoever may edit the ConfigMap
/// or Secret behind it decides: a URL is all that they can say.
fn upstream_variable(port: u16) -> String {
    format!("TOKEN_SIDECAR_UPSTREAM_{port}")
}

/// What the sidecar's configuration may count on. A URL that only the kubelet can read is stood in for by another.
pub(super) fn environment(profile: &Profile, routes: &[Route]) -> Environment {
    let own = variables(profile).into_iter().chain(profile.proxy.clone());
    let unread = routes
        .iter()
        .filter(|route| matches!(route.upstream, Upstream::From(_)))
        .map(|route| {
            let url = "https://read-by-the-kubelet.invalid".to_owned();
            (upstream_variable(route.port), url)
        });
    Environment {
        variables: own
            .map(|(name, value)| (name.to_owned(), value))
            .chain(unread)
            .collect(),
        projected: matches!(profile.token, TokenSource::Projected { .. }),
        files: Files::of(profile),
    }
}

/// The variables by which the sidecar knows its token and identity.
fn variables(profile: &Profile) -> Vec<(&'static str, String)> {
    match &profile.token {
        // Its webhook sets them, to values that are not known here.
        TokenSource::Aks { identity_binding } => {
            let proxy = (
                "AZURE_KUBERNETES_TOKEN_PROXY",
                "https://token-proxy.invalid".into(),
            );
            let always = [
                (
                    "AZURE_CLIENT_ID",
                    "00000000-0000-0000-0000-000000000000".into(),
                ),
                (
                    "AZURE_TENANT_ID",
                    "00000000-0000-0000-0000-000000000000".into(),
                ),
                (
                    "AZURE_FEDERATED_TOKEN_FILE",
                    "/var/run/secrets/azure/wi/token/azure-identity-token".into(),
                ),
            ];
            always
                .into_iter()
                .chain(identity_binding.then_some(proxy))
                .collect()
        }
        TokenSource::Projected { env, .. } => {
            let file = (
                "AZURE_FEDERATED_TOKEN_FILE",
                format!("{TOKEN_DIR}/{TOKEN_FILE}"),
            );
            [file].into_iter().chain(env.iter().cloned()).collect()
        }
    }
}

/// The sidecar's whole configuration as JSON, or `None` when a ConfigMap has it.
pub(super) fn configuration(profile: &Profile, routes: &[Route]) -> Option<Value> {
    let SidecarConfig::Inline {
        credentials,
        routes: own,
    } = &profile.config
    else {
        return None;
    };
    let mut credentials = credentials.clone();
    let mut all = own.clone();
    let mut by_scope: Vec<(&str, String)> = Vec::new();
    for route in routes {
        let credential = match &route.credential {
            RewriteCredential::Named(name) => name.clone(),
            RewriteCredential::ConfigMap => continue,
            RewriteCredential::Scope(scope) => match by_scope.iter().find(|(s, _)| s == scope) {
                Some((_, name)) => name.clone(),
                None => {
                    let name = unused(&route.name, |name| credentials.contains_key(name));
                    credentials.insert(
                        name.clone(),
                        json!({ "entraClientAssertion": { "scope": scope } }),
                    );
                    by_scope.push((scope, name.clone()));
                    name
                }
            },
        };
        let upstream = match &route.upstream {
            Upstream::Url(url) => json!(url),
            Upstream::From(_) => json!({ "env": upstream_variable(route.port) }),
            Upstream::ConfigMap => continue,
        };
        let name = unused(&route.name, |name| {
            all.iter().any(|other| text(other, "name") == name)
        });
        let mut entry = json!({ "name": name, "upstream": upstream, "credential": credential });
        if route.port != profile.port {
            entry["listen"] = format!("127.0.0.1:{}", route.port).into();
        }
        if route.allow_insecure_http {
            entry["allowInsecureHttp"] = true.into();
        }
        all.push(entry);
    }
    Some(json!({
        "listen": format!("127.0.0.1:{}", profile.port),
        "admin": format!("{ADMIN_HOST}:{}", profile.admin_port),
        "workers": profile.workers,
        "credentials": credentials,
        "routes": all,
    }))
}

/// A name that is not taken by the profile or the pod.
fn unused(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = wanted.to_owned();
    while taken(&name) {
        name.push_str("-rewritten");
    }
    name
}

/// Ports that the profile's own routes listen on, the first listener's included when a route uses it.
pub(super) fn own_ports(profile: &Profile) -> BTreeSet<u16> {
    let SidecarConfig::Inline { routes, .. } = &profile.config else {
        return BTreeSet::new();
    };
    let port = |route: &Value| match route.get("listen").and_then(Value::as_str) {
        None => Some(profile.port),
        Some(listen) => listen
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok()),
    };
    routes.iter().filter_map(port).collect()
}

/// The only route, when it can be told by `TOKEN_SIDECAR_UPSTREAM` and `TOKEN_SIDECAR_SCOPE`.
fn only<'r>(profile: &Profile, routes: &'r [Route]) -> Option<(&'r Route, &'r str)> {
    match (&profile.config, routes) {
        (
            SidecarConfig::Inline {
                credentials,
                routes: own,
            },
            [route],
        ) if credentials.is_empty() && own.is_empty() => match &route.credential {
            RewriteCredential::Scope(scope)
                if !route.allow_insecure_http && route.port == profile.port =>
            {
                Some((route, scope))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The sidecar's container. `given`: what AKS' webhook has put into the pod already.
pub(super) fn sidecar(
    profile: &Profile,
    routes: &[Route],
    configuration: Option<&Value>,
    given: Option<&Given>,
) -> Value {
    let mut env: Vec<Value> = Vec::new();
    let mut mounts: Vec<Value> = Vec::new();
    match &profile.token {
        TokenSource::Aks { .. } => {
            if let Some(given) = given {
                env.extend(given.env.iter().cloned());
                mounts.extend(given.mounts.iter().cloned());
            }
        }
        TokenSource::Projected { .. } => {
            env.extend(
                variables(profile)
                    .into_iter()
                    .map(|(name, value)| variable(name, &value)),
            );
            mounts.push(json!({ "name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true }));
        }
    }
    env.extend(
        profile
            .proxy
            .iter()
            .map(|(name, value)| variable(name, value)),
    );
    let mut args = vec![
        "--listen".to_owned(),
        format!("127.0.0.1:{}", profile.port),
        "--admin".to_owned(),
        format!("{ADMIN_HOST}:{}", profile.admin_port),
    ];
    match (only(profile, routes), configuration, &profile.config) {
        (Some((route, scope)), ..) => {
            args.extend(["--workers".to_owned(), profile.workers.to_string()]);
            env.push(match &route.upstream {
                Upstream::From(from) => {
                    json!({ "name": "TOKEN_SIDECAR_UPSTREAM", "valueFrom": from })
                }
                Upstream::Url(url) => variable("TOKEN_SIDECAR_UPSTREAM", url),
                Upstream::ConfigMap => variable("TOKEN_SIDECAR_UPSTREAM", ""),
            });
            env.push(variable("TOKEN_SIDECAR_SCOPE", scope));
        }
        (None, Some(configuration), _) => {
            args.clear();
            for route in routes {
                if let Upstream::From(from) = &route.upstream {
                    env.push(json!({ "name": upstream_variable(route.port), "valueFrom": from }));
                }
            }
            env.push(variable(
                "TOKEN_SIDECAR_CONFIG_TEXT",
                &configuration.to_string(),
            ));
        }
        (None, None, SidecarConfig::ConfigMap { key, .. }) => {
            env.push(variable(
                "TOKEN_SIDECAR_CONFIG",
                &format!("{CONFIG_DIR}/{key}"),
            ));
            mounts
                .push(json!({ "name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true }));
        }
        (None, None, SidecarConfig::Inline { .. }) => {}
    }
    mounts.extend(super::mounts::mounts(profile));
    env.push(variable("TOKEN_SIDECAR_LOG_LEVEL", &profile.log_level));
    let mut container = json!({
        "name": SIDECAR,
        "image": profile.image,
        "imagePullPolicy": profile.image_pull_policy,
        "env": env,
        "ports": [{ "name": "sidecar-admin", "containerPort": profile.admin_port, "protocol": "TCP" }],
        // It has started when every credential has got its first token: from then on the workload's calls can succeed.
        "startupProbe": probe("/startupz", profile.admin_port, 1, 180),
        "readinessProbe": probe("/readyz", profile.admin_port, 5, 2),
        "livenessProbe": probe("/livez", profile.admin_port, 10, 3),
        "resources": profile.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": profile.uid,
            "runAsNonRoot": true,
            "runAsUser": profile.uid,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if !args.is_empty() {
        container["args"] = args.into();
    }
    if !mounts.is_empty() {
        container["volumeMounts"] = mounts.into();
    }
    if profile.native {
        container["restartPolicy"] = "Always".into();
    }
    container
}

/// The volumes that the sidecar mounts, and no other container does.
pub(super) fn volumes(profile: &Profile) -> Vec<(String, Value)> {
    let mut volumes = Vec::new();
    if let TokenSource::Projected {
        audience,
        expiration,
        ..
    } = &profile.token
    {
        let token =
            json!({ "audience": audience, "expirationSeconds": expiration, "path": TOKEN_FILE });
        let volume = json!({ "name": TOKEN_VOLUME, "projected": { "sources": [{ "serviceAccountToken": token }] } });
        volumes.push((TOKEN_VOLUME.to_owned(), volume));
    }
    if let SidecarConfig::ConfigMap { name, .. } = &profile.config {
        volumes.push((
            CONFIG_VOLUME.to_owned(),
            json!({ "name": CONFIG_VOLUME, "configMap": { "name": name } }),
        ));
    }
    volumes.extend(super::mounts::volumes(profile));
    volumes
}

/// A variable whose value the kubelet shall not expand.
fn variable(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value.replace('$', "$$") })
}

fn probe(path: &str, port: u16, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": port },
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    })
}
