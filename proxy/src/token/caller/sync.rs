//! What `table` synchronises with. A file of its own, so that a test can compile that module against a model checker's types in their place.

pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicUsize};
