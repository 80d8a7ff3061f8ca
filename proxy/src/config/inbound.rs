//! `inbound` -> what the inbound side of the request flow and the verification of callers' tokens need.

use super::{
    fields::{Fields, shown},
    parse,
    request::{Listeners, timeouts},
    token,
    tree::Value,
    units,
};
use crate::{
    net::guard::is_loopback_name,
    request::{
        inbound::params::{InboundParams, Preflights},
        params::{HttpVersions, RouteParams, UpstreamParams},
    },
    token::verify::{
        jwk::Algorithm,
        params::{IssuerParams, KeysAt, KeysParams, RequiredClaim, VerifyParams},
    },
};
use http::{HeaderName, header};
use sidecar_runtime::listener::ListenAddr;
use std::{path::PathBuf, sync::Arc, time::Duration};
use url::{Position, Url};

/// What the inbound side is called in metrics, logs and problems; no route may be called so.
pub(super) const NAME: &str = "inbound";
/// Where probes usually go.
const PROBES: [&str; 5] = ["/health", "/healthz", "/livez", "/readyz", "/startupz"];
/// RFC 9728 section 3.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// As `routes[].pool` is without a word.
const MAX_CONNECTIONS: usize = 1024;
const MAX_IDLE: usize = 128;
const IDLE: Duration = Duration::from_secs(90);

/// What `inbound` says.
pub(super) struct Inbound {
    pub(super) side: InboundParams,
    pub(super) verify: VerifyParams,
}

/// Reads `inbound`. `Some(None)`: it is not there. `None`: there, and something was reported.
pub(super) fn decode(top: &Fields<'_>, listeners: &mut Listeners<'_>) -> Option<Option<Inbound>> {
    if top.node("inbound").is_none() {
        return Some(None);
    }
    let fields = top.map("inbound", "inbound")?;
    let listen = fields
        .value("listen", parse::listen)
        .map(|l| listeners.add_inbound(l, fields.at("listen"), fields.join("listen")));
    let upstream = fields.value("upstream", workload);
    let resource = fields.value("resource", resource);
    let audience = fields.list("audience", parse::text);
    let required_scopes = fields.list("requiredScopes", scope);
    let scopes_supported = fields.list("scopesSupported", scope);
    let handle_header = fields.value("handleHeader", handle_header);
    let handle_grace = fields.value("handleGrace", parse::duration_up_to("10m"));
    let max_handles = fields.value("maxHandles", parse::count(1 << 24));
    let max_seen = fields.value("maxVerifiedTokens", parse::count(1 << 24));
    let leeway = fields.value("leeway", parse::duration_up_to("5m"));
    let key_wait = fields.value("keyWait", parse::duration_up_to("1m"));
    let public_paths = public_paths(&fields);
    let allowed_hosts = fields.list("allowedHosts", parse::host);
    let allowed_origins = fields.list("allowedOrigins", parse::origin);
    let preflights = fields.value("corsPreflights", |text| match text {
        "forward" => Ok(Preflights::Forward),
        "answer" => Ok(Preflights::Answer),
        _ => Err(
            "not a rule; write forward (the workload answers them) or answer (the sidecar does)"
                .into(),
        ),
    });
    let bind_sessions = fields.value("bindSessions", parse::boolean);
    let forward_cookies = fields.value("forwardCookies", parse::boolean);
    let strip_request_headers = fields.list("stripRequestHeaders", parse::header_name);
    let strip_response_headers = fields.list("stripResponseHeaders", parse::header_name);
    let max_request_body = fields.value("maxRequestBody", units::size);
    let upgrades = fields.value("upgrades", parse::boolean);
    let timeouts = timeouts(&fields, "inbound.timeouts");
    let keys = keys(&fields);
    let required_claims = required_claims(&fields);
    let audiences = match (audience, &resource) {
        (Some(none), Some(resource)) if none.is_empty() => Some(vec![resource.to_string()]),
        (audience, _) => audience,
    };
    let issuers = issuers(&fields, audiences.as_deref().unwrap_or_default());
    let (resource, issuers) = (resource?, issuers?);
    audiences?;
    let required_scopes = required_scopes?;
    let mut scopes_supported = scopes_supported?;
    for scope in &required_scopes {
        if !scopes_supported.contains(scope) {
            scopes_supported.push(scope.clone());
        }
    }
    let mut hosts = allowed_hosts?;
    hosts.extend(
        resource
            .url
            .host_str()
            .map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned()),
    );
    Some(Some(Inbound {
        verify: VerifyParams {
            required_scopes: required_scopes.clone(),
            required_claims: required_claims?,
            leeway: leeway?,
            keys: keys?,
            max_seen: max_seen?.get(),
            issuers: issuers.iter().map(|(params, _)| params.clone()).collect(),
        },
        side: InboundParams {
            route: RouteParams {
                name: NAME.into(),
                listen: listen?,
                host: None,
                path_prefix: "/".into(),
                methods: None,
                upstream: upstream?,
                upstream_variable: None,
                credential: NAME.into(),
                without_caller: None,
                strip_request_headers: strip_request_headers?,
                strip_response_headers: strip_response_headers?,
                replay_buffer: 0,
                max_request_body,
                token_wait: Duration::ZERO,
                upgrades: upgrades?,
                timeouts: timeouts?,
            },
            metadata_url: resource.metadata_url(),
            metadata_paths: resource.metadata_paths(),
            resource: resource.to_string(),
            // Those that have no metadata of their own are no use to a client that wants to find out.
            authorization_servers: issuers
                .iter()
                .filter(|(_, is_url)| *is_url)
                .map(|(params, _)| params.issuer.to_string())
                .collect(),
            required_scopes,
            scopes_supported,
            handle_header: handle_header?,
            max_handles: max_handles?.get(),
            handle_grace: handle_grace?,
            public_paths: public_paths?,
            allowed_hosts: hosts,
            allowed_origins: allowed_origins?,
            preflights: preflights?,
            forward_cookies: forward_cookies?,
            bind_sessions: bind_sessions?,
            key_wait: key_wait?,
        },
    }))
}

