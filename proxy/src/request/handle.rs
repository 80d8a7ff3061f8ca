//! The life of one request: admitted or refused, forwarded, accounted for. Everything it knows of tokens and connections is an [`Exchange`].

use super::{
    body::ResponseBody,
    conn::{Conn, InFlight},
    exchange::{Answer, Exchange},
    guard, inject,
    respond::Problem,
    route::Matched,
    table::Route,
    timer::Deadline,
    upgrade,
};
use crate::metrics::request::MethodLabel;
use http::{HeaderMap, Request, Response, Version, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use std::{convert::Infallible, rc::Rc, time::Duration};
use tokio::time::Instant;

/// How long a workload may take to read a refusal. Also how long the connection of a refused request that had a body waits for its next request, whatever
/// `limits.keepAliveTimeout` says: hyper serves on when all of that body was there to be thrown away (and closes at once when it was not), but does not
/// tell, so the connection counts as one in the middle of a body.
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
    let (route, upgrade) = match admit(&conn, &parts) {
        Ok(admitted) => admitted,
        Err(problem) => {
            deadline.arm(REFUSAL_READ);
            return Ok(refuse(&conn, &problem, None, http2));
        }
    };
    let method = MethodLabel::from(&parts.method);
    let in_flight = InFlight::begin(&conn, &route, started);
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
    let grant = match route.access.admit(&parts) {
        Ok(grant) => grant,
        Err(problem) => {
            return Ok(give_up(
                &conn, &deadline, &route, method, in_flight, &problem, http2,
            ));
        }
    };
    let exchange = Exchange {
        conn: &conn,
        route: &route,
        grant,
        deadline: &deadline,
        started,
    };
    Ok(match exchange.run(&mut parts, body, on_upgrade).await {
        Ok(Answer::Response(mut response)) => {
            route.shard.count(method, response.status());
            response.body_mut().count(in_flight);
            response
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
            exchange.log(&problem, parts.headers.get("traceparent"));
            give_up(&conn, &deadline, &route, method, in_flight, &problem, http2)
        }
    })
}

/// Our own answer to a request that a route took.
fn give_up(
    conn: &Conn,
    deadline: &Deadline,
    route: &Route,
    method: MethodLabel,
    in_flight: InFlight,
    problem: &Problem,
    http2: bool,
) -> Response<ResponseBody> {
    // It may have fired; from here on it watches over the workload's reading of our answer.
    deadline.arm(REFUSAL_READ);
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
    if !conn.local_peer && !params.allow_remote_peers {
        return Err(Problem::foreign_peer());
    }
    let destination = guard::check(parts, &params.limits)?;
    if destination.browser {
        guard::check_origin(&parts.headers, &params.allowed_origins)?;
    }
    let host = &*destination.host;
    let named = table.routes.names_host(host);
    if !named && !guard::is_own_host(host, &params.allowed_hosts) {
        // Asked to forward to a place that no route names, a proxy has no route; called by a name that is not ours, it was reached by a trick.
        return Err(if destination.absolute {
            Problem::no_route()
        } else {
            Problem::foreign_host()
        });
    }
    let path = match parts.uri.path() {
        "" => "/",
        path => path,
    };
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
