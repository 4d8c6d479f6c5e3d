//! Requests that are added once: IDMP and IDMPAUTO of XADD, XCFGSET, and what XINFO tells of them.

use std::time::Duration;

use sha2::Digest;

use crate::client::Client;
use crate::servers::Synapse;

#[test]
fn a_request_with_a_name_is_added_once() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        assert_eq!(client.ask("XADD s NOMKSTREAM IDMP p one * n 1"), "$-1\r\n");
        let first = client.ask("XADD s IDMP p one * n 1");
        assert_eq!(client.ask("XADD s MAXLEN 0 IDMP p one * other 2"), first, "nothing is added, nor trimmed");
        let other = client.ask("XADD s IDMP q one * n 1");
        assert!(other != first && client.ask("XADD s idmp p two * n 1") != first);
        let auto = client.ask("XADD s IDMPAUTO p * a 1 b 2");
        assert_eq!(client.ask("XADD s IDMPAUTO p * b 2 a 1"), auto, "in whatever order");
        for differs in ["b 1 a 2", "a 1 b 2 b 2", "a1 b2", "a 12 b \"\""] {
            let added = client.ask(&format!("XADD s IDMPAUTO p * {differs}"));
            assert!(added != auto && added.starts_with('$'), "{differs}: {added}");
        }
        assert_eq!(client.ask("XLEN s"), ":8\r\n");
        client.ask(&format!("XDEL s {}", first.split("\r\n").nth(1).expect("an id")));
        assert_eq!(client.ask("XADD s IDMP p one * n 1"), first, "also where it was deleted");
        client.ask("MULTI");
        client.ask("XADD s IDMP p three * n 1");
        client.ask("XADD s IDMP p three * n 1");
        let both = client.ask("EXEC");
        let (_, ids) = both.split_once("\r\n").expect("two replies");
        let third = &ids[..ids.len() / 2];
        assert_eq!(ids, third.repeat(2));
        let text: String = (0..3).map(|n| format!("XADD s IDMP p piped{} * n 1\r\n", n / 2)).collect();
        client.send(text.as_bytes());
        let piped = [client.reply(), client.reply(), client.reply()];
        assert!(piped[0] == piped[1] && piped[1] != piped[2], "{piped:?}");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!(client.ask("XADD s IDMP p one * n 1"), first);
        assert_eq!(client.ask("XADD s IDMP q one * n 1"), other);
        assert_eq!(client.ask("XADD s IDMP p three * n 1"), third);
        assert_eq!(client.ask("XADD s IDMPAUTO p * a 1 b 2"), auto);
        assert_eq!(client.ask("XLEN s"), ":10\r\n");
    }
}

#[test]
fn names_are_remembered_as_a_stream_is_told() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        assert_eq!(client.ask("XCFGSET s IDMP-MAXSIZE 2"), "-ERR no such key\r\n");
        let named = |client: &mut Client, name: &str| client.ask(&format!("XADD s IDMP p {name} * n 1"));
        let first = named(&mut client, "one");
        assert_eq!(client.ask("XCFGSET s IDMP-MAXSIZE 100 IDMP-DURATION 100"), "+OK\r\n");
        assert_eq!(named(&mut client, "one"), first, "nothing was changed");
        assert_eq!(client.ask("XCFGSET s IDMP-MAXSIZE 2"), "+OK\r\n");
        let again = named(&mut client, "one");
        assert_ne!(again, first, "forgotten with the change");
        let two = named(&mut client, "two");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!((named(&mut client, "one"), named(&mut client, "two")), (again.clone(), two.clone()));
        let three = named(&mut client, "three");
        assert_ne!(named(&mut client, "one"), again, "the oldest of three");
        assert_eq!(named(&mut client, "three"), three);
        client.ask("XCFGSET s IDMP-DURATION 1");
        let short = named(&mut client, "short");
        assert_eq!(named(&mut client, "short"), short);
        std::thread::sleep(Duration::from_millis(1200));
        assert_ne!(named(&mut client, "short"), short, "after its time");
    }
}

