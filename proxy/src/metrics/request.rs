//! Series of the request flow. Each worker writes its own shard with plain loads and stores (one writer, no lock prefix, no shared
//! cache line); a scrape sums the shards. Nothing here knows HTTP beyond methods and status classes.

use http::{Method, StatusCode};
use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds in seconds of `request_duration_seconds` and `upstream_connect_duration_seconds`.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
const BOUNDS_MICROS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// A counter with one writer: readers on other threads see some recent value.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`. Only ever called on the thread that owns the shard.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    /// Subtracts `n`. Only ever called on the thread that owns the shard.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }
    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram over `BOUNDS` with one writer.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Cell; BOUNDS.len() + 1],
    nanos: Cell,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = took.as_secs().saturating_mul(1_000_000) + u64::from(took.subsec_micros());
        let at = BOUNDS_MICROS
            .iter()
            .position(|b| micros <= *b)
            .unwrap_or(BOUNDS.len());
        self.buckets[at].add(1);
        self.nanos
            .add(took.as_secs().wrapping_mul(1_000_000_000) + u64::from(took.subsec_nanos()));
    }
}

/// What became of a request whose token an upstream rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Replayed with a new token; the upstream took it.
    Accepted,
    /// Replayed with a new token; the upstream answered 401 again.
    RejectedAgain,
    /// There was no new token in time.
    NoToken,
    /// The last replacement was rejected too, not long ago.
    HeldOff,
    /// The body did not fit the replay buffer.
    BodyTooLarge,
}

const REPLAYS: [&str; 5] = [
    "accepted",
    "rejected_again",
    "no_token",
    "held_off",
    "body_too_large",
];

/// One worker's counters for one route.
#[derive(Debug, Default)]
pub struct RouteShard {
    requests: [[Cell; CLASSES.len()]; METHODS.len()],
    /// From the request's header to the end of the response's body.
    pub duration: Durations,
    /// Requests whose response has not ended.
    pub in_flight: Cell,
    replays: [Cell; REPLAYS.len()],
    /// Resolve, connect and TLS together.
    pub connect: Durations,
    /// Connections to the route's upstream that are open.
    pub connections: Cell,
}

impl RouteShard {
    /// Counts a request that was answered.
    pub fn count(&self, method: MethodLabel, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100)
            .saturating_sub(1)
            .min(CLASSES.len() - 1);
        self.requests[method.0][class].add(1);
    }
    /// Counts a request whose token was rejected.
    pub fn replayed(&self, result: Replay) {
        self.replays[result as usize].add(1);
    }
}

/// A method as a label: one of a fixed few.
#[derive(Debug, Clone, Copy)]
pub struct MethodLabel(usize);

impl From<&Method> for MethodLabel {
    fn from(method: &Method) -> Self {
        Self(match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::POST => 2,
            Method::PUT => 3,
            Method::PATCH => 4,
            Method::DELETE => 5,
            Method::OPTIONS => 6,
            _ => 7,
        })
    }
}

/// All series of the request flow.
#[derive(Clone)]
pub struct RequestMetrics(Arc<Inner>);

type ByWorker = HashMap<usize, Arc<RouteShard>>;

struct Inner {
    routes: Mutex<BTreeMap<Arc<str>, ByWorker>>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    descs: Vec<Desc>,
}

const REQUESTS: (&str, &str) = (
    "token_sidecar_requests_total",
    "Requests answered, by route, method and class of status.",
);
const DURATION: (&str, &str) = (
    "token_sidecar_request_duration_seconds",
    "From a request's header section to the end of its response's body.",
);
const IN_FLIGHT: (&str, &str) = (
    "token_sidecar_requests_in_flight",
    "Requests whose response has not ended.",
);
const REJECTED: (&str, &str) = (
    "token_sidecar_rejected_total",
    "Requests that the sidecar itself answered with an error, by reason.",
);
const REPLAYED: (&str, &str) = (
    "token_sidecar_unauthorized_replays_total",
    "Requests whose token the upstream rejected with 401, by what came of it.",
);
const CONNECT: (&str, &str) = (
    "token_sidecar_upstream_connect_duration_seconds",
    "Resolving, connecting and TLS towards the upstream, together.",
);
const CONNECTIONS: (&str, &str) = (
    "token_sidecar_upstream_connections",
    "Connections to the route's upstream that are open.",
);

impl RequestMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let desc = |(name, help): (&str, &str), labels: &[&str]| {
            Desc::new(
                name.into(),
                help.into(),
                labels.iter().map(|l| (*l).into()).collect(),
                HashMap::new(),
            )
        };
        let descs = vec![
            desc(REQUESTS, &["route", "method", "status_class"])?,
            desc(DURATION, &["route"])?,
            desc(IN_FLIGHT, &["route"])?,
            desc(REJECTED, &["reason"])?,
            desc(REPLAYED, &["route", "result"])?,
            desc(CONNECT, &["route"])?,
            desc(CONNECTIONS, &["route"])?,
        ];
        let metrics = Self(Arc::new(Inner {
            routes: Mutex::default(),
            rejected: Mutex::default(),
            descs,
        }));
        registry.register(Box::new(metrics.clone()))?;
        Ok(metrics)
    }

    /// The shard of `worker` for `route`; the same one each time, so that a reload loses no count.
    pub fn shard(&self, route: &Arc<str>, worker: usize) -> Arc<RouteShard> {
        let mut routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            routes
                .entry(Arc::clone(route))
                .or_default()
                .entry(worker)
                .or_default(),
        )
    }

    /// Forgets the routes that are not among `kept`.
    pub fn retain<'a>(&self, kept: impl IntoIterator<Item = &'a str>) {
        let kept: std::collections::HashSet<&str> = kept.into_iter().collect();
        self.0
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, _| kept.contains(&**name));
    }

    /// Counts a request (or connection) that was answered by us with an error.
    pub fn rejected(&self, reason: &'static str) {
        *self
            .0
            .rejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(reason)
            .or_default() += 1;
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut c = Counter::default();
    c.set_value(value as f64);
    let mut m = Metric::from_label(labels);
    m.set_counter(c);
    m
}

