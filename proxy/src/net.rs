//! Everything below HTTP semantics: the one TLS provider, dialling with an address guard, and the client that talks to authorities.

pub mod client;
pub mod dial;
pub mod gather;
pub mod guard;
pub mod observe;
pub mod proxy;
pub mod tls;
pub mod tls_server;
pub mod token_proxy;
pub mod walk;
pub mod x509;

#[cfg(test)]
pub(crate) mod raw_server;
