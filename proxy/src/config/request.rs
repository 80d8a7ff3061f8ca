//! `listen`, `limits`, `allowed…` and `routes` -> the request flow's parameters; and what must hold between routes and listeners.

use super::{
    error::Place,
    fields::{Context, Fields, Surroundings, shown},
    inbound, parse,
    upstream::{self, Upstream},
};
use crate::{
    request::params::{Limits, RequestParams, RouteParams, UpstreamTimeouts},
    token::{params::ChainedTokenParams, verify::params::VerifyParams},
};
use http::Method;
use sidecar_runtime::listener::ListenAddr;
use std::{
    collections::{HashMap, HashSet, hash_map},
    net::SocketAddr,
    sync::Arc,
};

/// Reads everything about requests, and with it how tokens of callers are verified. `credentials`: the declared ones with their places.
/// `chained`: where some of them are used by others.
pub(super) fn decode(
    top: &Fields<'_>,
    admin: Option<&ListenAddr>,
    credentials: &[(&str, Place)],
    chained: &[ChainedTokenParams],
    for_callers: &HashSet<&str>,
) -> Option<(RequestParams, Option<VerifyParams>)> {
    let default_listen = top.value("listen", parse::listen);
    let non_loopback = top.value("allowNonLoopbackListeners", parse::boolean);
    let allowed_hosts = top.list("allowedHosts", parse::host);
    let allowed_origins = top.list("allowedOrigins", parse::origin);
    let limits = limits(top);

    let nodes = top.items("routes")?;
    if nodes.is_empty() && top.node("inbound").is_none() {
        top.error("routes", "no route, so nothing would be served; add one with `name`, `upstream` and `credential`");
    }
    let mut seen = Seen::new(credentials, for_callers, top.node("inbound").is_some());
    seen.used
        .extend(chained.iter().map(|c| c.credential.to_string()));
    let mut listeners = Listeners::new(top.context, admin, non_loopback.unwrap_or(true));
    let mut routes = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let Some(fields) = Fields::open(top.context, node, format!("routes[{i}]"), "routes[]")
        else {
            continue;
        };
        let listen = match fields.node("listen") {
            Some(_) => fields
                .value("listen", parse::listen)
                .map(|l| (l, fields.at("listen"), fields.join("listen"))),
            None => default_listen
                .clone()
                .map(|l| (l, top.at("listen"), "listen".to_owned())),
        };
        let is_default = fields.node("listen").is_none();
        let listen = listen.map(|(address, at, path)| listeners.add(address, at, path, is_default));
        if let Some(route) = route(&fields, listen, &mut seen) {
            routes.push(route);
        }
    }
    seen.warn_of_unused(top.context);
    let (inbound, verify) = inbound::decode(top, &mut listeners)?
        .map(|i| (i.side, i.verify))
        .unzip();
    inbound::keep_handles_in(inbound.as_ref(), &mut routes);
    let params = RequestParams {
        listeners: listeners.finish(),
        routes,
        limits: limits?,
        allowed_hosts: allowed_hosts?,
        allow_remote_peers: non_loopback?,
        allowed_origins: allowed_origins?,
        inbound,
    };
    Some((params, verify))
}

fn limits(top: &Fields<'_>) -> Option<Limits> {
    let fields = top.map("limits", "limits")?;
    let max_connections = fields.value("maxConnections", parse::count(1 << 20));
    let max_requests = fields.value("maxRequests", parse::count(1 << 20));
    // Below 8 KiB hyper has no room to read; above 1 MiB a single request holds too much.
    let max_header_bytes = fields.value("maxHeaderBytes", parse::size_between("8KiB", "1MiB"));
    let max_header_fields = fields.value("maxHeaderFields", parse::count(4096));
    let max_uri_bytes = fields.value("maxUriBytes", parse::size_between("256B", "60KiB"));
    let header_read_timeout = fields.value("headerReadTimeout", parse::timeout);
    let keep_alive_timeout = fields.value("keepAliveTimeout", parse::timeout);
    Some(Limits {
        max_connections: max_connections?.get(),
        max_requests: max_requests?.get(),
        max_header_bytes: max_header_bytes?,
        max_header_fields: max_header_fields?.get(),
        max_uri_bytes: max_uri_bytes?,
        header_read_timeout: header_read_timeout?,
        keep_alive_timeout: keep_alive_timeout?,
    })
}

