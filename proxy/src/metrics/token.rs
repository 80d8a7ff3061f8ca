//! Series of the token flow: subject tokens, exchanges, issued tokens. Children are resolved when a credential or a subject token starts, and
//! taken away when it stops; nothing outside the configuration and the bounded error codes can add one.

mod callers;

pub use callers::CallerCacheMetrics;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    core::Collector,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// All series of the token flow. Clones share them.
#[derive(Clone)]
pub struct TokenMetrics {
    subject_expiry: GaugeVec,
    subject_issued: GaugeVec,
    subject_rotations: IntCounterVec,
    subject_errors: IntCounterVec,
    issued_expiry: GaugeVec,
    issued_renewed: GaugeVec,
    exchanges: IntCounterVec,
    exchange_duration: HistogramVec,
    retry_after: GaugeVec,
    failing_since: GaugeVec,
    unavailable: IntCounterVec,
    unattached: IntCounter,
    callers: callers::CallerSeries,
    owners: Owners,
    failing: Failing,
}

/// The error that `renewal_failing_since` shows, by credential.
type Failing = Arc<Mutex<HashMap<String, &'static str>>>;

/// Who has the children of a name. On a reload the next owner may come before the last one has gone: then they are not taken away.
#[derive(Clone, Default)]
struct Owners(Arc<Mutex<HashMap<String, (u64, Labels)>>>);

/// The further labels that children of a name were made with.
type Labels = Arc<Mutex<BTreeSet<(&'static str, &'static str)>>>;

impl Owners {
    fn take_over(&self, key: String) -> Owner {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, labels) = generations.entry(key.clone()).or_default();
        *generation += 1;
        Owner {
            generation: *generation,
            labels: Arc::clone(labels),
            all: self.clone(),
            key,
        }
    }
}

struct Owner {
    all: Owners,
    key: String,
    generation: u64,
    labels: Labels,
}

impl Owner {
    fn note(&self, labels: (&'static str, &'static str)) {
        let mut all = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(labels);
    }

    /// All labels noted, unless somebody has taken over.
    fn let_go(&self) -> Option<BTreeSet<(&'static str, &'static str)>> {
        let mut generations = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = generations.get(&self.key)?.0 == self.generation;
        last.then(|| {
            generations.remove(&self.key);
            std::mem::take(&mut *self.labels.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// From a loopback authority to one that takes the whole timeout.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

impl TokenMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// When the registry has one of them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            subject_expiry: gauge(
                registry,
                "subject_token_expiry_timestamp_seconds",
                "When the subject token expires, in seconds since the epoch.",
                &["subject_token"],
            )?,
            subject_issued: gauge(
                registry,
                "subject_token_issued_timestamp_seconds",
                "When the subject token was issued (its iat; without one, when it was first seen), in seconds since the epoch.",
                &["subject_token"],
            )?,
            subject_rotations: counter(
                registry,
                "subject_token_rotations_total",
                "Times the subject token's file was seen with another good token, the first included.",
                &["subject_token"],
            )?,
            subject_errors: counter(
                registry,
                "subject_token_errors_total",
                "Times the subject token's file was seen with an unusable content, by reason; each content is counted once.",
                &["subject_token", "reason"],
            )?,
            issued_expiry: gauge(
                registry,
                "issued_token_expiry_timestamp_seconds",
                "When the issued token expires, in seconds since the epoch.",
                &["credential"],
            )?,
            issued_renewed: gauge(
                registry,
                "issued_token_renewed_timestamp_seconds",
                "When the issued token was got, in seconds since the epoch.",
                &["credential"],
            )?,
            exchanges: counter(
                registry,
                "exchanges_total",
                "Exchanges by result (success, failure) and error (an OAuth code, aadsts_NNN, or what went wrong on the way).",
                &["credential", "result", "error"],
            )?,
            exchange_duration: add(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "token_sidecar_exchange_duration_seconds",
                        "How long exchanges took, failed ones included.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["credential"],
                )?,
            )?,
            retry_after: gauge(
                registry,
                "exchange_retry_after_seconds",
                "What the authority asked for with Retry-After at the last exchange; 0 when it did not.",
                &["credential"],
            )?,
            failing_since: gauge(
                registry,
                "renewal_failing_since_timestamp_seconds",
                "Since when renewals have failed, in seconds since the epoch, by what the last one failed for (an OAuth code, aadsts_NNN, what went wrong on the way, or what the subject token lacks); absent while they succeed.",
                &["credential", "error"],
            )?,
            unavailable: counter(
                registry,
                "token_unavailable_total",
                "Requests answered 503 because there was no valid token.",
                &["credential"],
            )?,
            unattached: IntCounter::with_opts(opts("unattached", "Not registered."))?,
            callers: callers::CallerSeries::register(registry)?,
            owners: Owners::default(),
            failing: Failing::default(),
        })
    }

    /// A counter that no scrape shows.
    pub(crate) fn unattached(&self) -> IntCounter {
        self.unattached.clone()
    }

    /// Another error, or none, from here on: the child of the one before goes.
    fn show_failing(&self, credential: &str, error: Option<&'static str>) {
        let mut shown = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match error {
            Some(error) => shown.insert(credential.into(), error),
            None => shown.remove(credential),
        };
        if let Some(before) = before.filter(|b| Some(*b) != error) {
            self.failing_since
                .remove_label_values(&[credential, before])
                .ok();
        }
    }

    /// The children of one subject token.
    pub fn subject_token(&self, name: &str) -> SubjectTokenMetrics {
        SubjectTokenMetrics {
            rotations: self.subject_rotations.with_label_values(&[name]),
            owner: self.owners.take_over(format!("subject_token {name}")),
            all: self.clone(),
            name: name.into(),
        }
    }

    /// The children of one credential.
    pub fn credential(&self, name: &str) -> CredentialMetrics {
        // What an owner before issued is not in use any more.
        self.issued_expiry.remove_label_values(&[name]).ok();
        self.issued_renewed.remove_label_values(&[name]).ok();
        self.show_failing(name, None);
        // There from the start, so that a rate has a zero to start from.
        self.exchanges.with_label_values(&[name, "success", ""]);
        let owner = self.owners.take_over(format!("credential {name}"));
        owner.note(("success", ""));
        CredentialMetrics {
            duration: self.exchange_duration.with_label_values(&[name]),
            retry_after: self.retry_after.with_label_values(&[name]),
            unavailable: self.unavailable.with_label_values(&[name]),
            owner,
            all: self.clone(),
            name: name.into(),
        }
    }
}