/// A command whose arguments are too long for a line.
fn ask_long(client: &mut Client, args: &[&[u8]]) -> String {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        request.extend(format!("${}\r\n", arg.len()).bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    client.send(&request);
    client.reply()
}

#[test]
fn a_name_of_any_length_is_one_name() {
    let named = |client: &mut Client, producer: &[u8], name: &[u8]| {
        ask_long(client, &[b"XADD", b"s", b"IDMP", producer, name, b"*", b"n", b"1"])
    };
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        let long = vec![b'x'; 1 << 20];
        let names: [&[u8]; 5] = [&long[..255], &long[..256], &long[..257], &long, &[&long[1..], b"y"].concat()];
        let mut ids: Vec<String> = names.iter().map(|name| named(&mut client, b"p", name)).collect();
        ids.extend(names[1..].iter().map(|producer| named(&mut client, producer, b"n")));
        assert!(ids.iter().all(|id| id.starts_with('$')), "{ids:?}");
        assert_eq!(client.ask("XLEN s"), ":9\r\n", "all of them differ");
        let auto = ask_long(&mut client, &[b"XADD", b"s", b"IDMPAUTO", &long, b"*", b"n", b"1"]);
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        let mut again: Vec<String> = names.iter().map(|name| named(&mut client, b"p", name)).collect();
        again.extend(names[1..].iter().map(|producer| named(&mut client, producer, b"n")));
        assert_eq!(again, ids);
        assert_eq!(ask_long(&mut client, &[b"XADD", b"s", b"IDMPAUTO", &long, b"*", b"n", b"1"]), auto);
        assert_eq!(client.ask("XLEN s"), ":10\r\n");
    }
}

#[test]
fn what_stands_for_a_long_name_is_no_name_of_its_own() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let long = [b'x'; 300];
    let stands_for = [&[0xff][..], &sha2::Sha256::digest(long)].concat();
    let add =
        |client: &mut Client, name: &[u8]| ask_long(client, &[b"XADD", b"s", b"IDMP", b"p", name, b"*", b"n", b"1"]);
    let first = add(&mut client, &long);
    let other = add(&mut client, &stands_for);
    assert_ne!(other, first);
    assert_eq!((add(&mut client, &long), add(&mut client, &stands_for)), (first, other));
}

