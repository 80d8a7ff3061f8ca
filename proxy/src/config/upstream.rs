//! `routes[].upstream` and the keys that go with it -> one upstream's parameters. Its URL stands in the file, or in a variable that the file names:
//! then the variable's value is one URL under the rules of all, read after the file was, so that whoever sets it can say nothing else.

use super::{
    env,
    error::Place,
    fields::{Context, Fields, Surroundings},
    parse,
    tree::{Node, Value},
};
use crate::{
    net::guard::is_loopback_name,
    request::params::{HttpVersions, UpstreamParams},
};
use std::sync::Arc;

/// Where a variable gets its value: whoever is to mend it looks there.
const SOURCE: &str = "where the value comes from (the pod's `env`, a ConfigMap, a Secret)";

/// An upstream, and the variable that its URL is the value of.
pub(super) struct Upstream {
    pub(super) params: UpstreamParams,
    pub(super) variable: Option<Arc<str>>,
}

/// Reads a route's upstream. `None`: something was reported.
pub(super) fn read(route: &Fields<'_>) -> Option<Upstream> {
    let source = Source::of(route);
    let url = source.as_ref().and_then(|s| s.url(route));
    let allow_insecure_http = route.value("allowInsecureHttp", parse::boolean);
    if let (Some(source), Some(url), Some(false)) = (&source, &url, allow_insecure_http)
        && !url.tls
        && !is_loopback_name(&url.host)
    {
        source.is_plain_http(route.context);
    }
    let http = route.value("http", |text| match text {
        "auto" => Ok(HttpVersions::Auto),
        "1" => Ok(HttpVersions::Http1),
        "2" => Ok(HttpVersions::Http2),
        _ => Err("not a version; write auto, 1 or 2".into()),
    });
    let ca_file = route.value("upstreamCaFile", parse::path);
    let server_name = route.value("serverName", parse::host);
    let pool = route.map("pool", "routes[].pool")?;
    let max_connections = pool.value("maxConnections", parse::count(1 << 20));
    let max_idle = pool.value("maxIdle", parse::count(1 << 20));
    let idle_timeout = pool.value("idleTimeout", parse::timeout);
    let (source, url) = (source?, url?);
    for key in ["upstreamCaFile", "serverName"] {
        if !url.tls && route.node(key).is_some() {
            route.error(key, "the upstream is plain http, so there is no TLS to apply this to; use https:// or remove it");
        }
    }
    let params = UpstreamParams {
        tls: url.tls,
        host: url.host,
        port: url.port,
        unix: None,
        base_path: url.base_path,
        http: http?,
        ca_file,
        server_name,
        allow_insecure_http: allow_insecure_http?,
        max_connections: max_connections?.get(),
        max_idle_connections: max_idle?.get(),
        idle_timeout: idle_timeout?,
    };
    Some(Upstream {
        params,
        variable: source.variable,
    })
}

/// Where the URL stands.
struct Source {
    at: Place,
    path: String,
    variable: Option<Arc<str>>,
}

impl Source {
    fn of(route: &Fields<'_>) -> Option<Self> {
        let is_map = |node: &Node| matches!(node.value, Value::Map(_));
        if !route.node("upstream").is_some_and(is_map) {
            return Some(Self {
                at: route.at("upstream"),
                path: route.join("upstream"),
                variable: None,
            });
        }
        let fields = route.map("upstream", "routes[].upstream")?;
        let name = fields.value("env", variable)?;
        Some(Self {
            at: fields.at("env"),
            path: fields.join("env"),
            variable: Some(name.into()),
        })
    }

    fn url(&self, route: &Fields<'_>) -> Option<parse::Upstream> {
        let Some(name) = &self.variable else {
            return route.value("upstream", parse::upstream);
        };
        let context = route.context;
        let message = match (context.env)(name) {
            None => match context.surroundings {
                Surroundings::Process => {
                    format!(
                        "{name} is not set; set it in the sidecar's container to the upstream's URL"
                    )
                }
                Surroundings::Injected { .. } => format!(
                    "an injected sidecar has no variable {name}; write the URL here, or name the workload's variable in `rewrite` of the profile"
                ),
            },
            Some(value) => match value.trim() {
                "" => format!("{name} is empty; put the upstream's URL {SOURCE}"),
                url => match parse::upstream(url) {
                    Ok(url) => return Some(url),
                    Err(message) => format!("the value of {name}: {message}, {SOURCE}"),
                },
            },
        };
        context.problems.error(self.at, &*self.path, message);
        None
    }

    fn is_plain_http(&self, context: &Context<'_>) {
        const WHY: &str =
            "plain http off loopback; the access token would travel in the clear: use https://";
        const OR: &str = "or set `allowInsecureHttp: true` beside";
        let message = match &self.variable {
            None => format!("{WHY}, {OR} it"),
            Some(name) => format!(
                "the value of {name}: {WHY} {SOURCE}, {OR} `upstream`, or, where injection wrote the route, in `rewrite` of the profile"
            ),
        };
        context.problems.error(self.at, &*self.path, message);
    }
}

/// A variable that an upstream may come from. Those alone: the sidecar reads nothing else of the environment that is not listed, and injection lets
/// nobody else set them.
fn variable(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix(env::UPSTREAM_PREFIX).unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !rest.is_empty() && text.len() <= 255 && rest.chars().all(good) {
        Ok(text.to_owned())
    } else {
        let prefix = env::UPSTREAM_PREFIX;
        Err(format!(
            "not a variable that an upstream may come from; name one that begins with {prefix}, such as {prefix}ORDERS"
        ))
    }
}
