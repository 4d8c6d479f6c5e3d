//! What connections may do to each other, and to themselves.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::servers::Synapse;

#[test]
fn a_reader_that_waits_is_unblocked_by_another() {
    let synapse = Synapse::start();
    let mut other = Client::connect(synapse.port());
    other.ask("XGROUP CREATE s g $ MKSTREAM");
    for command in ["XREAD BLOCK 0 STREAMS s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"] {
        for (how, want) in
            [("", "*-1\r\n"), (" TIMEOUT", "*-1\r\n"), (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")]
        {
            let mut reader = Client::connect(synapse.port());
            let id = number(&reader.ask("CLIENT ID"));
            assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}")), ":0\r\n", "it does not wait");
            reader.send(format!("{command}\r\nPING\r\n").as_bytes());
            wait_for_line(&mut other, id, "flags=b");
            assert!(other.ask("INFO clients").contains("blocked_clients:1"));
            assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}{how}")), ":1\r\n");
            assert_eq!((reader.reply(), reader.reply()), (want.to_owned(), "+PONG\r\n".to_owned()), "{command}{how}");
            assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}")), ":0\r\n");
        }
    }
    other.ask("XADD s 1-0 a 1");
    assert!(other.ask("XREADGROUP GROUP g c STREAMS s >").contains("1-0"), "nothing went to who was unblocked");
}

#[test]
fn connections_are_listed_and_killed() {
    let synapse = Synapse::start();
    let (mut one, mut two) = (Client::connect(synapse.port()), Client::connect(synapse.port()));
    one.ask("CLIENT SETNAME one");
    two.ask("HELLO 3 SETNAME two");
    two.ask("CLIENT SETINFO LIB-NAME library");
    two.ask("CLIENT SETINFO lib-ver 1.2");
    two.ask("XINFO HELP");
    let id = number(&two.ask("CLIENT ID"));
    two.ask("MULTI");
    two.ask("PING");
    two.ask("PING");
    let line = line(&mut one, id);
    for part in ["name=two", "flags=x", "multi=2", "resp=3", "user=default", "lib-name=library lib-ver=1.2", "cmd=ping"]
    {
        // What a command says of itself is noted before it runs.
        let part = if part == "multi=2" { "multi=1" } else { part };
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains(&format!("laddr=127.0.0.1:{}", synapse.port())), "{line}");
    assert_eq!(one.ask(&format!("CLIENT KILL ID {id} USER nobody")), ":0\r\n");
    assert_eq!(one.ask(&format!("CLIENT KILL ID {id} TYPE normal")), ":1\r\n");
    assert!(!one.ask("CLIENT LIST").contains("name=two"));
    assert!(two.is_closed());
    assert_eq!(one.ask("CLIENT KILL TYPE normal"), ":0\r\n", "not itself");
    assert_eq!(one.ask("CLIENT KILL TYPE normal SKIPME no"), ":1\r\n");
    assert!(one.is_closed());
}

#[test]
fn a_killed_reader_leaves_its_turn() {
    let synapse = Synapse::start();
    let mut other = Client::connect(synapse.port());
    other.ask("XGROUP CREATE s g $ MKSTREAM");
    let mut reader = Client::connect(synapse.port());
    let id = number(&reader.ask("CLIENT ID"));
    reader.send(b"XREADGROUP GROUP g c BLOCK 0 STREAMS s >\r\n");
    let line = wait_for_line(&mut other, id, "flags=b");
    let address = line.split(' ').find_map(|part| part.strip_prefix("addr=")).expect("an address");
    assert_eq!(other.ask(&format!("CLIENT KILL {address}")), "+OK\r\n");
    assert!(reader.is_closed());
    other.ask("XADD s 1-0 a 1");
    assert!(other.ask("XREADGROUP GROUP g d STREAMS s >").contains("1-0"));
}

#[test]
fn replies_can_be_left_out() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    client.send(b"CLIENT REPLY SKIP\r\nXADD s 1-0 a 1\r\nXADD s 2-0 a 1\r\n");
    assert!(client.reply().contains("2-0"));
    client.send(
        b"CLIENT REPLY OFF\r\nXADD s 3-0 a 1\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY ON\r\nXLEN s\r\n",
    );
    assert_eq!((client.reply(), client.reply()), ("+OK\r\n".to_owned(), ":3\r\n".to_owned()));
}

