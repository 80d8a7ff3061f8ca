//! The paths that answer over time, or in a protocol of their own.
//!
//! - `/sse?n=N&ms=M`: N server-sent events, M milliseconds apart, each with its send time
//! - `/bytes/{n}`: n bytes, streamed; with `?length` under a `Content-Length`, else chunked
//! - `/slow-body?n=N&ms=M`: N bytes, one each M milliseconds; `/reset?after=N`: dies after N bytes of a longer body
//! - `/trailers`: echoes body and trailers, and sends `x-checksum` as a trailer of its own
//! - `/ws`: upgrades, then echoes bytes; `/harness.Echo/{method}`: a gRPC-like echo with `grpc-status` in the trailers

use super::{
    Shared,
    paths::{number_of, query, read, status},
};
use crate::{
    body::{self, Body, Writer},
    keys::unix_now,
    serve::Connection,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK: usize = 64 * 1024;

/// Answers, or 404.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    number: usize,
    connection: Connection,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["sse"] => {
            let (n, pause) = (
                number_of(&request, "n", 5),
                Duration::from_millis(number_of(&request, "ms", 10)),
            );
            streamed(&connection, "text/event-stream", move |writer| {
                events(writer, n, pause)
            })
        }
        ["bytes", n] => {
            let n = n.parse().unwrap_or(0);
            let mut response = streamed(&connection, "application/octet-stream", move |writer| {
                zeros(writer, n)
            });
            if query(&request, "length").is_some() {
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, HeaderValue::from(n));
            }
            response
        }
        ["slow-body"] => {
            let (n, pause) = (
                number_of(&request, "n", 10),
                Duration::from_millis(number_of(&request, "ms", 1000)),
            );
            streamed(&connection, "text/plain", move |writer| {
                drops(writer, n, pause)
            })
        }
        ["reset"] => {
            let after = number_of(&request, "after", 1000);
            let mut response = streamed(&connection, "application/octet-stream", move |writer| {
                broken(writer, after)
            });
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(after + 1_000_000));
            response
        }
        ["trailers"] => trailers(&shared, request, number).await,
        ["ws"] => upgrade(request, &connection),
        ["harness.Echo", method] => grpc(&shared, request, number, method).await,
        _ => status(404),
    }
}

/// An answer whose body a task writes.
fn streamed<F, R>(connection: &Connection, content_type: &'static str, write: F) -> Response<Body>
where
    F: FnOnce(Writer) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let (writer, body) = body::channel();
    connection.spawn(write(writer));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn events(writer: Writer, n: u64, pause: Duration) {
    for i in 0..n {
        let now = unix_now().as_micros();
        if !writer
            .data(format!("id: {i}\ndata: {{\"sent_us\":{now}}}\n\n"))
            .await
        {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn zeros(writer: Writer, mut left: u64) {
    let chunk = Bytes::from(vec![b'0'; CHUNK]);
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if !writer.data(chunk.slice(..len)).await {
            return;
        }
        left -= len as u64;
    }
}

async fn drops(writer: Writer, n: u64, pause: Duration) {
    for _ in 0..n {
        if !writer.data("x").await {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn broken(writer: Writer, after: u64) {
    zeros(writer.clone(), after).await;
    writer.break_off().await;
}

async fn trailers(shared: &Shared, request: Request<Incoming>, number: usize) -> Response<Body> {
    let collected = read(shared, request.into_body(), number).await;
    let mut trailers = collected.trailers.unwrap_or_default();
    trailers.insert("x-checksum", HeaderValue::from(collected.bytes.len()));
    let (writer, body) = body::channel();
    let mut response = Response::new(body);
    // HTTP/1.1 sends only the trailers that are announced.
    let names: Vec<_> = trailers.keys().map(header::HeaderName::as_str).collect();
    if let Ok(announced) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(header::TRAILER, announced);
    }
    // The channel holds both frames: nobody has to wait here.
    writer.data(collected.bytes).await;
    writer.trailers(trailers).await;
    response
}

fn upgrade(mut request: Request<Incoming>, connection: &Connection) -> Response<Body> {
    let Some(protocol) = request.headers().get(header::UPGRADE).cloned() else {
        return status(426);
    };
    let upgrading = hyper::upgrade::on(&mut request);
    connection.spawn(async move {
        let Ok(upgraded) = upgrading.await else {
            return;
        };
        let mut io = TokioIo::new(upgraded);
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = io.read(&mut chunk).await {
            if io.write_all(&chunk[..count]).await.is_err() || io.flush().await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    response
}

/// `/harness.Echo/Say` echoes; any other method is unimplemented, in a trailers-only answer.
async fn grpc(
    shared: &Shared,
    request: Request<Incoming>,
    number: usize,
    method: &str,
) -> Response<Body> {
    let grpc = HeaderValue::from_static("application/grpc");
    if method != "Say" {
        let mut response = Response::new(body::empty());
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        response
            .headers_mut()
            .insert("grpc-status", HeaderValue::from_static("12"));
        return response;
    }
    let collected = read(shared, request.into_body(), number).await;
    let (writer, body) = body::channel();
    writer.data(collected.bytes).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("said"));
    writer.trailers(trailers).await;
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
