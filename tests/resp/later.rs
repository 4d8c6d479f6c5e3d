//! What Redis 8 added to streams, by its documentation: the one beside us knows nothing of it.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::servers::Synapse;

/// The first parts of the ids in a reply, which are small and stand before `-0`.
fn numbers(reply: &str) -> Vec<u64> {
    reply.split("\r\n").filter_map(|word| word.strip_suffix("-0")?.parse().ok()).collect()
}

/// The entries of `s`.
fn left(client: &mut Client) -> Vec<u64> {
    numbers(&client.ask("XRANGE s - +"))
}

/// What a group of `s` has pending.
fn pending(client: &mut Client, group: &str) -> Vec<u64> {
    numbers(&client.ask(&format!("XPENDING s {group} - + 10000")))
}

/// Entries 1 to `count` in `s`, of which group `g` was given some.
fn begin(client: &mut Client, count: u64, given: u64) {
    (1..=count).for_each(|n| drop(client.ask(&format!("XADD s {n}-0 n {n}"))));
    client.ask("XGROUP CREATE s g 0");
    client.ask(&format!("XREADGROUP GROUP g alice COUNT {given} STREAMS s >"));
}

#[test]
fn a_trim_takes_entries_out_of_what_is_pending() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    begin(&mut client, 10, 8);
    client.ask("XGROUP CREATE s h 0");
    client.ask("XREADGROUP GROUP h bob COUNT 3 STREAMS s >");
    client.ask("XACK s g 2-0");
    client.ask("XDEL s 1-0");
    assert_eq!(client.ask("XTRIM s MAXLEN = 6 DELREF"), ":3\r\n");
    assert_eq!(left(&mut client), [5, 6, 7, 8, 9, 10]);
    assert_eq!(pending(&mut client, "g"), [1, 5, 6, 7, 8], "only what this trim took");
    assert_eq!(pending(&mut client, "h"), [1]);
    assert_eq!(client.ask("XTRIM s KEEPREF MINID 6"), ":1\r\n");
    assert_eq!(pending(&mut client, "g"), [1, 5, 6, 7, 8]);
    assert_eq!(client.ask("XTRIM s DELREF MAXLEN ~ 2 LIMIT 2"), ":2\r\n");
    assert_eq!((left(&mut client), pending(&mut client, "g")), (vec![8, 9, 10], vec![1, 5, 8]));
    assert_eq!(client.ask("XADD s DELREF MAXLEN ~ 2 11-0 n 11"), "$4\r\n11-0\r\n");
    assert_eq!((left(&mut client), pending(&mut client, "g")), (vec![10, 11], vec![1, 5]));
    let info = client.ask("XINFO STREAM s");
    assert!(info.contains("max-deleted-entry-id\r\n$3\r\n1-0\r\n"), "{info}");
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        begin(&mut client, 10, 8);
        client.ask("XTRIM s MINID 4 DELREF");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!(left(&mut client), [4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(pending(&mut client, "g"), [4, 5, 6, 7, 8]);
        assert!(client.ask("XINFO CONSUMERS s g").contains("pending\r\n:5\r\n"));
    }
}

#[test]
fn a_trim_leaves_what_groups_need_and_goes_on_behind_it() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        begin(&mut client, 12, 9);
        client.ask("XACK s g 1-0 3-0 4-0 7-0 8-0");
        assert_eq!(client.ask("XTRIM s MAXLEN 9 ACKED"), ":3\r\n", "2 is pending, and stays");
        assert_eq!(left(&mut client), [2, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(client.ask("XTRIM s MINID ~ 99 ACKED LIMIT 1"), ":1\r\n");
        assert_eq!(client.ask("XTRIM s MINID = 99 ACKED"), ":1\r\n", "10 and on are not delivered yet");
        assert_eq!(left(&mut client), [2, 5, 6, 9, 10, 11, 12]);
        let info = client.ask("XINFO STREAM s");
        assert!(info.contains("max-deleted-entry-id\r\n$3\r\n0-0\r\n"), "{info}");
        assert!(info.contains("entries-added\r\n:12\r\n") && info.contains("length\r\n:7\r\n"), "{info}");
        client.ask("XACK s g 2-0 5-0");
        assert_eq!(client.ask("XADD s ACKED MAXLEN 2 13-0 n 13"), "$4\r\n13-0\r\n");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!(left(&mut client), [6, 9, 10, 11, 12, 13]);
        assert_eq!(pending(&mut client, "g"), [6, 9]);
        let info = client.ask("XINFO STREAM s");
        assert!(info.contains("max-deleted-entry-id\r\n$3\r\n0-0\r\n"), "{info}");
        assert!(client.ask("XINFO GROUPS s").contains("lag\r\n:4\r\n"));
        client.ask("XGROUP DESTROY s g");
        assert_eq!(client.ask("XTRIM s ACKED MAXLEN 0"), ":6\r\n", "without groups nothing is needed");
        assert_eq!(client.ask("XTRIM missing ACKED MAXLEN 0"), ":0\r\n");
    }
}

