//! The REQUEST flow: listener, route, guard, strip, inject, upstream, respond. Sees of the token flow only a slot's `load` and its kin.

pub mod guard;
pub mod params;
pub mod respond;
pub mod route;
pub mod strip;
pub mod timer;
