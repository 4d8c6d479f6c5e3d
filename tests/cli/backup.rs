//! `synapse backup` of a running server and `synapse restore` of what it made: under load, interrupted, damaged, up to a
//! moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Outcome, Server, outcome, synapse};

fn backup(server: &Server, to: &Path) -> Command {
    let mut command = synapse();
    command.args(["backup", "--url", &server.url, "--json", "--to"]).arg(to);
    command
}

/// Takes a backup, and says what it came to.
fn taken(server: &Server, to: &Path) -> Value {
    serde_json::from_str(&outcome(backup(server, to), "").ok()).expect("one object")
}

fn restore_command(from: &Path, to: &Path, flags: &[&str]) -> Command {
    let mut command = synapse();
    command.args(["restore", "--json", "--from"]).arg(from).arg("--data-dir").arg(to).args(flags);
    command
}

fn restore(from: &Path, to: &Path, flags: &[&str]) -> Outcome {
    outcome(restore_command(from, to, flags), "")
}

/// Publishes so many times 20 events of 20 kB: twice fills a segment.
fn fill(server: &Server, times: usize) {
    let input = format!("{{\"text\":\"{}\"}}\n", "x".repeat(20_000)).repeat(20);
    (0..times).for_each(|_| drop(server.run_with_input(&["publish", "large", "-"], &input).ok()));
}

fn length(server: &Server, stream: &str) -> u64 {
    let out = server.run(&["info", stream, "--json"]).ok();
    let info: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    info["length"].as_u64().unwrap_or_else(|| panic!("no length: {info}"))
}

/// A server over what was restored into the folder's `data`.
fn serve(folder: tempfile::TempDir) -> Server {
    Server::start_in(folder, &[])
}

fn store_of(data: &Path) -> Vec<u8> {
    fs::read(data.join("STORE")).expect("is a store")[16..32].to_vec()
}

#[test]
fn a_backup_under_load_comes_back_as_a_store_of_its_own() {
    let server = Server::start();
    server.run(&["streams", "create", "s"]).ok();
    server.run(&["groups", "create", "s", "g", "--start", "earliest"]).ok();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let from = acknowledged.load(Ordering::Relaxed);
                let input: String = (from..from + 100).map(|n| format!("{{\"n\":{n}}}\n")).collect();
                server.run_with_input(&["publish", "s", "-"], &input).ok();
                acknowledged.fetch_add(100, Ordering::Relaxed);
            }
        });
        let _ends = SetAtEnd(&done);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(500));
            server.run(&["consume", "s", "g", "--consumer", "c", "--count", "50"]).ok();
            let before = acknowledged.load(Ordering::Relaxed);
            let told = taken(&server, &to);
            let new = tempfile::tempdir().expect("a folder");
            let data = new.path().join("data");
            let restored: Value = serde_json::from_str(&restore(&to, &data, &[]).ok()).expect("one object");
            assert_eq!(restored["position"], told["end_position"]);
            assert_ne!(store_of(&data), store_of(&server.folder.path().join("data")), "an id of its own");
            let mut verify = synapse_on("verify", &data);
            verify.arg("--deep");
            let checked = outcome(verify, "").ok();
            assert!(checked.contains("replayed from the log's beginning: "), "{checked}");
            let copy = serve(new);
            let events = copy.run(&["tail", "s", "--json", "--from", "earliest", "--count", "100000"]);
            let numbers: Vec<u64> = events.ok().lines().map(number).collect();
            assert!(numbers.len() as u64 >= before, "{} of {before}", numbers.len());
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "each once, in order");
            let info: Value =
                serde_json::from_str(&copy.run(&["groups", "info", "s", "g", "--json"]).ok()).expect("JSON");
            let count = |name: &str| info[name].as_u64().unwrap_or_default();
            assert_eq!(count("undelivered") + count("pending") + count("acknowledged"), numbers.len() as u64, "{info}");
        }
    });
    assert_eq!(taken(&server, &to)["fetched_bytes"].as_u64().map(|bytes| bytes > 0), Some(true));
    assert_eq!(taken(&server, &to)["fetched_bytes"], 0, "nothing was written since");
}

fn number(line: &str) -> u64 {
    let event: Value = serde_json::from_str(line).expect("JSON");
    event["event"]["data"]["n"].as_u64().unwrap_or_else(|| panic!("{line}"))
}

/// Starts a command and kills it once the condition holds; whether that was before it ended.
fn killed_when(mut command: Command, holds: impl Fn() -> bool) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let ends = Instant::now() + Duration::from_secs(60);
    while !holds() && child.try_wait().expect("it is ours").is_none() && Instant::now() < ends {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it is ours");
    !child.wait().expect("it ended").success()
}

