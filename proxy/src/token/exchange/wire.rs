//! Requests to token endpoints: forms, the names of their fields and values, and HTTP Basic for clients. Builds bytes; sends nothing.

use crate::token::params::TargetParams;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use form_urlencoded::byte_serialize;
use http::HeaderValue;
use zeroize::Zeroizing;

/// `grant_type` of RFC 8693 section 2.1.
pub const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// `grant_type` of RFC 6749 section 4.4.
pub const GRANT_CLIENT_CREDENTIALS: &str = "client_credentials";
/// `grant_type` of RFC 7523 section 2.1.
pub const GRANT_JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Token type of an identity assertion JWT authorization grant (draft-ietf-oauth-identity-assertion-authz-grant).
pub const TOKEN_TYPE_ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
/// `client_assertion_type` of RFC 7523 section 2.2.
pub const CLIENT_ASSERTION_JWT_BEARER: &str =
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A form in the making. It may hold secrets, so its buffer is wiped when dropped; growing does not leave copies behind.
#[derive(Clone)]
pub struct Form(Zeroizing<String>);

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

impl Form {
    /// An empty form.
    pub fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(4096)))
    }

    /// With one more field; fields keep their order and may repeat.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        // The worst case of percent-encoding, and the separators.
        self.reserve(3 * (name.len() + value.len()) + 2);
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
        self
    }

    /// With the field, when there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With a field for each value.
    #[must_use]
    pub fn with_each(self, name: &str, values: &[String]) -> Self {
        values
            .iter()
            .fold(self, |form, value| form.with(name, value))
    }

    /// With fields of the user's choice, in order.
    #[must_use]
    pub fn with_pairs(self, pairs: &[(String, String)]) -> Self {
        pairs
            .iter()
            .fold(self, |form, (name, value)| form.with(name, value))
    }

    /// With what the token is for.
    #[must_use]
    pub fn with_target(self, target: &TargetParams) -> Self {
        self.with_each("resource", &target.resource)
            .with_each("audience", &target.audience)
            .with_some("scope", target.scope.as_deref())
    }

    /// The body, `application/x-www-form-urlencoded`.
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        let mut form = self;
        Zeroizing::new(std::mem::take(&mut *form.0).into_bytes())
    }

    fn reserve(&mut self, more: usize) {
        if self.0.capacity() - self.0.len() < more {
            let mut larger = Zeroizing::new(String::with_capacity(2 * self.0.capacity() + more));
            larger.push_str(&self.0);
            self.0 = larger;
        }
    }
}

/// `Authorization: Basic …` of a client: both parts form-encoded first (RFC 6749 section 2.3.1). `None` never happens for encoded parts, but
/// is not worth a panic.
pub fn client_basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(String::with_capacity(
        3 * (client_id.len() + secret.len()) + 1,
    ));
    pair.extend(byte_serialize(client_id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.as_bytes()));
    basic(&pair)
}

/// `Basic` of a ready `user:password`.
pub(crate) fn basic(pair: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair)));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_repeated_and_keep_their_order() {
        let form = Form::new()
            .with("b", "a b&c=d/é")
            .with_some("none", None)
            .with_each("audience", &["x".into(), "y z".into()])
            .with("a", "");
        assert_eq!(
            std::str::from_utf8(&form.finish()).unwrap(),
            "b=a+b%26c%3Dd%2F%C3%A9&audience=x&audience=y+z&a="
        );
        let long = "%".repeat(10_000);
        let body = Form::new().with("a", &long).with("b", "c").finish();
        assert_eq!(body.len(), 2 + 30_000 + 4);
    }

    #[test]
    fn basic_encodes_both_parts_first() {
        // echo -n 'a%3Ab:c%2Bd+e' | base64
        let value = client_basic("a:b", "c+d e").unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic YSUzQWI6YyUyQmQrZQ==");
        assert!(value.is_sensitive());
    }
}