#[test]
fn help_and_commands_are_told() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for command in ["CLIENT", "COMMAND", "CONFIG", "FUNCTION", "SCRIPT", "XGROUP", "XINFO"] {
        let help = client.ask(&format!("{command} HELP"));
        assert!(help.contains(&format!("+{command} ")) && help.contains("+HELP"), "{help}");
    }
    let count = number(&client.ask("COMMAND COUNT"));
    assert!(client.ask("COMMAND").starts_with(&format!("*{count}\r\n*10\r\n")));
    assert!(client.ask("COMMAND INFO xadd xread").starts_with("*2\r\n*10\r\n$4\r\nxadd\r\n:-5\r\n"));
    let info = client.ask("INFO");
    for line in ["redis_version:7.2", "loading:0", "cluster_enabled:0", "role:master", "connected_clients:1"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert!(
        client.ask("INFO server clients").contains("# Clients") && !client.ask("INFO server").contains("# Clients")
    );
}

#[test]
fn errors_are_counted_by_their_kind() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    assert!(client.ask("XGROUP CREATE s g $ MKSTREAM").starts_with('+') && client.ask("XINFO").starts_with("-ERR"));
    assert!(client.ask("XPENDING s missing").starts_with("-NOGROUP"));
    client.ask("MULTI");
    client.ask("XPENDING s missing");
    assert!(client.ask("EXEC").starts_with("*1\r\n-NOGROUP"));
    let info = client.ask("INFO errorstats");
    assert!(info.contains("errorstat_ERR:count=1\r\nerrorstat_NOGROUP:count=2\r\n"), "{info}");
    assert!(client.ask("INFO stats").contains("total_error_replies:3"));
    let info = client.ask("INFO commandstats");
    let count = |command: &str, what: &str| {
        let line = info.split("\r\n").find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
        let part = line.unwrap_or_default().split(',').find_map(|part| part.strip_prefix(&format!("{what}=")));
        part.map(str::to_owned).unwrap_or_default()
    };
    assert_eq!([count("xpending", "calls"), count("xpending", "failed_calls")], ["2", "2"]);
    assert_eq!([count("xinfo", "calls"), count("xinfo", "rejected_calls")], ["0", "1"]);
    assert_eq!([count("xgroup", "failed_calls"), count("exec", "calls")], ["0", "1"]);
    client.ask("CONFIG RESETSTAT");
    assert!(!client.ask("INFO errorstats").contains("errorstat_"));
    assert!(!client.ask("INFO commandstats").contains("xpending"));
}

#[test]
fn there_are_no_scripts_and_no_functions() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    for flush in ["FUNCTION FLUSH", "FUNCTION FLUSH ASYNC", "SCRIPT FLUSH", "SCRIPT FLUSH SYNC"] {
        assert_eq!(client.ask(flush), "+OK\r\n");
    }
    assert_eq!(client.ask("FUNCTION LIST"), "*0\r\n");
    assert_eq!(client.ask("SCRIPT EXISTS a b"), "*2\r\n:0\r\n:0\r\n");
    assert!(client.ask("SCRIPT FLUSH NOW").starts_with("-ERR SCRIPT FLUSH only supports SYNC|ASYNC option"));
    assert!(client.ask("EVAL a 0").starts_with("-ERR unknown command"));
}

#[test]
fn nodes_are_told_as_if_they_were_full() {
    let synapse = Synapse::start();
    let mut client = Client::connect(synapse.port());
    client.ask("CONFIG SET stream-node-max-entries 10");
    client.ask("XGROUP CREATE s g $ MKSTREAM");
    let nodes = |client: &mut Client| client.ask("XINFO STREAM s").split("\r\n").nth(6).map(str::to_owned);
    assert_eq!(nodes(&mut client).as_deref(), Some(":0"));
    (0..21).for_each(|_| drop(client.ask("XADD s * a 1")));
    assert_eq!(nodes(&mut client).as_deref(), Some(":3"));
}

fn number(reply: &str) -> u64 {
    reply.trim_start_matches(':').trim().parse().unwrap_or_else(|_| panic!("{reply:?} is no number"))
}

/// What is told of a connection.
fn line(client: &mut Client, id: u64) -> String {
    client.ask(&format!("CLIENT LIST ID {id}"))
}

/// Waits until this is told of a connection.
fn wait_for_line(client: &mut Client, id: u64, part: &str) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let line = line(client, id);
        if line.contains(part) {
            return line;
        }
        assert!(Instant::now() < until, "no {part}: {line}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