#[test]
fn a_backup_that_was_killed_is_none_and_is_taken_up_where_it_stopped() {
    let server = Server::start();
    fill(&server, 60);
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    let journal = to.join("RECEIVED");
    let noted = || fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    assert!(killed_when(backup(&server, &to), || noted() >= 5), "it was killed in the middle");
    let data = folder.path().join("new").join("data");
    let err = restore(&to, &data, &[]).failed(1);
    assert!(err.contains("DATA_DIRECTORY") && err.contains("not a whole one"), "{err}");
    assert!(!data.exists());
    let there = noted() as u64;
    let told = taken(&server, &to);
    let (bytes, fetched) = (told["bytes"].as_u64().expect("set"), told["fetched_bytes"].as_u64().expect("set"));
    assert!(fetched > 0 && bytes - fetched >= there * 600_000, "{fetched} of {bytes} bytes, {there} files were there");
    let new = tempfile::tempdir().expect("a folder");
    restore(&to, &new.path().join("data"), &[]).ok();
    assert_eq!(length(&serve(new), "large"), 1200);
}

#[test]
fn a_restore_that_was_killed_leaves_no_store() {
    let server = Server::start();
    fill(&server, 60);
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    taken(&server, &to);
    let data = folder.path().join("data");
    let begun = || data.join("log").exists();
    assert!(killed_when(restore_command(&to, &data, &[]), begun), "it was killed in the middle");
    assert!(data.exists() && !data.join("STORE").exists());
    for mut command in [Server::command(&data, &[]), synapse_on("verify", &data), synapse_on("rebuild", &data)] {
        command.stdin(Stdio::null());
        let err = outcome(command, "").failed(1);
        assert!(err.contains("no STORE"), "{err}");
    }
    let err = restore(&to, &data, &[]).failed(1);
    assert!(err.contains("DATA_DIRECTORY") && err.contains("did not end"), "{err}");
    fs::remove_dir_all(&data).expect("removed");
    restore(&to, &data, &[]).ok();
    assert_eq!(length(&serve(folder), "large"), 1200);
}

fn synapse_on(command: &str, data: &Path) -> Command {
    let mut known = synapse();
    known.args([command, "--data-dir"]).arg(data);
    known
}

#[test]
fn a_moment_in_the_middle_is_restored_by_time_or_position() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    server.run_with_input(&["publish", "s", "-"], &"{}\n".repeat(30)).ok();
    let position = taken(&server, &to)["end_position"].as_u64().expect("set");
    std::thread::sleep(Duration::from_millis(20));
    let time = jiff::Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(20));
    server.run_with_input(&["publish", "s", "-"], &"{}\n".repeat(12)).ok();
    server.run(&["streams", "delete", "s"]).ok();
    server.run_with_input(&["publish", "t", "-"], &"{}\n".repeat(7)).ok();
    let told = taken(&server, &to);
    let restored_length = |flags: &[&str], stream: &str| {
        let new = tempfile::tempdir().expect("a folder");
        restore(&to, &new.path().join("data"), flags).ok();
        length(&serve(new), stream)
    };
    assert_eq!(restored_length(&["--until", &position.to_string()], "s"), 30);
    assert_eq!(restored_length(&["--until", &time], "s"), 30);
    assert_eq!(restored_length(&[], "t"), 7);

    let mut show = synapse();
    show.args(["restore", "--show", "--json", "--from"]).arg(&to);
    let shown: Value = serde_json::from_str(&outcome(show, "").ok()).expect("one object");
    for name in ["oldest_position", "oldest_time", "end_position", "end_time", "bytes", "files"] {
        assert_eq!(shown[name], told[name], "{name}");
    }
    let end = told["end_position"].as_u64().expect("set");
    let data = folder.path().join("none");
    for until in [(end + 1).to_string(), "2001-01-01T00:00:00Z".into(), "2999-01-01T00:00:00Z".into()] {
        let err = restore(&to, &data, &["--until", &until]).failed(1);
        assert!(err.contains(&format!("positions 0 to {end}")), "{err}");
    }
    assert!(!data.exists());
    restore(&to, &data, &["--until", "yesterday"]).failed(2);
}

#[test]
fn a_damaged_file_of_a_backup_is_named() {
    let server = Server::start();
    fill(&server, 8);
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    taken(&server, &to);
    let log = to.join("log");
    let mut files: Vec<PathBuf> = fs::read_dir(&log).expect("listed").map(|e| e.expect("listed").path()).collect();
    files.sort();
    let mut bytes = fs::read(&files[1]).expect("read");
    bytes[5000] ^= 1;
    fs::write(&files[1], bytes).expect("written");
    let data = folder.path().join("data");
    let err = restore(&to, &data, &[]).failed(1);
    assert!(err.contains(files[1].to_str().expect("text")) && err.contains("CORRUPT"), "{err}");
    let manifest = to.join("BACKUP");
    let text = fs::read_to_string(&manifest).expect("read");
    fs::write(&manifest, text.replacen("log", "lag", 1)).expect("written");
    let err = restore(&to, &data, &[]).failed(1);
    assert!(err.contains("BACKUP is damaged"), "{err}");
    assert!(!data.exists());
}

/// Ends the threads beside a test however the test ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
