//! The life of a server process: ready line, refusals, hostile connections, drain.

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Server, outcome, synapse, wait};

#[test]
fn it_says_where_it_listens_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start();
        assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
        server.run(&["publish", "s", "--data", "{}"]).ok();
        server.signal(signal);
        let (status, told, _folder) = server.stop();
        assert_eq!(status.code(), Some(0), "{told}");
    }
}

#[test]
fn what_was_published_is_there_after_a_restart_and_after_a_kill() {
    let server = Server::start();
    let first = server.run(&["publish", "s", "--data", r#"{"n":1}"#]).ok();
    let (_, _, folder) = server.stop();
    let mut server = Server::start_in(folder, &[]);
    let second = server.run(&["publish", "s", "--data", r#"{"n":2}"#]).ok();
    server.signal(Signal::KILL);
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().expect("a folder"));
    drop(server);
    let server = Server::start_in(folder, &[]);
    let out = server.run(&["tail", "s"]).ok();
    let ids: Vec<&str> = out.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(ids, [first.trim(), second.trim()]);
}

#[test]
fn the_platforms_streams_are_there_from_the_start() {
    let server = Server::start();
    let out = server.run(&["streams", "list", "--json"]).ok();
    for name in synapse::server::settings::PLATFORM_STREAMS {
        assert!(out.contains(&format!("{name:?}")), "{name}: {out}");
    }
    let server = Server::start_with(&["--streams", "only-this"]);
    assert_eq!(server.run(&["streams", "list", "--json"]).ok().lines().count(), 1);
}

#[test]
fn wrong_settings_end_with_code_2_and_name_the_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("synapse.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").expect("written");
    let file = file.to_str().expect("text");
    for (flags, told) in [
        (&["--listen", "0.0.0.0:0"][..], "api_keys"),
        (&["--segment-bytes", "1"], "segment_bytes"),
        (&["--checkpoint-bytes", "4096"], "checkpoint_bytes: is 4096, must be from 1048576"),
        (&["--checkpoint-bytes", "64M"], "--checkpoint-bytes"),
        (&["--config", file], "lisen"),
        (&["--config", "/nowhere.toml"], "/nowhere.toml"),
        (&["--durability", "maybe"], "fsync or os"),
        (&["--loud"], "--loud"),
    ] {
        for command in [&["serve"][..], &["config", "check"]] {
            let mut program = synapse();
            program.args(command).args(flags);
            let err = outcome(program, "").failed(2);
            assert!(err.contains(told), "{flags:?}: {err}");
        }
    }
}

#[test]
fn a_data_directory_has_one_server() {
    let server = Server::start();
    let second = outcome(Server::command(&server.folder.path().join("data"), &[]), "");
    let err = second.failed(1);
    assert!(err.contains("DATA_DIRECTORY"), "{err}");
}

#[test]
fn a_data_directory_that_is_read_only_is_refused_by_name_and_left_as_it_is() {
    let (status, _, folder) = Server::start().stop();
    assert_eq!(status.code(), Some(0));
    let data = folder.path().join("data");
    let program = folder.path().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_synapse"), &program).expect("copied");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    };
    let files = [data.join("LOCK"), data.join("STORE")];
    files.iter().for_each(|file| mode(file, 0o444));
    mode(&data, 0o555);
    mode(folder.path(), 0o555);
    for (path, names) in [(data.clone(), "LOCK"), (folder.path().join("new"), "new")] {
        let mut command = std::process::Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&path);
        if rustix::process::getuid().is_root() {
            // Permissions hold for everyone but root.
            command.uid(NOBODY).gid(NOBODY);
        }
        let err = outcome(command, "").failed(1);
        assert!(err.contains(names) && err.contains("Permission denied"), "{err}");
        assert!(err.contains(folder.path().to_str().expect("text")), "{err}");
    }
    mode(folder.path(), 0o755);
    mode(&data, 0o755);
    files.iter().for_each(|file| mode(file, 0o644));
    Server::start_in(folder, &[]).run(&["publish", "s", "--data", "{}"]).ok();
}

/// The user that has no rights, by number.
const NOBODY: u32 = 65534;

#[test]
fn a_port_in_use_is_refused() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = synapse();
    command.args(["serve", "--listen", server.address(), "--data-dir"]).arg(folder.path().join("data"));
    let err = outcome(command, "").failed(1);
    assert!(err.contains("cannot bind"), "{err}");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_not_the_end_by_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bash = std::process::Command::new("bash");
    let script = "ulimit -f 256; exec \"$0\" serve --listen 127.0.0.1:0 --segment-bytes 1048576 --data-dir \"$1\"";
    bash.args(["-c", script, env!("CARGO_BIN_EXE_synapse")]).arg(folder.path().join("data"));
    let err = outcome(bash, "").failed(1);
    assert!(err.contains("STORAGE_FULL"), "{err}");
}

