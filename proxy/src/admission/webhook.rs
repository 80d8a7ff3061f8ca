//! Serves reviews by https at `/mutate`: bounded connections, bodies, memory and times. Whoever can reach it gets an answer: there is no secret in one.

mod body;
mod crowd;
mod seldom;
mod serve;

pub use crowd::Limits;
pub use serve::serve;

use super::{
    check::Check,
    profile::Profiles,
    review::{Answer, answer},
};
use crate::metrics::admission::AdmissionMetrics;
use arc_swap::ArcSwap;
use body::Answered;
use bytes::Bytes;
use crowd::Place;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body_util::{Either, Full};
use seldom::Seldom;
use sidecar_runtime::serve::RequestBody;
use std::sync::Arc;
use tokio::time::Instant;

/// An answered review, or a line.
type Reply = Either<Answered, Full<Bytes>>;

/// Answers reviews with the profiles of the moment.
pub struct Webhook {
    profiles: ArcSwap<Profiles>,
    check: Box<Check>,
    own_namespace: Option<String>,
    metrics: AdmissionMetrics,
    handshakes: Seldom,
    errors: Seldom,
}

impl Webhook {
    /// `own_namespace`: whose pods are left alone.
    pub fn new(
        profiles: Profiles,
        check: Box<Check>,
        own_namespace: Option<String>,
        metrics: AdmissionMetrics,
    ) -> Self {
        Self {
            profiles: ArcSwap::from_pointee(profiles),
            check,
            own_namespace,
            metrics,
            handshakes: Seldom::default(),
            errors: Seldom::default(),
        }
    }

    /// Takes over other profiles; reviews at hand go on with those that they began with.
    pub fn replace(&self, profiles: Profiles) {
        self.profiles.store(Arc::new(profiles));
    }

    async fn respond(
        &self,
        request: Request<RequestBody>,
        place: &Arc<Place>,
        limits: &Limits,
    ) -> Response<Reply> {
        let mut turn = place.begin();
        if let Some(refused) = misdirected(&request) {
            return refused;
        }
        let body = match body::read(request, &mut turn, limits).await {
            Ok(body) => body,
            Err((status, why)) => return not_whole(status, why),
        };
        let began = Instant::now();
        let answered = answer(
            &body,
            &self.profiles.load(),
            &*self.check,
            self.own_namespace.as_deref(),
        );
        drop(body);
        self.metrics.took(began.elapsed());
        let answer = match answered {
            Ok(answer) => answer,
            Err(problem) => {
                if let Some(before) = self.errors.now() {
                    tracing::warn!(problem, before, "a review that cannot be answered");
                }
                self.metrics.reviewed("", "error");
                return text(StatusCode::BAD_REQUEST, &problem);
            }
        };
        self.note(&answer);
        let review = Bytes::from(answer.review.to_string());
        match Answered::new(review, turn, limits).await {
            Err((status, why)) => text(status, why),
            Ok(answered) => {
                let mut response = Response::new(Either::Left(answered));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
        }
    }

    fn note(&self, answer: &Answer) {
        let Answer {
            namespace,
            result,
            dry_run,
            subject,
            refusal,
            ..
        } = answer;
        match refusal {
            Some(why) => tracing::warn!(namespace, pod = subject, dry_run, why, "refused"),
            None => tracing::debug!(namespace, pod = subject, dry_run, result, "reviewed"),
        }
        if !dry_run {
            self.metrics.reviewed(namespace, result);
        }
    }
}

/// The answer to a request that is no review, if it is none.
fn misdirected(request: &Request<RequestBody>) -> Option<Response<Reply>> {
    if request.uri().path() != "/mutate" {
        return Some(text(
            StatusCode::NOT_FOUND,
            "reviews are answered at /mutate",
        ));
    }
    if request.method() != Method::POST {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use POST");
        refused
            .headers_mut()
            .insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        return Some(refused);
    }
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|t| t.split(';').next());
    let json = kind.is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json"));
    (!json).then(|| {
        text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a review is application/json",
        )
    })
}

/// The answer to a review that did not come in whole. Who was late once is not waited for again.
fn not_whole(status: StatusCode, why: &str) -> Response<Reply> {
    let mut response = text(status, why);
    if status == StatusCode::REQUEST_TIMEOUT {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn text(status: StatusCode, body: &str) -> Response<Reply> {
    let body = Full::new(Bytes::from(format!("{body}\n")));
    let mut response = Response::new(Either::Right(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without it the close would be announced as well, but only after a second of waiting for what has not come already.
    #[test]
    fn who_was_late_is_not_waited_for_again() {
        for (status, closes) in [
            (StatusCode::REQUEST_TIMEOUT, true),
            (StatusCode::PAYLOAD_TOO_LARGE, false),
            (StatusCode::BAD_REQUEST, false),
        ] {
            let response = not_whole(status, "why");
            assert_eq!(response.status(), status);
            let close = response.headers().get(CONNECTION);
            assert_eq!(close.is_some_and(|c| c == "close"), closes, "{status}");
        }
    }
}
