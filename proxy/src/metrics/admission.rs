//! Series of the admission webhook. Namespaces are the caller's words, so their number is bounded, and made-up ones do not stand in the way of those
//! that there are.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So many namespaces have series: those that were heard of last.
const MAX_NAMESPACES: usize = 200;
/// What a name that cannot be a namespace's is counted as. No namespace can have this one.
const OTHER: &str = "(other)";
/// What comes of a review.
const RESULTS: [&str; 5] = ["injected", "unchanged", "not_asked", "refused", "error"];
/// Why a connection was closed before its time.
const REASONS: [&str; 3] = ["crowded", "silent", "handshake"];

/// From a small pod to a review that the API server has given up on.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// All series of the webhook. Clones share them.
#[derive(Clone)]
pub struct AdmissionMetrics {
    injections: IntCounterVec,
    duration: Histogram,
    closed: IntCounterVec,
    namespaces: Arc<Mutex<Namespaces>>,
}

/// The namespaces that have series, and when each was last heard of, in reviews.
#[derive(Default)]
struct Namespaces {
    reviews: u64,
    heard: HashMap<String, u64>,
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
                "Reviews of pods by namespace (the 200 last heard of; `(other)`: no name of one) and result (injected, unchanged, not_asked, refused, error). Dry runs are not counted.",
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
        let closed = IntCounterVec::new(
            Opts::new(
                "token_sidecar_admission_connections_closed_total",
                "Connections closed before their time: for another's sake (crowded), without a request in time (silent), without TLS (handshake).",
            ),
            &["reason"],
        )?;
        for reason in REASONS {
            closed.with_label_values(&[reason]).inc_by(0);
        }
        registry.register(Box::new(injections.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(closed.clone()))?;
        Ok(Self {
            injections,
            duration,
            closed,
            namespaces: Arc::default(),
        })
    }

    /// Counts a review.
    pub fn reviewed(&self, namespace: &str, result: &'static str) {
        let mut known = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let namespace = if namespace.len() > 63 {
            OTHER
        } else {
            known.reviews += 1;
            let now = known.reviews;
            if !known.heard.contains_key(namespace) && known.heard.len() >= MAX_NAMESPACES {
                self.forget(&mut known.heard);
            }
            known.heard.insert(namespace.to_owned(), now);
            namespace
        };
        self.injections
            .with_label_values(&[namespace, result])
            .inc();
    }

    /// Makes room: the series of the namespace that was not heard of for longest go. They are not added to others, which would look like news there.
    fn forget(&self, heard: &mut HashMap<String, u64>) {
        let oldest = heard.iter().min_by_key(|(_, at)| **at);
        let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
            return;
        };
        heard.remove(&oldest);
        for result in RESULTS {
            // Not every one of them is there.
            drop(self.injections.remove_label_values(&[&oldest, result]));
        }
    }

    /// Counts a connection that was closed before its time.
    pub fn closed(&self, reason: &'static str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// Notes how long an answer took.
    pub fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injections(registry: &Registry) -> Vec<(String, String, f64)> {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|f| f.name().ends_with("injections_total"));
        let label = |m: &prometheus::proto::Metric, name: &str| {
            let labels = m.get_label().iter();
            let mut found = labels.filter(|l| l.name() == name);
            found.next().unwrap().value().to_owned()
        };
        let metrics = family.unwrap().get_metric().iter();
        metrics
            .map(|m| {
                (
                    label(m, "namespace"),
                    label(m, "result"),
                    m.get_counter().get_value(),
                )
            })
            .collect()
    }

    #[test]
    fn namespaces_are_bounded_and_invented_ones_give_way() {
        let registry = Registry::new();
        let metrics = AdmissionMetrics::register(&registry).unwrap();
        metrics.reviewed("quiet", "refused");
        for i in 0..MAX_NAMESPACES * 3 {
            metrics.reviewed(&format!("invented-{i}"), "injected");
            if i % 100 == 0 {
                metrics.reviewed("shop", "injected");
            }
        }
        metrics.reviewed(&"x".repeat(64), "injected");
        let all = injections(&registry);
        let namespaces: std::collections::HashSet<&str> =
            all.iter().map(|(n, ..)| n.as_str()).collect();
        assert_eq!(namespaces.len(), MAX_NAMESPACES + 1);
        let count = |namespace: &str| -> f64 {
            let of = all.iter().filter(|(n, ..)| n == namespace);
            of.map(|(.., count)| count).sum()
        };
        // One that is heard of again and again keeps its series.
        assert!((count("shop") - 6.0).abs() < f64::EPSILON);
        assert!(!namespaces.contains("quiet"));
        assert!((count(OTHER) - 1.0).abs() < f64::EPSILON);
    }
}