#[test]
fn wrong_words_are_told_as_redis_8_tells_them() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    let once = |why: &str| format!("syntax error, {why}");
    let (several, auto) =
        ("IDMP/IDMPAUTO specified multiple times", "IDMP/IDMPAUTO can be used only with auto-generated IDs");
    for (wrong, why) in [
        ("XADD s IDMP p n 1-1 a 1", once(auto)),
        ("XADD s IDMP p n 1-* a 1", once(auto)),
        ("XADD s IDMP p n 0-0 a 1", once(auto)),
        ("XADD s IDMPAUTO p 1-1 a", once(auto)),
        ("XADD s LIMIT 3 IDMP p n 1-1 a 1", once(auto)),
        ("XADD s IDMPAUTO p IDMP p n * a 1", once(several)),
        ("XADD s IDMPAUTO p IDMPAUTO p * a 1", once(several)),
        ("XADD s IDMP p n IDMP \"\" n 1-1 a 1", once(several)),
        ("XADD s IDMP \"\" \"\" 1-1 a", once("IDMP requires a non-empty producer ID")),
        ("XADD s IDMP p \"\" * a 1", once("IDMP requires a non-empty idempotent ID")),
        ("XADD s IDMPAUTO \"\" IDMPAUTO p * a 1", once("IDMPAUTO requires a non-empty producer ID")),
        ("XADD s IDMP p * a 1", "Invalid stream ID specified as stream command argument".into()),
        ("XADD s IDMP p n * a", "wrong number of arguments for 'xadd' command".into()),
        ("XADD s IDMP p n", "wrong number of arguments for 'xadd' command".into()),
        ("XCFGSET", "wrong number of arguments for 'xcfgset' command".into()),
        ("XCFGSET s", "no such key".into()),
        ("XCFGSET s IDMP-DURATION x", "no such key".into()),
    ] {
        assert_eq!(client.ask(wrong), format!("-ERR {why}\r\n"), "{wrong}");
    }
    assert_eq!(client.ask("EXISTS s"), ":0\r\n");
    client.ask("XADD s IDMP p n * a 1");
    let (seconds, names) =
        ("IDMP-DURATION must be between 1 and 86400 seconds", "IDMP-MAXSIZE must be between 1 and 10000 entries");
    let number = "value is not an integer or out of range";
    for (wrong, why) in [
        ("XCFGSET s", "At least one parameter must be specified"),
        ("XCFGSET s IDMP-OTHER 1", "syntax error"),
        ("XCFGSET s IDMP-DURATION", "syntax error"),
        ("XCFGSET s IDMP-DURATION 5 IDMP-MAXSIZE", "syntax error"),
        ("XCFGSET s IDMP-DURATION 5 IDMP-DURATION", "syntax error"),
        ("XCFGSET s IDMP-DURATION 5 IDMP-DURATION x", "IDMP-DURATION specified multiple times"),
        ("XCFGSET s IDMP-MAXSIZE 5 idmp-maxsize 6", "IDMP-MAXSIZE specified multiple times"),
        ("XCFGSET s IDMP-DURATION 0", seconds),
        ("XCFGSET s IDMP-DURATION 86401", seconds),
        ("XCFGSET s IDMP-DURATION 9999999999999999", seconds),
        ("XCFGSET s IDMP-DURATION 0 IDMP-MAXSIZE x", seconds),
        ("XCFGSET s IDMP-MAXSIZE -1", names),
        ("XCFGSET s IDMP-MAXSIZE 10001", names),
        ("XCFGSET s IDMP-MAXSIZE 4294967297", names),
        ("XCFGSET s IDMP-MAXSIZE x", number),
        ("XCFGSET s IDMP-DURATION 99999999999999999999", number),
        ("XCFGSET s IDMP-DURATION 000", number),
        ("XCFGSET s IDMP-DURATION IDMP-DURATION IDMP-DURATION", number),
    ] {
        assert_eq!(client.ask(wrong), format!("-ERR {why}\r\n"), "{wrong}");
    }
}

/// What `XINFO STREAM s` tells of names; nothing where it does not tell of them.
fn told(client: &mut Client, full: bool) -> Vec<u64> {
    let info = client.ask(if full { "XINFO STREAM s FULL" } else { "XINFO STREAM s" });
    let fields = ["idmp-duration", "idmp-maxsize", "pids-tracked", "iids-tracked", "iids-added", "iids-duplicates"];
    let mut words = info.split("\r\n").skip_while(|word| *word != "recorded-first-entry-id").skip(3);
    let pairs = usize::from(info.starts_with("*30\r\n") || info.starts_with("*32\r\n")) * fields.len();
    let told = fields[..pairs].iter().map(|field| {
        assert_eq!((words.next(), words.next()), (Some(&format!("${}", field.len())[..]), Some(*field)), "{info}");
        words.next().and_then(|number| number[1..].parse().ok()).expect("a number")
    });
    told.collect()
}

