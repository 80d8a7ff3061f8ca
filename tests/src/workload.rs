//! A workload that knows nothing of tokens: it records what it receives, and forwards the caller's header on the calls that it makes itself, as
//! servers do that were written for real tokens.
//!
//! - `/call?path=P`: GETs P from the backend (the sidecar) with the `Authorization` it received itself, and answers what that answered
//! - `/hold`: answers when [`Workload::release`] is called; `/sse?n=N&ms=M`: server-sent events; `/ws`: upgrades, then echoes bytes
//! - `/mark`: answers 200 with the header that [`Workload::answer_with`] says; everything else: what it received, as JSON

use crate::{
    Result,
    body::{self, Body},
    client::Client,
    record::Record,
    serve::{self, Connection, Server},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

/// A request as the workload received it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
}

impl Received {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }

    /// The handle behind `Bearer `.
    pub fn handle(&self) -> Option<&str> {
        self.header("authorization")
            .first()?
            .strip_prefix("Bearer ")
    }
}

/// A running workload.
pub struct Workload {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    received: Record<Received>,
    release: Notify,
    backend: Mutex<Option<SocketAddr>>,
    answer: Mutex<Option<(HeaderName, HeaderValue)>>,
}

impl Workload {
    /// Starts one on a free loopback port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            received: Record::new(),
            release: Notify::new(),
            backend: Mutex::default(),
            answer: Mutex::default(),
        });
        let state = Arc::clone(&shared);
        let handler = serve::handler(move |request, connection| {
            answer(Arc::clone(&state), request, connection)
        });
        Ok(Self {
            server: Server::start(None, handler).await?,
            shared,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// As `inbound.upstream`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where `/call` calls.
    pub fn set_backend(&self, address: SocketAddr) {
        *lock(&self.shared.backend) = Some(address);
    }

    /// A header of the answers of `/mark` from now on.
    pub fn answer_with(&self, name: &'static str, value: &str) -> Result<()> {
        let header = (HeaderName::from_static(name), HeaderValue::from_str(value)?);
        *lock(&self.shared.answer) = Some(header);
        Ok(())
    }

    /// Lets one request for `/hold` go.
    pub fn release(&self) {
        self.shared.release.notify_one();
    }

    /// Everything it received.
    pub fn received(&self) -> &Record<Received> {
        &self.shared.received
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    connection: Connection,
) -> Response<Body> {
    let received = Received {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    shared.received.push(received.clone());
    match request.uri().path() {
        "/call" => call(&shared, &request).await,
        "/hold" => {
            shared.release.notified().await;
            Response::new(body::full("released"))
        }
        "/sse" => events(&request, &connection),
        "/ws" => {
            let upgrade = hyper::upgrade::on(&mut request);
            connection.spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let (mut io, mut bytes) = (TokioIo::new(upgraded), [0; 1024]);
                while let Ok(n @ 1..) = io.read(&mut bytes).await {
                    if io.write_all(&bytes[..n]).await.is_err() {
                        return;
                    }
                }
            });
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
        "/mark" => {
            let mut response = Response::new(body::full("marked"));
            if let Some((name, value)) = lock(&shared.answer).clone() {
                response.headers_mut().insert(name, value);
            }
            response
        }
        _ => {
            drop(body::collect(request.into_body()).await);
            let names: Vec<&str> = received.headers.keys().map(HeaderName::as_str).collect();
            let text = json!({ "method": received.method.as_str(), "target": received.target, "headers": names });
            Response::new(body::full(text.to_string()))
        }
    }
}

/// Calls the backend as a server does that passes on the header it was called with.
async fn call(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let path = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "path")
        .map_or_else(|| "/".to_owned(), |(_, path)| path.into_owned());
    let Some(backend) = *lock(&shared.backend) else {
        return status(StatusCode::NOT_IMPLEMENTED);
    };
    let mut outgoing = Request::get(path);
    for value in request.headers().get_all(header::AUTHORIZATION) {
        outgoing = outgoing.header(header::AUTHORIZATION, value);
    }
    let Ok(outgoing) = outgoing.body(body::empty()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    match Client::new(backend).send(outgoing).await {
        Ok(answer) => {
            let mut response = Response::new(body::full(answer.body));
            *response.status_mut() = answer.status;
            for name in ["content-type", "www-authenticate", "token-sidecar-step-up"] {
                for value in answer.headers.get_all(name) {
                    response
                        .headers_mut()
                        .append(HeaderName::from_static(name), value.clone());
                }
            }
            response
        }
        Err(_) => status(StatusCode::BAD_GATEWAY),
    }
}

fn events(request: &Request<Incoming>, connection: &Connection) -> Response<Body> {
    let number = |name: &str, default: u64| {
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(default)
    };
    let (count, pause) = (number("n", 3), Duration::from_millis(number("ms", 10)));
    let (writer, stream) = body::channel();
    connection.spawn(async move {
        for i in 0..count {
            if !writer.data(format!("data: {i}\n\n")).await {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    let mut response = Response::new(stream);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}
