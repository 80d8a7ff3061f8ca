//! Test harness: a development authority, an echo upstream, a token volume that swaps as the kubelet does, certificates, real
//! child processes, and clients. Everything lives on loopback and ends when its handle is dropped.
//!
//! Where to start: [`certs::Ca`] signs for everybody, [`authority::Authority`] issues tokens for the projected ones of its
//! [`issuer::Issuer`], [`upstream::Upstream`] accepts them, [`volume::TokenVolume`] holds the projected one, [`process::Sidecar`] stands
//! between; [`client::Client`] and [`raw::Raw`] talk to it, [`record::Record`] is what every server leaves behind to assert about.
//!
//! Nothing here is linked by a production binary, and no key or certificate outlives the process that made it.

pub mod authority;
pub mod bearer;
pub mod body;
pub mod caller_issuer;
pub mod certs;
pub mod client;
pub mod client_key;
pub mod demo;
pub mod dpop;
pub mod forward_proxy;
pub mod issuer;
pub mod keys;
pub mod ports;
pub mod process;
pub mod raw;
pub mod record;
pub mod serve;
pub mod tap;
pub mod temp;
pub mod upstream;
pub mod volume;
pub mod wait;
pub mod workload;

/// Anything that can go wrong while a part of the harness is set up or asked.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result of the harness.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// First 8 hex digits of the SHA-256 of a token: what may be shown of it.
pub fn fingerprint(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
