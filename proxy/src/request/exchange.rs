//! One request's way to the upstream and back: token, connection, sending, and what may be tried a second time. `handle` admits requests and
//! accounts for them; nothing in here knows which route was asked for or why.

mod failure;

use super::{
    access::Grant,
    body::{Ahead, BodyRules, Lease, Replayable, RequestBody, ResponseBody},
    bound::Bound,
    challenge,
    conn::Conn,
    inject, leftover,
    respond::Problem,
    send::{self, SendError},
    strip,
    table::Route,
    timer::Deadline,
    upgrade,
    upstream::{Checkout, dedicated::Dedicated},
};
use crate::{
    metrics::request::Replay,
    token::slot::{Injectable, Rejection},
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts,
    uri,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{rc::Rc, sync::Arc};
use tokio::time::Instant;

/// What a request comes to.
pub enum Answer {
    /// A response, whose body streams.
    Response(Response<ResponseBody>),
    /// The upstream agreed to another protocol: the response to pass on, and the two ends to join.
    Switched {
        /// With status 101.
        response: Response<ResponseBody>,
        /// The caller's end.
        workload: OnUpgrade,
        /// The upstream's end.
        upstream: OnUpgrade,
        /// Its connection.
        lease: Lease,
    },
}

/// What a request is made of, kept so that it can be sent again.
struct Head<'a> {
    /// As it came, but stripped; without what is put on for the upstream.
    kept: &'a Parts,
    /// The kept headers once more, in the map that they came in, which has room for what is put on: for the first attempt.
    first: Option<HeaderMap>,
    /// The protocol to offer.
    upgrade: Option<HeaderValue>,
}

/// One request's context.
pub struct Exchange<'a> {
    /// The connection it came by.
    pub conn: &'a Rc<Conn>,
    /// The route it matched.
    pub route: &'a Rc<Route>,
    /// What it is sent with.
    pub grant: Grant<'a>,
    /// Its deadline.
    pub deadline: &'a Rc<Deadline>,
    /// When its header section was complete.
    pub started: Instant,
}

