//! The routes as one worker holds them: each with its slot, its pool and its counters. Built anew when the configuration changes; pools whose
//! upstream did not change are carried over, and requests in flight keep the table that they began with.

use super::{
    access::Access,
    inbound::Inbound,
    params::{ListenAddr, RequestParams, RouteParams, UpstreamParams},
    route::{Matcher, RouteTable},
    upstream::{SetupError, Upstream, UpstreamSetup},
};
use crate::metrics::request::{RequestMetrics, RouteShard};
use http::HeaderName;
use std::{
    cell::Cell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    sync::Arc,
};
use tokio::time::Instant;

/// What every worker needs to build its table: checked and loaded once, on the control thread.
#[derive(Clone)]
pub struct Plan {
    /// The parameters.
    pub params: Arc<RequestParams>,
    /// One for each route, in the order of the parameters.
    pub routes: Arc<[RoutePlan]>,
}

/// A route with what it needs.
pub struct RoutePlan {
    params: Arc<RouteParams>,
    access: Access,
    upstream: Arc<UpstreamSetup>,
    strip_request: Arc<[HeaderName]>,
    strip_response: Arc<[HeaderName]>,
}

/// Why a plan cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("route `{route}`: {source}")]
pub struct PlanError {
    route: Arc<str>,
    source: SetupError,
}

/// A plan that lacks its credentials: all that can fail has been tried.
pub struct Prepared {
    params: Arc<RequestParams>,
    /// One for each route; the last is the inbound side's, if there is one.
    setups: Vec<Arc<UpstreamSetup>>,
}

impl Prepared {
    /// Checks names and loads roots.
    ///
    /// # Errors
    /// [`PlanError`], for the first route that cannot be served.
    pub fn new(params: RequestParams) -> Result<Self, PlanError> {
        // Routes to one upstream share its connections.
        let mut known: HashMap<&UpstreamParams, Arc<UpstreamSetup>> = HashMap::new();
        let mut setups = Vec::with_capacity(params.routes.len() + 1);
        for route in params.all_routes() {
            let setup = match known.entry(&route.upstream) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(new) => {
                    let setup =
                        UpstreamSetup::new(route.upstream.clone()).map_err(|source| PlanError {
                            route: Arc::clone(&route.name),
                            source,
                        })?;
                    Arc::clone(new.insert(Arc::new(setup)))
                }
            };
            setups.push(setup);
        }
        Ok(Self {
            params: Arc::new(params),
            setups,
        })
    }

    /// The plan. `access` gives how requests of a route get their credential, which `config` has checked to exist; `inbound` is the inbound
    /// side, which must be there if the parameters have one: without it, its listener answers 404.
    pub fn plan(
        self,
        mut access: impl FnMut(&RouteParams) -> Access,
        inbound: Option<Arc<Inbound>>,
    ) -> Plan {
        let mut setups = self.setups.into_iter();
        let mut routes: Vec<RoutePlan> = self
            .params
            .routes
            .iter()
            .zip(setups.by_ref())
            .map(|(route, upstream)| RoutePlan {
                params: Arc::new(route.clone()),
                access: access(route),
                upstream,
                strip_request: route.strip_request_headers.clone().into(),
                strip_response: route.strip_response_headers.clone().into(),
            })
            .collect();
        if let (Some(inbound), Some(upstream)) = (inbound, setups.next()) {
            let route = &inbound.params().route;
            routes.push(RoutePlan {
                params: Arc::new(route.clone()),
                strip_request: Inbound::stripped(inbound.params()).into(),
                strip_response: route.strip_response_headers.clone().into(),
                access: Access::Inbound(inbound),
                upstream,
            });
        }
        Plan {
            routes: routes.into(),
            params: self.params,
        }
    }
}

/// A route on one worker.
pub struct Route {
    /// Its parameters.
    pub params: Arc<RouteParams>,
    /// How its requests get their credential.
    pub access: Access,
    /// Connections to its upstream.
    pub upstream: Rc<Upstream>,
    /// This worker's counters.
    pub shard: Arc<RouteShard>,
    /// Removed from requests and their trailers.
    pub strip_request: Arc<[HeaderName]>,
    /// Removed from responses and their trailers.
    pub strip_response: Arc<[HeaderName]>,
    /// Failures are logged at most once a second.
    pub log: LogGate,
}

/// Lets one line a second through and counts the others.
#[derive(Default)]
pub struct LogGate {
    last: Cell<Option<Instant>>,
    suppressed: Cell<u64>,
}

