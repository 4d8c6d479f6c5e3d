//! The metrics that the server exposes: one registry, typed handles for what is counted as it happens, and figures that
//! are taken when somebody asks. Names are OpenMetrics' way, units stand in them, and labels have few values.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Media type of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of latency buckets, in seconds; the long ones are those of long polls.
const LATENCY_BUCKETS_S: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What one process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests over HTTP/JSON.
    pub http: Requests,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("synapse");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        let http = Requests::register(&mut registry, "http");
        Arc::new(Self { registry, http })
    }

    /// Everything counted so far, and these figures, in the OpenMetrics text format.
    pub fn encode(&self, figures: &Figures) -> Result<String, fmt::Error> {
        let mut out = String::new();
        encode_registry(&mut out, &self.registry)?;
        encode_registry(&mut out, &figures.registry)?;
        encode_eof(&mut out)?;
        Ok(out)
    }
}

/// Requests of one front end by route.
#[derive(Clone, Debug)]
pub struct Requests {
    durations: Family<Answered, Histogram, Latency>,
    running: Family<Asked, Gauge>,
}

/// Makes histograms of latency.
#[derive(Clone, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BUCKETS_S)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: &'static str,
    method: &'static str,
}

impl Requests {
    fn register(registry: &mut Registry, protocol: &str) -> Self {
        let durations = Family::new_with_constructor(Latency);
        let running = Family::default();
        registry.register_with_unit(
            format!("{protocol}_request_duration"),
            "Time from the request to the head of the answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(format!("{protocol}_requests_running"), "Requests that are being answered", running.clone());
        Self { durations, running }
    }

    /// Counts a request as begun. `route` is its pattern, never its path, so that there are few.
    #[must_use]
    pub fn start(&self, route: &'static str, method: &'static str) -> Running<'_> {
        self.running.get_or_create(&Asked { route, method }).inc();
        Running { requests: self, route, method }
    }
}

/// A request that is being answered; dropping it, as when the client goes away, counts it as ended.
#[derive(Debug)]
pub struct Running<'a> {
    requests: &'a Requests,
    route: &'static str,
    method: &'static str,
}

impl Running<'_> {
    /// Counts the request as answered with this status after so long.
    pub fn end(self, status: u16, took: Duration) {
        let labels = Answered { route: self.route, method: self.method, status };
        self.requests.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.requests.running.get_or_create(&Asked { route: self.route, method: self.method }).dec();
    }
}

/// Labels of a figure: names and values.
pub type Labels = Vec<(&'static str, String)>;

/// Figures taken at one moment, to be shown once.
#[derive(Debug)]
pub struct Figures {
    registry: Registry,
}

impl Default for Figures {
    fn default() -> Self {
        Self { registry: Registry::with_prefix("synapse") }
    }
}

impl Figures {
    /// Adds something that only grows; its name gets `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstCounter::new(value));
    }

    /// Adds something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        self.registry.register(name, help, gauge);
    }

    /// Adds something that goes up and down, once for each set of labels.
    pub fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_in_openmetrics() {
        let metrics = Metrics::new();
        metrics.http.start("/streams/{stream}", "GET").end(200, Duration::from_millis(3));
        drop(metrics.http.start("/events/{stream}", "POST"));
        let mut figures = Figures::default();
        figures.counter("appended_entries", "Entries", 7);
        figures.gauge("log_size_bytes", "Bytes", 9);
        figures.gauges("stream_entries", "Entries", [(vec![("stream", "a\"b".to_owned())], 2.0)]);
        let text = metrics.encode(&figures).expect("text");
        for line in [
            "synapse_http_request_duration_seconds_count{route=\"/streams/{stream}\",method=\"GET\",status=\"200\"} 1",
            "synapse_http_requests_running{route=\"/events/{stream}\",method=\"POST\"} 0",
            "synapse_appended_entries_total 7",
            "synapse_log_size_bytes 9",
            "synapse_stream_entries{stream=\"a\\\"b\"} 2.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