fn route(
    fields: &Fields<'_>,
    listen: Option<ListenAddr>,
    seen: &mut Seen<'_>,
) -> Option<RouteParams> {
    let name = fields.value("name", parse::name);
    if let Some(name) = &name {
        seen.name(fields, name);
    }
    let matched = matched(fields);
    let upstream = upstream::read(fields);
    let credential = fields
        .value("credential", |t| Ok(t.to_owned()))
        .and_then(|c| seen.credential(fields, "credential", c));
    let without_caller = match fields.node("withoutCaller") {
        None => Some(None),
        Some(_) => fields
            .value("withoutCaller", |t| Ok(t.to_owned()))
            .and_then(|c| seen.credential(fields, "withoutCaller", c))
            .map(Some),
    };
    if let Some(credential) = &credential {
        seen.callers(
            fields,
            credential,
            without_caller.as_ref().and_then(Option::as_deref),
        );
    }
    let timeouts = timeouts(fields, "routes[].timeouts");
    let strip_request_headers = fields.list("stripRequestHeaders", parse::header_name);
    let strip_response_headers = fields.list("stripResponseHeaders", parse::header_name);
    let replay_buffer = fields.value("replayBuffer", parse::size_between("0B", "16MiB"));
    let max_request_body = fields.value("maxRequestBody", super::units::size);
    let token_wait = fields.value("tokenWait", parse::duration_up_to("1m"));
    let upgrades = fields.value("upgrades", parse::boolean);
    let (listen, (host, path_prefix, methods)) = (listen?, matched?);
    seen.matching(
        fields,
        &listen,
        host.as_deref(),
        &path_prefix,
        methods.as_deref(),
    );
    let Upstream { params, variable } = upstream?;
    Some(RouteParams {
        name: name?.into(),
        listen,
        host,
        path_prefix,
        methods,
        upstream: params,
        upstream_variable: variable,
        credential: credential?,
        without_caller: without_caller?,
        strip_request_headers: strip_request_headers?,
        strip_response_headers: strip_response_headers?,
        replay_buffer: replay_buffer?,
        max_request_body,
        token_wait: token_wait?,
        upgrades: upgrades?,
        timeouts: timeouts?,
    })
}

/// A route's path in the file, and its methods.
type Earlier = (String, Option<Vec<Method>>);

/// Listener, host, path prefix.
type Selector = (ListenAddr, Option<String>, String);

type Matched = (Option<String>, String, Option<Vec<Method>>);

fn matched(route: &Fields<'_>) -> Option<Matched> {
    let fields = route.map("match", "routes[].match")?;
    let host = fields.value("host", parse::host);
    let prefix = fields.value("pathPrefix", parse::path_prefix);
    let listed = fields.list("methods", parse::method);
    let methods = match (fields.node("methods"), listed?) {
        (None, _) => None,
        (Some(_), methods) => {
            if methods.is_empty() {
                fields.error("methods", "an empty list lets nothing through; name methods, or remove the key to let all through");
            }
            Some(methods)
        }
    };
    Some((host, prefix?, methods))
}

/// Reads `timeouts` of a route, or of the inbound side; `pattern` is where their keys stand in the table.
pub(super) fn timeouts(side: &Fields<'_>, pattern: &'static str) -> Option<UpstreamTimeouts> {
    let fields = side.map("timeouts", pattern)?;
    let connect = fields.value("connect", parse::timeout);
    let response_header = fields.value("responseHeader", parse::timeout);
    let idle = fields.value("idle", parse::timeout);
    Some(UpstreamTimeouts {
        connect: connect?,
        response_header: response_header?,
        idle: idle?,
    })
}

