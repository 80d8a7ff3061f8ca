//! The development authority, over TLS: Entra's v2 token endpoint, an RFC 8693 endpoint, and the cluster issuer's discovery. It verifies
//! what it is given as the real ones do, issues real signed tokens, fails by script, and records every request.

pub mod access;
mod agent;
mod client;
mod entra;
mod error;
pub mod fault;
pub mod google;
mod grants;
mod id_jag;
mod on_behalf_of;
pub mod options;
mod sts;
pub mod token_proxy;
pub mod users;

pub use access::AccessTokens;
pub use fault::{Fault, Gate};
pub use options::{Application, Certificates, FederatedCredential, KeyClient, Options, StsClient};
pub use token_proxy::TokenProxy;
pub use users::UserToken;

use crate::{
    Result,
    body::{self, Body},
    certs::{Alpn, Ca, LOCAL_NAMES},
    issuer::{Issuer, ProjectedToken},
    record::Record,
    serve::{self, Connection, Server},
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};

/// The token endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /{tenant}/oauth2/v2.0/token`.
    Entra,
    /// `POST /sts/token`: RFC 8693, client credentials, RFC 7523.
    Sts,
    /// `POST /resource/token`: another domain's authorization server, which takes ID-JAGs.
    Resource,
    /// `POST /google/v1/token`, as Google's Security Token Service.
    GoogleSts,
    /// `POST /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken`, as Google's IAM Service Account Credentials API.
    IamCredentials,
}

/// A request as a token endpoint received it.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// When its body had arrived.
    pub at: Instant,
    /// Where it went.
    pub endpoint: Endpoint,
    /// The path.
    pub path: String,
    /// The HTTP version.
    pub version: Version,
    /// The number of the connection it came over.
    pub connection: usize,
    /// The headers.
    pub headers: HeaderMap,
    /// The client's certificate (DER), when it showed one.
    pub certificate: Option<Arc<[u8]>>,
    /// The form's fields in order.
    pub form: Vec<(String, String)>,
    /// The body, when it was JSON.
    pub json: Value,
    /// Whether it came through the token proxy of an identity binding.
    pub through_token_proxy: bool,
}

impl TokenRequest {
    /// The first value of a form field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a form field.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        self.form
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// A token that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// When.
    pub at: Instant,
    /// By which endpoint.
    pub endpoint: Endpoint,
    /// The token itself: a test greps for it, nobody prints it.
    pub token: String,
    /// The subject token or client assertion it was issued for.
    pub subject_token: String,
    /// How long it lives.
    pub lifetime: Duration,
}

/// A request that was refused, whether on its merits or by script.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// By which endpoint.
    pub endpoint: Endpoint,
    /// `700213`, `invalid_target`, or the name of the fault.
    pub code: String,
}

/// A running development authority.
pub struct Authority {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    /// `https://localhost:PORT`.
    base: String,
    /// `jti`s that were used, with their client: each is good once.
    used: Mutex<HashSet<String>>,
    issuer: Issuer,
    access: AccessTokens,
    options: Mutex<Options>,
    faults: Mutex<Faults>,
    requests: Record<TokenRequest>,
    issued: Record<Issued>,
    refusals: Record<Refusal>,
}

#[derive(Default)]
struct Faults {
    once: HashMap<Endpoint, VecDeque<Fault>>,
    always: HashMap<Endpoint, Fault>,
}

