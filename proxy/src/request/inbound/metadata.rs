//! The document by which a client finds out how to get a token for the workload (RFC 9728). Built once: it has nothing that a request decides.

use super::params::InboundParams;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

/// The document, ready to be sent.
#[derive(Debug, Clone)]
pub struct Metadata {
    paths: Vec<String>,
    body: Bytes,
}

impl Metadata {
    /// For a workload.
    pub fn new(params: &InboundParams) -> Self {
        let mut document = json!({
            "resource": params.resource,
            "authorization_servers": params.authorization_servers,
            "bearer_methods_supported": ["header"],
        });
        if !params.scopes_supported.is_empty() {
            document["scopes_supported"] = json!(params.scopes_supported);
        }
        Self {
            paths: params.metadata_paths.clone(),
            body: document.to_string().into(),
        }
    }

    /// Whether it is served at this path.
    pub fn is_at(&self, path: &str) -> bool {
        self.paths.iter().any(|p| p == path)
    }

    /// The answer to a request for it. Web pages of any site may read it: it is public.
    pub fn answer(&self, method: &Method) -> Response<Bytes> {
        let (status, body) = match *method {
            Method::GET => (StatusCode::OK, self.body.clone()),
            Method::HEAD => (StatusCode::OK, Bytes::new()),
            Method::OPTIONS => (StatusCode::NO_CONTENT, Bytes::new()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let any = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
        match status {
            StatusCode::OK => {
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                headers.insert(
                    header::CACHE_CONTROL,
                    HeaderValue::from_static("public, max-age=300"),
                );
            }
            StatusCode::NO_CONTENT => {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static("GET, HEAD"),
                );
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
            }
            _ => {
                headers.insert(
                    header::ALLOW,
                    HeaderValue::from_static("GET, HEAD, OPTIONS"),
                );
            }
        }
        response
    }
}
