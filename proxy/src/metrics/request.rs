//! Series of the request flow: per-worker shards with plain stores, summed when scraped.
