//! The disk's own limit: one file that grows, written and synced in blocks of one size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) fn run(folder: &Path, bytes: usize, over: Duration) -> io::Result<Value> {
    let path = folder.join("disk-limit");
    let mut file = File::create(&path)?;
    let block = vec![b'x'; bytes];
    let mut taken = Vec::new();
    let started = Instant::now();
    while started.elapsed() < over {
        let before = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        taken.push(before.elapsed().as_micros() as u64);
    }
    let elapsed = started.elapsed();
    fs::remove_file(&path)?;
    taken.sort_unstable();
    let at = |per_thousand: usize| taken[(taken.len() - 1) * per_thousand / 1000];
    Ok(json!({
        "writes": taken.len(),
        "bytes_per_s": (taken.len() as f64 * bytes as f64 / elapsed.as_secs_f64()).round(),
        "latency_us": { "p50": at(500), "p90": at(900), "p99": at(990), "p999": at(999), "max": at(1000) },
    }))
}
