//! The server under test, in this process, on a free port.

use std::{collections::HashMap, io, net::SocketAddr};

use mcp_server::{App, Ended, env::Settings};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    backend::{FakeBackend, bind},
    client::BOUND,
};

/// A running server.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<io::Result<Ended>>,
}

/// How a server ended, once it has.
pub(crate) async fn end(ended: JoinHandle<io::Result<Ended>>) -> Ended {
    let ended = timeout(BOUND, ended).await.expect("an end");
    ended.unwrap().unwrap()
}

/// Starts a server in front of `backend` with more variables.
pub(crate) fn start(backend: &FakeBackend, variables: &[(&str, &str)]) -> TestServer {
    start_at(&backend.url, variables)
}

/// Starts a server in front of `url` with more variables.
pub(crate) fn start_at(url: &str, variables: &[(&str, &str)]) -> TestServer {
    let mut env: HashMap<&str, &str> =
        HashMap::from([("BACKEND_API_URL", url), ("SHUTDOWN_DELAY", "0")]);
    env.extend(variables.iter().copied());
    let settings = Settings::from_env(&|name| env.get(name).map(|v| (*v).to_owned())).unwrap();
    let (listener, addr) = bind();
    let app = App::build(&settings).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = sidecar_runtime::spawn("server under test", async move {
        mcp_server::run(listener, app, async move { drop(stopped.await) }).await
    });
    TestServer { addr, stop, ended }
}

/// A backend and a server with nothing but defaults.
pub(crate) fn pair() -> (FakeBackend, TestServer) {
    let backend = FakeBackend::start();
    let server = start(&backend, &[]);
    (backend, server)
}
