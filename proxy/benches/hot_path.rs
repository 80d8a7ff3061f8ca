//! Benchmarks of the hot path: slot, route, strip and inject, reply parsing.

fn main() {
    divan::main();
}
