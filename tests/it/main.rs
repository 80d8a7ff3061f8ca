//! The flows over real sockets, against the harness.