impl Authority {
    /// Starts one on a free loopback port, with a certificate of `ca` for localhost and [`Options::names`].
    ///
    /// # Errors
    /// When no port can be bound or a key cannot be made.
    pub async fn start(ca: &Ca, options: Options) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let base = format!("https://localhost:{}", address.port());
        let mut names = LOCAL_NAMES.to_vec();
        names.extend(options.names.iter().map(String::as_str));
        let tls = match options.certificates {
            Certificates::Ignored => ca.server(&names, options.alpn)?,
            Certificates::Asked => ca.asking_server(&names, options.alpn, false)?,
            Certificates::Demanded => ca.asking_server(&names, options.alpn, true)?,
        };
        let issuer = Issuer::new(&format!("{base}/cluster/"))?;
        let access = AccessTokens::new(
            &format!("{base}/{}/v2.0", options.tenant),
            options.fixed_access_token.clone(),
        )?;
        let shared = Arc::new(Shared {
            base,
            used: Mutex::default(),
            issuer,
            access,
            options: Mutex::new(options),
            faults: Mutex::default(),
            requests: Record::new(),
            issued: Record::new(),
            refusals: Record::new(),
        });
        let state = Arc::clone(&shared);
        let handler = serve::handler(move |request, connection| {
            let (state, date) = (Arc::clone(&state), state.options().date.clone());
            async move {
                let mut response = answer(state, request, connection, false).await;
                if let Some(date) = date {
                    response.headers_mut().insert(header::DATE, date);
                }
                response
            }
        });
        Ok(Self {
            server: Server::serve(listener, Some(tls), handler)?,
            shared,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `https://localhost:PORT/`, with the trailing slash that AKS' `AZURE_AUTHORITY_HOST` has.
    pub fn authority_host(&self) -> String {
        format!("https://localhost:{}/", self.address().port())
    }

    /// The RFC 8693 endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("https://localhost:{}/sts/token", self.address().port())
    }

    /// The issuer identifier of that endpoint's server.
    pub fn sts_issuer(&self) -> String {
        self.shared.sts_issuer()
    }

    /// The token endpoint of the resource's authorization server, which takes ID-JAGs.
    pub fn resource_token_endpoint(&self) -> String {
        format!("{}/token", self.resource_issuer())
    }

    /// The issuer identifier of the resource's authorization server.
    pub fn resource_issuer(&self) -> String {
        self.shared.resource_issuer()
    }

    /// Google's Security Token Service.
    pub fn google_token_endpoint(&self) -> String {
        format!(
            "https://localhost:{}/google/v1/token",
            self.address().port()
        )
    }

    /// The cluster issuer whose tokens it accepts.
    pub fn issuer(&self) -> &Issuer {
        &self.shared.issuer
    }

    /// A projected token that it accepts, an hour long.
    ///
    /// # Errors
    /// When signing fails.
    pub fn projected_token(&self) -> Result<String> {
        self.shared.issuer.mint(&ProjectedToken::default())
    }

    /// What verifies (and revokes) the tokens it issues; for an upstream.
    pub fn access_tokens(&self) -> AccessTokens {
        self.shared.access.clone()
    }

    /// Changes what it knows from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.shared.options());
    }

    /// The next request to `endpoint` that finds no earlier fault fails in this way.
    pub fn fail_once(&self, endpoint: Endpoint, fault: Fault) {
        self.shared
            .faults()
            .once
            .entry(endpoint)
            .or_default()
            .push_back(fault);
    }

    /// Every request to `endpoint` fails in this way (after those of [`Authority::fail_once`]), until [`Authority::heal`].
    pub fn fail_always(&self, endpoint: Endpoint, fault: Fault) {
        self.shared.faults().always.insert(endpoint, fault);
    }

    /// Forgets all faults of `endpoint`.
    pub fn heal(&self, endpoint: Endpoint) {
        let mut faults = self.shared.faults();
        faults.once.remove(&endpoint);
        faults.always.remove(&endpoint);
    }

    /// Every token request received, faulty ones included.
    pub fn requests(&self) -> &Record<TokenRequest> {
        &self.shared.requests
    }

    /// Every token issued: its length is the number of good exchanges.
    pub fn issued(&self) -> &Record<Issued> {
        &self.shared.issued
    }

    /// Every request refused.
    pub fn refusals(&self) -> &Record<Refusal> {
        &self.shared.refusals
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.server.open()
    }

    /// Connections accepted so far.
    pub fn accepted_connections(&self) -> usize {
        self.server.accepted()
    }
}

impl Shared {
    fn sts_issuer(&self) -> String {
        format!("{}/sts", self.base)
    }

    fn resource_issuer(&self) -> String {
        format!("{}/resource", self.base)
    }