#[test]
fn settings_come_from_the_environment_and_a_file_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("synapse.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\ndata_dir = \"from-file\"\n").expect("written");
    let mut command = synapse();
    command.args(["config", "check", "--config"]).arg(&file).env("SYNAPSE_LISTEN", "127.0.0.1:2");
    assert_eq!(outcome(command, "").ok(), "settings are valid: from-file on 127.0.0.1:2\n");
    let mut command = synapse();
    command.args(["config", "check", "--listen", "127.0.0.1:3"]);
    command.env("SYNAPSE_CONFIG", &file).env("SYNAPSE_LISTEN", "127.0.0.1:2");
    assert_eq!(outcome(command, "").ok(), "settings are valid: from-file on 127.0.0.1:3\n");
    let mut command = synapse();
    command.args(["config", "check", "--json", "--data-dir", "here"]);
    let said: serde_json::Value = serde_json::from_str(&outcome(command, "").ok()).expect("one object");
    assert_eq!((&said["valid"], &said["data_dir"]), (&true.into(), &"here".into()));
}

#[test]
fn a_drain_ends_streams_and_finishes() {
    let server = Server::start();
    let mut tail = synapse()
        .args(["tail", "platform-events", "--follow", "--url", &server.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut idle = TcpStream::connect(server.address()).expect("it listens");
    idle.write_all(b"GET /streams/platform-events/live HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    let (status, told, _folder) = server.stop();
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(started.elapsed() < Duration::from_secs(8), "the drain waited for its timeout: {told}");
    let status = wait(&mut tail, Duration::from_secs(10)).expect("the tail ends with its server");
    assert_eq!(status.code(), Some(1));
    let mut told = String::new();
    tail.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert!(told.contains("DRAINING"), "{told}");
}

#[test]
fn connections_that_say_nothing_are_closed() {
    let server = Server::start_with(&["--header-timeout-ms", "300"]);
    for opening in [&b""[..], b"PRI * HT", b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut slow = TcpStream::connect(server.address()).expect("it listens");
        slow.write_all(opening).expect("sent");
        assert!(ends(&mut slow), "still open after {:?}", String::from_utf8_lossy(opening));
    }
    server.run(&["publish", "s", "--data", "{}"]).ok();
}

#[test]
fn connections_beyond_the_bound_are_closed_and_others_are_unharmed() {
    let server = Server::start_with(&["--connections-max", "2"]);
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(server.address()).expect("it listens")).collect();
    std::thread::sleep(Duration::from_millis(200));
    let mut one_more = TcpStream::connect(server.address()).expect("the kernel takes it");
    assert!(ends(&mut one_more), "a third connection is open");
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    server.run(&["publish", "s", "--data", "{}"]).ok();
}

/// Whether the server closes the connection within a few seconds.
fn ends(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn keys_let_in_whom_they_name() {
    let mut command = synapse();
    command.args(["keys", "new", "helox", "--streams", "training-*", "--permissions", "publish"]);
    let out = outcome(command, "").ok();
    let key = out.lines().next().and_then(|l| l.rsplit(' ').next()).expect("the key is on the first line");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, &out).expect("written");
    let server = Server::start_with(&["--config", file.to_str().expect("text")]);
    let publish = |stream, key: &[&str]| server.run(&[&["publish", stream, "--data", "{}"], key].concat());
    publish("training-events", &["--api-key", key]).ok();
    assert!(publish("training-events", &[]).failed(1).contains("UNAUTHENTICATED"));
    assert!(publish("training-events", &["--api-key", "wrong"]).failed(1).contains("UNAUTHENTICATED"));
    assert!(publish("error-events", &["--api-key", key]).failed(1).contains("PERMISSION_DENIED"));
}
