//! The life of one request: admitted or refused, forwarded, accounted for. Everything it knows of tokens and connections is an [`Exchange`].

use super::{
    access::Grant,
    body::{Replayable, ResponseBody},
    conn::{Conn, InFlight},
    exchange::{Answer, Exchange},
    guard,
    inbound::Inbound,
    inject,
    leftover::settle,
    respond::Problem,
    route::Matched,
    table::Route,
    timer::Deadline,
    upgrade,
};
use crate::metrics::request::MethodLabel;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use sidecar_runtime::leftover::Leftover;
use std::{convert::Infallible, pin::Pin, rc::Rc, time::Duration};
use tokio::time::Instant;

/// How long a workload may take to read a refusal.
const REFUSAL_READ: Duration = Duration::from_secs(30);

/// Answers one request; never fails, but services return a `Result`. `deadline` is this request's alone while it lasts.
pub async fn handle(
    conn: Rc<Conn>,
    deadline: Rc<Deadline>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    deadline.disarm();
    let http2 = request.version() >= Version::HTTP_2;
    let (mut parts, body) = request.into_parts();
    conn.note_body(!body.is_end_stream());
    let leftover = Leftover::of(&parts, &body);
    let (route, upgrade) = match admit(&conn, &parts) {
        Ok(admitted) => admitted,
        Err(problem) => {
            let response = refuse(&conn, &problem, None, http2);
            return Ok(farewell(leftover, &conn, &deadline, Some(body), response).await);
        }
    };
    let method = MethodLabel::from(&parts.method);
    let mut in_flight = InFlight::begin(&conn, &route, started);
    if let Some(inbound) = route.access.inbound()
        && let Some(response) = inbound.own_answer(&parts)
    {
        route.shard.count(method, response.status());
        let mut response = response.map(ResponseBody::full);
        response.body_mut().count(in_flight);
        return Ok(farewell(leftover, &conn, &deadline, Some(body), response).await);
    }
    let readable = Readable::of(&route, &parts);
    // The caller's half of an upgrade must be taken before the request is taken apart.
    let on_upgrade = (upgrade && route.params.upgrades)
        .then(|| upgrade::requested(&parts))
        .flatten()
        .map(|protocol| {
            (
                protocol,
                hyper::upgrade::on(Request::from_parts(parts.clone(), ())),
            )
        });
    let grant = match route.access.admit(&mut parts).await {
        Ok(grant) => grant,
        Err(problem) => {
            let response = give_up(&conn, &route, method, in_flight, &problem, http2);
            let response = readable.ours(response);
            return Ok(farewell(leftover, &conn, &deadline, Some(body), response).await);
        }
    };
    // Behind the one request that needed no token a tunnel would carry anything.
    let on_upgrade = on_upgrade.filter(|_| !matches!(grant, Grant::Nothing));
    let exchange = Exchange {
        conn: &conn,
        route: &route,
        grant,
        deadline: &deadline,
        started,
    };
    let (body, replay) = exchange.body(body);
    let mut result = exchange
        .run(&mut parts, body, replay.as_ref(), on_upgrade)
        .await;
    if let Err(problem) = &result {
        exchange.log(problem, parts.headers.get("traceparent"));
    }
    if let Grant::Handle(grant) = exchange.grant {
        if let Ok(Answer::Response(response)) = &result
            && let Some(inbound) = route.access.inbound()
        {
            inbound.note_session(&grant, response.headers());
            if let Some(problem) = inbound.step_up(&grant) {
                result = Err(problem);
            }
        }
        in_flight.hold(grant.into_handle());
    }
    Ok(match result {
        Ok(Answer::Response(mut response)) => {
            route.shard.count(method, response.status());
            response.body_mut().count(in_flight);
            if let Some(inbound) = route.access.inbound() {
                inbound.localize(response.headers_mut(), route.upstream.setup().host());
            }
            readable.theirs(response)
        }
        Ok(Answer::Switched {
            response,
            workload,
            upstream,
            lease,
        }) => {
            route.shard.count(method, response.status());
            let idle = route.params.timeouts.idle;
            let tunnel = upgrade::tunnel(workload, upstream, deadline, idle, in_flight);
            drop(tokio::task::spawn_local(async move {
                tunnel.await;
                drop(lease);
            }));
            response
        }
        Err(problem) => {
            let response = give_up(&conn, &route, method, in_flight, &problem, http2);
            let response = readable.ours(response);
            let unread = replay.as_ref().and_then(Replayable::unread);
            farewell(leftover, &conn, &deadline, unread, response).await
        }
    })
}

