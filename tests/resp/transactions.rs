//! MULTI and EXEC as others see them: as a whole, once, and whoever asked for it is gone or not.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::servers::Synapse;

/// The number in the only field of the last entry; 0 where there is none.
fn last_number(reply: &str) -> u64 {
    reply.trim_end().rsplit("\r\n").next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[test]
fn others_see_all_of_a_transaction_or_nothing() {
    let synapse = Synapse::start();
    let port = synapse.port();
    let writer = std::thread::spawn(move || {
        let mut client = Client::connect(port);
        for n in 1..=400 {
            let text = format!("MULTI\r\nXADD a * n {n}\r\nXTRIM a MAXLEN 5\r\nXADD b * n {n}\r\nEXEC\r\n");
            client.send(text.as_bytes());
            (0..5).for_each(|_| drop(client.reply()));
        }
    });
    let mut reader = Client::connect(port);
    let (mut seen, mut looks) = (0, 0);
    while seen < 400 {
        let text = "XREVRANGE a + - COUNT 1\r\nXREVRANGE b + - COUNT 1\r\nXREVRANGE a + - COUNT 1\r\n";
        reader.send(text.as_bytes());
        let first = last_number(&reader.reply());
        let (second, third) = (last_number(&reader.reply()), last_number(&reader.reply()));
        assert!(first <= second && second <= third, "{first} {second} {third}");
        reader.send(b"MULTI\r\nXREVRANGE a + - COUNT 1\r\nXADD other * n 1\r\nXREVRANGE b + - COUNT 1\r\nEXEC\r\n");
        (0..4).for_each(|_| drop(reader.reply()));
        let both = reader.reply();
        let (one, other) = both.split_at(both.rfind("*1\r\n*2").unwrap_or(0));
        let one = &one[..one.rfind("\r\n$").unwrap_or(0)];
        assert_eq!(last_number(one.trim_end()), last_number(other), "{both}");
        (seen, looks) = (third, looks + 1);
    }
    writer.join().expect("writes");
    assert!(looks > 5, "{looks} looks");
}

#[test]
fn readers_are_woken_by_what_a_transaction_leaves() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    writer.ask("XADD s 1-0 a 1");
    writer.ask("XGROUP CREATE t g $ MKSTREAM");
    let (mut reader, mut worker) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
    reader.send(b"XREAD BLOCK 5000 STREAMS s $\r\n");
    worker.send(b"XREADGROUP GROUP g w BLOCK 5000 STREAMS t >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    for n in 2..30 {
        let text = format!("MULTI\r\nXADD s {n}-0 a 1\r\nDEL s\r\nXADD t {n}-0 a 1\r\nXDEL t {n}-0\r\nEXEC\r\n");
        writer.send(text.as_bytes());
        (0..6).for_each(|_| drop(writer.reply()));
    }
    let began = Instant::now();
    writer.send(b"MULTI\r\nXADD s 99-0 a 1\r\nXADD t 99-0 a 1\r\nXADD t 99-1 a 1\r\nXADD s 99-1 a 1\r\nEXEC\r\n");
    (0..6).for_each(|_| drop(writer.reply()));
    let entry = |id: &str| format!("*2\r\n$4\r\n{id}\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    let both = |key: &str| format!("*1\r\n*2\r\n$1\r\n{key}\r\n*2\r\n{}{}", entry("99-0"), entry("99-1"));
    assert_eq!(reader.reply(), both("s"), "all of it at once, and nothing of what was gone again");
    assert_eq!(worker.reply(), both("t"));
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
}

#[test]
fn a_transaction_takes_what_is_there_before_those_who_wait() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    writer.ask("XGROUP CREATE t g $ MKSTREAM");
    let mut worker = Client::connect(synapse.port());
    worker.send(b"XREADGROUP GROUP g w BLOCK 5000 STREAMS t >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let take = "XREADGROUP GROUP g me COUNT 2 STREAMS t >";
    let text = format!("MULTI\r\nXADD t 1-0 a 1\r\nXADD t 2-0 a 1\r\nXADD t 3-0 a 1\r\n{take}\r\nEXEC\r\n");
    writer.send(text.as_bytes());
    (0..5).for_each(|_| drop(writer.reply()));
    let done = writer.reply();
    assert!(done.contains("1-0\r\n*2") && done.contains("2-0\r\n*2") && !done.contains("3-0\r\n*2"), "{done}");
    let rest = worker.reply();
    assert!(rest.contains("3-0") && !rest.contains("2-0"), "{rest}");
    assert!(writer.ask("XREADGROUP GROUP g me STREAMS t >").starts_with("*-1"));
}

#[test]
fn a_transaction_ends_whoever_asked_for_it() {
    let synapse = Synapse::start();
    for n in 1..=100 {
        let mut client = Client::connect(synapse.port());
        let text = format!("MULTI\r\nXADD a * n {n}\r\nXADD b * n {n}\r\nXADD c * n {n}\r\nEXEC\r\n");
        client.send(text.as_bytes());
        if n % 2 == 0 {
            (0..5).for_each(|_| drop(client.reply()));
        }
    }
    let mut reader = Client::connect(synapse.port());
    std::thread::sleep(Duration::from_millis(200));
    let numbers = |reply: String| -> Vec<String> {
        let words: Vec<&str> = reply.split("\r\n").collect();
        words.windows(3).filter(|w| w[0] == "n").map(|w| w[2].to_owned()).collect()
    };
    let mut all = ["a", "b", "c"].map(|key| numbers(reader.ask(&format!("XRANGE {key} - +"))));
    all.iter_mut().for_each(|numbers| numbers.sort());
    assert!(all[0].len() >= 50, "{} were done", all[0].len());
    assert!(all[0] == all[1] && all[1] == all[2], "{all:?}");
}

#[test]
fn a_transaction_that_is_too_large_does_nothing() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    client.ask("MULTI");
    let value = "x".repeat(1 << 19);
    let add = format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nn\r\n${}\r\n{value}\r\n", value.len());
    (0..14).for_each(|_| client.send(add.as_bytes()));
    let replies: Vec<String> = (0..14).map(|_| client.reply()).collect();
    assert_eq!(replies[12], "+QUEUED\r\n");
    assert_eq!(replies[13], "-ERR the transaction is larger than 7 MiB, which is what one commit takes\r\n");
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(client.ask("EXISTS s"), ":0\r\n");
    client.ask("MULTI");
    (0..13).for_each(|_| client.send(add.as_bytes()));
    (0..13).for_each(|_| drop(client.reply()));
    assert!(client.ask("EXEC").starts_with("*13\r\n$"));
    assert_eq!(client.ask("XLEN s"), ":13\r\n");
}

