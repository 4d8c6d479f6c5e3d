//! Small events over many streams, one a request: as they are written each is a block of its own, which takes several times
//! what it holds. Reclaim puts them together, and what is on the disk stays bound to what is live.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use synapse::engine::{Engine, EngineOptions, Publish};
use synapse::format::event::Event;
use synapse::types::{Durability, StreamName, StreamSettings};

use crate::space::space_held;
use crate::{stream, wait};

const STREAMS: u64 = 2000;
const SEGMENT_BYTES: u64 = 4 << 20;
/// Events of each stream, twice.
const ROUNDS: u64 = 50;
/// What is live beside payloads: of an entry, and of a stream in a file.
const ENTRY_BYTES: u64 = 30;
const STREAM_BYTES: u64 = 256;

/// Publishes so many events to each stream, one a request.
fn publish(engine: &Engine, names: &[StreamName]) {
    for n in 0..ROUNDS {
        for some in names.chunks(200) {
            let event = || Event::new("t", n.to_string().into_bytes()).into_entry().expect("valid");
            let published = some.iter().map(|name| engine.publish(Publish::new(name.clone(), vec![event()])));
            wait(join_all(published)).into_iter().for_each(|done| drop(done.expect("publishes")));
        }
    }
}

/// Bytes that are live, as the promise counts them.
fn live(engine: &Engine, data: &Path, names: &[StreamName]) -> u64 {
    let files = std::fs::read_dir(data.join("log")).expect("listed").flatten();
    let snapshots = files.filter(|file| file.file_name().to_string_lossy().starts_with("snapshot-"));
    let state: u64 = snapshots.map(|file| file.metadata().map_or(0, |found| found.len())).sum();
    let infos = names.iter().map(|name| wait(engine.stream(name)).expect("is there"));
    state + infos.map(|info| info.bytes + info.length * ENTRY_BYTES + STREAM_BYTES).sum::<u64>()
}

#[test]
fn small_events_over_many_streams_take_no_more_than_they_may() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let options = || EngineOptions { segment_bytes: SEGMENT_BYTES, ..EngineOptions::new(&data) };
    let engine = Engine::open(options()).expect("opens");
    let settings = StreamSettings { durability: Some(Durability::Os), ..StreamSettings::default() };
    let names: Vec<_> = (0..STREAMS).map(|n| stream(&format!("s{n}"))).collect();
    for name in &names {
        wait(engine.create_stream(name.clone(), settings.clone())).expect("makes the stream");
    }
    let held = || space_held(&data, std::process::id());
    publish(&engine, &names);
    let bound = 2 * live(&engine, &data, &names) + 4 * SEGMENT_BYTES;
    let (written, until) = (held(), Instant::now() + Duration::from_secs(60));
    while held() > bound {
        assert!(Instant::now() < until, "{} of {written} bytes are held, {bound} may be", held());
        std::thread::sleep(Duration::from_millis(50));
    }
    publish(&engine, &names);
    let (written, bound) = (held(), 2 * live(&engine, &data, &names) + 2 * SEGMENT_BYTES);
    wait(engine.reclaim()).expect("reclaims");
    assert!(held() <= bound, "on request {} of {written} bytes are left, {bound} may be", held());
    eprintln!("{} of {written} bytes are left, {bound} may be", held());
    wait(engine.shutdown()).expect("stops in order");
    drop(engine);
    let engine = Engine::open(options()).expect("opens again");
    let again: u64 = names.iter().map(|name| wait(engine.stream(name)).expect("is there").length).sum();
    assert_eq!(again, 2 * STREAMS * ROUNDS);
}
