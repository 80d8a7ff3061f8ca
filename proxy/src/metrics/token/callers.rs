//! Series of the caches of callers' tokens: one child a credential, whatever callers do.

use super::{Owner, TokenMetrics, counter, gauge};
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry};
use std::sync::Arc;

/// The vectors.
#[derive(Clone)]
pub(super) struct CallerSeries {
    entries: GaugeVec,
    bytes: GaugeVec,
    evictions: IntCounterVec,
    lookups: IntCounterVec,
}

impl CallerSeries {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            entries: gauge(
                registry,
                "caller_cache_entries",
                "Callers' tokens for which something is kept.",
                &["credential"],
            )?,
            bytes: gauge(
                registry,
                "caller_cache_bytes",
                "Memory that the cache of callers' tokens takes.",
                &["credential"],
            )?,
            evictions: counter(
                registry,
                "caller_cache_evictions_total",
                "Callers' tokens that had to make room for others before their time.",
                &["credential"],
            )?,
            lookups: counter(
                registry,
                "caller_cache_lookups_total",
                "Requests on behalf of a caller, by whether a valid token was there (hit, miss).",
                &["credential", "result"],
            )?,
        })
    }
}

/// One credential's children. Dropping it takes them away.
pub struct CallerCacheMetrics {
    all: TokenMetrics,
    owner: Owner,
    name: Arc<str>,
    entries: Gauge,
    bytes: Gauge,
    evictions: IntCounter,
    hits: IntCounter,
    misses: IntCounter,
}

impl TokenMetrics {
    /// The children of one credential's cache.
    pub fn caller_cache(&self, name: &str) -> CallerCacheMetrics {
        let series = &self.callers;
        CallerCacheMetrics {
            entries: series.entries.with_label_values(&[name]),
            bytes: series.bytes.with_label_values(&[name]),
            evictions: series.evictions.with_label_values(&[name]),
            hits: series.lookups.with_label_values(&[name, "hit"]),
            misses: series.lookups.with_label_values(&[name, "miss"]),
            owner: self.owners.take_over(format!("caller_cache {name}")),
            all: self.clone(),
            name: name.into(),
        }
    }
}

impl CallerCacheMetrics {
    /// What the cache holds now: entries, and the bytes they take.
    pub fn holds(&self, entries: usize, bytes: usize) {
        self.entries.set(entries as f64);
        self.bytes.set(bytes as f64);
    }

    /// So many entries had to go.
    pub fn evicted(&self, count: usize) {
        if count > 0 {
            self.evictions.inc_by(count as u64);
        }
    }

    /// A request looked for its caller's token.
    pub fn looked_up(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.inc();
    }
}

impl Drop for CallerCacheMetrics {
    fn drop(&mut self) {
        if self.owner.let_go().is_none() {
            return;
        }
        let (series, name) = (&self.all.callers, &*self.name);
        series.entries.remove_label_values(&[name]).ok();
        series.bytes.remove_label_values(&[name]).ok();
        series.evictions.remove_label_values(&[name]).ok();
        for result in ["hit", "miss"] {
            series.lookups.remove_label_values(&[name, result]).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_appear_with_their_cache_and_leave_with_it() {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let text = || {
            prometheus::TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        let cache = metrics.caller_cache("orders");
        cache.holds(3, 4096);
        cache.evicted(2);
        cache.looked_up(true);
        cache.looked_up(false);
        for line in [
            r#"token_sidecar_caller_cache_entries{credential="orders"} 3"#,
            r#"token_sidecar_caller_cache_bytes{credential="orders"} 4096"#,
            r#"token_sidecar_caller_cache_evictions_total{credential="orders"} 2"#,
            r#"token_sidecar_caller_cache_lookups_total{credential="orders",result="hit"} 1"#,
            r#"token_sidecar_caller_cache_lookups_total{credential="orders",result="miss"} 1"#,
        ] {
            assert!(text().contains(line), "{line}\nis not in\n{}", text());
        }
        let next = metrics.caller_cache("orders");
        drop(cache);
        assert!(text().contains(r#"evictions_total{credential="orders"} 2"#));
        drop(next);
        assert!(!text().contains("orders"), "{}", text());
    }
}
