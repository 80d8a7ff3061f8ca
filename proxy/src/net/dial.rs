//! Opens connections: resolve, guard the address, connect, TLS. Knows no HTTP.