/// An answer of our own, once it is settled what becomes of the request's body; from then on the deadline watches over the workload's reading of it.
fn farewell<'a>(
    leftover: Leftover,
    conn: &'a Conn,
    deadline: &'a Deadline,
    body: Option<impl Body<Data = Bytes> + Unpin + 'a>,
    response: Response<ResponseBody>,
) -> Pin<Box<dyn Future<Output = Response<ResponseBody>> + 'a>> {
    // Apart, so that requests that are not refused do not carry its state.
    Box::pin(async move {
        // It may have fired.
        deadline.disarm();
        let response = settle(leftover, conn, deadline, body, response).await;
        deadline.arm(REFUSAL_READ);
        response
    })
}

/// What makes an answer of the inbound side readable to the web page that asked: its origin, which is an allowed one.
struct Readable {
    origin: Option<Box<HeaderValue>>,
    theirs_too: bool,
}

impl Readable {
    fn of(route: &Route, parts: &Parts) -> Self {
        let inbound = route.access.inbound();
        Self {
            origin: inbound
                .and_then(|_| parts.headers.get(header::ORIGIN))
                .map(|origin| Box::new(origin.clone())),
            theirs_too: inbound.is_some_and(|i| i.answers_for_cors()),
        }
    }

    fn ours(self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        if let Some(origin) = self.origin {
            Inbound::readable(response.headers_mut(), *origin);
        }
        response
    }

    fn theirs(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.theirs_too {
            self.ours(response)
        } else {
            response
        }
    }
}

/// Our own answer to a request that a route took.
fn give_up(
    conn: &Conn,
    route: &Route,
    method: MethodLabel,
    in_flight: InFlight,
    problem: &Problem,
    http2: bool,
) -> Response<ResponseBody> {
    route.shard.count(method, problem.status());
    let mut response = refuse(conn, problem, Some(route), http2);
    response.body_mut().count(in_flight);
    response
}

/// The route, and whether the request carries `Upgrade`.
fn admit(conn: &Conn, parts: &Parts) -> Result<(Rc<Route>, bool), Problem> {
    let table = conn.table();
    let params = &table.params;
    if conn.is_draining() {
        return Err(Problem::draining());
    }
    if !conn.local_peer && !table.allows_remote_peers() {
        return Err(Problem::foreign_peer());
    }
    let destination = guard::check(parts, &params.limits)?;
    let path = match parts.uri.path() {
        "" => "/",
        path => path,
    };
    let public = table
        .inbound
        .as_ref()
        .is_some_and(|inbound| inbound.is_public(&parts.method, path));
    if destination.browser && !public {
        guard::check_origin(&parts.headers, table.allowed_origins())?;
    }
    let host = &*destination.host;
    let named = table.routes.names_host(host);
    if !named && !public && !guard::is_own_host(host, table.allowed_hosts()) {
        // Asked to forward to a place that no route names, a proxy has no route; called by a name that is not ours, it was reached by a trick.
        return Err(if destination.absolute {
            Problem::no_route()
        } else {
            Problem::foreign_host()
        });
    }
    let (route, scoped, by_prefix) = match table.routes.find(host, path, &parts.method) {
        Matched::Route {
            value,
            path_scoped,
            by_prefix,
        } => (value, path_scoped, by_prefix),
        Matched::MethodNotAllowed => return Err(Problem::method_not_allowed()),
        Matched::None => return Err(Problem::no_route()),
    };
    if destination.absolute && !is_forwardable(conn, route, &destination, named) {
        return Err(Problem::no_route());
    }
    guard::check_path(path, scoped, by_prefix)?;
    if let Some(limit) = route.params.max_request_body
        && content_length(&parts.headers).is_some_and(|length| length > limit)
    {
        return Err(Problem::body_too_large());
    }
    if destination.via && inject::is_loop(&parts.headers, conn.via()) {
        return Err(Problem::bad_gateway(
            "proxy_loop_detected",
            "the request has come through this sidecar before: the route's upstream leads back to it",
        ));
    }
    if conn.is_overloaded(params.limits.max_requests) {
        return Err(Problem::overloaded());
    }
    Ok((Rc::clone(route), destination.upgrade))
}

/// As a forward proxy, only what a route stands for is forwarded: its host at the port that `http://` means or that the upstream has, or this very
/// listener. Another service of the pod, or another port of the host, has no route.
fn is_forwardable(
    conn: &Conn,
    route: &Route,
    destination: &guard::Destination<'_>,
    named: bool,
) -> bool {
    let port = destination.port.unwrap_or(80);
    if named {
        port == 80 || port == route.params.upstream.port
    } else {
        conn.port() == Some(port)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn refuse(
    conn: &Conn,
    problem: &Problem,
    route: Option<&Route>,
    http2: bool,
) -> Response<ResponseBody> {
    conn.metrics().rejected(problem.reason());
    let mut response = problem.response(route.map(|r| &*r.params.name), ResponseBody::full);
    if http2 {
        response.headers_mut().remove(header::CONNECTION);
    }
    response
}
