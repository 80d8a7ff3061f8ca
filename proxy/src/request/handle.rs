//! The life of one request: admit, strip, inject, send, and at most one replay with a new token when the upstream rejects the old one.
//! Everything it knows of tokens is a slot; everything it knows of connections is a checkout.

use super::{
    body::{BodyError, BodyRules, Lease, Replayable, RequestBody, ResponseBody},
    challenge,
    conn::{Conn, InFlight},
    guard, inject,
    respond::Problem,
    route::Matched,
    send::{self, SendError},
    strip,
    table::Route,
    timer::Deadline,
    upgrade,
    upstream::{Checkout, CheckoutError},
};
use crate::{
    metrics::request::{MethodLabel, Replay},
    token::slot::{Injectable, Rejection},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    request::Parts, uri,
};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a workload may take to read a refusal.
const REFUSAL_READ: Duration = Duration::from_secs(30);

/// Answers one request. `deadline` is this request's alone while it lasts.
pub async fn handle(
    conn: Rc<Conn>,
    deadline: Rc<Deadline>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    deadline.disarm();
    let http2 = request.version() >= Version::HTTP_2;
    let (mut parts, body) = request.into_parts();
    conn.note_body(!body.is_end_stream());
    let route = match admit(&conn, &parts) {
        Ok(route) => route,
        Err(problem) => {
            deadline.arm(REFUSAL_READ);
            return refuse(&conn, &problem, None, http2);
        }
    };
    let method = MethodLabel::from(&parts.method);
    let in_flight = InFlight::begin(&conn, &route, started);
    // The caller's half of an upgrade must be taken before the request is taken apart.
    let on_upgrade = route
        .params
        .upgrades
        .then(|| upgrade::requested(&parts))
        .flatten()
        .map(|protocol| {
            (
                protocol,
                hyper::upgrade::on(Request::from_parts(parts.clone(), ())),
            )
        });
    let traceparent = parts.headers.get("traceparent").cloned();
    parts.extensions.clear();
    let exchange = Exchange {
        conn: &conn,
        route: &route,
        deadline: &deadline,
        started,
    };
    match exchange.run(parts, body, on_upgrade).await {
        Ok(Answer::Response(response)) => {
            route.shard.count(method, response.status());
            response.map(|body| body.counted(in_flight))
        }
        Ok(Answer::Switched {
            response,
            workload,
            upstream,
        }) => {
            route.shard.count(method, response.status());
            let idle = route.params.timeouts.idle;
            drop(tokio::task::spawn_local(upgrade::tunnel(
                workload, upstream, deadline, idle, in_flight,
            )));
            response
        }
        Err(problem) => {
            // It may have fired; from here on it watches over the workload's reading of our answer.
            deadline.arm(route.params.timeouts.idle);
            route.shard.count(method, problem.status());
            log(&route, &problem, traceparent.as_ref(), started);
            refuse(&conn, &problem, Some(&route), http2).map(|body| body.counted(in_flight))
        }
    }
}

fn admit(conn: &Conn, parts: &Parts) -> Result<Rc<Route>, Problem> {
    let table = conn.table();
    let params = &table.params;
    if conn.is_draining() {
        return Err(Problem::draining());
    }
    if !conn.local_peer && !params.allow_remote_peers {
        return Err(Problem::foreign_peer());
    }
    let destination = guard::check(parts, &params.limits)?;
    guard::check_origin(&parts.headers, &params.allowed_origins)?;
    let host = destination.host.as_str();
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
    let (route, scoped) = match table.routes.find(host, path, &parts.method) {
        Matched::Route { value, path_scoped } => (value, path_scoped),
        Matched::MethodNotAllowed => return Err(Problem::method_not_allowed()),
        Matched::None => return Err(Problem::no_route()),
    };
    guard::check_path(path, scoped)?;
    if let Some(limit) = route.params.max_request_body
        && content_length(&parts.headers).is_some_and(|length| length > limit)
    {
        return Err(Problem::body_too_large());
    }
    if inject::is_loop(&parts.headers, conn.via()) {
        return Err(Problem::bad_gateway(
            "proxy_loop_detected",
            "the request has come through this sidecar before: the route's upstream leads back to it",
        ));
    }
    if conn.is_overloaded(params.limits.max_requests) {
        return Err(Problem::overloaded());
    }
    Ok(Rc::clone(route))
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

fn log(route: &Route, problem: &Problem, traceparent: Option<&HeaderValue>, started: Instant) {
    let Some(suppressed) = route.log.pass(Instant::now()) else {
        return;
    };
    tracing::warn!(
        route = &*route.params.name,
        status = problem.status().as_u16(),
        reason = problem.reason(),
        detail = problem.detail(),
        traceparent = traceparent.and_then(|t| t.to_str().ok()),
        elapsed_ms = started.elapsed().as_millis(),
        suppressed,
        "request failed"
    );
}

enum Answer {
    Response(Response<ResponseBody>),
    Switched {
        response: Response<ResponseBody>,
        workload: OnUpgrade,
        upstream: OnUpgrade,
    },
}

/// What a request is made of, kept so that it can be sent again.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

struct Exchange<'a> {
    conn: &'a Rc<Conn>,
    route: &'a Rc<Route>,
    deadline: &'a Rc<Deadline>,
    started: Instant,
}

