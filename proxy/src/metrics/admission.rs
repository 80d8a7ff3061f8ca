//! Series of the admission webhook. Namespaces are the caller's words, so their number is bounded.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// More namespaces than this are counted together.
const MAX_NAMESPACES: usize = 200;
/// What they are counted as. No namespace can have this name.
const OTHER: &str = "(other)";

/// From a small pod to a review that the API server has given up on.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// All series of the webhook. Clones share them.
#[derive(Clone)]
pub struct AdmissionMetrics {
    injections: IntCounterVec,
    duration: Histogram,
    namespaces: Arc<Mutex<HashSet<String>>>,
}

impl AdmissionMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// When the registry has one of them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let injections = IntCounterVec::new(
            Opts::new(
                "token_sidecar_injections_total",
                "Reviews of pods by namespace (at most 200, then `(other)`) and result (injected, unchanged, not_asked, refused, error). Dry runs are not counted.",
            ),
            &["namespace", "result"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "token_sidecar_admission_duration_seconds",
                "From a review's last byte to its answer.",
            )
            .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(injections.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            injections,
            duration,
            namespaces: Arc::default(),
        })
    }

    /// Counts a review.
    pub fn reviewed(&self, namespace: &str, result: &'static str) {
        let mut known = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let namespace = if known.contains(namespace) {
            namespace
        } else if known.len() < MAX_NAMESPACES && namespace.len() <= 63 {
            known.insert(namespace.to_owned());
            namespace
        } else {
            OTHER
        };
        self.injections
            .with_label_values(&[namespace, result])
            .inc();
    }

    /// Notes how long an answer took.
    pub fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_bounded() {
        let registry = Registry::new();
        let metrics = AdmissionMetrics::register(&registry).unwrap();
        for i in 0..MAX_NAMESPACES + 50 {
            metrics.reviewed(&format!("n{i}"), "injected");
        }
        metrics.reviewed(&"x".repeat(64), "injected");
        metrics.reviewed("n0", "refused");
        let families = registry.gather();
        let injections = families
            .iter()
            .find(|f| f.name().ends_with("injections_total"))
            .unwrap();
        assert_eq!(injections.get_metric().len(), MAX_NAMESPACES + 2);
        let other = metrics
            .injections
            .with_label_values(&[OTHER, "injected"])
            .get();
        assert_eq!(other, 51);
    }
}