#[test]
fn a_transaction_that_would_hold_up_others_does_nothing() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let adds: String = (0..2_000).map(|n| format!("XADD s-{n} * n 1\r\n")).collect();
    client.send(adds.as_bytes());
    (0..2_000).for_each(|_| assert!(client.reply().starts_with('$')));
    let adds: String = (0..10_000).map(|_| "XADD long * n 1\r\n").collect();
    client.send(adds.as_bytes());
    (0..10_000).for_each(|_| assert!(client.reply().starts_with('$')));
    let mut run = |commands: &str, times: usize| {
        client.send(format!("MULTI\r\nXADD done * n 1\r\n{}EXEC\r\n", commands.repeat(times)).as_bytes());
        (0..times + 2).for_each(|_| drop(client.reply()));
        (client.reply(), client.ask("XLEN done"))
    };
    for (command, times) in [
        ("KEYS zz*\r\n", 40_000),
        ("SCAN 0 COUNT 1\r\n", 2_000),
        ("DBSIZE\r\n", 2_000),
        ("XRANGE long - +\r\n", 100),
        ("XREAD STREAMS long 0\r\n", 100),
        ("XREVRANGE long + - COUNT 5000\r\n", 200),
    ] {
        let began = Instant::now();
        let (reply, done) = run(command, times);
        assert!(reply.starts_with("-EXECABORT") && reply.contains("200 ms is the most"), "{command}: {reply}");
        assert_eq!(done, ":0\r\n", "{command}");
        assert!(began.elapsed() < Duration::from_secs(5), "{command}: it is refused before it is run");
    }
    for (n, (command, times)) in
        [("KEYS zz\r\n", 10_000), ("XLEN long\r\n", 10_000), ("XRANGE long - + COUNT 10\r\n", 1_000)]
            .into_iter()
            .enumerate()
    {
        let (reply, done) = run(command, times);
        assert!(reply.starts_with(&format!("*{}\r\n", times + 1)), "{command}: {}", &reply[..100.min(reply.len())]);
        assert_eq!(done, format!(":{}\r\n", n + 1), "{command}");
    }
}

#[test]
fn a_renamed_key_ends_the_waits_of_its_groups_and_serves_who_waits_for_its_new_name() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    writer.ask("XGROUP CREATE from g $ MKSTREAM");
    writer.ask("XADD to 1-0 a 1");
    let (mut reader, mut worker) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
    reader.send(b"XREAD BLOCK 5000 STREAMS to $\r\n");
    worker.send(b"XREADGROUP GROUP g w BLOCK 5000 STREAMS from >\r\n");
    std::thread::sleep(Duration::from_millis(200));
    writer.ask("XADD other 5-0 a 1");
    assert_eq!(writer.ask("RENAME other to"), "+OK\r\n");
    assert!(reader.reply().contains("5-0"));
    assert_eq!(writer.ask("RENAME from elsewhere"), "+OK\r\n");
    assert!(worker.reply().starts_with("-NOGROUP No such key 'from'"));
}

#[test]
fn who_waits_in_a_group_whose_stream_is_replaced_by_a_renamed_one_is_served_by_that_where_it_has_the_group() {
    let synapse = Synapse::start();
    let mut writer = Client::connect(synapse.port());
    for steps in [&["RENAME from to"][..], &["MULTI", "RENAME from to", "EXEC"]] {
        writer.ask("FLUSHALL");
        writer.ask("XGROUP CREATE to g $ MKSTREAM");
        writer.ask("XGROUP CREATE to h $");
        let (mut one, mut other) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
        one.send(b"XREADGROUP GROUP g one BLOCK 5000 STREAMS to >\r\n");
        other.send(b"XREADGROUP GROUP h other BLOCK 5000 STREAMS to >\r\n");
        let patience = Duration::from_millis(200);
        assert_eq!(one.reply_within(patience), None);
        writer.ask("XGROUP CREATE from g $ MKSTREAM");
        writer.ask("XADD from 5-0 a 1");
        steps.iter().for_each(|step| drop(writer.ask(step)));
        assert!(one.reply().contains("5-0"), "{steps:?}");
        assert!(other.reply().starts_with("-NOGROUP No such key 'to' or consumer group 'h'"), "{steps:?}");
        assert!(writer.ask("XPENDING to g").contains("one"));
    }
}