impl LogGate {
    /// How many lines were suppressed since the last one, if this one may pass.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        if self
            .last
            .get()
            .is_some_and(|last| now.duration_since(last).as_secs() < 1)
        {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.last.set(Some(now));
        Some(self.suppressed.replace(0))
    }
}

/// One listener's routes and rules on one worker.
pub struct ListenerTable {
    /// The routes.
    pub routes: RouteTable<Route>,
    /// Limits, allowed hosts and origins.
    pub params: Arc<RequestParams>,
    /// The inbound side, when the listener is its.
    pub inbound: Option<Arc<Inbound>>,
}

impl ListenerTable {
    /// `Host` names that it is called by.
    pub fn allowed_hosts(&self) -> &[String] {
        match &self.inbound {
            Some(inbound) => &inbound.params().allowed_hosts,
            None => &self.params.allowed_hosts,
        }
    }

    /// `Origin` values that are let through.
    pub fn allowed_origins(&self) -> &[String] {
        match &self.inbound {
            Some(inbound) => &inbound.params().allowed_origins,
            None => &self.params.allowed_origins,
        }
    }

    /// Whether peers off this machine are served: callers of the workload bring a credential of their own, callers of an upstream do not.
    pub fn allows_remote_peers(&self) -> bool {
        self.inbound.is_some() || self.params.allow_remote_peers
    }
}

/// All of one worker's routes.
#[derive(Default)]
pub struct Table {
    /// By listener, as configured.
    pub listeners: HashMap<ListenAddr, Rc<ListenerTable>>,
    upstreams: Vec<Rc<Upstream>>,
}

impl Table {
    /// Builds the table of `worker`, taking over the pools of `before` whose setup is the very same.
    pub fn new(plan: &Plan, worker: usize, metrics: &RequestMetrics, before: &Self) -> Self {
        let mut table = Self::default();
        let mut routes: HashMap<ListenAddr, Vec<(Matcher, bool, Rc<Route>)>> = HashMap::new();
        let mut before: HashMap<&UpstreamParams, &Rc<Upstream>> = before
            .upstreams
            .iter()
            .map(|upstream| (upstream.setup().params(), upstream))
            .collect();
        // By setup: a plan has one for each upstream.
        let mut upstreams: HashMap<*const UpstreamSetup, Rc<Upstream>> = HashMap::new();
        let mut inbound: HashMap<ListenAddr, Arc<Inbound>> = HashMap::new();
        for route in plan.routes.iter() {
            let shard = metrics.shard(&route.params.name, worker);
            let upstream = match upstreams.entry(Arc::as_ptr(&route.upstream)) {
                Entry::Occupied(known) => Rc::clone(known.get()),
                Entry::Vacant(new) => {
                    let params = route.upstream.params();
                    let kept = before
                        .get(params)
                        .is_some_and(|u| u.setup().is_same(&route.upstream))
                        .then(|| before.remove(params))
                        .flatten();
                    Rc::clone(new.insert(match kept {
                        Some(kept) => Rc::clone(kept),
                        None => Upstream::new(Arc::clone(&route.upstream)),
                    }))
                }
            };
            let params = Arc::clone(&route.params);
            let matcher = Matcher {
                host: params.host.clone(),
                path_prefix: params.path_prefix.clone(),
                methods: params.methods.clone(),
            };
            let based = !params.upstream.base_path.is_empty();
            let listen = params.listen.clone();
            if let Some(side) = route.access.inbound() {
                inbound.insert(listen.clone(), Arc::clone(side));
            }
            let value = Rc::new(Route {
                params,
                access: route.access.clone(),
                upstream,
                shard,
                strip_request: Arc::clone(&route.strip_request),
                strip_response: Arc::clone(&route.strip_response),
                log: LogGate::default(),
            });
            routes
                .entry(listen)
                .or_default()
                .push((matcher, based, value));
        }
        for listen in &plan.params.listeners {
            let routes = RouteTable::new(routes.remove(listen).unwrap_or_default());
            table.listeners.insert(
                listen.clone(),
                Rc::new(ListenerTable {
                    routes,
                    params: Arc::clone(&plan.params),
                    inbound: inbound.remove(listen),
                }),
            );
        }
        for upstream in before.values() {
            upstream.retire();
        }
        table.upstreams = upstreams.into_values().collect();
        table
    }

    /// Closes idle connections whose time is up.
    pub fn sweep(&self, now: Instant) {
        for upstream in &self.upstreams {
            upstream.sweep(now);
        }
    }
}