fn gauge(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut g = Gauge::default();
    g.set_value(value as f64);
    let mut m = Metric::from_label(labels);
    m.set_gauge(g);
    m
}

fn histogram<'a>(labels: Vec<LabelPair>, shards: impl Iterator<Item = &'a Durations>) -> Metric {
    let mut counts = [0u64; BOUNDS.len() + 1];
    let mut nanos = 0u64;
    for shard in shards {
        for (sum, cell) in counts.iter_mut().zip(&shard.buckets) {
            *sum += cell.value();
        }
        nanos = nanos.wrapping_add(shard.nanos.value());
    }
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    for (bound, count) in BOUNDS.iter().zip(&counts) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut h = Histogram::default();
    h.set_bucket(buckets);
    h.set_sample_count(counts.iter().sum());
    h.set_sample_sum(nanos as f64 / 1e9);
    let mut m = Metric::from_label(labels);
    m.set_histogram(h);
    m
}

impl Collector for RequestMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut requests = vec![];
        let mut durations = vec![];
        let mut in_flight = vec![];
        let mut replays = vec![];
        let mut connects = vec![];
        let mut connections = vec![];
        for (route, shards) in self
            .0
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let name = || vec![label("route", route)];
            let sum = |cell: &dyn Fn(&RouteShard) -> u64| {
                shards.values().map(|s| cell(s)).fold(0, u64::wrapping_add)
            };
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let value = sum(&|s| s.requests[m][c].value());
                    // The pairs that every route will have are there from the start, so that rates have a first sample.
                    if value > 0 || m == 0 && c == 1 {
                        requests.push(counter(
                            vec![
                                label("method", method),
                                label("route", route),
                                label("status_class", class),
                            ],
                            value,
                        ));
                    }
                }
            }
            durations.push(histogram(name(), shards.values().map(|s| &s.duration)));
            in_flight.push(gauge(name(), sum(&|s| s.in_flight.value())));
            for (r, result) in REPLAYS.iter().enumerate() {
                replays.push(counter(
                    vec![label("result", result), label("route", route)],
                    sum(&|s| s.replays[r].value()),
                ));
            }
            connects.push(histogram(name(), shards.values().map(|s| &s.connect)));
            connections.push(gauge(name(), sum(&|s| s.connections.value())));
        }
        let rejected = self
            .0
            .rejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(reason, n)| counter(vec![label("reason", reason)], *n))
            .collect();
        vec![
            family(REQUESTS, MetricType::COUNTER, requests),
            family(DURATION, MetricType::HISTOGRAM, durations),
            family(IN_FLIGHT, MetricType::GAUGE, in_flight),
            family(REJECTED, MetricType::COUNTER, rejected),
            family(REPLAYED, MetricType::COUNTER, replays),
            family(CONNECT, MetricType::HISTOGRAM, connects),
            family(CONNECTIONS, MetricType::GAUGE, connections),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_survive_a_second_ask() {
        let registry = prometheus::Registry::new();
        let metrics = RequestMetrics::register(&registry).unwrap();
        let route: Arc<str> = "arm".into();
        for worker in 0..2 {
            let shard = metrics.shard(&route, worker);
            shard.count((&Method::GET).into(), StatusCode::OK);
            shard.count(
                (&Method::from_bytes(b"PROPFIND").unwrap()).into(),
                StatusCode::BAD_GATEWAY,
            );
            shard.duration.observe(Duration::from_millis(3));
        }
        metrics
            .shard(&route, 1)
            .count((&Method::GET).into(), StatusCode::OK);
        metrics.rejected("no_route");
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(
            text.contains(
                "token_sidecar_requests_total{method=\"GET\",route=\"arm\",status_class=\"2xx\"} 3"
            ),
            "{text}"
        );
        assert!(text.contains("token_sidecar_requests_total{method=\"other\",route=\"arm\",status_class=\"5xx\"} 2"), "{text}");
        assert!(
            text.contains(
                "token_sidecar_request_duration_seconds_bucket{route=\"arm\",le=\"0.0025\"} 0"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "token_sidecar_request_duration_seconds_bucket{route=\"arm\",le=\"0.005\"} 2"
            ),
            "{text}"
        );
        assert!(
            text.contains("token_sidecar_request_duration_seconds_count{route=\"arm\"} 2"),
            "{text}"
        );
        assert!(
            text.contains("token_sidecar_rejected_total{reason=\"no_route\"} 1"),
            "{text}"
        );
        metrics.retain([]);
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(!text.contains("arm"), "{text}");
    }
}