#[test]
fn info_tells_of_names_where_there_are_some() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        client.ask("XADD s * n 1");
        assert!(client.ask("XINFO STREAM s").starts_with("*20\r\n"));
        assert!(client.ask("XINFO STREAM s FULL").starts_with("*18\r\n"));
        for request in ["p one", "p two", "q one", "p one", "q one", "p one"] {
            client.ask(&format!("XADD s IDMP {request} * n 1"));
        }
        assert_eq!(told(&mut client, false), [100, 100, 2, 3, 3, 3]);
        assert_eq!(told(&mut client, true), [100, 100, 2, 3, 3, 3]);
        client.ask("XCFGSET s IDMP-DURATION 1 IDMP-MAXSIZE 2");
        assert_eq!(told(&mut client, false), [1, 2, 0, 0, 3, 3], "forgotten, but counted");
        client.ask("MULTI");
        (0..4).for_each(|n| drop(client.ask(&format!("XADD s IDMP p {} * n 1", n % 3))));
        client.ask("XINFO STREAM s");
        assert!(client.ask("EXEC").contains("iids-tracked\r\n:2\r\n$10\r\niids-added\r\n:7\r\n"));
        client.ask("RENAME s t");
        client.ask("RENAME t s");
        assert_eq!(told(&mut client, false), [1, 2, 1, 2, 7, 3]);
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(told(&mut client, true), [1, 2, 0, 0, 7, 3], "after their time");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!(told(&mut client, true), [1, 2, 0, 0, 0, 0], "counted since the server started");
        client.ask("DEL s");
        client.ask("XADD s * n 1");
        assert_eq!(told(&mut client, true), Vec::<u64>::new());
    }
}

#[test]
fn new_streams_remember_as_the_server_is_told() {
    for from_log in [false, true] {
        let synapse = Synapse::start();
        let mut client = Client::connect(synapse.port());
        let known = |client: &mut Client, name: &str| {
            let reply = client.ask(&format!("CONFIG GET {name}"));
            reply.split("\r\n").nth(4).map(str::to_owned)
        };
        client.ask("XADD old IDMP p n * n 1");
        for (wrong, why) in [
            ("stream-idmp-duration 0", "argument must be between 1 and 86400 inclusive"),
            ("stream-idmp-duration 86401", "argument must be between 1 and 86400 inclusive"),
            ("stream-idmp-duration 1.5", "argument couldn't be parsed into an integer"),
        ] {
            let text = "-ERR CONFIG SET failed (possibly related to argument 'stream-idmp-duration') - ";
            assert_eq!(client.ask(&format!("CONFIG SET {wrong}")), format!("{text}{why}\r\n"), "{wrong}");
        }
        let both = client.ask("CONFIG SET stream-idmp-duration 7 stream-idmp-maxsize 10001");
        assert!(both.ends_with("'stream-idmp-maxsize') - argument must be between 1 and 10000 inclusive\r\n"));
        assert_eq!(known(&mut client, "stream-idmp-duration"), Some("100".into()), "all of them or none");
        assert_eq!(client.ask("CONFIG SET stream-idmp-duration 7 STREAM-IDMP-MAXSIZE 2"), "+OK\r\n");
        assert_eq!(known(&mut client, "stream-idmp-duration"), Some("7".into()));
        assert_eq!(known(&mut client, "stream-idmp-maxsize"), Some("2".into()));
        client.ask("MULTI");
        (1..=3).for_each(|n| drop(client.ask(&format!("XADD s IDMP p {n} * n 1"))));
        client.ask("EXEC");
        assert_eq!(told(&mut client, false), [7, 2, 1, 2, 3, 0]);
        client.ask("XGROUP CREATE made g 0 MKSTREAM");
        client.ask("CONFIG SET stream-idmp-duration 100 stream-idmp-maxsize 100");
        client.ask("XADD late * n 1");
        let synapse = synapse.restart(from_log);
        let mut client = Client::connect(synapse.port());
        assert_eq!(told(&mut client, false), [7, 2, 1, 2, 0, 0]);
        let info = client.ask("XINFO STREAM made");
        assert!(info.contains("idmp-duration\r\n:7\r\n$12\r\nidmp-maxsize\r\n:2\r\n"), "{info}");
        assert!(client.ask("XINFO STREAM old").contains("idmp-duration\r\n:100\r\n"));
        assert!(client.ask("XINFO STREAM late").starts_with("*20\r\n"));
    }
}
