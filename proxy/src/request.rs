//! The REQUEST flow: listener, route, guard, strip, inject, upstream, respond. Sees of the token flow only a slot's `load` and its kin.

pub mod access;
pub mod body;
pub mod bound;
pub mod caller;
pub mod challenge;
pub mod conn;
pub mod crowd;
pub mod exchange;
pub mod guard;
pub mod handle;
pub mod inbound;
pub mod inject;
pub mod leftover;
pub mod params;
pub mod respond;
pub mod route;
pub mod send;
pub mod strip;
pub mod table;
pub mod timer;
pub mod upgrade;
pub mod upstream;
pub mod worker;
