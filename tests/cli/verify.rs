//! `synapse verify` and `synapse completions`: what they print, and what they refuse.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Outcome, Server, outcome, synapse};

/// A data directory with a sealed file, as a server left it; what it holds of `s` is 50 ids.
struct Left {
    folder: tempfile::TempDir,
    ids: Vec<String>,
}

impl Left {
    fn new() -> Self {
        let server = Server::start();
        let mut ids = Vec::new();
        for _ in 0..50 {
            let file = server.folder.path().join("payload");
            fs::write(&file, vec![b'x'; 40 << 10]).expect("written");
            let id = server.run(&["publish", "s", "--file", file.to_str().expect("text")]).ok();
            ids.push(id.trim().to_owned());
            server.run(&["publish", "other", "--data", "{}"]).ok();
        }
        let (status, told, folder) = server.stop();
        assert_eq!(status.code(), Some(0), "{told}");
        Self { folder, ids }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn verify(&self, flags: &[&str]) -> Outcome {
        let mut command = synapse();
        command.args(["verify", "--data-dir"]).arg(self.data()).args(flags);
        outcome(command, "")
    }

    /// Changes one byte of the first payload that begins in the first file at or after `from`.
    fn flip(&self, from: usize) -> (String, usize) {
        let log = self.data().join("log");
        let mut names: Vec<String> =
            fs::read_dir(&log).expect("listed").map(|e| e.expect("listed").file_name().display().to_string()).collect();
        names.sort();
        let path = log.join(&names[0]);
        let mut bytes = fs::read(&path).expect("read");
        let run = [b'x'; 64];
        let at = from + bytes[from..].windows(64).position(|w| w == run).expect("a payload") + 1_000;
        bytes[at] ^= 4;
        fs::write(&path, bytes).expect("written");
        (format!("log/{}", names[0]), at)
    }
}

fn bytes_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            found.extend(bytes_of(&path));
        } else {
            let bytes = fs::read(&path).expect("read");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_sound_directory_is_checked_and_left_as_it_is() {
    let left = Left::new();
    let before = bytes_of(&left.data());
    let checked = left.verify(&[]);
    assert_eq!(checked.err, "", "no progress where standard error is no terminal");
    let out = checked.ok();
    assert!(out.contains(" 100 events: 0 flaws, 0 notes\n"), "{out}");
    let sum: Value = serde_json::from_str(&left.verify(&["--json"]).ok()).expect("one object");
    assert_eq!((&sum["kind"], &sum["entries"], &sum["flaws"]), (&"summary".into(), &100.into(), &0.into()));
    assert!(sum["segments"].as_u64() >= Some(2), "{sum}");
    assert!(bytes_of(&left.data()) == before, "something changed");
}

#[test]
fn a_flipped_byte_is_named_and_costs_no_more_than_its_block() {
    let left = Left::new();
    let (file, at) = left.flip(100 << 10);
    let checked = left.verify(&["--json"]);
    let lines: Vec<Value> = checked.out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert!(checked.failed(1).contains("1 flaws in"));
    let flaw = &lines[0];
    assert_eq!((lines.len(), &flaw["kind"], &flaw["file"]), (2, &"flaw".into(), &file.as_str().into()));
    let begins = flaw["offset"].as_u64().expect("a number") as usize;
    assert!(begins <= at && at < begins + (64 << 10), "{flaw}: {at}");
    let damaged = flaw["first_id"].as_str().expect("text").to_owned();
    assert_eq!(
        (&flaw["stream"], &flaw["entries"], &flaw["last_id"]),
        (&"s".into(), &1.into(), &damaged.as_str().into())
    );
    let human = left.verify(&[]);
    let line =
        format!("flaw  {file} at {begins}: stream s, {damaged} to {damaged} (1 events): the stored bytes do not ");
    assert!(human.out.starts_with(&line), "{}", human.out);
    let n = left.ids.iter().position(|id| *id == damaged).expect("one of those that were published");
    // The server serves everything else, and says why it does not serve this.
    let Left { folder, ids } = left;
    let server = Server::start_in(folder, &[]);
    let refused = server.run(&["tail", "s"]);
    let served: Vec<&str> = refused.out.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(served.len() <= n && ids.iter().zip(&served).all(|(id, served)| id == served), "{served:?}");
    let err = refused.failed(1);
    assert!(err.contains("CORRUPT") && err.contains(&damaged), "{err}");
    let after = server.run(&["tail", "s", "--from", &damaged]).ok();
    assert_eq!(after.lines().count(), ids.len() - n - 1);
    let before = server.run(&["tail", "s", "--count", &n.to_string()]).ok();
    assert_eq!(before.lines().count(), n);
    assert_eq!(server.run(&["tail", "other"]).ok().lines().count(), 50);
    server.run(&["publish", "s", "--data", "{}"]).ok();
}

#[test]
fn a_torn_tail_is_worth_a_note_and_no_flaw() {
    let left = Left::new();
    let log = left.data().join("log");
    let last = fs::read_dir(&log).expect("listed").map(|e| e.expect("listed").path());
    let last = last.filter(|p| p.extension().is_some_and(|e| e == "log")).max().expect("a file of the log");
    let mut bytes = fs::read(&last).expect("read");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("frames") + 1;
    bytes[used.next_multiple_of(8)..][..100].fill(7);
    fs::write(&last, bytes).expect("written");
    let out = left.verify(&[]).ok();
    assert!(out.starts_with("note  log/") && out.contains("100 bytes of a torn tail"), "{out}");
    assert!(out.ends_with("0 flaws, 1 notes\n"), "{out}");
}

#[test]
fn a_directory_in_use_or_none_is_refused() {
    let server = Server::start();
    let mut command = synapse();
    command.args(["verify", "--data-dir"]).arg(server.folder.path().join("data"));
    let err = outcome(command, "").failed(1);
    assert!(err.contains("DATA_DIRECTORY") && err.contains("in use"), "{err}");
    for (path, why) in [(server.folder.path().join("nowhere"), "no STORE"), (server.folder.path().into(), "no STORE")] {
        let mut command = synapse();
        command.arg("verify").env("SYNAPSE_DATA_DIR", &path);
        let err = outcome(command, "").failed(1);
        assert!(err.contains("DATA_DIRECTORY") && err.contains(why), "{err}");
    }
    assert!(!server.folder.path().join("nowhere").exists());
}

#[test]
fn completions_know_the_commands() {
    for (shell, sign) in [
        ("bash", "complete -F _synapse"),
        ("zsh", "#compdef synapse"),
        ("fish", "complete -c synapse"),
        ("elvish", "edit:completion:arg-completer[synapse]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let mut command = synapse();
        command.args(["completions", shell]);
        let out = outcome(command, "").ok();
        assert!(out.contains(sign), "{shell}: {}", &out[..200.min(out.len())]);
        assert!(["dead-letters", "verify", "rebuild", "publish"].iter().all(|name| out.contains(name)), "{shell}");
        if shell == "bash" {
            let mut bash = std::process::Command::new("bash");
            bash.args(["-n", "-c", &out]);
            outcome(bash, "").ok();
        }
    }
}

#[test]
fn wrong_usage_of_these_ends_with_code_2() {
    for args in
        [&["verify", "here"][..], &["verify", "--data-dir"], &["completions"], &["completions", "cmd"], &["config"]]
    {
        let mut command = synapse();
        command.args(args);
        outcome(command, "").failed(2);
    }
}
