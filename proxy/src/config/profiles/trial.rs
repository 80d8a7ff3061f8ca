//! Reads a profile's `credentials` and `routes` as the sidecar would, before any pod comes: so that what is wrong with them is reported in its place.

use super::super::{
    decode,
    error::Place,
    fields::{Context, Fields, Surroundings},
    tree::{Entry, Node, Value},
};
use super::{audience, brought::child, files};
use crate::admission::{
    files::Files,
    profile::{Profile, Rewrite, RewriteCredential, SidecarConfig, TokenSource},
};

/// Reads the profile's credentials and routes, with one more route for every rewritten variable, as the sidecar would: so that what is wrong with
/// them is reported here, in its place. Credentials that rewrites name may still come from an annotation.
pub(super) fn run(profile: &Fields<'_>, params: &Profile) {
    let SidecarConfig::Inline { .. } = params.config else {
        return;
    };
    let context = profile.context;
    let at = profile.at;
    let text = |t: String| Node {
        at,
        value: Value::Scalar(t),
    };
    let entry = |key: &str, node: Node| Entry {
        key: key.into(),
        key_at: at,
        node,
    };
    let own_token = matches!(params.token, TokenSource::Projected { .. });
    ids(profile, params);
    let mut credentials = profile.named("credentials").unwrap_or_default().to_vec();
    let mut routes = profile.items("routes").unwrap_or_default().to_vec();
    let names: Vec<String> = credentials.iter().map(|e| e.key.clone()).collect();
    let own_routes = routes.len();
    let mut rewritten = Vec::new();
    let nodes = profile.items("rewrite").unwrap_or_default();
    for (i, (rewrite, node)) in params.rewrite.iter().zip(nodes).enumerate() {
        if let RewriteCredential::Named(name) = &rewrite.credential
            && !names.contains(name)
        {
            continue;
        }
        let credential = match &rewrite.credential {
            RewriteCredential::Named(name) => name.clone(),
            _ => {
                let name = format!("rewrite-{i}");
                let scope = if let RewriteCredential::Scope(scope) = &rewrite.credential {
                    scope.clone()
                } else {
                    String::new()
                };
                let mut keys = vec![entry("scope", text(scope))];
                if own_token {
                    // Where the profile says them is a place that was looked at already.
                    keys.extend(IDS.map(|(_, key, _)| entry(key, text("x".into()))));
                }
                let grant = Node {
                    at,
                    value: Value::Map(keys),
                };
                credentials.push(Entry {
                    key: name.clone(),
                    // Nobody is to be told of this name.
                    key_at: Place::Whole,
                    node: Node {
                        at,
                        value: Value::Map(vec![entry("entraClientAssertion", grant)]),
                    },
                });
                name
            }
        };
        rewritten.push(i);
        routes.push(route(i, credential, rewrite, node));
    }
    if routes.is_empty() {
        let Some(any) = names.first().cloned() else {
            return;
        };
        let none = Rewrite {
            variable: String::new(),
            containers: Vec::new(),
            upstream: None,
            credential: RewriteCredential::ConfigMap,
            allow_insecure_http: false,
            port: None,
        };
        let nowhere = Node {
            at,
            value: Value::Null,
        };
        routes.push(route(params.rewrite.len(), any, &none, &nowhere));
    }
    let variables = match &params.token {
        TokenSource::Aks { identity_binding } => {
            let proxy = (
                super::super::env::TOKEN_PROXY,
                "https://token-proxy.invalid".to_owned(),
            );
            let ids = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"].map(|n| (n, "x".to_owned()));
            ids.into_iter()
                .chain(identity_binding.then_some(proxy))
                .collect()
        }
        TokenSource::Projected { env, .. } => env.clone(),
    };
    let env = |name: &str| match name {
        "AZURE_FEDERATED_TOKEN_FILE" => Some("/x".to_owned()),
        _ => variables
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.clone()),
    };
    // Its warnings are not for here: what nothing uses yet, pods may.
    let problems = context.problems.beside();
    let trial = Context {
        problems: &problems,
        env: &env,
        surroundings: Surroundings::Injected {
            projected: own_token,
        },
    };
    let tree = Node {
        at,
        value: Value::Map(vec![
            entry("listen", text(format!("127.0.0.1:{}", params.port))),
            entry("admin", text(format!("[::]:{}", params.admin_port))),
            entry(
                "credentials",
                Node {
                    at,
                    value: Value::Map(credentials),
                },
            ),
            entry(
                "routes",
                Node {
                    at,
                    value: Value::List(routes),
                },
            ),
        ]),
    };
    let read = decode(&tree, &trial);
    files::check(&tree, &Files::of(params), context.problems, |path| {
        profile.join(path)
    });
    if let Some(read) = read {
        audience::check(profile, params, &read);
    }
    context.problems.adopt(problems, |path| {
        profile.join(&in_profile(path, own_routes, &rewritten))
    });
}