/// The resource: as written, which is what counts, and taken apart.
struct Resource {
    text: String,
    url: Url,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Resource {
    /// RFC 9728 section 3.1: between the host and the path.
    fn metadata_url(&self) -> String {
        let origin = &self.url[..Position::BeforePath];
        let rest = match &self.url[Position::BeforePath..] {
            "/" => "",
            rest => rest,
        };
        format!("{origin}{WELL_KNOWN}{rest}")
    }

    fn metadata_paths(&self) -> Vec<String> {
        match self.url.path().trim_end_matches('/') {
            "" => vec![WELL_KNOWN.to_owned()],
            path => vec![WELL_KNOWN.to_owned(), format!("{WELL_KNOWN}{path}")],
        }
    }
}

fn resource(text: &str) -> Result<Resource, String> {
    let url = parse::token_endpoint(text).map_err(|_| {
        "not a resource identifier; write the https URL that callers know the workload by, such as https://mcp.example.com/mcp".to_owned()
    })?;
    // It goes into challenges between quotes.
    if text.contains('"') {
        return Err("has a quote; percent-encode it".into());
    }
    Ok(Resource {
        text: text.to_owned(),
        url,
    })
}

/// The workload: plain http on loopback, or a Unix socket.
fn workload(text: &str) -> Result<UpstreamParams, String> {
    let (host, port, base_path, unix) = match text.strip_prefix("unix:") {
        Some(_) => match parse::listen(text)? {
            ListenAddr::Unix(path) => ("localhost".into(), 80, String::new(), Some(path)),
            ListenAddr::Tcp(_) => return Err("not a Unix socket; write unix:/PATH".into()),
        },
        None => {
            let url = parse::upstream(text)?;
            if url.tls || !is_loopback_name(&url.host) {
                return Err("not the workload; it is in the same pod: write http://127.0.0.1:PORT or unix:/PATH".into());
            }
            (url.host, url.port, url.base_path, None::<PathBuf>)
        }
    };
    Ok(UpstreamParams {
        tls: false,
        host,
        port,
        unix,
        base_path,
        http: HttpVersions::Http1,
        ca_file: None,
        server_name: None,
        allow_insecure_http: false,
        max_connections: MAX_CONNECTIONS,
        max_idle_connections: MAX_IDLE,
        idle_timeout: IDLE,
    })
}

fn scope(text: &str) -> Result<String, String> {
    if text.contains(' ') {
        return Err("has a space; write each scope as an item of its own".into());
    }
    parse::scopes(text)
}

/// A handle is for this process: a field of its own is taken out of what goes to upstreams, as `Authorization` is in any case.
pub(super) fn keep_handles_in(side: Option<&InboundParams>, routes: &mut [RouteParams]) {
    let Some(side) = side else {
        return;
    };
    for route in routes {
        let name = side.handle_header.clone();
        if name != header::AUTHORIZATION && !route.strip_request_headers.contains(&name) {
            route.strip_request_headers.push(name);
        }
    }
}

fn handle_header(text: &str) -> Result<HeaderName, String> {
    let name = parse::header_name(text)?;
    let framing = [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::VIA,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::ORIGIN,
        header::PROXY_AUTHORIZATION,
    ];
    if framing.contains(&name) {
        return Err(
            "has a meaning of its own; write authorization, or a name such as x-caller-handle"
                .into(),
        );
    }
    Ok(name)
}

fn public_paths(fields: &Fields<'_>) -> Option<Vec<String>> {
    let given = fields.list("publicPaths", |text| {
        let path = parse::path_prefix(text)?;
        if path == "/" {
            return Err("is the whole workload; name single paths, such as /healthz".into());
        }
        Ok(path)
    })?;
    Some(match fields.node("publicPaths") {
        Some(_) => given,
        None => PROBES.map(str::to_owned).to_vec(),
    })
}

fn keys(fields: &Fields<'_>) -> Option<KeysParams> {
    let fields = fields.map("keys", "inbound.keys")?;
    let refresh = fields.value("refreshInterval", at_least(Duration::from_secs(10), "10s"));
    let cooldown = fields.value("cooldown", at_least(Duration::from_secs(1), "1s"));
    let max_stale = fields.value("maxStale", units::duration);
    let timeout = fields.value("timeout", parse::timeout);
    Some(KeysParams {
        refresh: refresh?,
        cooldown: cooldown?,
        max_stale: max_stale?,
        timeout: timeout?,
    })
}

fn at_least(least: Duration, written: &'static str) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let duration = units::duration(text)?;
        if duration < least {
            return Err(format!(
                "shorter than {written}; the issuer would be asked too often"
            ));
        }
        Ok(duration)
    }
}

