//! What a load did: counts, rates, and how long requests took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// What one client saw; clients add up.
#[derive(Debug)]
pub(super) struct Tally {
    /// Events that were answered well.
    pub(super) events: u64,
    /// Requests that failed.
    pub(super) errors: u64,
    /// The first failure, told.
    pub(super) first_error: Option<String>,
    latency_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("fixed bounds that are valid");
        Self { events: 0, errors: 0, first_error: None, latency_us }
    }
}

impl Tally {
    /// A request of so many events was answered after this long.
    pub(super) fn done(&mut self, events: u64, latency: Duration) {
        self.events += events;
        self.latency_us.saturating_record(latency.as_micros().max(1) as u64);
    }

    /// A request failed.
    pub(super) fn failed(&mut self, why: impl ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| why.to_string());
    }

    /// Takes in what another client saw.
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency_us.add(&other.latency_us).expect("all histograms have the same bounds");
    }

    fn latency_json(&self) -> Value {
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": self.latency_us.max(),
        })
    }
}

/// Prints the outcome: one JSON object, or lines for people.
pub(super) fn print(load: &super::Load, case: &str, tally: &Tally, elapsed: Duration) {
    let rate = tally.events as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let durability = load.durability.map(|d| d.as_str_name().trim_start_matches("DURABILITY_").to_lowercase());
    let report = json!({
        "case": case,
        "size": load.size,
        "batch": load.batch,
        "clients": load.clients,
        "connections": load.connections,
        "rate": load.rate,
        "durability": durability,
        "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        "events": tally.events,
        "events_per_s": rate.round(),
        "bytes_per_s": (rate * load.size as f64).round(),
        "latency_us": tally.latency_json(),
        "errors": tally.errors,
    });
    if load.json {
        println!("{report}");
        return;
    }
    println!("{case}: {} events in {:.1} s", tally.events, elapsed.as_secs_f64());
    println!("  {:.0} events/s, {:.1} MB/s of data, {} errors", rate, rate * load.size as f64 / 1e6, tally.errors);
    let latency = &report["latency_us"];
    println!(
        "  latency in microseconds: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        latency["p50"], latency["p90"], latency["p99"], latency["p999"], latency["max"]
    );
}

/// Ten minutes; whatever took longer counts as that.
const LATENCY_US_MAX: u64 = 600_000_000;