impl Exchange<'_> {
    /// The request's body under the route's rules, and the handle to replay it by.
    pub fn body(&self, incoming: Incoming) -> (RequestBody, Option<Replayable>) {
        let route = &**self.route;
        RequestBody::new(incoming, || BodyRules {
            keep: route.params.replay_buffer,
            limit: route.params.max_request_body,
            strip: Arc::clone(&route.strip_request),
            deadline: Rc::clone(self.deadline),
            conn: Rc::clone(self.conn),
            idle: route.params.timeouts.idle,
            response_header: route.params.timeouts.response_header,
        })
    }

    /// Sends the request, with what [`Exchange::body`] made of its body, and brings back the answer. What is left of the headers in `parts` is what was
    /// stripped of them.
    ///
    /// # Errors
    /// The answer to give instead.
    pub async fn run(
        &self,
        parts: &mut Parts,
        mut body: RequestBody,
        replay: Option<&Replayable>,
        on_upgrade: Option<(HeaderValue, OnUpgrade)>,
    ) -> Result<Answer, Problem> {
        let route = &**self.route;
        strip::request(&mut parts.headers, &route.strip_request);
        let copy = parts.headers.clone();
        let (upgrade, workload) = on_upgrade.unzip();
        let mut head = Head {
            first: Some(std::mem::replace(&mut parts.headers, copy)),
            kept: parts,
            upgrade,
        };
        let mut token = self.token(self.started).await?;
        let mut rejected = false;
        let mut resent = false;
        let mut renonced = false;
        let (mut response, mut lease) = loop {
            // Opening a connection has a timeout of its own; what is left of an earlier attempt's must not cut it short.
            self.deadline.disarm();
            let checkout = self
                .checkout(workload.is_some(), resent, &mut token)
                .await?;
            let http2 = matches!(checkout, Outgoing::Pooled(Checkout::H2(_)));
            let mut request = self.request(&mut head, body, &token, http2);
            let bound = match self.grant.prover() {
                None => None,
                Some(prover) => Some(Bound::prove(
                    prover,
                    &mut request,
                    &token,
                    route.upstream.setup(),
                )?),
            };
            let body_is_out = replay.is_none_or(Replayable::ended);
            self.deadline.arm(if body_is_out {
                route.params.timeouts.response_header
            } else {
                route.params.timeouts.idle
            });
            let sent = match checkout {
                Outgoing::Pooled(Checkout::H1(lease)) => {
                    send::h1(lease, request, self.deadline).await
                }
                Outgoing::Pooled(Checkout::H2(lease)) => {
                    send::h2(lease, request, self.deadline).await
                }
                Outgoing::Dedicated(sender) => sender.send(request, self.deadline).await,
            };
            let (mut response, lease) = match sent {
                Ok(received) => received,
                Err(error) => {
                    body = self.again(error, &head, replay, &mut resent)?;
                    continue;
                }
            };
            let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
            if let Some(bound) = bound {
                let wants_nonce = bound.heard(&mut response);
                // The token is good: what is missing is no reason to get another.
                if wants_nonce
                    && !std::mem::replace(&mut renonced, true)
                    && let Some(again) = body_again(replay)
                {
                    body = again;
                    drop((response, lease));
                    continue;
                }
                if wants_nonce {
                    break (response, lease);
                }
            }
            if unauthorized && !rejected {
                match self.renewed(&response, &token, replay).await {
                    Ok((fresh, again)) => {
                        (token, body) = (fresh, again);
                        rejected = true;
                        drop((response, lease));
                        continue;
                    }
                    Err((result, instead)) => {
                        route.shard.replayed(result);
                        if let Some(problem) = instead {
                            return Err(problem);
                        }
                    }
                }
            } else if rejected {
                route.shard.replayed(if unauthorized {
                    Replay::RejectedAgain
                } else {
                    Replay::Accepted
                });
                if unauthorized {
                    // Tell the slot, so that it holds off: the next request must not cause the next exchange.
                    let _held_off = self.grant.reject(&token, None);
                }
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS && workload.is_none() {
                return Err(Problem::bad_gateway(
                    "http_protocol_error",
                    "the upstream switched protocols without having been asked to",
                ));
            }
            break (response, lease);
        };
        let mut ahead = None;
        let ends = match replay {
            // Apart, so that others do not carry its state.
            Some(body) if leftover::is_early(body, &response, head.kept.version) => {
                let ahead = ahead.insert(Box::<Ahead>::default());
                let answer = response.body_mut();
                let deadline = self.deadline;
                !Box::pin(leftover::goes_by(deadline, &mut lease, body, answer, ahead)).await
            }
            _ => false,
        };
        let mut answer = self.answer(response, ahead, lease, workload, replay);
        if ends && let Answer::Response(response) = &mut answer {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(answer)
    }

    /// Logs that the request came to this, at most once a second for a route.
    pub fn log(&self, problem: &Problem, traceparent: Option<&HeaderValue>) {
        let Some(suppressed) = self.route.log.pass(Instant::now()) else {
            return;
        };
        tracing::warn!(
            route = &*self.route.params.name,
            status = problem.status().as_u16(),
            reason = problem.reason(),
            detail = problem.detail(),
            traceparent = traceparent.and_then(|t| t.to_str().ok()),
            elapsed_ms = self.started.elapsed().as_millis(),
            suppressed,
            "request failed"
        );
    }

    /// A token now, or after a bounded wait for an exchange that is under way.
    async fn token(&self, now: Instant) -> Result<Injectable, Problem> {
        self.grant.token(now, self.route.params.token_wait).await
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
            Dedicated::open(upstream, within, &self.route.shard)
                .await
                .map(Outgoing::Dedicated)
        } else if fresh {
            upstream
                .fresh(within, &self.route.shard)
                .await
                .map(Outgoing::Pooled)
        } else {
            upstream
                .checkout(within, &self.route.shard)
                .await
                .map(Outgoing::Pooled)
        };
        let checkout = checkout.map_err(|error| self.unreachable(error))?;
        // That took time: the token may have expired meanwhile.
        *token = self.token(Instant::now()).await?;
        Ok(checkout)
    }

    fn request(
        &self,
        head: &mut Head<'_>,
        body: RequestBody,
        token: &Injectable,
        http2: bool,
    ) -> Request<RequestBody> {
        let setup = self.route.upstream.setup();
        let kept = head.kept;
        let mut headers = head.first.take().unwrap_or_else(|| kept.headers.clone());
        inject::via(&mut headers, self.conn.via());
        if let Some(protocol) = &head.upgrade {
            upgrade::offer(&mut headers, protocol.clone());
        }
        self.grant.inject(&mut headers, token);
        let mut request = Request::new(body);
        *request.method_mut() = kept.method.clone();
        if !http2
            && matches!(request.body(), RequestBody::Live(..))
            && !headers.contains_key(header::CONTENT_LENGTH)
        {
            // Without it a body of a GET would be left out.
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        if http2 {
            headers.remove(header::HOST);
            let mut target = uri::Parts::default();
            target.scheme = Some(setup.scheme().clone());
            target.authority = Some(setup.authority().clone());
            target.path_and_query = Some(self.path(&kept.uri));
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
        } else {
            headers.insert(header::HOST, setup.host().clone());
            *request.uri_mut() = if self.route.params.upstream.base_path.is_empty()
                && kept.uri.authority().is_none()
            {
                kept.uri.clone()
            } else {
                self.path(&kept.uri).into()
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
        // An absolute form without a path (`http://host?query`) has a slash put before it when it is written out, not when it is taken as text.
        if base.is_empty() && own.as_str().starts_with('/') {
            return own;
        }
        // Both parts were valid on their own, and a path stays one when it is put behind another.
        uri::PathAndQuery::try_from(format!("{base}{own}")).unwrap_or(own)
    }

    /// After a failure: the body to try once more with, if that is safe.
    fn again(
        &self,
        error: SendError,
        head: &Head<'_>,
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
            SendError::Closed { reused: true } if first && head.kept.method.is_idempotent() => {
                if let Some(body) = body_again(replay) {
                    return Ok(body);
                }
            }
            _ => {}
        }
        Err(self.failed(&error, replay))
    }

    /// After a 401: a new token and the body once more, or why there will be no replay, and what to answer instead when the 401 should not pass.
    async fn renewed(
        &self,
        response: &Response<Incoming>,
        token: &Injectable,
        replay: Option<&Replayable>,
    ) -> Result<(Injectable, RequestBody), (Replay, Option<Problem>)> {
        let claims = challenge::claims(response.headers());
        self.deadline.disarm();
        if self.grant.reject(token, claims.as_deref()) == Rejection::HeldOff {
            return Err((Replay::HeldOff, None));
        }
        if !replay.is_none_or(Replayable::is_whole) {
            return Err((Replay::BodyTooLarge, None));
        }
        let deadline = Instant::now() + self.route.params.token_wait;
        let token = self
            .grant
            .replaced(token, deadline)
            .await
            .map_err(|instead| (Replay::NoToken, instead))?;
        // Only now: should no token have come, the answer passes, and with it what is still to be sent of the request.
        let body = body_again(replay).ok_or((Replay::BodyTooLarge, None))?;
        Ok((token, body))
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        ahead: Option<Box<Ahead>>,
        lease: Lease,
        workload: Option<OnUpgrade>,
        replay: Option<&Replayable>,
    ) -> Answer {
        let route = &self.route;
        if let Some(body) = replay {
            body.answered();
        }
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
                lease,
            };
        }
        if let Grant::Handle(handle) = &self.grant {
            handle.note(response.headers());
        }
        strip::response(response.headers_mut(), &route.strip_response);
        response.extensions_mut().clear();
        // What the upstream spoke is the upstream's business.
        *response.version_mut() = Version::HTTP_11;
        Answer::Response(response.map(|incoming| {
            ResponseBody::upstream(
                ahead,
                incoming,
                lease,
                Arc::clone(&route.strip_response),
                Rc::clone(self.deadline),
                route.params.timeouts.idle,
            )
        }))
    }
}

fn body_again(replay: Option<&Replayable>) -> Option<RequestBody> {
    replay.map_or(Some(RequestBody::Empty), Replayable::again)
}

enum Outgoing {
    Pooled(Checkout),
    Dedicated(Dedicated),
}