    /// Whether this was not used before.
    fn first_use(&self, what: &str) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(what.to_owned())
    }

    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut faults = self.faults();
        let once = faults.once.get_mut(&endpoint).and_then(VecDeque::pop_front);
        once.or_else(|| faults.always.get(&endpoint).cloned())
    }

    /// Judges a request on its merits.
    fn judge(&self, request: &TokenRequest) -> std::result::Result<Value, error::Refused> {
        match request.endpoint {
            Endpoint::Entra => entra::exchange(self, request),
            Endpoint::Sts => sts::exchange(self, request),
            Endpoint::Resource => id_jag::redeem(self, request),
            Endpoint::GoogleSts => google::exchange(self, request),
            Endpoint::IamCredentials => google::generate(self, request),
        }
    }

    /// Issues a token and records it.
    fn issue(
        &self,
        request: &TokenRequest,
        subject_token: &str,
        claims: Value,
    ) -> (String, Duration) {
        let lifetime = self.options().access_token_lifetime;
        self.issue_for(request, subject_token, claims, lifetime)
    }

    /// As [`Shared::issue`], for as long as the request says.
    fn issue_for(
        &self,
        request: &TokenRequest,
        subject_token: &str,
        claims: Value,
        lifetime: Duration,
    ) -> (String, Duration) {
        let token = self.access.issue(claims, lifetime);
        self.issued.push(Issued {
            at: Instant::now(),
            endpoint: request.endpoint,
            token: token.clone(),
            subject_token: subject_token.to_owned(),
            lifetime,
        });
        (token, lifetime)
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: Connection,
    through_token_proxy: bool,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let tenant = shared.options().tenant.clone();
    if request.method() == Method::GET {
        return match path.as_str() {
            "/cluster/.well-known/openid-configuration" => {
                json(StatusCode::OK, &shared.issuer.discovery())
            }
            "/cluster/openid/v1/jwks" => json(
                StatusCode::OK,
                &serde_json::to_value(shared.issuer.jwks()).unwrap_or_default(),
            ),
            _ if path == format!("/{tenant}/discovery/v2.0/keys") => json(
                StatusCode::OK,
                &serde_json::to_value(shared.access.jwks()).unwrap_or_default(),
            ),
            _ => not_found(&path),
        };
    }
    let endpoint = match path.as_str() {
        "/sts/token" => Endpoint::Sts,
        "/resource/token" => Endpoint::Resource,
        "/google/v1/token" => Endpoint::GoogleSts,
        _ if path.ends_with(":generateAccessToken") => Endpoint::IamCredentials,
        _ if path.ends_with("/oauth2/v2.0/token") => Endpoint::Entra,
        _ => return not_found(&path),
    };
    let (head, body) = request.into_parts();
    let Ok(collected) = body::collect(body).await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let request = TokenRequest {
        at: Instant::now(),
        endpoint,
        path,
        version: head.version,
        connection: connection.number,
        headers: head.headers,
        certificate: connection.certificate.clone(),
        form: form_urlencoded::parse(&collected.bytes)
            .into_owned()
            .collect(),
        json: serde_json::from_slice(&collected.bytes).unwrap_or_default(),
        through_token_proxy,
    };
    shared.requests.push(request.clone());
    match shared.next_fault(endpoint) {
        None => merits(&shared, &request, |_| ()),
        Some(fault) => fault.happen(&shared, &request, &connection).await,
    }
}

/// The answer on the request's merits, a good reply altered by `alter`.
fn merits(
    shared: &Shared,
    request: &TokenRequest,
    alter: impl FnOnce(&mut serde_json::Map<String, Value>),
) -> Response<Body> {
    match shared.judge(request) {
        Ok(mut reply) => {
            if let Some(fields) = reply.as_object_mut() {
                alter(fields);
            }
            json(StatusCode::OK, &reply)
        }
        Err(refused) => {
            shared.refusals.push(Refusal {
                endpoint: request.endpoint,
                code: refused.code(),
            });
            refused.response()
        }
    }
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(body::full(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store, no-cache"),
    );
    headers.insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

fn not_found(path: &str) -> Response<Body> {
    let text = format!(
        "{path} is neither a token endpoint nor a discovery document of the development authority\n"
    );
    let mut response = Response::new(body::full(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// The default ALPN of the authority's listener.
impl Default for Alpn {
    fn default() -> Self {
        Self::Both
    }
}