impl Exchange<'_> {
    async fn run(
        &self,
        mut parts: Parts,
        body: Incoming,
        on_upgrade: Option<(HeaderValue, OnUpgrade)>,
    ) -> Result<Answer, Problem> {
        let route = &**self.route;
        let (mut body, replay) = RequestBody::new(body, || BodyRules {
            keep: route.params.replay_buffer,
            limit: route.params.max_request_body,
            strip: Arc::clone(&route.strip_request),
            deadline: Rc::clone(self.deadline),
            idle: route.params.timeouts.idle,
            response_header: route.params.timeouts.response_header,
        });
        strip::request(&mut parts.headers, &route.strip_request);
        inject::via(&mut parts.headers, self.conn.via());
        let (protocol, workload) = on_upgrade.unzip();
        if let Some(protocol) = protocol {
            upgrade::offer(&mut parts.headers, protocol);
        }
        let head = Head {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
        };
        let upgrade = workload.is_some();

        let mut token = self.token().await?;
        let mut rejected = None;
        let mut resent = false;
        loop {
            // Opening a connection has a timeout of its own; what is left of an earlier attempt's must not cut it short.
            self.deadline.disarm();
            let checkout = self.checkout(upgrade, resent, &mut token).await?;
            let request = self.request(
                &head,
                body,
                &token,
                matches!(checkout, Outgoing::Pooled(Checkout::H2(_))),
            );
            self.deadline
                .arm(if replay.as_ref().is_none_or(Replayable::ended) {
                    route.params.timeouts.response_header
                } else {
                    route.params.timeouts.idle
                });
            let sent = match checkout {
                Outgoing::Pooled(checkout) => send::send(checkout, request, self.deadline).await,
                Outgoing::Dedicated(sender) => sender.send(request, self.deadline).await,
            };
            let (response, lease) = match sent {
                Ok(received) => received,
                Err(error) => {
                    body = self.again(error, &head, replay.as_ref(), &mut resent)?;
                    continue;
                }
            };
            if response.status() == StatusCode::UNAUTHORIZED && rejected.is_none() {
                match self.renewed(&response, &token, replay.as_ref()).await {
                    Ok((fresh, again)) => {
                        (token, body) = (fresh, again);
                        rejected = Some(());
                        drop((response, lease));
                        continue;
                    }
                    Err(result) => route.shard.replayed(result),
                }
            } else if rejected.is_some() {
                route
                    .shard
                    .replayed(if response.status() == StatusCode::UNAUTHORIZED {
                        Replay::RejectedAgain
                    } else {
                        Replay::Accepted
                    });
                if response.status() == StatusCode::UNAUTHORIZED {
                    // Tell the slot, so that it holds off: the next request must not cause the next exchange.
                    let _held_off = route.slot.reject(token.serial, None);
                }
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS && workload.is_none() {
                return Err(Problem::bad_gateway(
                    "http_protocol_error",
                    "the upstream switched protocols without having been asked to",
                ));
            }
            return Ok(self.answer(response, lease, workload));
        }
    }

    /// A token now, or after a bounded wait for an exchange that is under way.
    async fn token(&self) -> Result<Injectable, Problem> {
        let slot = &self.route.slot;
        let now = if self.started.elapsed().is_zero() {
            self.started
        } else {
            Instant::now()
        };
        if let Some(token) = slot.load(now) {
            return Ok(token);
        }
        slot.wait(now + self.route.params.token_wait)
            .await
            .map_err(|unavailable| {
                self.route.unavailable.inc();
                let detail = format!(
                    "credential {}: {}; see /readyz of the sidecar for the cause",
                    slot.name(),
                    unavailable.reason
                );
                Problem::no_token(detail, unavailable.retry_after)
            })
    }

    async fn checkout(
        &self,
        upgrade: bool,
        fresh: bool,
        token: &mut Injectable,
    ) -> Result<Outgoing, Problem> {
        let upstream = &self.route.upstream;
        let within = self.route.params.timeouts.connect;
        if !upgrade
            && !fresh
            && let Some(idle) = upstream.idle()
        {
            return Ok(Outgoing::Pooled(idle));
        }
        let checkout = if upgrade {
            Dedicated::open(upstream, within)
                .await
                .map(Outgoing::Dedicated)
        } else if fresh {
            upstream.fresh(within).await.map(Outgoing::Pooled)
        } else {
            upstream.checkout(within).await.map(Outgoing::Pooled)
        };
        let checkout = checkout.map_err(|error| self.unreachable(error))?;
        // That took time: the token may have expired meanwhile.
        *token = self.token().await?;
        Ok(checkout)
    }

    fn unreachable(&self, error: CheckoutError) -> Problem {
        let params = &self.route.params.upstream;
        let origin = format!("{}:{}", params.host, params.port);
        match error {
            CheckoutError::Full => Problem::overloaded(),
            CheckoutError::Timeout => Problem::gateway_timeout(
                "connection_timeout",
                format!(
                    "no connection to {origin} within {:?}",
                    self.route.params.timeouts.connect
                ),
            ),
            CheckoutError::Handshake(error) => {
                tracing::debug!(error = %sidecar_runtime::telemetry::chain(&error), "handshake failed");
                Problem::bad_gateway(
                    "connection_terminated",
                    format!("{origin} closed the connection before HTTP began"),
                )
            }
            CheckoutError::Dial(error) => {
                let detail = sidecar_runtime::telemetry::chain(&error).to_string();
                match error.code() {
                    "destination_ip_prohibited" => Problem::address_forbidden(detail),
                    code @ "connection_timeout" => Problem::gateway_timeout(code, detail),
                    code => Problem::bad_gateway(code, detail),
                }
            }
        }
    }

    fn request(
        &self,
        head: &Head,
        body: RequestBody,
        token: &Injectable,
        http2: bool,
    ) -> Request<RequestBody> {
        let setup = self.route.upstream.setup();
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        let mut headers = head.headers.clone();
        inject::authorization(&mut headers, token);
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            headers.remove(header::HOST);
            let mut target = uri::Parts::default();
            target.scheme = Some(setup.scheme().clone());
            target.authority = Some(setup.authority().clone());
            target.path_and_query = Some(self.path(&head.uri));
            *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
        } else {
            headers.insert(header::HOST, setup.host().clone());
            *request.uri_mut() = if self.route.params.upstream.base_path.is_empty()
                && head.uri.authority().is_none()
            {
                head.uri.clone()
            } else {
                self.path(&head.uri).into()
            };
        }
        *request.headers_mut() = headers;
        request
    }

    /// The path as it came in, behind the upstream's base path.
    fn path(&self, uri: &Uri) -> uri::PathAndQuery {
        let base = &self.route.params.upstream.base_path;
        let own = uri
            .path_and_query()
            .cloned()
            .unwrap_or(uri::PathAndQuery::from_static("/"));
        if base.is_empty() {
            return own;
        }
        // Both parts were valid on their own, and a path stays one when it is put behind another.
        uri::PathAndQuery::try_from(format!("{base}{own}")).unwrap_or(own)
    }

    /// After a failure: the body to try once more with, if that is safe.
    fn again(
        &self,
        error: SendError,
        head: &Head,
        replay: Option<&Replayable>,
        resent: &mut bool,
    ) -> Result<RequestBody, Problem> {
        let first = !std::mem::replace(resent, true);
        match error {
            SendError::NotSent(request) if first => return Ok(request.into_body()),
            SendError::Refused if first => {
                if let Some(body) = body_again(replay) {
                    return Ok(body);
                }
            }
            SendError::Closed { reused: true } if first && head.method.is_idempotent() => {
                if let Some(body) = body_again(replay) {
                    return Ok(body);
                }
            }
            _ => {}
        }
        Err(self.failed(&error, replay))
    }

    fn failed(&self, error: &SendError, replay: Option<&Replayable>) -> Problem {
        let timeouts = &self.route.params.timeouts;
        match replay.and_then(Replayable::failure) {
            Some(BodyError::TooLarge) => return Problem::body_too_large(),
            Some(BodyError::Workload) => {
                return Problem::malformed("the request body broke off or is malformed");
            }
            _ => {}
        }
        match error {
            SendError::Timeout if replay.is_none_or(Replayable::ended) => Problem::gateway_timeout(
                "http_response_timeout",
                format!("no response header within {:?}", timeouts.response_header),
            ),
            SendError::Timeout => Problem::gateway_timeout(
                "connection_write_timeout",
                format!(
                    "no byte of the request body moved within {:?}",
                    timeouts.idle
                ),
            ),
            SendError::NotSent(_) | SendError::Refused | SendError::Closed { .. } => {
                Problem::bad_gateway(
                    "connection_terminated",
                    "the upstream closed the connection before it answered; whether it acted on the request is unknown",
                )
            }
            SendError::Protocol(error) => {
                tracing::debug!(error = %sidecar_runtime::telemetry::chain(error), "bad answer");
                Problem::bad_gateway(
                    "http_protocol_error",
                    "the upstream's answer is not valid HTTP, or its header section is too large",
                )
            }
        }
    }

    /// After a 401: a new token and the body once more, or why there will be no replay.
    async fn renewed(
        &self,
        response: &Response<Incoming>,
        token: &Injectable,
        replay: Option<&Replayable>,
    ) -> Result<(Injectable, RequestBody), Replay> {
        let slot = &self.route.slot;
        let claims = challenge::claims(response.headers());
        self.deadline.disarm();
        if slot.reject(token.serial, claims.as_deref()) == Rejection::HeldOff {
            return Err(Replay::HeldOff);
        }
        let body = body_again(replay).ok_or(Replay::BodyTooLarge)?;
        let deadline = Instant::now() + self.route.params.token_wait;
        let token = slot
            .replaced(token.serial, deadline)
            .await
            .ok_or(Replay::NoToken)?;
        Ok((token, body))
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        lease: Lease,
        workload: Option<OnUpgrade>,
    ) -> Answer {
        let route = &self.route;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(workload) = workload
        {
            let protocol = response.headers().get(header::UPGRADE).cloned();
            let upstream = hyper::upgrade::on(&mut response);
            strip::response(response.headers_mut(), &route.strip_response);
            upgrade::offer(
                response.headers_mut(),
                protocol.unwrap_or(HeaderValue::from_static("websocket")),
            );
            self.deadline.disarm();
            return Answer::Switched {
                response: response.map(|_| ResponseBody::full(bytes::Bytes::new())),
                workload,
                upstream,
            };
        }
        let (mut parts, incoming) = response.into_parts();
        strip::response(&mut parts.headers, &route.strip_response);
        parts.extensions.clear();
        // What the upstream spoke is the upstream's business.
        parts.version = Version::HTTP_11;
        let body = ResponseBody::upstream(
            incoming,
            lease,
            Arc::clone(&route.strip_response),
            Rc::clone(self.deadline),
            route.params.timeouts.idle,
        );
        Answer::Response(Response::from_parts(parts, body))
    }
}

