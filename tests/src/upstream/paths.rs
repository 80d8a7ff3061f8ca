//! The paths that answer at once.
//!
//! - `/echo`: method, target, headers (`Authorization` as a fingerprint) and the body as JSON; `/echo/raw`: the body as it came, streamed
//! - `/users/{id}`: a JSON profile; `/status/{code}`; `/redirect?to=URL`; `/early`: 413 without reading the body
//! - `/sink`: counts the body's bytes; `/slow-header?ms=N`; `/hang`: no answer; `/abort`: a TCP reset instead of an answer
//! - everything else: [`super::streams`] and [`super::challenge`], or 404

use super::{ReceivedBody, Shared, challenge, streams};
use crate::{
    body::{self, Body, Writer},
    fingerprint,
    serve::Connection,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Answers a request whose token was good.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    number: usize,
    connection: Connection,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["echo"] => echo(&shared, request, number).await,
        ["echo", "raw"] => echo_raw(shared, request, number, &connection),
        ["users", id] => user(id),
        ["status", code] => status(code.parse().unwrap_or(500)),
        ["redirect"] => redirect(&query(&request, "to").unwrap_or_default()),
        ["early"] => status(413),
        ["sink"] => sink(&shared, request, number).await,
        ["slow-header"] => {
            tokio::time::sleep(Duration::from_millis(number_of(&request, "ms", 1000))).await;
            status(200)
        }
        ["hang"] => std::future::pending().await,
        ["abort"] => connection.reset().await,
        ["reject-once" | "reject-always" | "claims"] => {
            challenge::answer(&shared, request, number, segments[0]).await
        }
        _ => streams::answer(shared, request, number, connection).await,
    }
}

/// A query parameter, decoded.
pub(super) fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// A numeric query parameter.
pub(super) fn number_of<B>(request: &Request<B>, name: &str, default: u64) -> u64 {
    query(request, name)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// A JSON answer.
pub(super) fn json_answer(value: &Value) -> Response<Body> {
    let mut response = Response::new(body::full(value.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// An empty answer with this status; the reason as a small body where one may be.
pub(super) fn status(code: u16) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = if matches!(code.as_u16(), 204 | 304) {
        String::new()
    } else {
        format!("{code}\n")
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    response
}

/// Reads a request's body whole and records it.
pub(super) async fn read(shared: &Shared, body: Incoming, number: usize) -> body::Collected {
    match body::collect(body).await {
        Ok(collected) => {
            shared.bodies.push(ReceivedBody {
                number,
                len: collected.bytes.len() as u64,
                bytes: collected.bytes.clone(),
                trailers: collected.trailers.clone(),
                broken: false,
            });
            collected
        }
        Err(_) => {
            shared.bodies.push(ReceivedBody {
                number,
                len: 0,
                bytes: Bytes::new(),
                trailers: None,
                broken: true,
            });
            body::Collected::default()
        }
    }
}

async fn echo(shared: &Shared, request: Request<Incoming>, number: usize) -> Response<Body> {
    let (head, body) = request.into_parts();
    let collected = read(shared, body, number).await;
    json_answer(&json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": shown(&head.headers),
        "body": String::from_utf8_lossy(&collected.bytes),
        "trailers": collected.trailers.as_ref().map(shown),
    }))
}

/// Headers as pairs of names and values, in order; tokens as fingerprints.
fn shown(headers: &HeaderMap) -> Vec<[String; 2]> {
    let show = |(name, value): (&header::HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let value = match value.strip_prefix("Bearer ") {
            Some(token) if name == header::AUTHORIZATION => {
                format!("Bearer sha256:{}", fingerprint(token))
            }
            _ => value,
        };
        [name.to_string(), value]
    };
    headers.iter().map(show).collect()
}

fn echo_raw(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    number: usize,
    connection: &Connection,
) -> Response<Body> {
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let (writer, answer) = body::channel();
    let incoming = request.into_body();
    connection.spawn(async move {
        let relayed = take(incoming, number, Some(&writer)).await;
        if relayed.broken {
            writer.break_off().await;
        }
        shared.bodies.push(relayed);
    });
    let mut response = Response::new(answer);
    if let Some(content_type) = content_type {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    response
}

fn user(id: &str) -> Response<Body> {
    json_answer(&json!({
        "id": id,
        "displayName": "Ada Lovelace",
        "mail": "ada@example.com",
        "department": "Analytical Engines",
    }))
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = status(302);
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Takes a body as it comes, and hands it on to `writer` for as long as that is read. Its bytes are counted and not kept.
async fn take(mut body: Incoming, number: usize, writer: Option<&Writer>) -> ReceivedBody {
    let mut received = ReceivedBody {
        number,
        len: 0,
        bytes: Bytes::new(),
        trailers: None,
        broken: false,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => {
                received.len += data.len() as u64;
                if let Some(writer) = writer
                    && !writer.data(data).await
                {
                    break;
                }
            }
            Ok(Err(frame)) => received.trailers = frame.into_trailers().ok(),
            Err(_) => {
                received.broken = true;
                break;
            }
        }
    }
    received
}

async fn sink(shared: &Shared, request: Request<Incoming>, number: usize) -> Response<Body> {
    let received = take(request.into_body(), number, None).await;
    let len = received.len;
    shared.bodies.push(received);
    json_answer(&json!({ "bytes": len }))
}