/// What earlier routes said, to hold later ones against.
struct Seen<'c> {
    credentials: &'c [(&'c str, Place)],
    /// Those that get a token for each caller.
    for_callers: &'c HashSet<&'c str>,
    /// Whether there is an inbound side, which callers come by.
    inbound: bool,
    known: HashSet<&'c str>,
    used: HashSet<String>,
    names: HashMap<String, String>,
    matches: HashMap<Selector, Vec<Earlier>>,
}

impl<'c> Seen<'c> {
    fn new(
        credentials: &'c [(&'c str, Place)],
        for_callers: &'c HashSet<&'c str>,
        inbound: bool,
    ) -> Self {
        Self {
            credentials,
            for_callers,
            inbound,
            known: credentials.iter().map(|(n, _)| *n).collect(),
            used: HashSet::new(),
            names: HashMap::new(),
            matches: HashMap::new(),
        }
    }

    fn name(&mut self, route: &Fields<'_>, name: &str) {
        if name == inbound::NAME {
            route.error("name", "is what the inbound side is called in metrics and logs; give the route another name");
        }
        match self.names.entry(name.to_owned()) {
            hash_map::Entry::Occupied(first) => {
                route.error(
                    "name",
                    format!(
                        "`{name}` is the name of {} already; give each route its own",
                        first.get()
                    ),
                );
            }
            hash_map::Entry::Vacant(free) => {
                free.insert(route.join("name").trim_end_matches(".name").to_owned());
            }
        }
    }

    /// What does not fit together about callers.
    fn callers(&self, route: &Fields<'_>, credential: &str, without: Option<&str>) {
        let for_callers = self.for_callers.contains(credential);
        if for_callers && !self.inbound {
            route.error(
                "credential",
                format!("`{}` gets a token for each caller, and callers come by the inbound listener; configure `inbound`", shown(credential)),
            );
        }
        let Some(without) = without else {
            return;
        };
        if !for_callers {
            route.error("withoutCaller", "the route's credential is the pod's own and needs no caller; remove this, or name a credential that uses the subject token `caller` as `credential`");
        } else if self.for_callers.contains(without) {
            route.error(
                "withoutCaller",
                format!(
                    "`{}` needs a caller too; name a credential of the pod's own",
                    shown(without)
                ),
            );
        }
    }

    fn credential(
        &mut self,
        route: &Fields<'_>,
        key: &'static str,
        name: String,
    ) -> Option<Arc<str>> {
        if self.known.contains(name.as_str()) {
            let shared = Arc::from(name.as_str());
            self.used.insert(name);
            return Some(shared);
        }
        // Those that stand nowhere were made up for rewrites of a profile.
        let written = self
            .credentials
            .iter()
            .filter(|(_, at)| *at != Place::Whole);
        let mut written = written.map(|(n, _)| *n).peekable();
        let hint = if written.peek().is_none() {
            "; declare it under `credentials`".to_owned()
        } else {
            route.context.hint(&name, written)
        };
        route.error(
            key,
            format!("no credential is named `{}`{hint}", shown(&name)),
        );
        None
    }

    /// Reports a route that an earlier one leaves nothing to, or whose requests could go to either.
    fn matching(
        &mut self,
        route: &Fields<'_>,
        listen: &ListenAddr,
        host: Option<&str>,
        prefix: &str,
        methods: Option<&[Method]>,
    ) {
        let path = route.join("match").trim_end_matches(".match").to_owned();
        let earlier = self
            .matches
            .entry((listen.clone(), host.map(str::to_owned), prefix.to_owned()))
            .or_default();
        let overlaps = |other: &Option<Vec<Method>>| match (methods, other) {
            (Some(a), Some(b)) => a.iter().any(|m| b.contains(m)),
            _ => true,
        };
        if let Some((first, _)) = earlier.iter().find(|(_, m)| overlaps(m)) {
            let message = format!(
                "matches the same requests as {first}: same listener, host, path prefix and methods; change one of them"
            );
            route.context.problems.clash(route.at, path, first, message);
            return;
        }
        earlier.push((path, methods.map(<[Method]>::to_vec)));
    }

    fn warn_of_unused(&self, context: &Context<'_>) {
        for (name, at) in self.credentials {
            if !self.used.contains(*name) {
                let path = format!("credentials.{}", shown(name));
                context.problems.warning(*at, path, "no route uses this credential; it is renewed all the same: remove it, or use it");
            }
        }
    }
}