#[test]
fn a_long_trim_goes_on_over_many_batches() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let text: String = (1..=5000).map(|n| format!("XADD s {n}-0 n {n}\r\n")).collect();
    client.send(text.as_bytes());
    (1..=5000).for_each(|_| drop(client.reply()));
    client.ask("XGROUP CREATE s g 0");
    while client.ask("XREADGROUP GROUP g alice STREAMS s >") != "*-1\r\n" {}
    let kept: Vec<u64> = (1..=5000).filter(|n| n % 1000 == 1).collect();
    for first in kept.iter().map(|n| n + 1) {
        let ids: String = (first..first + 999).map(|n| format!(" {n}-0")).collect();
        assert_eq!(client.ask(&format!("XACK s g{ids}")), ":999\r\n");
    }
    client.ask("MULTI");
    client.ask("XTRIM s MAXLEN 3000 ACKED");
    client.ask("XTRIM s MAXLEN 3000 DELREF");
    client.ask("XADD s 6000-0 n 6000");
    assert_eq!(client.ask("EXEC"), "*3\r\n:2000\r\n:0\r\n$6\r\n6000-0\r\n");
    assert_eq!(client.ask("XTRIM s MINID 7000 ACKED"), ":2995\r\n");
    assert_eq!(left(&mut client), [kept.clone(), vec![6000]].concat());
    assert_eq!(pending(&mut client, "g"), kept);
    assert_eq!(client.ask("XTRIM s MAXLEN 1 DELREF"), ":5\r\n");
    assert_eq!((left(&mut client), pending(&mut client, "g")), (vec![6000], vec![]));
}

#[test]
fn a_policy_is_named_once() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for wrong in ["XTRIM s MAXLEN 3 ACKED KEEPREF", "XADD s DELREF MAXLEN 3 DELREF * a 1", "XTRIM s ACKED 3 1"] {
        assert_eq!(client.ask(wrong), "-ERR syntax error\r\n", "{wrong}");
    }
    assert_eq!(client.ask("XADD s ACKED 1-0 a 1"), "$3\r\n1-0\r\n", "of no use without a trim");
    assert_eq!(client.ask("XADD s delref nomkstream maxlen 0 2-0 a 1"), "$3\r\n2-0\r\n");
    assert_eq!(client.ask("XLEN s"), ":0\r\n");
    assert!(
        client.ask("XTRIM s MAXLEN 3 LIMIT 2 ACKED").starts_with("-ERR syntax error, LIMIT cannot be used without")
    );
}

/// The entries of a reply with what is told behind each: how long it was idle, and how often it was delivered.
fn claimed(reply: &str) -> Vec<(u64, u64, i64)> {
    let mut all = Vec::new();
    let mut words = reply.split("\r\n");
    while let Some(word) = words.next() {
        let Some(id) = word.strip_suffix("-0").and_then(|id| id.parse().ok()) else { continue };
        let mut told = words.by_ref().skip_while(|word| !word.starts_with(':')).map(|word| &word[1..]);
        let idle = told.next().and_then(|idle| idle.parse().ok()).expect("how long it was idle");
        all.push((id, idle, told.next().and_then(|count| count.parse().ok()).expect("how often")));
    }
    all
}

