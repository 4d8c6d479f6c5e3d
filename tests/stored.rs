//! Stored bytes, later: damaged in every place and way, or written by an earlier build.
//!
//! The store is closed in order before it is damaged: after an unclean stop, damage within the last sync round cannot
//! be told from a torn write. What else cannot be told is in `what_cannot_be_told_is_an_earlier_state`. Every place is
//! damaged in every way; which bit flips and which garbage comes is up to a seed, and `SYNAPSE_DAMAGE_SEEDS` says how
//! many are tried (1 unless set).

#[path = "stored/check.rs"]
mod check;
#[path = "stored/damage.rs"]
mod damage;
#[path = "stored/fixture.rs"]
mod fixture;
#[path = "stored/seen.rs"]
mod seen;
#[path = "stored/store.rs"]
mod store;
#[path = "stored/sweep.rs"]
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use damage::{Damage, Folder, Segment};
use sweep::{Outcome, Pristine, disk_of, seen_in};
use synapse::clock::Now;
use synapse::error::Reason;
use synapse::faults::{Fault, Faults, Layer};
use synapse::storage::{Log, LogOptions, Store};

fn seeds() -> u64 {
    std::env::var("SYNAPSE_DAMAGE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn the_store_has_everything_in_it() {
    let store = Pristine::new();
    let segments: Vec<Segment> = store.folder.iter().filter_map(|(n, b)| Segment::read(n, b)).collect();
    assert!(segments.iter().filter(|s| s.footer.is_some()).count() >= 2, "too few sealed segments");
    assert!(segments.iter().any(|s| s.footer.is_none()), "no segment is being written");
    let records = segments.iter().flat_map(|s| &s.frames).flat_map(|f| &f.head.records);
    let kinds: BTreeSet<u8> = records.map(|r| r.kind).collect();
    let all: BTreeSet<u8> = [1, 0x32].into_iter().chain(0x10..=0x1c).chain(0x20..=0x2e).collect();
    assert_eq!(kinds, all, "kinds of records");
}

#[test]
fn damage_is_refused_named_or_harmless() {
    let mut store = Pristine::new();
    let (mut wrong, mut outcomes) = (Vec::new(), BTreeMap::<Outcome, usize>::new());
    for seed in 1..=seeds() {
        for damage in Damage::all(&store.folder, &store.sessions, &mut { seed }) {
            match store.judge(&damage, Faults::default()) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(why) => wrong.push(why),
            }
        }
    }
    println!("{outcomes:?}");
    assert!(wrong.is_empty(), "{} beside {outcomes:?}:\n{}", wrong.len(), wrong.join("\n"));
    for outcome in [Outcome::Refused, Outcome::Harmless, Outcome::Named, Outcome::Cut] {
        assert!(outcomes.contains_key(&outcome), "{outcome:?} never comes");
    }
}

#[test]
fn planted_faults_are_caught() {
    let mut store = Pristine::new();
    let all = Damage::all(&store.folder, &store.sessions, &mut 1);
    for fault in Fault::of(Layer::Damage) {
        let caught = all.iter().any(|damage| store.judge(damage, Faults::plant(fault)).is_err());
        assert!(caught, "{fault:?} is not noticed");
    }
}

#[test]
fn what_cannot_be_told_is_an_earlier_state() {
    let store = Pristine::new();
    let (live, segment) = &store.live;
    let seen = |folder: &Folder| seen_in(folder).expect("an earlier state is sound");
    // The last file put back as it was once, with all that came later in it gone.
    let earlier = store.sessions.last().expect("there are sessions");
    let mut folder = store.folder.clone();
    folder.insert(live.clone(), earlier[live].clone());
    assert_eq!(seen(&folder).facts, seen(earlier).facts);
    // The last file gone: the log ends with the file before it.
    folder.remove(live);
    let without = disk_of(&folder);
    let stepped = store::open(Arc::new(without), store::STORE, Faults::default()).expect("opens");
    assert_eq!(stepped.report().end, segment.header.first);
    // Zeros over the end: the last commit and the mark of the clean stop.
    let [.., last, _mark] = &segment.frames[..] else { panic!("too few frames") };
    let mut folder = store.folder.clone();
    folder.get_mut(live).expect("it is there")[last.offset..].fill(0);
    let zeroed = disk_of(&folder);
    let stepped = store::open(Arc::new(zeroed), store::STORE, Faults::default()).expect("opens");
    assert_eq!((stepped.report().end, stepped.report().clean), (last.head.position, false));
}

#[test]
fn a_log_without_its_beginning_is_refused() {
    let store = Pristine::new();
    let mut folder = store.folder.clone();
    folder.pop_first();
    let options = LogOptions { segment_bytes: store::SEGMENT_BYTES, ..LogOptions::new(store::STORE) };
    // Whatever its frames say: here nobody looks at them.
    let files = Arc::new(disk_of(&folder));
    let opened = Log::open(files, options, None, Now::default(), Box::new(|| 1), &mut |_| Ok(()));
    let error = opened.err().expect("the first file is missing");
    assert_eq!(error.reason(), Reason::Corrupt);
}

#[test]
fn damage_to_what_names_the_store_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(Store::open(folder.path(), 5, &mut || 7).expect("an empty folder opens"));
    std::fs::create_dir(folder.path().join("log")).expect("made");
    let path = folder.path().join("STORE");
    let sound = std::fs::read(&path).expect("read");
    let mut all = vec![Vec::new(), sound[..sound.len() - 1].to_vec(), [&sound[..], b"x"].concat()];
    all.extend((0..sound.len() * 8).map(|bit| {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    }));
    for damaged in all {
        std::fs::write(&path, &damaged).expect("written");
        let error = Store::open(folder.path(), 9, &mut || 8).expect_err("damaged");
        assert_eq!(error.reason(), Reason::DataDirectory, "{damaged:?}");
        assert_eq!(std::fs::read(&path).expect("read"), damaged, "refused and left as it is");
    }
    std::fs::remove_file(&path).expect("removed");
    let error = Store::open(folder.path(), 9, &mut || 8).expect_err("a log without STORE is not taken over");
    assert_eq!(error.reason(), Reason::DataDirectory);
    assert!(!path.exists());
}