/// One subject token's children. Dropping it takes them away.
pub struct SubjectTokenMetrics {
    all: TokenMetrics,
    owner: Owner,
    name: Arc<str>,
    rotations: IntCounter,
}

impl SubjectTokenMetrics {
    /// Another good token, issued at `issued` and good until `exp` (both since the epoch). The two make its life, of which alerts take shares.
    pub fn rotated(&self, issued: Duration, exp: Duration) {
        self.rotations.inc();
        let name = [&*self.name];
        self.all
            .subject_issued
            .with_label_values(&name)
            .set(issued.as_secs_f64());
        self.all
            .subject_expiry
            .with_label_values(&name)
            .set(exp.as_secs_f64());
    }

    /// Another unusable content. `reason` is one of a fixed set.
    pub fn failed(&self, reason: &'static str) {
        self.all
            .subject_errors
            .with_label_values(&[&*self.name, reason])
            .inc();
        self.owner.note((reason, ""));
    }
}

impl Drop for SubjectTokenMetrics {
    fn drop(&mut self) {
        let Some(labels) = self.owner.let_go() else {
            return;
        };
        let name = &*self.name;
        // A child that was never made is not there to remove.
        self.all.subject_expiry.remove_label_values(&[name]).ok();
        self.all.subject_issued.remove_label_values(&[name]).ok();
        self.all.subject_rotations.remove_label_values(&[name]).ok();
        for (reason, _) in labels {
            self.all
                .subject_errors
                .remove_label_values(&[name, reason])
                .ok();
        }
    }
}

/// One credential's children. Dropping it takes them away.
pub struct CredentialMetrics {
    all: TokenMetrics,
    owner: Owner,
    name: Arc<str>,
    duration: Histogram,
    retry_after: prometheus::Gauge,
    unavailable: IntCounter,
}

impl CredentialMetrics {
    /// A token was got at `at` that expires at `expiry` (both since the epoch).
    pub fn issued(&self, took: Duration, at: Duration, expiry: Duration) {
        self.exchanged(took, "success", "");
        let name = &[&*self.name];
        self.all
            .issued_renewed
            .with_label_values(name)
            .set(at.as_secs_f64());
        self.all
            .issued_expiry
            .with_label_values(name)
            .set(expiry.as_secs_f64());
        self.retry_after.set(0.0);
        self.all.show_failing(&self.name, None);
    }

    /// There has been no success since `since` (since the epoch), lately because of `error`, one of a fixed set. Shown until the next success.
    pub fn failing(&self, error: &'static str, since: Duration) {
        self.all.show_failing(&self.name, Some(error));
        self.all
            .failing_since
            .with_label_values(&[&*self.name, error])
            .set(since.as_secs_f64());
    }

