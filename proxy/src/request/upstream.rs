//! One upstream as one worker sees it: a pool of connections to one origin with one trust, never shared with another origin or another trust.
//! It hands out connections; who sends what over them is `send`'s business.

pub mod dedicated;
pub mod h1;
pub mod h2;
mod last_words;
mod place;

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
                unix: params.unix.clone(),
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

    /// Where its pooled connections go.
    pub fn target(&self) -> &Target {
        &self.target
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
    /// Connections being opened.
    opening: Cell<usize>,
    /// How often opening one has failed.
    failures: Cell<u64>,
    /// The last connection spoke HTTP/1.1: then each request needs one of its own.
    is_h1: Cell<bool>,
    /// No route leads here any more: what comes back is closed.
    retired: Cell<bool>,
    /// A connection or a place became free, or opening one has ended.
    freed: Notify,
    /// Those who wait for a place, and can do nothing with a connection.
    placeless: Cell<usize>,
    /// For them: a place became free, or a connection that could give up its own.
    vacated: Notify,
}

struct Idle {
    connection: Box<H1Connection>,
    /// The sweep it was first seen by: reading a clock for each request would cost more than being a second off.
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
    /// A pool without connections.
    pub fn new(setup: Arc<UpstreamSetup>) -> Rc<Self> {
        let is_h1 = match setup.params.http {
            HttpVersions::Auto => !setup.params.tls,
            HttpVersions::Http1 => true,
            HttpVersions::Http2 => false,
        };
        Rc::new(Self {
            setup,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            open: Cell::new(0),
            opening: Cell::new(0),
            failures: Cell::new(0),
            is_h1: Cell::new(is_h1),
            retired: Cell::new(false),
            freed: Notify::new(),
            placeless: Cell::new(0),
            vacated: Notify::new(),
        })
    }

    /// What it was made from.
    pub fn setup(&self) -> &Arc<UpstreamSetup> {
        &self.setup
    }

    /// An idle connection, if there is one. The upstream may have closed it since: then the request comes back unsent.
    pub fn idle(self: &Rc<Self>) -> Option<Checkout> {
        loop {
            let mut idle = self.idle.borrow_mut();
            let Some(Idle { mut connection, .. }) = idle.pop() else {
                break;
            };
            drop(idle);
            if connection.is_ready() || connection.is_usable() {
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
            .filter(|c| c.has_room())
            .min_by_key(|c| c.streams())?;
        Some(Checkout::H2(best.lease(Rc::clone(self))))
    }

    /// A connection: an idle one, else a new one, else the next that becomes free; at the latest after `within`. `shard` counts a new one.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn checkout(
        self: &Rc<Self>,
        within: Duration,
        shard: &Arc<RouteShard>,
    ) -> Result<Checkout, CheckoutError> {
        let deadline = Instant::now() + within;
        let failures = self.failures.get();
        loop {
            if let Some(checkout) = self.idle() {
                return Ok(checkout);
            }
            // Many who come at once share the connection that the first one opens, if it can be shared; a failure sends each on its own way.
            let share =
                self.opening.get() > 0 && !self.is_h1.get() && self.failures.get() == failures;
            if !share && self.open.get() < self.setup.params.max_connections {
                return self.fresh(within, shard).await;
            }
            if timeout_at(deadline, self.freed.notified()).await.is_err() {
                return Err(if share {
                    CheckoutError::Timeout
                } else {
                    CheckoutError::Full
                });
            }
        }
    }

    /// A new connection, whatever is idle; with as many as allowed open it takes an idle one's place, or the next that becomes free.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn fresh(
        self: &Rc<Self>,
        within: Duration,
        shard: &Arc<RouteShard>,
    ) -> Result<Checkout, CheckoutError> {
        let opening = Opening::new(self);
        let (stream, open) = self.open(&self.setup.target, within, shard).await?;
        let h2 = match self.setup.params.http {
            HttpVersions::Auto => stream.alpn_h2(),
            HttpVersions::Http1 => false,
            HttpVersions::Http2 => true,
        };
        let checkout = if h2 {
            let connection =
                H2Connection::handshake(TokioIo::new(stream), open, Rc::downgrade(self))
                    .await
                    .map_err(CheckoutError::Handshake)?;
            if !self.retired.get() {
                self.multiplexed.borrow_mut().push(Rc::clone(&connection));
            }
            Checkout::H2(connection.lease(Rc::clone(self)))
        } else {
            let connection = H1Connection::handshake(stream, open)
                .await
                .map_err(CheckoutError::Handshake)?;
            Checkout::H1(H1Lease::new(Box::new(connection), Rc::clone(self), false))
        };
        self.is_h1.set(!h2);
        opening.succeeded();
        Ok(checkout)
    }