fn body_again(replay: Option<&Replayable>) -> Option<RequestBody> {
    replay.map_or(Some(RequestBody::Empty), Replayable::again)
}

enum Outgoing {
    Pooled(Checkout),
    Dedicated(Dedicated),
}

/// An HTTP/1.1 connection of a request's own, driven by a task, since it outlives the request when it is upgraded.
struct Dedicated(hyper::client::conn::http1::SendRequest<RequestBody>);

impl Dedicated {
    async fn open(
        upstream: &Rc<super::upstream::Upstream>,
        within: Duration,
    ) -> Result<Self, CheckoutError> {
        let (stream, open) = upstream.dedicated(within).await?;
        let (sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .map_err(CheckoutError::Handshake)?;
        drop(tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "connection of an upgrade ended");
            }
            drop(open);
        }));
        Ok(Self(sender))
    }

    async fn send(
        mut self,
        request: Request<RequestBody>,
        deadline: &Deadline,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let mut response = std::pin::pin!(self.0.send_request(request));
        std::future::poll_fn(|cx| match response.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => std::task::Poll::Ready(
                result
                    .map(|r| (r, Lease::Dedicated))
                    .map_err(SendError::Protocol),
            ),
            std::task::Poll::Pending if deadline.poll_due(cx) => {
                std::task::Poll::Ready(Err(SendError::Timeout))
            }
            std::task::Poll::Pending => std::task::Poll::Pending,
        })
        .await
    }
}
