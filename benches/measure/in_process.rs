//! The engine in process, at `fsync`: one thread publishes batches of one size with so many in flight.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use synapse::engine::{Engine, EngineOptions, Publish};
use synapse::format::event::Event;
use synapse::types::StreamName;

pub(crate) fn run(
    folder: PathBuf,
    size: usize,
    batch: usize,
    in_flight: usize,
    over: Duration,
) -> Result<Value, Box<dyn Error>> {
    let engine = Engine::open(EngineOptions::new(folder))?;
    let stream = StreamName::parse("bench")?;
    let event = Event::new("inference-complete", vec![b'x'; size]).source("cyrex").into_entry()?;
    let batch = vec![event; batch];
    let publish = || engine.publish(Publish::new(stream.clone(), batch.clone()));
    let started = Instant::now();
    let mut waiting: FuturesUnordered<_> = (0..in_flight).map(|_| publish()).collect();
    let mut events = 0;
    while let Some(answer) = block_on(waiting.next()) {
        events += u64::from(answer?.count);
        if started.elapsed() < over {
            waiting.push(publish());
        }
    }
    let taken = started.elapsed();
    let core = core_thread_time()?.as_secs_f64();
    let stats = engine.stats();
    block_on(engine.shutdown())?;
    Ok(json!({
        "events": events,
        "events_per_s": (events as f64 / taken.as_secs_f64()).round(),
        "events_per_s_of_core_thread": (events as f64 / core).round(),
        "written_per_payload": stats.log_bytes as f64 / stats.appended_bytes as f64,
    }))
}

/// Processor time that the core's thread has used.
fn core_thread_time() -> Result<Duration, Box<dyn Error>> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "synapse-core" {
            let used = fs::read_to_string(task.join("schedstat"))?;
            return Ok(Duration::from_nanos(used.split(' ').next().unwrap_or_default().parse()?));
        }
    }
    Err("there is no core thread".into())
}