/// The same without times.
fn counts(reply: &str) -> Vec<(u64, i64)> {
    claimed(reply).into_iter().map(|(id, _, count)| (id, count)).collect()
}

fn wait_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_reader_takes_over_what_others_hold_for_long() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    begin(&mut client, 6, 3);
    let entry = |n: u64| format!("*4\r\n$3\r\n{n}-0\r\n*2\r\n$1\r\nn\r\n$1\r\n{n}\r\n:0\r\n:0\r\n");
    let reply = client.ask("XREADGROUP GROUP g bob COUNT 2 CLAIM 100000 STREAMS s >");
    assert_eq!(reply, format!("*1\r\n*2\r\n$1\r\ns\r\n*2\r\n{}{}", entry(4), entry(5)), "new ones only");
    wait_ms(600);
    client.ask("XCLAIM s g alice 0 2-0");
    client.ask("XDEL s 3-0");
    let reply = client.ask("XREADGROUP GROUP g carol CLAIM 500 COUNT 4 STREAMS s >");
    assert_eq!(counts(&reply), [(1, 1), (4, 1), (5, 1), (6, 0)], "2 was claimed just now, 3 is gone: {reply}");
    assert!(claimed(&reply)[..3].iter().all(|(_, idle, _)| (500..50_000).contains(idle)), "{reply}");
    assert_eq!(pending(&mut client, "g"), [1, 2, 3, 4, 5, 6]);
    let held = |client: &mut Client, who: &str| numbers(&client.ask(&format!("XPENDING s g - + 10 {who}")));
    assert_eq!((held(&mut client, "carol"), held(&mut client, "alice")), (vec![1, 4, 5, 6], vec![2, 3]));
    assert!(held(&mut client, "bob").is_empty());
    assert_eq!(client.ask("XREADGROUP GROUP g dave CLAIM 50000 STREAMS s >"), "*-1\r\n");
    wait_ms(30);
    client.ask("XCLAIM s g alice 0 4-0 IDLE 25");
    client.ask("XADD s 7-0 n 7");
    let reply = client.ask("XREADGROUP GROUP g dave NOACK CLAIM 20 STREAMS s >");
    assert_eq!(counts(&reply), [(2, 2), (1, 2), (5, 2), (6, 1), (4, 3), (7, 0)], "oldest first: {reply}");
    assert_eq!(pending(&mut client, "g"), [1, 2, 3, 4, 5, 6], "NOACK is about new ones");
    assert_eq!(held(&mut client, "dave"), [1, 2, 4, 5, 6]);
    assert!(client.ask("XINFO CONSUMERS s g").contains("dave\r\n$7\r\npending\r\n:5\r\n"));
}

#[test]
fn taking_over_is_an_option_of_new_entries_only() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    begin(&mut client, 3, 2);
    client.ask("XADD t 1-0 n 1");
    client.ask("XGROUP CREATE t g 0");
    client.ask("XREADGROUP GROUP g alice STREAMS t >");
    let reply = client.ask("XREADGROUP GROUP g bob CLAIM 0 STREAMS s t 0 >");
    assert_eq!(reply, "*1\r\n*2\r\n$1\r\ns\r\n*0\r\n", "bob has no history, and nothing is taken over behind it");
    let reply = client.ask("XREADGROUP GROUP g bob CLAIM 0 STREAMS t s > 0");
    assert_eq!((counts(&reply), reply.ends_with("$1\r\ns\r\n*0\r\n")), (vec![(1, 1)], true), "{reply}");
    let reply = client.ask("XREADGROUP GROUP g bob CLAIM 100 CLAIM 0 COUNT 3 STREAMS s t > >");
    assert_eq!(counts(&reply), [(1, 1), (2, 1), (3, 0), (1, 2)], "the last one counts, and COUNT is by stream");
    client.ask("XGROUP SETID s g 0");
    let reply = client.ask("XREADGROUP GROUP g bob CLAIM 0 STREAMS s >");
    assert_eq!(counts(&reply), [(1, 2), (2, 2), (3, 1)], "each once: {reply}");
    client.ask("HELLO 3");
    let reply = client.ask("XREADGROUP GROUP g bob CLAIM 0 COUNT 1 STREAMS s >");
    assert!(reply.starts_with("%1\r\n$1\r\ns\r\n*1\r\n*4\r\n"), "{reply}");
    client.ask("MULTI");
    client.ask("XADD s 4-0 n 4");
    client.ask("XREADGROUP GROUP g eve CLAIM 0 COUNT 4 STREAMS s >");
    let reply = client.ask("EXEC");
    assert_eq!(counts(&reply[reply.find('%').expect("the second reply")..]), [(2, 3), (3, 2), (1, 4), (4, 0)]);
    for (wrong, why) in [
        ("XREADGROUP GROUP g bob CLAIM -1 STREAMS s >", "min-idle-time must be a positive integer"),
        ("XREADGROUP GROUP g bob CLAIM x STREAMS s >", "min-idle-time is not an integer or out of range"),
        ("XREAD CLAIM 1 STREAMS s 0", "The CLAIM option is only supported by XREADGROUP. You called XREAD instead."),
    ] {
        assert_eq!(client.ask(wrong), format!("-ERR {why}\r\n"));
    }
}