/// The listeners that routes are served on, the default one first, each once.
pub(super) struct Listeners<'a> {
    context: &'a Context<'a>,
    admin: Option<&'a ListenAddr>,
    non_loopback: bool,
    default: Option<ListenAddr>,
    others: Vec<ListenAddr>,
    known: HashSet<ListenAddr>,
}

impl<'a> Listeners<'a> {
    fn new(context: &'a Context<'a>, admin: Option<&'a ListenAddr>, non_loopback: bool) -> Self {
        Self {
            context,
            admin,
            non_loopback,
            default: None,
            others: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn add(&mut self, address: ListenAddr, at: Place, path: String, default: bool) -> ListenAddr {
        if self.known.insert(address.clone()) {
            self.check(&address, at, path);
            if !default {
                self.others.push(address.clone());
            }
        }
        if default && self.default.is_none() {
            self.others.retain(|l| *l != address);
            self.default = Some(address.clone());
        }
        address
    }

    /// The listener for callers of the workload, who bring credentials of their own: it may be anywhere, and no route may be served there.
    pub(super) fn add_inbound(
        &mut self,
        address: ListenAddr,
        at: Place,
        path: String,
    ) -> ListenAddr {
        if self.known.insert(address.clone()) {
            self.check_place(&address, at, path);
            self.others.push(address.clone());
        } else {
            let message = "is a listener of routes; whoever reaches it would use the pod's identity: choose another port";
            self.context.problems.error(at, path, message);
        }
        address
    }

    fn check(&self, address: &ListenAddr, at: Place, path: String) {
        if let ListenAddr::Tcp(tcp) = address
            && !self.non_loopback
            && !tcp.ip().to_canonical().is_loopback()
        {
            let mend = match self.context.surroundings {
                Surroundings::Process => ", or set `allowNonLoopbackListeners: true`",
                // Neither profiles nor annotations have that key.
                Surroundings::Injected { .. } => "",
            };
            let message = format!(
                "not a loopback address; whoever reaches it would use the pod's identity: listen on 127.0.0.1 or [::1]{mend}"
            );
            self.context.problems.error(at, path, message);
            return;
        }
        self.check_place(address, at, path);
    }

    /// Reports an address that another listener has.
    fn check_place(&self, address: &ListenAddr, at: Place, path: String) {
        if self.admin.is_some_and(|admin| collide(admin, address)) {
            let message = format!(
                "takes the admin listener's place ({}); choose another port",
                self.admin.map(ToString::to_string).unwrap_or_default()
            );
            self.context.problems.error(at, path, message);
        } else if let Some(other) = self
            .default
            .iter()
            .chain(&self.others)
            .find(|o| collide(o, address))
        {
            self.context.problems.error(
                at,
                path,
                format!(
                    "collides with the listener {other}; choose another port or the same address"
                ),
            );
        }
    }

    fn finish(self) -> Vec<ListenAddr> {
        self.default.into_iter().chain(self.others).collect()
    }
}

/// Whether two listeners cannot both be bound. Port 0 is a free port each time.
fn collide(a: &ListenAddr, b: &ListenAddr) -> bool {
    let covers =
        |x: &SocketAddr, y: &SocketAddr| x.ip().is_unspecified() && (x.is_ipv6() || y.is_ipv4());
    match (a, b) {
        (ListenAddr::Unix(a), ListenAddr::Unix(b)) => a == b,
        (ListenAddr::Tcp(a), ListenAddr::Tcp(b)) => {
            a.port() == b.port()
                && a.port() != 0
                && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
        }
        _ => false,
    }
}