    /// A token was got for a caller.
    pub fn issued_to_caller(&self, took: Duration) {
        self.exchanged(took, "success", "");
        self.retry_after.set(0.0);
    }

    /// An exchange failed. `error` is one of a fixed set.
    pub fn failed(&self, took: Duration, error: &'static str, retry_after: Option<Duration>) {
        self.exchanged(took, "failure", error);
        self.retry_after
            .set(retry_after.unwrap_or_default().as_secs_f64());
    }

    /// For the request flow: requests answered 503 for want of a token.
    pub const fn unavailable(&self) -> &IntCounter {
        &self.unavailable
    }

    fn exchanged(&self, took: Duration, result: &'static str, error: &'static str) {
        self.duration.observe(took.as_secs_f64());
        self.all
            .exchanges
            .with_label_values(&[&*self.name, result, error])
            .inc();
        self.owner.note((result, error));
    }
}

impl Drop for CredentialMetrics {
    fn drop(&mut self) {
        let Some(labels) = self.owner.let_go() else {
            return;
        };
        let name = &*self.name;
        self.all.show_failing(name, None);
        self.all.issued_expiry.remove_label_values(&[name]).ok();
        self.all.issued_renewed.remove_label_values(&[name]).ok();
        self.all.exchange_duration.remove_label_values(&[name]).ok();
        self.all.retry_after.remove_label_values(&[name]).ok();
        self.all.unavailable.remove_label_values(&[name]).ok();
        for (result, error) in labels {
            self.all
                .exchanges
                .remove_label_values(&[name, result, error])
                .ok();
        }
    }
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<GaugeVec> {
    add(registry, GaugeVec::new(opts(name, help), labels)?)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    add(registry, IntCounterVec::new(opts(name, help), labels)?)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("token_sidecar_{name}"), help)
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn series_appear_with_their_owner_and_leave_with_it() {
        let registry = Registry::new();
        let metrics = TokenMetrics::register(&registry).unwrap();
        let credential = metrics.credential("arm");
        let subject = metrics.subject_token("pod");
        let secs = Duration::from_secs;
        credential.issued(secs(1), secs(100), secs(160));
        credential.failed(secs(1), "aadsts_700213", Some(secs(7)));
        credential.failing("timeout", secs(101));
        credential.failing("aadsts_700213", secs(101));
        credential.unavailable().inc();
        subject.rotated(secs(200), secs(500));
        subject.failed("empty");
        let shown = text(&registry);
        for line in [
            r#"token_sidecar_subject_token_expiry_timestamp_seconds{subject_token="pod"} 500"#,
            r#"token_sidecar_subject_token_issued_timestamp_seconds{subject_token="pod"} 200"#,
            r#"token_sidecar_subject_token_rotations_total{subject_token="pod"} 1"#,
            r#"token_sidecar_subject_token_errors_total{reason="empty",subject_token="pod"} 1"#,
            r#"token_sidecar_issued_token_expiry_timestamp_seconds{credential="arm"} 160"#,
            r#"token_sidecar_issued_token_renewed_timestamp_seconds{credential="arm"} 100"#,
            r#"token_sidecar_exchanges_total{credential="arm",error="",result="success"} 1"#,
            r#"token_sidecar_exchanges_total{credential="arm",error="aadsts_700213",result="failure"} 1"#,
            r#"token_sidecar_exchange_duration_seconds_count{credential="arm"} 2"#,
            r#"token_sidecar_exchange_retry_after_seconds{credential="arm"} 7"#,
            r#"token_sidecar_renewal_failing_since_timestamp_seconds{credential="arm",error="aadsts_700213"} 101"#,
            r#"token_sidecar_token_unavailable_total{credential="arm"} 1"#,
        ] {
            assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        }
        assert!(!shown.contains("timeout"), "{shown}");
        credential.issued(secs(1), secs(110), secs(170));
        assert!(!text(&registry).contains("failing"), "{}", text(&registry));
        credential.failing("timeout", secs(111));
        // Taken over: nothing is lost when the last owner goes later.
        let next = metrics.credential("arm");
        assert!(!text(&registry).contains("failing"));
        next.failing("timeout", secs(120));
        drop(credential);
        let shown = text(&registry);
        assert!(shown.contains(r#"token_unavailable_total{credential="arm"} 1"#));
        assert!(!shown.contains("issued_token_expiry"), "{shown}");
        assert!(
            shown.contains(
                r#"failing_since_timestamp_seconds{credential="arm",error="timeout"} 120"#
            )
        );
        drop((next, subject));
        let shown = text(&registry);
        assert!(!shown.contains("arm") && !shown.contains("pod"), "{shown}");
    }
}
