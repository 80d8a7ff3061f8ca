//! The demo: everything on free ports, a rotating token, and a readable account of what happens.

fn main() {}
