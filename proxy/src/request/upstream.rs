//! One upstream as one worker sees it: a pool of connections to one origin with one trust, never shared with another origin or another trust.
//! It hands out connections; who sends what over them is `send`'s business.

pub mod dedicated;
pub mod h1;
pub mod h2;

use super::params::{HttpVersions, UpstreamParams};
use crate::{
    metrics::request::RouteShard,
    net::{
        dial::{self, DialError, Stream, Target, TlsTarget},
        guard::Guard,
        tls::{self, Alpn, TlsError},
    },
};
use h1::{H1Connection, H1Lease};
use h2::{H2Connection, H2Lease};
use http::{HeaderValue, uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

/// Streams on one HTTP/2 connection before another one is opened.
const STREAMS_PER_CONNECTION: usize = 100;

/// What is ready for use on every worker: names checked, roots loaded.
#[derive(Debug)]
pub struct UpstreamSetup {
    params: UpstreamParams,
    /// Of the CA file's content: a new root must not be served by connections that trusted the old one.
    ca_digest: Option<u64>,
    target: Target,
    /// For upgrades, which need HTTP/1.1.
    target_h1: Target,
    host: HeaderValue,
    authority: uri::Authority,
    scheme: uri::Scheme,
}

/// Why an upstream could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Roots or provider.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name cannot be a TLS server name.
    #[error(
        "`{0}` cannot be a TLS server name; set serverName to the name in the upstream's certificate"
    )]
    ServerName(String),
    /// The name cannot be an authority.
    #[error("`{0}` is no host name; correct the upstream's URL")]
    Host(String),
}

impl UpstreamSetup {
    /// Loads the roots and checks the names.
    ///
    /// # Errors
    /// [`SetupError`], which names the cause and the mend.
    pub fn new(params: UpstreamParams) -> Result<Self, SetupError> {
        let bracketed = if params.host.contains(':') {
            format!("[{}]", params.host)
        } else {
            params.host.clone()
        };
        let default_port = if params.tls { 443 } else { 80 };
        let authority = if params.port == default_port {
            bracketed
        } else {
            format!("{bracketed}:{}", params.port)
        };
        let host =
            HeaderValue::from_str(&authority).map_err(|_| SetupError::Host(authority.clone()))?;
        let authority: uri::Authority = authority
            .parse()
            .map_err(|_| SetupError::Host(authority.clone()))?;
        let target = |alpn| -> Result<Target, SetupError> {
            let tls = match params.tls {
                false => None,
                true => {
                    let name = params.server_name.as_ref().unwrap_or(&params.host);
                    let server_name = ServerName::try_from(name.clone())
                        .map_err(|_| SetupError::ServerName(name.clone()))?;
                    Some(TlsTarget {
                        config: tls::client_config(params.ca_file.as_deref(), alpn)?,
                        server_name,
                    })
                }
            };
            let guard = Guard::for_host(&params.host, !params.tls && !params.allow_insecure_http);
            Ok(Target {
                host: params.host.clone(),
                port: params.port,
                tls,
                guard,
            })
        };
        let alpn = match params.http {
            HttpVersions::Auto => Alpn::Http1And2,
            HttpVersions::Http1 => Alpn::Http1,
            HttpVersions::Http2 => Alpn::Http2,
        };
        let scheme = if params.tls {
            uri::Scheme::HTTPS
        } else {
            uri::Scheme::HTTP
        };
        let ca_digest = params
            .ca_file
            .as_deref()
            .and_then(|path| std::fs::read(path).ok())
            .map(|content| digest(&content));
        Ok(Self {
            ca_digest,
            target: target(alpn)?,
            target_h1: target(Alpn::Http1)?,
            host,
            authority,
            scheme,
            params,
        })
    }

    /// Whether connections of `other` may serve for this one: the same parameters, and the same roots in the CA file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.params == other.params && self.ca_digest == other.ca_digest
    }

    /// The parameters it was made from.
    pub fn params(&self) -> &UpstreamParams {
        &self.params
    }

    /// `Host` for HTTP/1.1.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// `:authority` for HTTP/2.
    pub fn authority(&self) -> &uri::Authority {
        &self.authority
    }

    /// `:scheme` for HTTP/2.
    pub fn scheme(&self) -> &uri::Scheme {
        &self.scheme
    }
}

