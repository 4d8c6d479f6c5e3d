//! Readers of groups over connections that go away, and waits that end: first deliveries keep their order.
//!
//! `SYNAPSE_UNGRANTED_WAITS` says how many waits end; 10,000 is the long form.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use synapse::types::{GroupName, GroupSettings, StreamName};

use crate::client::Client;
use crate::servers::Synapse;

const STREAMS: [&str; 3] = ["a", "b", "c"];

/// Ids that were delivered, by stream, in the order of a reply.
fn delivered(reply: &str) -> Vec<(String, String)> {
    let (mut stream, mut found) = (String::new(), Vec::new());
    for line in reply.split("\r\n") {
        if STREAMS.contains(&line) {
            stream = line.into();
        } else if line.split_once('-').is_some_and(|(ms, seq)| ms.parse::<u64>().is_ok() && seq.parse::<u64>().is_ok())
        {
            found.push((stream.clone(), line.into()));
        }
    }
    found
}

fn number(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').expect("an id");
    (ms.parse().expect("a number"), seq.parse().expect("a number"))
}

#[derive(Default)]
struct Seen {
    got: Mutex<BTreeMap<(String, String), usize>>,
    ended: AtomicUsize,
    is_over: AtomicBool,
}

fn read(port: u16, me: usize, seen: &Seen) {
    let mut client = Client::connect(port);
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut round = me;
    while !seen.is_over.load(Ordering::Relaxed) {
        round += 1;
        let streams = if round.is_multiple_of(3) { STREAMS[round % 2..=round % 2].to_vec() } else { STREAMS.to_vec() };
        let ids = vec![">"; streams.len()].join(" ");
        let (count, wait) = (1 + round % 3, 1 + round % 4);
        let line = format!("XREADGROUP GROUP g c{me} COUNT {count} BLOCK {wait} STREAMS {} {ids}", streams.join(" "));
        if me % 2 == 1 && round.is_multiple_of(5) {
            // One that goes away without having read its reply: what it may have been given is nobody else's.
            let mut gone = Client::connect(port);
            gone.send(format!("{}\r\n", line.replace(&format!(" c{me} "), &format!(" gone{me} "))).as_bytes());
            std::thread::sleep(Duration::from_micros(200 * (round as u64 % 7)));
            drop(gone);
            seen.ended.fetch_add(1, Ordering::Relaxed);
        }
        let found = delivered(&client.ask(&line));
        if found.is_empty() {
            seen.ended.fetch_add(1, Ordering::Relaxed);
        }
        for (stream, id) in found {
            let before = last.insert(stream.clone(), number(&id));
            assert!(before < Some(number(&id)), "{stream}: {before:?} before {id}");
            *seen.got.lock().expect("no panic").entry((stream, id)).or_default() += 1;
        }
    }
}

#[test]
fn a_group_that_may_have_no_more_pending_entries_says_so() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    client.ask("XGROUP CREATE s g 0 MKSTREAM");
    let names = (StreamName::parse("s").expect("a name"), GroupName::parse("g").expect("a name"));
    let settings = GroupSettings { pending_max: 2, ..GroupSettings::by_hand() };
    futures::executor::block_on(synapse.engine().update_group(&names.0, &names.1, settings)).expect("changes");
    for n in 1..=4 {
        client.ask(&format!("XADD s {n}-0 f v"));
    }
    assert!(client.ask("XREADGROUP GROUP g c STREAMS s >").contains("2-0"));
    for line in ["XREADGROUP GROUP g c STREAMS s >", "XREADGROUP GROUP g c BLOCK 20 STREAMS s >"] {
        let told = client.ask(line);
        assert!(told.starts_with("-ERR LIMIT_REACHED: group g has 2 pending entries"), "{told}");
    }
    // Redis has no such bound where nothing becomes pending.
    let given = client.ask("XREADGROUP GROUP g c NOACK STREAMS s >");
    assert!(given.contains("3-0") && given.contains("4-0"), "{given}");
    assert_eq!(client.ask("XREADGROUP GROUP g c STREAMS s >"), "*-1\r\n");
}

#[test]
fn first_deliveries_keep_their_order_over_connections_that_go_away() {
    let waits = std::env::var("SYNAPSE_UNGRANTED_WAITS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (synapse, seen) = (Synapse::start(), Seen::default());
    let mut writer = Client::connect(synapse.port());
    for name in STREAMS {
        writer.ask(&format!("XGROUP CREATE {name} g 0 MKSTREAM"));
    }
    let mut added = 0;
    std::thread::scope(|scope| {
        for me in 0..4 {
            let (port, seen) = (synapse.port(), &seen);
            scope.spawn(move || read(port, me, seen));
        }
        let until = Instant::now() + Duration::from_secs(300);
        while seen.ended.load(Ordering::Relaxed) < waits && Instant::now() < until {
            for name in STREAMS {
                writer.ask(&format!("XADD {name} * n {added}"));
            }
            added += 1;
            std::thread::sleep(Duration::from_micros(900));
        }
        // All that nobody was given comes yet.
        let is_done = |writer: &mut Client| {
            STREAMS.iter().all(|name| writer.ask(&format!("XINFO GROUPS {name}")).ends_with("$3\r\nlag\r\n:0\r\n"))
        };
        let until = Instant::now() + Duration::from_secs(30);
        while !is_done(&mut writer) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_done(&mut writer), "{}", writer.ask("XINFO GROUPS a"));
        std::thread::sleep(Duration::from_millis(50));
        seen.is_over.store(true, Ordering::Relaxed);
    });
    let got = seen.got.lock().expect("no panic");
    assert!(got.values().all(|times| *times == 1), "each came once as new");
    for name in STREAMS {
        // Nothing is pending that was given to nobody, and each was given once.
        let pending = writer.ask(&format!("XPENDING {name} g - + 1000000"));
        assert!(!pending.contains("$0\r\n\r\n"), "{name}: something is nobody's");
        let listed = pending.split("\r\n").filter(|line| line.contains('-') && line.parse::<i64>().is_err()).count();
        assert_eq!(listed, added, "{name}: each is pending with whoever was given it");
        let read = got.keys().filter(|(stream, _)| stream == name).count();
        let of_gone = pending.split("\r\n").filter(|line| line.starts_with("gone")).count();
        assert_eq!(read + of_gone, added, "{name}: what no reader got was given to one that went away");
    }
}
