//! A backend that records what reaches it and answers as told by the path.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use sidecar_runtime::{
    listener::{BindOptions, ListenAddr, Listener},
    serve::{RequestBody, ServeOptions, serve_http1},
    shutdown::{DrainTrigger, drain},
};
use tokio::{sync::Notify, time::timeout};

use crate::client::BOUND;

/// What reached the backend.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A running backend; it ends when dropped.
pub(crate) struct FakeBackend {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Lets `/users/held` answer.
    pub(crate) release: Arc<Notify>,
    _trigger: DrainTrigger,
}

impl FakeBackend {
    /// On a free port.
    pub(crate) fn start() -> Self {
        let (listener, addr) = bind();
        Self::on(listener, format!("http://{addr}"))
    }

    /// Resolves once anything has reached it.
    pub(crate) async fn reached(&self) {
        timeout(BOUND, async {
            while self.seen.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("a request");
    }

    /// On a Unix socket.
    pub(crate) fn start_unix(path: &Path) -> Self {
        let addr = ListenAddr::Unix(path.to_owned());
        let listener = Listener::bind(&addr, BindOptions::default()).unwrap();
        Self::on(listener, addr.to_string())
    }

    fn on(listener: Listener, url: String) -> Self {
        let (trigger, watch) = drain();
        let (seen, release) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let shared = (Arc::clone(&seen), Arc::clone(&release));
        let service = service_fn(move |request| {
            let (seen, release) = shared.clone();
            async move { Ok::<_, Infallible>(answer(request, &seen, &release).await) }
        });
        let options = ServeOptions {
            name: "fake backend",
            max_connections: 100,
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            max_buffer: 65536,
            max_headers: 100,
        };
        let listener = listener.into_tokio().unwrap();
        drop(sidecar_runtime::spawn(
            "fake backend",
            serve_http1(listener, options, Arc::new(service), watch),
        ));
        Self {
            url,
            seen,
            release,
            _trigger: trigger,
        }
    }

    /// The only request that came.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

/// A listener on a free port.
pub(crate) fn bind() -> (Listener, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&any, BindOptions::default()).unwrap();
    let ListenAddr::Tcp(addr) = listener.local_addr() else {
        panic!("not TCP")
    };
    (listener, addr)
}

async fn answer(
    request: Request<RequestBody>,
    seen: &Mutex<Vec<Seen>>,
    release: &Notify,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push(Seen {
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let reply = |status: u16, media: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media.parse().unwrap());
        response
    };
    match parts.uri.path() {
        "/users/held" => {
            release.notified().await;
            reply(200, "application/json", r#"{"id":"held"}"#.into())
        }
        "/users/hang" => std::future::pending().await,
        "/users/large" => reply(200, "text/plain", "x".repeat(2_000_000)),
        "/users/moved" => {
            let mut response = reply(302, "text/plain", String::new());
            response
                .headers_mut()
                .insert(header::LOCATION, "/users/1".parse().unwrap());
            response
        }
        "/users/step-up" => {
            let problem =
                r#"{"type":"urn:token-sidecar:step-up","title":"More is needed","status":401}"#;
            let mut response = reply(401, "application/problem+json", problem.into());
            let headers = response.headers_mut();
            headers.insert(
                "token-sidecar-step-up",
                "abcdefghijklmnopqrst-_".parse().unwrap(),
            );
            headers.insert(
                header::WWW_AUTHENTICATE,
                r#"Bearer error="insufficient_claims",scope="a b",claims="e30=""#
                    .parse()
                    .unwrap(),
            );
            response
        }
        "/users/none" => {
            let problem =
                r#"{"title":"No valid token","detail":"credential default: expired","status":503}"#;
            let mut response = reply(503, "application/problem+json", problem.into());
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, "5".parse().unwrap());
            response
        }
        path => match path.strip_prefix("/users/") {
            Some(id) => reply(
                200,
                "application/json",
                format!(r#"{{"id":"{id}","name":"Ada"}}"#),
            ),
            None => reply(404, "text/html", "<html>no</html>".into()),
        },
    }
}
