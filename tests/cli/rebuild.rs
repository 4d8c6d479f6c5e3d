//! `synapse rebuild`: an index made anew from the log, what is said of it, and what is refused.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Outcome, Server, outcome, synapse};

/// A data directory as a server left it: a stream of two megabytes with a group, so one file of the log is sealed.
struct Left {
    folder: tempfile::TempDir,
    answers: String,
}

impl Left {
    fn new() -> Self {
        let server = Server::start();
        let input = format!("{{\"text\":\"{}\"}}\n", "x".repeat(20_000)).repeat(20);
        (0..5).for_each(|_| drop(server.run_with_input(&["publish", "s", "-"], &input).ok()));
        server.run(&["groups", "create", "s", "g"]).ok();
        server.run(&["consume", "s", "g", "--consumer", "c", "--count", "40"]).ok();
        let answers = answers(&server);
        let (status, told, folder) = server.stop();
        assert_eq!(status.code(), Some(0), "{told}");
        Self { folder, answers }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn rebuild(&self, flags: &[&str]) -> Outcome {
        let mut command = synapse();
        command.args(["rebuild", "--data-dir"]).arg(self.data()).args(flags);
        outcome(command, "")
    }

    /// The names of all files of the log with their lengths.
    fn log(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(self.data().join("log")).expect("listed").map(|entry| entry.expect("listed"));
        let files = entries.map(|e| (e.file_name().display().to_string(), e.metadata().expect("there").len()));
        let mut files: Vec<(String, u64)> = files.collect();
        files.sort();
        files
    }

    /// A server on it answers as before, from the index rather than the log. Gives the directory back.
    fn check(self) -> Self {
        let server = Server::start_in(self.folder, &[]);
        assert_eq!(answers(&server), self.answers);
        let (_, told, folder) = server.stop();
        assert!(told.contains("opened the data directory"), "{told}");
        let replayed = told.split("replayed_commits=").nth(1).and_then(|rest| rest.split_whitespace().next());
        assert!(matches!(replayed, Some("0" | "1")), "{told}");
        Self { folder, answers: self.answers }
    }
}

fn answers(server: &Server) -> String {
    ["info s --json", "groups info s g --json", "tail s"]
        .map(|line| server.run(&line.split(' ').collect::<Vec<_>>()).ok())
        .map(|answer| answer.split(r#""consumers""#).next().expect("the first part").to_owned())
        .concat()
}

#[test]
fn an_index_is_made_anew_and_everything_is_as_before() {
    let left = Left::new();
    let log = left.log();
    let done = left.rebuild(&[]);
    assert_eq!(done.err, "", "no progress where standard error is no terminal");
    let out = done.ok();
    assert!(out.starts_with("replayed ") && out.ends_with(" bytes: 7 streams, 1 groups\n"), "{out}");
    assert_eq!(out.lines().count(), 1);
    assert_eq!(left.log(), log, "files of other names or lengths");
    assert!(left.data().join("index.aside").exists(), "the old one is kept aside");

    let left = left.check();
    let sum: Value = serde_json::from_str(&left.rebuild(&["--json"]).ok()).expect("one object");
    assert_eq!((&sum["streams"], &sum["groups"]), (&7.into(), &1.into()));
    assert!(sum["bytes"].as_u64() > Some(2_000_000) && sum["frames"].as_u64() > Some(8), "{sum}");
    left.check();
}

#[test]
fn a_lost_or_damaged_index_is_made_anew_too() {
    let left = Left::new();
    fs::remove_dir_all(left.data().join("index")).expect("removed");
    assert!(left.rebuild(&[]).ok().ends_with(" 7 streams, 1 groups\n"));
    let left = left.check();
    fs::write(left.data().join("index/db"), "what is this").expect("written");
    assert!(left.rebuild(&[]).ok().ends_with(" 7 streams, 1 groups\n"));
    left.check();
}

#[test]
fn what_a_killed_server_left_is_recovered_first() {
    let left = Left::new();
    let mut server = Server::start_in(left.folder, &[]);
    let id = server.run(&["publish", "s", "--data", r#"{"last":true}"#]).ok();
    let answers = answers(&server);
    server.signal(Signal::KILL);
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().expect("a folder"));
    drop(server);
    assert!(answers.contains(id.trim()));
    let left = Left { folder, answers };
    left.rebuild(&[]).ok();
    left.check();
}

#[test]
fn a_log_that_cannot_be_replayed_from_its_beginning_keeps_its_old_index() {
    let left = Left::new();
    let first = left.data().join("log").join(&left.log()[0].0);
    let mut bytes = fs::read(&first).expect("read");
    // The first commit makes a stream: its name stands in a record that a start with the index does not read.
    let name = b"model-events";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("a record with the name");
    bytes[at] ^= 1;
    fs::write(&first, bytes).expect("written");
    let err = left.rebuild(&[]).failed(1);
    let file = first.file_name().expect("a name").display().to_string();
    assert!(err.contains("CORRUPT") && err.contains(&file), "{err}");
    left.check();
}

#[test]
fn a_directory_in_use_or_none_is_refused() {
    let server = Server::start();
    let nowhere = server.folder.path().join("nowhere");
    for (path, why) in [(server.folder.path().join("data"), "in use"), (nowhere.clone(), "no STORE")] {
        let mut command = synapse();
        command.arg("rebuild").env("SYNAPSE_DATA_DIR", &path);
        let err = outcome(command, "").failed(1);
        assert!(err.contains("DATA_DIRECTORY") && err.contains(why), "{err}");
    }
    assert!(!nowhere.exists());
    let mut command = synapse();
    command.args(["rebuild", "here"]);
    outcome(command, "").failed(2);
}

#[test]
fn what_was_deleted_leaves_no_byte_behind() {
    let server = Server::start();
    server.run_with_input(&["publish", "s", "-"], "{\"card\":\"4111 1111 1111 1111\"}\n{\"card\":\"none\"}\n").ok();
    server.run(&["trim", "s", "--keep-entries", "1"]).ok();
    let (_, _, folder) = server.stop();
    let holds = || {
        let files = fs::read_dir(folder.path().join("data/log")).expect("listed").flatten();
        let found = |bytes: Vec<u8>| bytes.windows(9).any(|window| window == b"4111 1111");
        files.into_iter().any(|file| found(fs::read(file.path()).expect("read")))
    };
    assert!(holds());
    let mut command = synapse();
    command.args(["reclaim", "--json", "--data-dir"]).arg(folder.path().join("data"));
    let sum: Value = serde_json::from_str(&outcome(command, "").ok()).expect("one object");
    assert!(sum["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{sum}");
    assert!(!holds());
    let server = Server::start_in(folder, &[]);
    assert!(server.run(&["tail", "s"]).ok().contains("none"));
}
