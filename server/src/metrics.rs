//! Every series of this server (prefix `mcp_server_`), built from a registry that is passed in.
//!
//! Labels come from fixed lists and from the tools file; no caller can make them grow.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    process_collector::ProcessCollector,
};

use crate::tools::{Catalog, Outcome};

const BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The label of calls to tools that do not exist.
pub(crate) const UNKNOWN_TOOL: &str = "unknown";

/// Handles on the series.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    rejected: IntCounterVec,
    tool_calls: IntCounterVec,
    tool_duration: HistogramVec,
}

impl Metrics {
    /// Registers all series, with a zero for each tool and result.
    ///
    /// # Errors
    /// A series of the same name is registered already.
    pub(crate) fn new(registry: &Registry, catalog: &Catalog) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, label: &str| {
            let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            let histogram = HistogramVec::new(opts, &[label])?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let metrics = Self {
            requests: counter(
                "mcp_server_requests_total",
                "HTTP requests answered, by endpoint, method and class of status.",
                &["endpoint", "method", "status_class"],
            )?,
            request_duration: histogram(
                "mcp_server_request_duration_seconds",
                "Time from a request's headers to its answer, by endpoint.",
                "endpoint",
            )?,
            rejected: counter(
                "mcp_server_rejected_total",
                "HTTP requests refused before they were looked at, by reason.",
                &["reason"],
            )?,
            tool_calls: counter(
                "mcp_server_tool_calls_total",
                "Tool calls, by tool and result.",
                &["tool", "result"],
            )?,
            tool_duration: histogram(
                "mcp_server_tool_call_duration_seconds",
                "Time of a tool call, by tool.",
                "tool",
            )?,
        };
        for tool in catalog.names() {
            for outcome in Outcome::ALL {
                let labels = [tool, outcome.label()];
                metrics.tool_calls.with_label_values(&labels);
            }
        }
        let build = IntGaugeVec::new(
            Opts::new(
                "mcp_server_build_info",
                "Always 1; the labels tell what was built.",
            ),
            &["version", "revision"],
        )?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), revision()])
            .set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// Counts an answered HTTP request.
    pub(crate) fn request(
        &self,
        endpoint: &str,
        method: &http::Method,
        status: u16,
        took: Duration,
    ) {
        let method = match *method {
            http::Method::GET => "GET",
            http::Method::HEAD => "HEAD",
            http::Method::POST => "POST",
            http::Method::DELETE => "DELETE",
            http::Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests
            .with_label_values(&[endpoint, method, class])
            .inc();
        self.request_duration
            .with_label_values(&[endpoint])
            .observe(took.as_secs_f64());
    }

    /// Counts a refused HTTP request.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Counts a tool call; `tool` is a declared tool's name or [`UNKNOWN_TOOL`].
    pub(crate) fn tool_call(&self, tool: &str, result: &str, took: Duration) {
        self.tool_calls.with_label_values(&[tool, result]).inc();
        self.tool_duration
            .with_label_values(&[tool])
            .observe(took.as_secs_f64());
    }
}

/// The revision that was built, if the build was told.
pub(crate) fn revision() -> &'static str {
    option_env!("BUILD_REVISION").unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, &Catalog::built_in().unwrap()).unwrap();
        for method in ["GET", "PURGE", "X1", "X2"] {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            metrics.request("mcp", &method, 599, Duration::from_millis(3));
        }
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let series: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with("mcp_server_requests_total"))
            .collect();
        assert_eq!(
            series,
            [
                r#"mcp_server_requests_total{endpoint="mcp",method="GET",status_class="5xx"} 1"#,
                r#"mcp_server_requests_total{endpoint="mcp",method="other",status_class="5xx"} 3"#,
            ]
        );
        for expected in [
            r#"mcp_server_tool_calls_total{result="ok",tool="get_user_profile"} 0"#,
            "mcp_server_build_info{revision=",
            "process_open_fds ",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