#[test]
fn who_waits_gets_what_others_hold_once_they_hold_it_for_long() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let began = Instant::now();
    begin(&mut client, 2, 2);
    let mut plain = Client::connect(synapse.port());
    plain.send(b"XREADGROUP GROUP g plain BLOCK 10000 STREAMS s >\r\n");
    wait_ms(50);
    let mut late = Client::connect(synapse.port());
    late.send(b"XREADGROUP GROUP g late BLOCK 10000 CLAIM 9000 STREAMS s >\r\n");
    let mut bob = Client::connect(synapse.port());
    bob.send(b"XREADGROUP GROUP g bob BLOCK 10000 CLAIM 400 COUNT 1 STREAMS other s > >\r\n");
    assert!(bob.reply().starts_with("-NOGROUP"));
    client.ask("XGROUP CREATE other g 0 MKSTREAM");
    bob.send(b"XREADGROUP GROUP g bob BLOCK 10000 CLAIM 400 COUNT 1 STREAMS other s > >\r\n");
    let reply = bob.reply();
    assert_eq!(counts(&reply), [(1, 1)]);
    assert!((400..3000).contains(&began.elapsed().as_millis()), "after {:?}", began.elapsed());
    assert_eq!(counts(&bob.ask("XREADGROUP GROUP g bob BLOCK 10000 CLAIM 400 STREAMS s >"))[0], (2, 1));
    let none = bob.ask("XREADGROUP GROUP g bob BLOCK 50 CLAIM 100000 STREAMS s >");
    assert_eq!(none, "*-1\r\n", "waits no longer than told");
    assert!(
        plain.reply_within(Duration::from_millis(50)).is_none()
            && late.reply_within(Duration::from_millis(10)).is_none()
    );
    client.ask("XNACK s g FAIL IDS 1 2-0");
    assert_eq!(counts(&late.reply()), [(2, 2)], "what is given back is there at once");
    client.ask("XADD s 3-0 n 3");
    assert_eq!(numbers(&plain.reply()), [3]);
}