    /// An HTTP/1.1 connection outside of the pool, for an upgrade; its place as for [`Upstream::fresh`].
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn dedicated(
        self: &Rc<Self>,
        within: Duration,
        shard: &Arc<RouteShard>,
    ) -> Result<(Stream, Open), CheckoutError> {
        self.open(&self.setup.target_h1, within, shard).await
    }

    async fn open(
        self: &Rc<Self>,
        target: &Target,
        within: Duration,
        shard: &Arc<RouteShard>,
    ) -> Result<(Stream, Open), CheckoutError> {
        if timeout(within, self.place()).await.is_err() {
            return Err(CheckoutError::Full);
        }
        let open = Open::new(self, shard);
        let start = Instant::now();
        let result = timeout(within, dial::dial(target)).await;
        shard.connect.observe(start.elapsed());
        match result {
            Err(_) => Err(CheckoutError::Timeout),
            Ok(Err(error)) => Err(CheckoutError::Dial(error)),
            Ok(Ok(stream)) => Ok((stream, open)),
        }
    }

    fn put_back(&self, connection: Box<H1Connection>) {
        let mut idle = self.idle.borrow_mut();
        if !self.retired.get() && idle.len() < self.setup.params.max_idle_connections {
            idle.push(Idle {
                connection,
                since: Cell::new(None),
            });
            drop(idle);
            self.free();
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

    /// Closes every idle connection, now and from now on, and lets the others end with their requests.
    pub fn retire(&self) {
        self.retired.set(true);
        // Dropped after the borrows: a connection's end comes back here.
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        let multiplexed = std::mem::take(&mut *self.multiplexed.borrow_mut());
        drop((idle, multiplexed));
    }

    fn forget(&self, connection: &H2Connection) {
        self.multiplexed
            .borrow_mut()
            .retain(|c| !std::ptr::eq(&raw const **c, connection));
    }
}

/// One attempt to open a connection that others may be waiting for.
struct Opening<'a> {
    upstream: &'a Upstream,
    succeeded: bool,
}

impl<'a> Opening<'a> {
    fn new(upstream: &'a Upstream) -> Self {
        upstream.opening.set(upstream.opening.get() + 1);
        Self {
            upstream,
            succeeded: false,
        }
    }

    fn succeeded(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.upstream.opening.set(self.upstream.opening.get() - 1);
        if !self.succeeded {
            self.upstream.failures.set(self.upstream.failures.get() + 1);
        }
        self.upstream.freed.notify_waiters();
    }
}

/// One open connection's place under the limit.
pub struct Open {
    upstream: Rc<Upstream>,
    shard: Arc<RouteShard>,
}

impl Open {
    fn new(upstream: &Rc<Upstream>, shard: &Arc<RouteShard>) -> Self {
        upstream.open.set(upstream.open.get() + 1);
        shard.connections.add(1);
        Self {
            upstream: Rc::clone(upstream),
            shard: Arc::clone(shard),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.upstream.open.set(self.upstream.open.get() - 1);
        self.shard.connections.sub(1);
        self.upstream.free();
    }
}
