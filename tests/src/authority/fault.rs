//! Faults of a token endpoint, by script: how authorities and the boxes before them really misbehave.

use super::{Endpoint, Refusal, Shared, TokenRequest, error::Refused, json, merits};
use crate::{
    body::{self, Body},
    serve::Connection,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json as value};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Changes the fields of a good reply.
pub type Alteration = Arc<dyn Fn(&mut Map<String, Value>) + Send + Sync>;

/// One way to fail (or to answer oddly).
#[derive(Clone)]
pub enum Fault {
    /// An own status, headers and body; the request is not looked at.
    Reply {
        /// The HTTP status.
        status: u16,
        /// Headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// Entra refuses with this AADSTS code.
    Aadsts(u32),
    /// An RFC 6749 error with this HTTP status.
    OAuth(u16, &'static str),
    /// The good reply, altered.
    Alter(Alteration),
    /// Never answers.
    Hang,
    /// Answers on the merits, but not before the gate opens.
    Gate(Gate),
    /// Headers at once, then a byte a second, for ever.
    SlowBody,
    /// A 200 with a body of this many bytes.
    HugeBody(usize),
    /// Resets the connection.
    Reset,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Holds requests back until it is opened; clones are the same gate.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits for the gate to open.
    pub async fn passed(&self) {
        let mut open = self.0.subscribe();
        // The sender lives in `self`: this ends with `true` alone.
        drop(open.wait_for(|open| *open).await);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

impl Fault {
    /// 429 with this `Retry-After` (seconds or an HTTP-date).
    pub fn throttled(retry_after: &str) -> Self {
        let body = value!({ "error": "temporarily_unavailable", "error_description": "AADSTS90055: Too many requests." }).to_string();
        Self::Reply {
            status: 429,
            headers: vec![
                ("retry-after", retry_after.to_owned()),
                ("content-type", "application/json".into()),
            ],
            body,
        }
    }

    /// This status with an empty body.
    pub fn status(status: u16) -> Self {
        Self::Reply {
            status,
            headers: vec![],
            body: String::new(),
        }
    }

    /// This status with the HTML page of a middlebox.
    pub fn html(status: u16) -> Self {
        let body = "<html><head><title>Bad Gateway</title></head>\r\n<body><h1>Bad Gateway</h1></body></html>\r\n";
        Self::Reply {
            status,
            headers: vec![("content-type", "text/html".into())],
            body: body.into(),
        }
    }

    /// A 200 that is not JSON.
    pub fn not_json() -> Self {
        Self::Reply {
            status: 200,
            headers: vec![("content-type", "application/json".into())],
            body: "access_token=oops".into(),
        }
    }

    /// A redirect to `location`.
    pub fn redirect(location: &str) -> Self {
        Self::Reply {
            status: 307,
            headers: vec![("location", location.to_owned())],
            body: String::new(),
        }
    }

    /// The good reply, altered by `alter`.
    pub fn alter(alter: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(alter))
    }

    /// The good reply with a field set to another value.
    pub fn with(name: &'static str, field: Value) -> Self {
        Self::alter(move |reply| {
            reply.insert(name.to_owned(), field.clone());
        })
    }

    /// The good reply without a field.
    pub fn without(name: &'static str) -> Self {
        Self::alter(move |reply| {
            reply.remove(name);
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Reply { status, .. } => format!("status_{status}"),
            Self::Aadsts(code) => code.to_string(),
            Self::OAuth(_, error) => (*error).to_owned(),
            Self::Alter(_) => "altered".into(),
            Self::Hang => "hang".into(),
            Self::Gate(_) => "gate".into(),
            Self::SlowBody => "slow_body".into(),
            Self::HugeBody(_) => "huge_body".into(),
            Self::Reset => "reset".into(),
        }
    }

    pub(super) async fn happen(
        self,
        shared: &Shared,
        request: &TokenRequest,
        connection: &Connection,
    ) -> Response<Body> {
        if !matches!(self, Self::Alter(_) | Self::Gate(_)) {
            shared.refusals.push(Refusal {
                endpoint: request.endpoint,
                code: self.name(),
            });
        }
        match self {
            Self::Reply {
                status,
                headers,
                body,
            } => reply(status, headers, body),
            Self::Aadsts(code) => Refused::aadsts(code, "Refused by script.").response(),
            Self::OAuth(status, error) => {
                Refused::OAuth(error, status, "Refused by script.".into()).response()
            }
            Self::Alter(alter) => merits(shared, request, |reply| alter(reply)),
            Self::Hang => std::future::pending().await,
            Self::Gate(gate) => {
                gate.passed().await;
                merits(shared, request, |_| ())
            }
            Self::SlowBody => slow_body(connection),
            Self::HugeBody(bytes) => json(StatusCode::OK, &Value::String("x".repeat(bytes))),
            Self::Reset => connection.reset().await,
        }
    }
}

impl Endpoint {
    /// For a person to read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entra => "Entra",
            Self::Sts => "STS",
            Self::Resource => "resource",
            Self::GoogleSts => "Google STS",
            Self::IamCredentials => "IAM Credentials",
        }
    }
}

fn reply(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Response<Body> {
    let mut response = Response::new(body::full(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn slow_body(connection: &Connection) -> Response<Body> {
    let (writer, body) = body::channel();
    connection.spawn(async move {
        let mut alive = writer.data("{").await;
        while alive {
            tokio::time::sleep(Duration::from_secs(1)).await;
            alive = writer.data(" ").await;
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
