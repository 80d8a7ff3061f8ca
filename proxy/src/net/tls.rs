//! The one TLS provider, chosen by name, and client configurations built on it.
