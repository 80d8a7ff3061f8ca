//! The inbound side: stands in front of the workload as an OAuth resource server (RFC 6750, RFC 9728). It takes a caller's token out, has it verified,
//! and puts a handle in its place, so that the workload never sees the token. How tokens are verified and what handles are is the token flow's business.

pub mod bearer;
pub mod location;
pub mod metadata;
pub mod params;
pub mod sessions;

use super::{access::Grant, respond::Problem};
use crate::token::{
    caller::{
        handle::{Handles, MintedHandle},
        step_up::{MARK, StepUp},
        token::CallerToken,
    },
    slot::Injectable,
    verify::{Refusal, Verifier},
};
use bearer::Credentials;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};
use metadata::Metadata;
use params::{InboundParams, Preflights};
use sessions::Sessions;
use std::{cell::OnceCell, sync::Arc};
use tokio::time::Instant;

/// Fields that carry credentials by convention, beside those that are taken out of every request: API keys, and what other proxies put tokens into.
const CREDENTIALS: &[&str] = &[
    "api-key",
    "cf-access-jwt-assertion",
    "dpop",
    "ocp-apim-subscription-key",
    "x-access-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-api-key",
    "x-auth-request-access-token",
    "x-auth-token",
    "x-goog-iap-jwt-assertion",
    "x-id-token",
    "x-ms-client-principal",
    "x-userinfo",
    MARK,
];

/// The inbound side. Workers share it.
pub struct Inbound {
    params: InboundParams,
    metadata: Metadata,
    verifier: Arc<Verifier>,
    handles: Arc<Handles>,
    sessions: Arc<Sessions>,
    scope: Option<String>,
}

/// A request's handle, and how it goes to the workload.
pub struct HandleGrant<'a> {
    header: &'a HeaderName,
    injectable: Injectable,
    handle: MintedHandle,
    caller: Arc<CallerToken>,
    mark: OnceCell<HeaderValue>,
}

impl HandleGrant<'_> {
    /// What stands in the place of the caller's token.
    pub fn injectable(&self) -> &Injectable {
        &self.injectable
    }

    /// Puts it on a request whose headers are stripped already.
    pub fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(self.header, self.injectable.header.clone());
    }

    /// Notes what the workload's response relays of a step-up, before that is stripped.
    pub fn note(&self, response: &HeaderMap) {
        if let Some(mark) = response.get(MARK) {
            self.mark.get_or_init(|| mark.clone());
        }
    }

    /// The handle, to be held until the response has ended.
    pub fn into_handle(self) -> MintedHandle {
        self.handle
    }
}

impl Inbound {
    /// From parameters, what verifies, and where handles and sessions are kept.
    pub fn new(
        params: InboundParams,
        verifier: Arc<Verifier>,
        handles: Arc<Handles>,
        sessions: Arc<Sessions>,
    ) -> Self {
        let scope = (!params.required_scopes.is_empty()).then(|| params.required_scopes.join(" "));
        Self {
            metadata: Metadata::new(&params),
            params,
            verifier,
            handles,
            sessions,
            scope,
        }
    }