#[test]
fn what_is_given_back_is_nobodys_and_comes_first() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        begin(&mut client, 8, 6);
        client.ask("XREADGROUP GROUP g alice STREAMS s 0");
        assert_eq!(client.ask("XNACK s g SILENT IDS 2 5-0 8-0"), ":1\r\n", "8 is not pending");
        assert_eq!(client.ask("XNACK s g FAIL IDS 2 2-0 1-0"), ":2\r\n");
        assert_eq!(client.ask("XNACK s g FATAL IDS 1 3-0"), ":1\r\n");
        assert_eq!(client.ask("XNACK s g SILENT IDS 1 5-0 FORCE RETRYCOUNT 7"), ":1\r\n", "to the end once more");
        assert_eq!(client.ask("XNACK s g SILENT IDS 2 8-0 9-0 FORCE"), ":1\r\n", "9 does not exist");
        let list = client.ask("XPENDING s g - + 10");
        let nobodys = |n: u64, count: i64| format!("*4\r\n$3\r\n{n}-0\r\n$0\r\n\r\n:-1\r\n:{count}\r\n");
        let all: String = [(1, 2), (2, 2), (3, i64::MAX)].iter().map(|(n, count)| nobodys(*n, *count)).collect();
        assert!(list.starts_with(&format!("*7\r\n{all}")), "{list}");
        assert!(list.contains(&nobodys(5, 7)) && list.ends_with(&nobodys(8, 0)), "{list}");
        assert_eq!(numbers(&client.ask("XPENDING s g IDLE 1000000 - + 10")), [1, 2, 3, 5, 8], "whatever is asked for");
        let summary = client.ask("XPENDING s g");
        assert_eq!(summary, "*4\r\n:7\r\n$3\r\n1-0\r\n$3\r\n8-0\r\n*1\r\n*2\r\n$5\r\nalice\r\n$1\r\n2\r\n");
        assert_eq!(numbers(&client.ask("XREADGROUP GROUP g alice STREAMS s 0")), [4, 6]);
        assert!(client.ask("XINFO STREAM s FULL").contains("pel-count\r\n:7\r\n$12\r\nnacked-count\r\n:5\r\n"));
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        let list = client.ask("XPENDING s g - + 10");
        assert!(list.starts_with(&format!("*7\r\n{all}")) && list.contains(&nobodys(5, 7)), "{list}");
        assert_eq!(numbers(&client.ask("XREADGROUP GROUP g bob STREAMS s >")), [7, 8], "8 had not been delivered");
        let reply = client.ask("XREADGROUP GROUP g bob COUNT 3 CLAIM 100000 STREAMS s >");
        assert_eq!(counts(&reply), [(2, 2), (1, 2), (3, i64::MAX)], "in the order in which they were given back");
        assert!(claimed(&reply).iter().all(|(_, idle, _)| *idle > 1_600_000_000_000), "since 1970: {reply}");
        assert!(client.ask("XINFO CONSUMERS s g").contains("bob\r\n$7\r\npending\r\n:5\r\n"));
        assert_eq!(numbers(&client.ask("XCLAIM s g carol 100000 4-0 5-0")), [5]);
        assert!(client.ask("XPENDING s g 5-0 5-0 1").ends_with(":8\r\n"));
        client.ask("XNACK s g FAIL IDS 2 4-0 6-0");
        assert_eq!(numbers(&client.ask("XAUTOCLAIM s g carol 100000 - COUNT 1")), [5, 4]);
        assert_eq!(client.ask("XACK s g 6-0"), ":1\r\n");
        assert!(!client.ask("XINFO STREAM s FULL").contains("nacked-count"));
        assert_eq!(pending(&mut client, "g"), [1, 2, 3, 4, 5, 7, 8]);
    }
}

#[test]
fn what_is_given_back_wrongly_is_refused_as_a_whole() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    begin(&mut client, 2, 2);
    for (wrong, why) in [
        ("XNACK s g FAIL IDS 2 1-0 x", "ERR Invalid stream ID specified as stream command argument"),
        ("XNACK s g FAIL IDS 2 1-0", "ERR The `numids` parameter must match the number of arguments"),
        ("XNACK s g FAIL IDS 0 1-0", "ERR Number of IDs must be a positive integer"),
        ("XNACK s g LATER IDS 1 1-0", "ERR syntax error"),
        ("XNACK s g FAIL IDS 1 1-0 2-0", "ERR syntax error"),
        ("XNACK s g FAIL IDS 1 1-0 RETRYCOUNT", "ERR syntax error"),
        ("XNACK s g FAIL", "ERR wrong number of arguments for 'xnack' command"),
        ("XNACK s missing FAIL IDS 1 1-0", "NOGROUP No such key 's' or consumer group 'missing'"),
        ("XNACK missing g FAIL IDS 1 1-0 FORCE", "NOGROUP No such key 'missing' or consumer group 'g'"),
    ] {
        assert_eq!(client.ask(wrong), format!("-{why}\r\n"), "{wrong}");
    }
    assert!(client.ask("XINFO CONSUMERS s g").contains("pending\r\n:2\r\n"));
}