fn digest(content: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// One worker's connections to one upstream.
pub struct Upstream {
    setup: Arc<UpstreamSetup>,
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Rc<H2Connection>>>,
    /// Connections open or being opened.
    open: Cell<usize>,
    /// A connection or a place became free.
    freed: Notify,
    shard: Arc<RouteShard>,
}

struct Idle {
    connection: Box<H1Connection>,
    /// The sweep it was last seen by: reading a clock for each request would cost more than being a second off.
    since: Cell<Option<Instant>>,
}

/// A connection for one request.
pub enum Checkout {
    /// HTTP/1.1.
    H1(H1Lease),
    /// HTTP/2.
    H2(H2Lease),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum CheckoutError {
    /// Opening one failed.
    Dial(DialError),
    /// It was open, and HTTP could not be begun.
    Handshake(hyper::Error),
    /// Opening one took too long.
    Timeout,
    /// As many as allowed are open, and none became free in time.
    Full,
}

impl Upstream {
    /// A pool without connections. `shard` counts them.
    pub fn new(setup: Arc<UpstreamSetup>, shard: Arc<RouteShard>) -> Rc<Self> {
        Rc::new(Self {
            setup,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            open: Cell::new(0),
            freed: Notify::new(),
            shard,
        })
    }

    /// What it was made from.
    pub fn setup(&self) -> &Arc<UpstreamSetup> {
        &self.setup
    }

    /// An idle connection, if there is a live one.
    pub fn idle(self: &Rc<Self>) -> Option<Checkout> {
        loop {
            let mut idle = self.idle.borrow_mut();
            let Some(Idle { mut connection, .. }) = idle.pop() else {
                break;
            };
            drop(idle);
            if connection.is_usable() {
                return Some(Checkout::H1(H1Lease::new(
                    connection,
                    Rc::clone(self),
                    true,
                )));
            }
        }
        let multiplexed = self.multiplexed.borrow();
        let best = multiplexed
            .iter()
            .filter(|c| c.is_usable())
            .min_by_key(|c| c.streams())?;
        // A full connection serves only when no other may be opened.
        if best.streams() < STREAMS_PER_CONNECTION
            || self.open.get() >= self.setup.params.max_connections
        {
            return Some(Checkout::H2(best.lease(Rc::clone(self))));
        }
        None
    }

    /// A connection: an idle one, else a new one, else the next that becomes free; at the latest after `within`.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn checkout(self: &Rc<Self>, within: Duration) -> Result<Checkout, CheckoutError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(checkout) = self.idle() {
                return Ok(checkout);
            }
            if self.open.get() < self.setup.params.max_connections {
                return self.fresh(within).await;
            }
            if timeout_at(deadline, self.freed.notified()).await.is_err() {
                return Err(CheckoutError::Full);
            }
        }
    }

    /// A new connection, whatever is idle.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn fresh(self: &Rc<Self>, within: Duration) -> Result<Checkout, CheckoutError> {
        let (stream, open) = self.open(&self.setup.target, within).await?;
        let h2 = match self.setup.params.http {
            HttpVersions::Auto => stream.alpn_h2(),
            HttpVersions::Http1 => false,
            HttpVersions::Http2 => true,
        };
        let io = TokioIo::new(stream);
        if h2 {
            let connection = H2Connection::handshake(io, open, Rc::downgrade(self))
                .await
                .map_err(CheckoutError::Handshake)?;
            self.multiplexed.borrow_mut().push(Rc::clone(&connection));
            // Those who wait for a place can share this connection.
            self.freed.notify_waiters();
            return Ok(Checkout::H2(connection.lease(Rc::clone(self))));
        }
        let connection = H1Connection::handshake(io, open)
            .await
            .map_err(CheckoutError::Handshake)?;
        Ok(Checkout::H1(H1Lease::new(
            Box::new(connection),
            Rc::clone(self),
            false,
        )))
    }

    /// An HTTP/1.1 connection outside of the pool, for an upgrade.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn dedicated(
        self: &Rc<Self>,
        within: Duration,
    ) -> Result<(Stream, Open), CheckoutError> {
        if self.open.get() >= self.setup.params.max_connections {
            return Err(CheckoutError::Full);
        }
        self.open(&self.setup.target_h1, within).await
    }

    async fn open(
        self: &Rc<Self>,
        target: &Target,
        within: Duration,
    ) -> Result<(Stream, Open), CheckoutError> {
        let open = Open::new(self);
        let start = Instant::now();
        let result = timeout(within, dial::dial(target)).await;
        self.shard.connect.observe(start.elapsed());
        match result {
            Err(_) => Err(CheckoutError::Timeout),
            Ok(Err(error)) => Err(CheckoutError::Dial(error)),
            Ok(Ok(stream)) => Ok((stream, open)),
        }
    }

    fn put_back(&self, connection: Box<H1Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.setup.params.max_idle_connections {
            idle.push(Idle {
                connection,
                since: Cell::new(None),
            });
            drop(idle);
            self.freed.notify_one();
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream. Called now and then.
    pub fn sweep(&self, now: Instant) {
        let limit = self.setup.params.idle_timeout;
        self.idle.borrow_mut().retain_mut(|idle| {
            let since = idle.since.get().unwrap_or(now);
            idle.since.set(Some(since));
            now.duration_since(since) < limit && idle.connection.is_usable()
        });
        self.multiplexed
            .borrow_mut()
            .retain(|c| c.is_usable() && !c.close_if_idle(now, limit));
    }

    /// Closes every idle connection, and lets the others end with their requests.
    pub fn retire(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed.borrow_mut().clear();
    }

    fn forget(&self, connection: &H2Connection) {
        self.multiplexed
            .borrow_mut()
            .retain(|c| !std::ptr::eq(&raw const **c, connection));
    }
}

/// One open connection's place under the limit.
pub struct Open(Rc<Upstream>);

impl Open {
    fn new(upstream: &Rc<Upstream>) -> Self {
        upstream.open.set(upstream.open.get() + 1);
        upstream.shard.connections.add(1);
        Self(Rc::clone(upstream))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.shard.connections.sub(1);
        self.0.freed.notify_one();
    }
}