    /// What is taken out of requests to the workload, beside what is always taken out and what the configuration names.
    pub fn stripped(params: &InboundParams) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> = CREDENTIALS
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect();
        if !params.forward_cookies {
            names.push(header::COOKIE);
        }
        // What a caller puts there is no handle.
        names.push(params.handle_header.clone());
        names.extend(params.route.strip_request_headers.iter().cloned());
        names
    }

    /// Whether a request needs no token, and may come from anywhere under any name: a probe's, which calls the pod by its address, or one for the
    /// metadata.
    pub fn is_public(&self, method: &Method, path: &str) -> bool {
        self.metadata.is_at(path) || self.is_probe(method, path)
    }

    fn is_probe(&self, method: &Method, path: &str) -> bool {
        matches!(*method, Method::GET | Method::HEAD)
            && self.params.public_paths.iter().any(|p| p == path)
    }

    fn is_preflight(parts: &Parts) -> bool {
        parts.method == Method::OPTIONS
            && parts.headers.contains_key(header::ORIGIN)
            && parts
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && !parts.headers.contains_key(header::AUTHORIZATION)
    }

    /// The answer to a request that the workload is not asked about: for the metadata, and preflights when they are answered here.
    pub fn own_answer(&self, parts: &Parts) -> Option<Response<Bytes>> {
        if self.metadata.is_at(parts.uri.path()) {
            return Some(self.metadata.answer(&parts.method));
        }
        if self.params.preflights == Preflights::Answer && Self::is_preflight(parts) {
            return Some(preflight(&parts.headers));
        }
        None
    }

    /// Lets a request in: takes its token out, has it verified, and gives the handle to send in its place.
    ///
    /// # Errors
    /// The answer to give instead, with a challenge where the caller can do something about it.
    pub async fn admit(&self, parts: &mut Parts) -> Result<Grant<'_>, Problem> {
        let credentials = bearer::credentials(&parts.headers, &parts.uri).map_err(|why| {
            self.challenged(Problem::invalid_request(why), "invalid_request", why)
        })?;
        if self.is_probe(&parts.method, parts.uri.path()) || Self::is_preflight(parts) {
            return Ok(Grant::Nothing);
        }
        let Credentials::Bearer(token) = credentials else {
            // RFC 6750 section 3.1: no error code for one who did not know.
            let challenge = self.challenge(&[]);
            return Err(Problem::no_credentials().with_challenge(challenge));
        };
        if bearer::is_in_target(&token, &parts.uri) {
            let why = "the access token stands in the URL too";
            return Err(self.challenged(Problem::invalid_request(why), "invalid_request", why));
        }
        let deadline = Instant::now() + self.params.key_wait;
        let verified = self
            .verifier
            .verify(&token, deadline)
            .await
            .map_err(|refusal| self.refused(refusal))?;
        if self.params.bind_sessions && !self.sessions.admit(&parts.headers, &verified) {
            return Err(Problem::unknown_session());
        }
        let caller = Arc::clone(&verified);
        let handle = self
            .handles
            .mint(verified)
            .ok_or_else(Problem::overloaded)?;
        let prefix = if self.params.handle_header == header::AUTHORIZATION {
            "Bearer "
        } else {
            ""
        };
        let value = handle.value(prefix).ok_or_else(Problem::overloaded)?;
        bearer::strip_copies(&token, &mut parts.headers);
        Ok(Grant::Handle(HandleGrant {
            header: &self.params.handle_header,
            injectable: Injectable {
                header: value,
                serial: 0,
            },
            handle,
            caller,
            mark: OnceCell::new(),
        }))
    }

    fn refused(&self, refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Unavailable { retry_after } => Problem::keys_unavailable(retry_after),
            Refusal::Scope => self.challenged(
                Problem::insufficient_scope(),
                "insufficient_scope",
                refusal.description(),
            ),
            refusal => self.challenged(
                Problem::invalid_token(refusal.description()),
                "invalid_token",
                refusal.description(),
            ),
        }
    }

    fn challenged(&self, problem: Problem, error: &str, description: &str) -> Problem {
        let parameters = [("error", error), ("error_description", description)];
        problem.with_challenge(self.challenge(&parameters))
    }

    /// A challenge (RFC 6750 section 3, RFC 9728 section 5.1). Its values are the configuration's and our own: none needs escaping.
    fn challenge(&self, parameters: &[(&str, &str)]) -> String {
        let mut challenge = format!("Bearer resource_metadata=\"{}\"", self.params.metadata_url);
        let scope = self.scope.as_deref().map(|scope| ("scope", scope));
        for (name, value) in parameters.iter().copied().chain(scope) {
            challenge.push_str(&format!(", {name}=\"{value}\""));
        }
        challenge
    }

    /// What the workload relays of a step-up that a call on this request's behalf met: the challenge to answer with in the place of its response.
    /// A mark that was not given for this very request means nothing.
    pub fn step_up(&self, grant: &HandleGrant<'_>) -> Option<Problem> {
        let mark = grant.mark.get()?;
        let step_up: Arc<StepUp> = grant.handle.step_up(mark.as_bytes())?;
        let metadata = [("resource_metadata", self.params.metadata_url.as_str())];
        let status = match step_up.status {
            403 => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        };
        Some(Problem::step_up(status).with_challenge(step_up.challenge(&metadata)))
    }

    /// Remembers the session that the workload's answer gives to the caller, if it gives one.
    pub fn note_session(&self, grant: &HandleGrant<'_>, answer: &HeaderMap) {
        if self.params.bind_sessions {
            self.sessions.note(answer, &grant.caller);
        }
    }

    /// Lets a web page of an allowed origin read an answer whole: challenges, `Retry-After`, and what the workload says in fields of its own, such as
    /// `Mcp-Session-Id`. (Never with cookies: that would take `Access-Control-Allow-Credentials`.)
    pub fn readable(headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("*"),
        );
    }

    /// Keeps a redirect of the workload to itself with the address that the caller knows. `host` is what the workload is called by.
    pub fn localize(&self, answer: &mut HeaderMap, host: &HeaderValue) {
        if let Some(location) = answer.get(header::LOCATION)
            && let Some(own) =
                location::relative(location, host, &self.params.route.upstream.base_path)
        {
            answer.insert(header::LOCATION, own);
        }
    }

    /// Whether answers of the workload are made readable too: then nobody else takes care of CORS.
    pub fn answers_for_cors(&self) -> bool {
        self.params.preflights == Preflights::Answer
    }

    /// What requests to it may come under, and from.
    pub fn params(&self) -> &InboundParams {
        &self.params
    }
}

/// The origin is allowed, or the request would not be here: it may send what it asks to send.
fn preflight(asked: &HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (from, to) in [
        (header::ORIGIN, header::ACCESS_CONTROL_ALLOW_ORIGIN),
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ),
    ] {
        if let Some(value) = asked.get(from) {
            headers.insert(to, value.clone());
        }
    }
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    response
}
