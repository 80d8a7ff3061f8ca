//! The server as a whole: build it from settings, run it on a listener, stop it without dropping a request.

use std::{fs, future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use hyper::service::service_fn;
use prometheus::Registry;
use sidecar_runtime::{
    admin::Admin,
    listener::Listener,
    liveness::Liveness,
    readiness::{Condition, Readiness},
    serve::{ServeOptions, serve_http1},
    shutdown::drain,
    spawn,
};
use tokio::time::{sleep, timeout};

use crate::{
    backend::Backend,
    env::Settings,
    health::BackendCheck,
    http_service::HttpService,
    intake::{Intake, MAX_BODY},
    mcp::Mcp,
    metrics::Metrics,
    tools::{Catalog, ToolsError, call::Toolbox},
};

const OPTIONS: ServeOptions = ServeOptions {
    name: "connection",
    max_connections: 1024,
    header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(30),
    max_buffer: 32 * 1024,
    max_headers: 100,
};

/// Why the server cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The tools file cannot be read.
    #[error("TOOLS_FILE: cannot read {}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tools file is wrong; each error names its tool and field.
    #[error("TOOLS_FILE: {} is not right", path.display())]
    Tools {
        /// The file.
        path: PathBuf,
        /// All of its errors.
        source: ToolsError,
    },
    /// Metrics could not be registered.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A server that is ready to run.
pub struct App {
    service: HttpService,
    readiness: Readiness,
    tools: Condition,
    delay: Duration,
    deadline: Duration,
}

impl App {
    /// Reads the tools and puts the parts together. Opens no connection.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(settings: &Settings) -> Result<Self, BuildError> {
        let catalog = Arc::new(catalog(settings)?);
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, &catalog)?;
        let readiness = Readiness::new();
        let tools = readiness.register("tools");
        let backend = Backend::new(settings.backend.clone());
        let toolbox = Toolbox {
            catalog,
            backend: backend.clone(),
            metrics: metrics.clone(),
            timeout: settings.backend_timeout,
            caller_header: settings.caller_header.clone(),
        };
        let (hosts, origins) = (
            settings.allowed_hosts.clone(),
            settings.allowed_origins.clone(),
        );
        let service = HttpService {
            admin: Admin {
                title: "mcp-server",
                registry,
                readiness: readiness.clone(),
                liveness: Liveness::new(),
            },
            backend_check: settings
                .check_backend
                .then(|| BackendCheck::new(backend, &readiness)),
            mcp: Mcp::new(toolbox.clone(), &hosts, &origins, MAX_BODY),
            toolbox,
            metrics,
            hosts,
            origins,
            intake: Intake::new(),
        };
        Ok(Self {
            service,
            readiness,
            tools,
            delay: settings.shutdown_delay,
            deadline: settings.shutdown_deadline,
        })
    }
}

fn catalog(settings: &Settings) -> Result<Catalog, BuildError> {
    let Some(path) = &settings.tools_file else {
        return Catalog::built_in().map_err(|source| BuildError::Tools {
            path: "built-in".into(),
            source,
        });
    };
    let text = fs::read_to_string(path).map_err(|source| BuildError::Unreadable {
        path: path.clone(),
        source,
    })?;
    Catalog::from_yaml(&text).map_err(|source| BuildError::Tools {
        path: path.clone(),
        source,
    })
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request in flight was finished.
    Drained,
    /// The deadline came first; so many connections were cut.
    Cut(usize),
}

/// Serves until `stop` resolves; then falls out of readiness, waits the delay, closes the listener and lets requests in
/// flight finish until the deadline.
///
/// # Errors
/// The runtime could not take over the listener.
pub async fn run(
    listener: Listener,
    app: App,
    stop: impl Future<Output = ()>,
) -> io::Result<Ended> {
    let address = listener.local_addr();
    let listener = listener.into_tokio()?;
    let (trigger, watch) = drain();
    let service = app.service;
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { service.call(request).await }
    });
    let server = spawn(
        "server",
        serve_http1(listener, OPTIONS, Arc::new(service), watch),
    );
    app.tools.ready();
    tracing::info!(%address, "serving");
    stop.await;
    app.readiness.set_draining();
    sleep(app.delay).await;
    let drained = trigger.drain();
    // The loop ends at the drain's beginning; its end closes the listener.
    drop(server.await);
    match timeout(app.deadline, drained.drained()).await {
        Ok(()) => Ok(Ended::Drained),
        Err(_) => Ok(Ended::Cut(drained.in_flight())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::server::conn::http1;
    use hyper_util::rt::TokioTimer;
    use sidecar_runtime::{listener::PeerAddr, serve::serve_connection};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::Instant,
    };

    /// All that comes until the server ends the connection, and after how long. Without a socket: the clock is paused, and moves only when nothing else
    /// can happen.
    async fn told(service: &HttpService, request: &str) -> (String, Duration) {
        let (mut client, server) = duplex(4096);
        let (_trigger, watch) = drain();
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        let peer = PeerAddr::Tcp("127.0.0.1:1".parse().unwrap());
        let answer = service_fn(|request| service.call(request));
        let served = serve_connection(builder, server, answer, peer, watch);
        let began = Instant::now();
        let told = async {
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            (answer, began.elapsed())
        };
        tokio::join!(told, served).0
    }

    /// Who was late once is not waited for again: the second that other answers wait for a body is not added.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_ends_the_connection_at_once() {
        let backend = ("BACKEND_API_URL", "http://127.0.0.1:1");
        let env = |name: &str| (name == backend.0).then(|| backend.1.to_owned());
        let app = App::build(&Settings::from_env(&env).unwrap()).unwrap();
        for path in ["/mcp", "/messages"] {
            for rest in [
                "content-length: 9\r\n\r\n{",
                "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            ] {
                let request = format!(
                    "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rest}"
                );
                let (answer, took) = told(&app.service, &request).await;
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
                assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
                // What a body may take, and nothing more.
                let limit = Duration::from_secs(15);
                assert!((limit..limit + limit / 30).contains(&took), "{took:?}");
            }
        }
    }
}
