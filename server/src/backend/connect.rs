//! Connections to the backend for the HTTP client: to the address from the configuration, whatever a request's URI says.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use sidecar_runtime::listener::Stream;
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use super::url::Address;

/// Makes connections to one address.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    address: Arc<Address>,
}

impl Connector {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address: Arc::new(address),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = Arc::clone(&self.address);
        Box::pin(async move { Ok(TokioIo::new(connect(&address).await?)) })
    }
}

async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(addresses) => {
            let stream = TcpStream::connect(addresses.as_slice()).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}
