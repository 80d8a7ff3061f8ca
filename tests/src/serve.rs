//! A small hyper server for the parts of the harness: TCP or TLS, HTTP/1.1 and HTTP/2, with a switch to reset a connection.
//!
//! Not a model of a careful server: no timeouts, no limits. It ends, with all of its connections, when the handle is dropped.

use crate::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What answers the requests of a server.
pub type Handler = Arc<
    dyn Fn(Request<Incoming>, Connection) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>
        + Send
        + Sync,
>;

/// A handler from an async function.
pub fn handler<F, R>(function: F) -> Handler
where
    F: Fn(Request<Incoming>, Connection) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request, connection| Box::pin(function(request, connection)))
}

/// The connection that a request came over.
#[derive(Clone)]
pub struct Connection {
    /// Numbered from 0 in the order of acceptance.
    pub number: usize,
    /// The other end.
    pub peer: SocketAddr,
    /// The certificate (DER) that the other end showed, if any.
    pub certificate: Option<Arc<[u8]>>,
    reset: Arc<Reset>,
    tasks: Tasks,
}

/// Tasks that outlive a request (an upgraded connection) and end with the server.
type Tasks = Arc<Mutex<JoinSet<()>>>;

#[derive(Default)]
struct Reset {
    asked: AtomicBool,
    wake: Notify,
}

impl Connection {
    /// Kills the connection with a TCP reset; never returns, as nobody is left to answer.
    pub async fn reset(&self) -> Response<Body> {
        self.reset.asked.store(true, Ordering::SeqCst);
        self.reset.wake.notify_one();
        std::future::pending().await
    }

    /// Runs a task that ends with the server: what an upgraded connection needs.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spawn(task);
    }
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    tasks: Tasks,
    _accepting: JoinSet<()>,
}

impl Server {
    /// Binds a free loopback port and serves until dropped.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(tls: Option<Arc<ServerConfig>>, handler: Handler) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls, handler).await
    }

    /// As [`Server::start`], on a given address (a server that comes back on its port).
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_on(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
    ) -> io::Result<Self> {
        Self::serve(TcpListener::bind(address).await?, tls, handler)
    }

    /// Serves on a bound listener.
    ///
    /// # Errors
    /// When the listener does not know its address.
    pub fn serve(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let counts = Counts::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(
            listener,
            tls.map(TlsAcceptor::from),
            handler,
            counts.clone(),
        ));
        let Counts {
            accepted,
            open,
            tasks,
        } = counts;
        Ok(Self {
            address,
            accepted,
            open,
            tasks,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

#[derive(Clone, Default)]
struct Counts {
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    tasks: Tasks,
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, handler: Handler, counts: Counts) {
    // Dropped with this future, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(pair) => pair,
                // Out of descriptors: give the connections time to end.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        drop(stream.set_nodelay(true));
        let mut connection = Connection {
            number: counts.accepted.fetch_add(1, Ordering::SeqCst),
            peer,
            certificate: None,
            reset: Arc::default(),
            tasks: Arc::clone(&counts.tasks),
        };
        let guard = Open::new(&counts.open);
        let (tls, handler) = (tls.clone(), Arc::clone(&handler));
        connections.spawn(async move {
            let _guard = guard;
            let reset = Arc::clone(&connection.reset);
            let stream = Resettable {
                stream,
                reset: Arc::clone(&reset),
            };
            let serving = async {
                match tls {
                    // A failed handshake is the other end's to report.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            let shown = stream.get_ref().1.peer_certificates();
                            connection.certificate = shown
                                .and_then(|chain| chain.first())
                                .map(|c| c.as_ref().into());
                            connection_loop(stream, handler, connection).await;
                        }
                    }
                    None => connection_loop(stream, handler, connection).await,
                }
            };
            tokio::select! {
                () = serving => {}
                () = reset.wake.notified() => {}
            }
        });
    }
}

async fn connection_loop<S>(stream: S, handler: Handler, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request, connection.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_headers(300);
    builder.http2().max_concurrent_streams(20_000);
    // How a connection ends is seen from the other end.
    drop(
        builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await,
    );
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A stream that closes with a reset when that was asked for.
struct Resettable {
    stream: TcpStream,
    reset: Arc<Reset>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.asked.load(Ordering::SeqCst) {
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
