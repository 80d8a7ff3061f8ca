//! Which resolved addresses may be connected to.
