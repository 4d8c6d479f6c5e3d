//! Client commands whose server is not one, refuses them, or goes away in the middle: an error that says so, and nothing
//! lost that was told to be done.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{Server, outcome, synapse, wait};

/// A client command of each service, and one that streams.
const COMMANDS: [&[&str]; 5] = [
    &["info"],
    &["publish", "s", "--data", "{}"],
    &["tail", "s", "--follow"],
    &["consume", "s", "g"],
    &["pending", "s", "g"],
];

#[test]
fn what_answers_at_a_wrong_port_is_told_from_a_server() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], b"-ERR unknown command\r\n", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Whoever asked may be gone already.
                let _ = stream.read(&mut [0; 24]).and_then(|_| stream.write_all(answer));
            }
        });
        for args in COMMANDS {
            let mut command = synapse();
            command.args(args).args(["--url", &url]);
            let err = outcome(command, "").failed(1);
            let known = ["not one of a Synapse server", "ended before the answer came", "cannot connect to"];
            assert!(known.iter().any(|text| err.contains(text)), "{args:?}: {err}");
        }
    }
}

#[test]
fn without_the_right_key_every_command_is_refused() {
    let mut command = synapse();
    command.args(["keys", "new", "helox", "--streams", "*", "--permissions", "publish"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), outcome(command, "").ok()).expect("written");
    let server = Server::start_with(&["--config", file.path().to_str().expect("text")]);
    for args in COMMANDS {
        for key in [&[][..], &["--api-key", "syn_wrong"]] {
            let err = server.run(&[args, key].concat()).failed(1);
            assert!(err.contains("UNAUTHENTICATED"), "{args:?}: {err}");
        }
        let err = server.run(&[args, &["--api-key", "not\na key"]].concat()).failed(2);
        assert!(err.contains("characters that no key has"), "{err}");
    }
}

fn start(server: &Server, args: &[&str], out: &File, input: Stdio) -> Child {
    let mut command: Command = synapse();
    command.args(args).env("SYNAPSE_URL", &server.url).stdin(input);
    command.stdout(out.try_clone().expect("opened")).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn commands_end_with_an_error_when_their_server_is_killed_and_what_they_told_is_kept() {
    let mut server = Server::start();
    server.run(&["streams", "create", "s"]).ok();
    server.run(&["groups", "create", "s", "g"]).ok();
    let file = |name: &str| File::create_new(server.folder.path().join(name)).expect("made");
    let (told, tailed, consumed) = (file("told"), file("tailed"), file("consumed"));
    let mut publish = start(&server, &["publish", "s", "-"], &told, Stdio::piped());
    let tail = start(&server, &["tail", "s", "--follow"], &tailed, Stdio::null());
    let consume = start(&server, &["consume", "s", "g", "--consumer", "c"], &consumed, Stdio::null());
    let mut input = publish.stdin.take().expect("piped");
    let feeding = std::thread::spawn(move || (0..).take_while(|n| writeln!(input, "{{\"n\":{n}}}").is_ok()).count());
    let lines = |name: &str| -> Vec<String> {
        let file = File::open(server.folder.path().join(name)).expect("it is there");
        BufReader::new(file).lines().map(|line| line.expect("text")).collect()
    };
    for _ in 0..1_000 {
        if ["told", "tailed", "consumed"].iter().all(|name| lines(name).len() > 2_000) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.signal(Signal::KILL);
    for (what, mut child) in [("publish", publish), ("tail", tail), ("consume", consume)] {
        let status = wait(&mut child, Duration::from_secs(20)).unwrap_or_else(|| panic!("{what} goes on"));
        let mut err = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
        assert_eq!(status.code(), Some(1), "{what}: {err}");
        assert!(err.contains("the connection ended before the answer came"), "{what}: {err}");
        assert!(what != "publish" || err.contains("lines "), "{err}");
    }
    assert!(feeding.join().expect("it only writes") > 2_000);
    let told: Vec<String> = lines("told");
    let id = |line: String| line.split(' ').next().expect("an id").to_owned();
    let seen: BTreeSet<String> = lines("tailed").into_iter().chain(lines("consumed")).map(id).collect();
    assert!(told.len() > 2_000 && seen.len() > 2_000, "{} told, {} seen", told.len(), seen.len());
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().expect("a folder"));
    drop(server);

    let server = Server::start_in(folder, &[]);
    let stored: BTreeSet<String> = server.run(&["tail", "s"]).ok().lines().map(|l| id(l.to_owned())).collect();
    assert!(told.iter().all(|id| stored.contains(id)), "an id was printed of what is lost");
    // A line may have been cut when its writer ended; ids that were seen whole were durable.
    let cut = seen.iter().filter(|id| !stored.contains(*id)).count();
    assert!(cut <= 2, "{cut} events were shown that are not stored");
}