fn required_claims(fields: &Fields<'_>) -> Option<Vec<RequiredClaim>> {
    let mut read = Some(Vec::new());
    for entry in fields.named("requiredClaims")? {
        let path = format!("{}.{}", fields.join("requiredClaims"), shown(&entry.key));
        let values: Option<Vec<String>> = match &entry.node.value {
            Value::List(items) if items.is_empty() => {
                fields.context.problems.error(
                    entry.node.at,
                    &path,
                    "an empty list lets nothing through; give values, or remove the key",
                );
                None
            }
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| {
                    fields
                        .context
                        .scalar(item, &format!("{path}[{i}]"), parse::text)
                })
                .collect(),
            _ => fields
                .context
                .scalar(&entry.node, &path, parse::text)
                .map(|one| vec![one]),
        };
        match (values, &mut read) {
            (Some(values), Some(read)) => read.push(RequiredClaim {
                name: entry.key.clone(),
                values,
            }),
            _ => read = None,
        }
    }
    read
}

/// The issuers, and whether each is a URL.
fn issuers(inbound: &Fields<'_>, audiences: &[String]) -> Option<Vec<(IssuerParams, bool)>> {
    let nodes = inbound.items("issuers")?;
    if nodes.is_empty() {
        inbound.error("issuers", "no issuer, so no token would be accepted; add one with `issuer`: the `iss` of the tokens");
    }
    let mut all: Vec<(IssuerParams, bool)> = Vec::new();
    let mut complete = true;
    for (i, node) in nodes.iter().enumerate() {
        let path = format!("{}[{i}]", inbound.join("issuers"));
        let read = Fields::open(inbound.context, node, path, "inbound.issuers[]")
            .and_then(|fields| issuer(&fields, audiences, &all));
        match read {
            Some(issuer) => all.push(issuer),
            None => complete = false,
        }
    }
    (complete && !all.is_empty()).then_some(all)
}

fn issuer(
    fields: &Fields<'_>,
    audiences: &[String],
    earlier: &[(IssuerParams, bool)],
) -> Option<(IssuerParams, bool)> {
    let issuer = fields.value("issuer", parse::text);
    let jwks_uri = fields.value("jwksUri", parse::token_endpoint);
    let audience = fields.list("audience", parse::text);
    let algorithms = fields.list("algorithms", |text| {
        Algorithm::named(text).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            format!("not an algorithm that is accepted; there are {names}")
        })
    });
    let typ = fields.value("typ", parse::text);
    let url = issuer.as_deref().map(parse::token_endpoint);
    let is_url = matches!(url, Some(Ok(_)));
    let keys = match (fields.node("jwksUri"), url) {
        (Some(_), _) => jwks_uri.map(KeysAt::Uri),
        (None, Some(Ok(url))) => Some(KeysAt::Metadata(url)),
        (None, Some(Err(_))) => {
            fields.error(
                "issuer",
                "not an https URL, so its keys cannot be found through its metadata; set `jwksUri`",
            );
            None
        }
        (None, None) => None,
    };
    let at = keys
        .as_ref()
        .map(|(KeysAt::Uri(at) | KeysAt::Metadata(at))| at);
    let authority = token::authority(fields, at);
    let issuer = issuer?;
    if earlier.iter().any(|(e, _)| *e.issuer == *issuer) {
        fields.error("issuer", "is there already; name each issuer once");
        return None;
    }
    let (keys, authority) = (keys?, authority?);
    let (audience, algorithms) = (audience?, algorithms?);
    Some((
        IssuerParams {
            issuer: Arc::from(issuer),
            audiences: if audience.is_empty() {
                audiences.to_vec()
            } else {
                audience
            },
            algorithms: if algorithms.is_empty() {
                Algorithm::ALL.to_vec()
            } else {
                algorithms
            },
            typ,
            authority,
            keys,
        },
        is_url,
    ))
}