/// What a path of the sidecar's configuration is in the profile. `rewritten`: which rewrites the routes behind the profile's own stand for.
fn in_profile(path: &str, own_routes: usize, rewritten: &[usize]) -> String {
    let made_up = path.strip_prefix("routes[").and_then(|rest| {
        let (index, key) = rest.split_once(']')?;
        let behind = index.parse::<usize>().ok()?.checked_sub(own_routes)?;
        Some((*rewritten.get(behind)?, key))
    });
    match (made_up, path) {
        (Some((i, ".listen")), _) => format!("rewrite[{i}].port"),
        (Some((i, key)), _) => format!("rewrite[{i}]{key}"),
        (None, "listen") => "port".into(),
        (None, "admin") => "adminPort".into(),
        (None, path) => path.into(),
    }
}

/// What Entra must be told beside a scope: the variable, the profile's key of `token.projected`, and what to write there.
const IDS: [(&str, &str, &str); 2] = [
    (
        "AZURE_CLIENT_ID",
        "clientId",
        "the client id of the app registration or managed identity",
    ),
    (
        "AZURE_TENANT_ID",
        "tenantId",
        "the tenant's id or one of its domains",
    ),
];

/// Reports the ids that a token of the profile's own lacks for its rewrites' scopes. With AKS' token, AKS' webhook sets them.
fn ids(profile: &Fields<'_>, params: &Profile) {
    let TokenSource::Projected { env, .. } = &params.token else {
        return;
    };
    let scoped = |r: &Rewrite| matches!(r.credential, RewriteCredential::Scope(_));
    let Some(first) = params.rewrite.iter().position(scoped) else {
        return;
    };
    for (variable, key, what) in IDS {
        if !env.iter().any(|(name, _)| *name == variable) {
            let message = format!(
                "missing; Entra wants it beside the scope of `rewrite[{first}]`: write {what}"
            );
            profile.context.problems.error(
                profile.at("token"),
                profile.join(&format!("token.projected.{key}")),
                message,
            );
        }
    }
}

/// The route that a rewritten variable would become, given the node of its entry. Its host keeps it from meeting another.
fn route(i: usize, credential: String, rewrite: &Rewrite, node: &Node) -> Node {
    let at = node.at;
    let text = |text: String| Node {
        at,
        value: Value::Scalar(text),
    };
    let entry = |key: &str, node: Node| Entry {
        key: key.into(),
        key_at: at,
        node,
    };
    // What the profile says stands in its own place.
    let said = |key: &str, said: String| Node {
        at: child(node, key).map_or(at, |n| n.at),
        value: Value::Scalar(said),
    };
    let upstream = rewrite
        .upstream
        .clone()
        .unwrap_or_else(|| "https://upstream.invalid".into());
    let matched = Node {
        at,
        value: Value::Map(vec![entry("host", text(format!("rewrite-{i}.invalid")))]),
    };
    let mut entries = vec![
        entry("name", text(format!("rewrite-{i}"))),
        entry("match", matched),
        entry("upstream", said("upstream", upstream)),
        entry("credential", said("credential", credential)),
        entry(
            "allowInsecureHttp",
            said("allowInsecureHttp", rewrite.allow_insecure_http.to_string()),
        ),
    ];
    if let Some(port) = rewrite.port {
        entries.push(entry("listen", said("port", format!("127.0.0.1:{port}"))));
    }
    Node {
        at,
        value: Value::Map(entries),
    }
}
