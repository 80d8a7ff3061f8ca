//! The flows over real sockets and real processes, against the harness.

// `cfg(test)`, so that clippy knows that helpers may unwrap too.
#[cfg(test)]
mod admin;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod callers_lab;
#[cfg(test)]
mod callers_tokens;
#[cfg(test)]
mod check;
#[cfg(test)]
mod credential_free;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod grants_authority;
#[cfg(test)]
mod grants_caller;
#[cfg(test)]
mod grants_client;
#[cfg(test)]
mod grants_delegation;
#[cfg(test)]
mod grants_id_jag;
#[cfg(test)]
mod harness_itself;
#[cfg(test)]
mod identity_binding;
#[cfg(test)]
mod identity_chain;
#[cfg(test)]
mod identity_entra;
#[cfg(test)]
mod identity_google;
#[cfg(test)]
mod inbound;
#[cfg(test)]
mod inbound_answers;
#[cfg(test)]
mod inbound_issuers;
#[cfg(test)]
mod inbound_lab;
#[cfg(test)]
mod inbound_sessions;
#[cfg(test)]
mod inbound_workload;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod interop_conformance;
#[cfg(test)]
mod interop_discovery;
#[cfg(test)]
mod interop_grants;
#[cfg(test)]
mod interop_grpc;
#[cfg(test)]
mod interop_inbound;
#[cfg(test)]
mod interop_lab;
#[cfg(test)]
mod ipv6;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lifecycle_staged;
#[cfg(test)]
mod on_behalf_of;
#[cfg(test)]
mod request_bodies;
#[cfg(test)]
mod request_corners;
#[cfg(test)]
mod request_crowd;
#[cfg(test)]
mod request_errors;
#[cfg(test)]
mod request_guard;
#[cfg(test)]
mod request_headers;
#[cfg(test)]
mod request_lab;
#[cfg(test)]
mod request_memory;
#[cfg(test)]
mod request_metrics;
#[cfg(test)]
mod request_pool;
#[cfg(test)]
mod request_raw;
#[cfg(test)]
mod request_reload;
#[cfg(test)]
mod request_replay;
#[cfg(test)]
mod request_retired;
#[cfg(test)]
mod request_route;
#[cfg(test)]
mod request_stream;
#[cfg(test)]
mod token_authorities;
#[cfg(test)]
mod token_faults;
#[cfg(test)]
mod token_file;
#[cfg(test)]
mod token_renewal;
#[cfg(test)]
mod webhook_crowd;
#[cfg(test)]
mod webhook_lab;
#[cfg(test)]
mod webhook_probe;
#[cfg(test)]
mod webhook_process;
#[cfg(test)]
mod webhook_reviews;
#[cfg(test)]
mod webhook_sidecar;
