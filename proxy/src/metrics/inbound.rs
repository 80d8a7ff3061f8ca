//! Series of the inbound side: what came of verifying callers' tokens, how issuers' keys are kept, how many handles there are. The label `issuer`
//! has the configured issuers as its values and nothing that a caller could make up.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use sidecar_runtime::clock::Clock;
use std::sync::{Arc, Mutex, PoisonError};

/// The label's value for tokens that name none of the configured issuers.
const NOBODY: &str = "none";
/// Good, and verified just now.
const VERIFIED: &str = "verified";
/// Good, and verified before.
const SEEN: &str = "seen";

/// All series of the inbound side. Clones share them.
#[derive(Clone)]
pub struct InboundMetrics {
    verifications: IntCounterVec,
    refreshes: IntCounterVec,
    refreshed: GaugeVec,
    handles: IntGauge,
    clock: Clock,
    /// With the results that each has children for.
    issuers: Arc<Mutex<Issuers>>,
}

type Issuers = Vec<(Arc<str>, Results)>;

/// Which series a child belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    Verifications,
    Refreshes,
}

/// Children that were made.
type Results = Arc<Mutex<Vec<(Series, &'static str)>>>;

/// The series of one issuer.
#[derive(Clone)]
pub struct IssuerMetrics {
    all: InboundMetrics,
    issuer: Arc<str>,
    results: Results,
    seen: IntCounter,
    verified: IntCounter,
}

impl InboundMetrics {
    /// Registers the series. `clock` dates the refreshes.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry, clock: Clock) -> prometheus::Result<Self> {
        let verifications = IntCounterVec::new(
            Opts::new(
                "token_sidecar_inbound_verifications_total",
                "Tokens of callers by issuer and result: verified, seen (verified before), or why it was refused.",
            ),
            &["issuer", "result"],
        )?;
        let refreshes = IntCounterVec::new(
            Opts::new(
                "token_sidecar_jwks_refreshes_total",
                "Fetches of an issuer's keys by result: success, or what went wrong.",
            ),
            &["issuer", "result"],
        )?;
        let refreshed = GaugeVec::new(
            Opts::new(
                "token_sidecar_jwks_refreshed_timestamp_seconds",
                "When the issuer's keys were last fetched, in seconds since the epoch.",
            ),
            &["issuer"],
        )?;
        let handles = IntGauge::new(
            "token_sidecar_inbound_handles",
            "Handles that stand for callers' tokens, those in their grace included.",
        )?;
        registry.register(Box::new(verifications.clone()))?;
        registry.register(Box::new(refreshes.clone()))?;
        registry.register(Box::new(refreshed.clone()))?;
        registry.register(Box::new(handles.clone()))?;
        Ok(Self {
            verifications,
            refreshes,
            refreshed,
            handles,
            clock,
            issuers: Arc::default(),
        })
    }

    /// `inbound_handles`.
    pub fn handles(&self) -> &IntGauge {
        &self.handles
    }

    /// A token that names no configured issuer was refused.
    pub fn of_nobody(&self, result: &'static str) {
        self.verifications
            .with_label_values(&[NOBODY, result])
            .inc();
    }

    /// The series of one issuer.
    pub fn issuer(&self, issuer: &Arc<str>) -> IssuerMetrics {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let results = match issuers.iter().find(|(name, _)| name == issuer) {
            Some((_, results)) => Arc::clone(results),
            None => {
                let results = Results::default();
                issuers.push((Arc::clone(issuer), Arc::clone(&results)));
                results
            }
        };
        let child = |result| {
            note(&results, Series::Verifications, result);
            self.verifications.with_label_values(&[&**issuer, result])
        };
        IssuerMetrics {
            all: self.clone(),
            issuer: Arc::clone(issuer),
            seen: child(SEEN),
            verified: child(VERIFIED),
            results,
        }
    }

    /// Forgets the series of other issuers.
    pub fn keep_issuers(&self, kept: &[&str]) {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.retain(|(issuer, results)| {
            if kept.contains(&&**issuer) {
                return true;
            }
            for (series, result) in results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                let series = match series {
                    Series::Verifications => &self.verifications,
                    Series::Refreshes => &self.refreshes,
                };
                // Gone already is as good as gone now.
                drop(series.remove_label_values(&[&**issuer, result]));
            }
            drop(self.refreshed.remove_label_values(&[&**issuer]));
            false
        });
    }
}

impl IssuerMetrics {
    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token was verified, or refused for the reason given.
    pub fn verified(&self, refusal: Option<&'static str>) {
        match refusal {
            None => self.verified.inc(),
            Some(code) => {
                note(&self.results, Series::Verifications, code);
                self.all
                    .verifications
                    .with_label_values(&[&*self.issuer, code])
                    .inc();
            }
        }
    }

    /// A token that was verified before was accepted.
    pub fn seen(&self) {
        self.seen.inc();
    }

    /// The keys were fetched.
    pub fn fetched(&self) {
        self.refresh("success");
        self.all
            .refreshed
            .with_label_values(&[&*self.issuer])
            .set(self.all.clock.unix_now().as_secs_f64());
    }

    /// The keys could not be fetched, for a bounded reason.
    pub fn failed(&self, code: &'static str) {
        self.refresh(code);
    }

    fn refresh(&self, result: &'static str) {
        note(&self.results, Series::Refreshes, result);
        self.all
            .refreshes
            .with_label_values(&[&*self.issuer, result])
            .inc();
    }
}

fn note(results: &Results, series: Series, result: &'static str) {
    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
    if !results.contains(&(series, result)) {
        results.push((series, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_issuers_series_go_with_it() {
        let registry = Registry::new();
        let clock = Clock::anchored(Duration::from_secs(1000));
        let metrics = InboundMetrics::register(&registry, clock).unwrap();
        let issuers: [Arc<str>; 2] = ["https://a".into(), "https://b".into()];
        for issuer in &issuers {
            let issuer = metrics.issuer(issuer);
            issuer.verified(Some("expired"));
            issuer.seen();
            issuer.fetched();
            issuer.failed("timeout");
        }
        metrics.keep_issuers(&["https://b"]);
        let left: Vec<String> = registry
            .gather()
            .iter()
            .flat_map(|f| f.get_metric().to_vec())
            .flat_map(|m| m.get_label().to_vec())
            .filter(|l| l.name() == "issuer")
            .map(|l| l.value().to_owned())
            .collect();
        assert_eq!(left.len(), 6, "{left:?}");
        assert!(left.iter().all(|l| l == "https://b"));
    }
}
